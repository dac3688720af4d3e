//! The laws of trees that a decoder has read.

use api::schema::{Schema, TypeId};
use serde_json::Value;

/// Holds a decoded tree of a built-in type against the encoders and decoders, and its defaults against themselves.
pub fn laws(root: TypeId, tree: &Value) {
    let schema = Schema::builtin();
    again_by_json(schema, root, tree);
    again_by_yaml(schema, root, tree);
    again_by_protobuf(schema, root, tree);
    let mut once = tree.clone();
    schema.set_defaults(root, &mut once);
    let mut twice = once.clone();
    schema.set_defaults(root, &mut twice);
    assert_eq!(once, twice, "defaulting twice is once");
    schema.normalize(root, &mut once);
    let mut twice = once.clone();
    schema.normalize(root, &mut twice);
    assert_eq!(once, twice, "normalizing twice is once");
}

fn again_by_json(schema: &Schema, root: TypeId, tree: &Value) {
    let text = tree.to_string();
    let again = schema.decode_json(root, text.as_bytes());
    let again = again.unwrap_or_else(|error| panic!("what was decoded is not decoded again: {error}: {text}"));
    assert_eq!(*tree, again.value, "decoding what was decoded");
    assert!(again.unknown.is_empty() && again.duplicate.is_empty(), "{text}");
}

fn again_by_yaml(schema: &Schema, root: TypeId, tree: &Value) {
    // YAML's `-0` is a whole number, and those have no sign of zero
    if tree.to_string().contains("-0.0") {
        return;
    }
    let text = api::yaml::to_string(tree);
    let again = schema.decode_yaml(root, text.as_bytes());
    let again = again.unwrap_or_else(|error| panic!("what was written is not read again: {error}: {text}"));
    assert_eq!(*tree, again.value, "decoding what was written as YAML: {text}");
}

fn again_by_protobuf(schema: &Schema, root: TypeId, tree: &Value) {
    // protobuf has no place for some of what JSON has, which the encoder refuses or leaves out; once it was through, nothing changes
    let Ok(bytes) = schema.encode_proto(root, tree) else {
        return;
    };
    let decode = |bytes: &[u8]| {
        schema
            .decode_proto(root, bytes)
            .unwrap_or_else(|error| panic!("{error}: {tree}"))
    };
    let through = decode(&bytes);
    let again = schema
        .encode_proto(root, &through)
        .unwrap_or_else(|error| panic!("{error}: {through}"));
    assert_eq!(through, decode(&again), "encoding what was decoded");
}
