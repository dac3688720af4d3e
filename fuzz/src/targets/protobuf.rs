//! Protobuf of built-in kinds, in the envelope that clients send it in.

use api::gvk::GroupVersionKind;
use api::schema::{Schema, envelope};

use crate::{Form, Target};

pub const TARGET: Target = Target::new("protobuf", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some(Ok(unknown)) = envelope::unwrap_unknown(input) else {
        return;
    };
    let schema = Schema::builtin();
    let gvk = GroupVersionKind::from_api_version(&unknown.api_version, &unknown.kind);
    let Some(root) = schema.type_for(&gvk) else { return };
    let Ok(mut tree) = schema.decode_proto(root, unknown.raw) else {
        return;
    };
    let bytes = schema
        .encode_proto(root, &tree)
        .unwrap_or_else(|error| panic!("{error}: {tree}"));
    let again = schema
        .decode_proto(root, &bytes)
        .unwrap_or_else(|error| panic!("{error}: {tree}"));
    assert_eq!(tree, again, "decoding what was encoded");
    schema.set_defaults(root, &mut tree);
    schema.normalize(root, &mut tree);
    schema
        .encode_proto(root, &tree)
        .unwrap_or_else(|error| panic!("{error}: {tree}"));
}
