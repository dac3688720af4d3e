//! Parts of JSON that are read without the rest.

use api::raw::{Projection, member};
use serde_json::Value;

use crate::{Form, Target};

pub const TARGET: Target = Target::new("projection", Form::Trees, check);

fn check(input: &[u8]) {
    let projection = Projection::new(&[
        "metadata/name",
        "spec/containers/image",
        "status/conditions/type",
        "data/*",
    ]);
    let without = Projection::without("metadata", &["managedFields"]);
    let Ok(tree) = serde_json::from_slice::<Value>(input) else {
        let _ = (projection.read(input), without.read(input), member(input, "metadata"));
        return;
    };
    // the server projects what it has written itself
    let text = tree.to_string();
    let part = projection
        .read(text.as_bytes())
        .unwrap_or_else(|error| panic!("{error}: {text}"));
    if let (Some(name), true) = (tree.pointer("/metadata/name"), tree.is_object()) {
        assert_eq!(part.pointer("/metadata/name"), Some(name));
    }
    let mut want = tree.clone();
    if let Some(metadata) = want.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if want.is_object() {
        assert_eq!(without.read(text.as_bytes()).ok(), Some(want));
    }
    let found = member(text.as_bytes(), "metadata").and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    assert_eq!(found.as_ref(), tree.get("metadata"));
}
