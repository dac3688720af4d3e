//! Objects as events show them: JSON, without managed fields where the policy wants none.

use api::gvk::GroupVersionKind;
use api::schema::{Document, Schema, envelope};
use bytes::Bytes;
use serde_json::Value;

/// JSON text without what stands between its tokens: an event is one line.
pub fn compact(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len());
    let (mut inside, mut escaped) = (false, false);
    for &byte in text {
        if inside || !byte.is_ascii_whitespace() {
            out.push(byte);
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = inside,
            b'"' => inside = !inside,
            _ => {}
        }
    }
    out.into()
}

/// The object of an answer in JSON; `None` for what is no object.
pub fn of_answer(media_type: &str, body: &Bytes) -> Option<Bytes> {
    if media_type.starts_with("application/json") {
        let text = body.trim_ascii();
        return text.starts_with(b"{").then(|| compact(text));
    }
    let tree = if media_type.starts_with("application/yaml") {
        Document::from_yaml(body).ok()?.value
    } else if media_type.starts_with("application/vnd.kubernetes.protobuf") {
        let unknown = envelope::unwrap_unknown(body)?.ok()?;
        let schema = Schema::builtin();
        let kind = GroupVersionKind::from_api_version(&unknown.api_version, &unknown.kind);
        let root = schema.type_for(&kind)?;
        let mut tree = schema.decode_proto(root, unknown.raw).ok()?;
        schema.normalize(root, &mut tree);
        tree["apiVersion"] = unknown.api_version.to_string().into();
        tree["kind"] = unknown.kind.to_string().into();
        tree
    } else {
        return None;
    };
    serde_json::to_vec(&tree).ok().map(Bytes::from)
}

/// Removes the managed fields of an object, of the items of a list and of the objects of a table's rows.
pub fn without_managed_fields(tree: &mut Value) {
    let remove = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    remove(tree);
    for item in tree
        .get_mut("items")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        remove(item);
    }
    for row in tree.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(object) = row.get_mut("object") {
            remove(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_one_line() {
        let text = b"{\n  \"a b\": \"c\\\"  \\\\\",\n\t\"d\": [1, 2]\n}\n";
        assert_eq!(compact(text), &b"{\"a b\":\"c\\\"  \\\\\",\"d\":[1,2]}"[..]);
        assert_eq!(of_answer("text/plain", &Bytes::from_static(b"{}")), None);
        assert_eq!(of_answer("application/json", &Bytes::from_static(b"ok")), None);
        let yaml = of_answer("application/yaml", &Bytes::from_static(b"a: b\n"));
        assert_eq!(yaml.unwrap(), "{\"a\":\"b\"}");
    }

    #[test]
    fn managed_fields_are_left_out_of_objects_lists_and_tables() {
        let object = || json!({"metadata": {"name": "a", "managedFields": []}});
        let mut tree =
            json!({"metadata": {"managedFields": []}, "items": [object()], "rows": [{"object": object()}, {}]});
        without_managed_fields(&mut tree);
        let bare = json!({"metadata": {"name": "a"}});
        assert_eq!(
            tree,
            json!({"metadata": {}, "items": [bare], "rows": [{"object": bare}, {}]})
        );
    }
}
