//! What a webhook makes of an object: its JSON Patch applied, and the result held against the schema.

use serde_json::Value;

use super::hook::Hook;
use super::review::{JSON_PATCH, Response};
use super::round::Round;
use crate::admission::Attributes;
use crate::admission::matching::Shown;
use crate::admission::webhook::call::Failure;
use crate::http::json_text;
use crate::http::status::ApiError;
use crate::pipeline::patch;

/// Applies the patch of a response to the object that the webhook was shown. Returns whether it has changed.
///
/// # Errors
/// When the patch is none, does not fit, or makes no object of the kind.
pub fn apply(
    hook: &Hook,
    asked: &Attributes<'_>,
    shown: &mut Shown,
    response: &Response,
    round: Round,
) -> Result<bool, Failure> {
    let internal = |why: &dyn std::fmt::Display| Failure::Refused(ApiError::internal(why));
    if response.patch.is_empty() {
        return Ok(false);
    }
    let items = read(&response.patch)
        .map_err(|why| Failure::Calling(format!("received undecodable patch in webhook response: {why}")))?;
    if items.is_empty() {
        return Ok(false);
    }
    if shown.object.is_null() {
        let why = format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        );
        return Err(internal(&why));
    }
    let kind = response.patch_type.as_deref().unwrap_or_default();
    if kind != JSON_PATCH {
        return Err(Failure::Calling(format!("unsupported patch type {kind:?}")));
    }
    let (operations, stop) = operations(items);
    let patched = patch::operate(shown.object.clone(), &operations).map_err(|why| internal(&why))?;
    if let Some(why) = stop {
        return Err(internal(&why));
    }
    let changed = shown.replace(asked, patched).map_err(Failure::Refused)?;
    round.tell_patch(hook, asked, &response.patch);
    Ok(changed)
}

/// The items of a patch: objects, whatever is in them.
fn read(text: &[u8]) -> Result<Vec<Value>, String> {
    let tree: Value = serde_json::from_slice(text).map_err(|_| json_text::problem(text))?;
    let items = match tree {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        other => {
            let found = json_text::kind(&other);
            return Err(format!(
                "json: cannot unmarshal {found} into Go value of type jsonpatch.Patch"
            ));
        }
    };
    if let Some(other) = items.iter().find(|item| !item.is_object() && !item.is_null()) {
        let found = json_text::kind(other);
        return Err(format!(
            "json: cannot unmarshal {found} into Go value of type jsonpatch.Operation"
        ));
    }
    if items.len() > patch::MAX_OPERATIONS {
        let (most, count) = (patch::MAX_OPERATIONS, items.len());
        return Err(format!(
            "the allowed maximum operations in a JSON patch is {most}, got {count}"
        ));
    }
    Ok(items)
}

/// The operations up to the first item that is none, and what upstream says of that one.
fn operations(items: Vec<Value>) -> (Vec<json_patch::PatchOperation>, Option<String>) {
    let mut operations = Vec::with_capacity(items.len());
    for mut item in items {
        let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
        let op = text("op").unwrap_or_else(|| "unknown".into());
        let has_from = matches!(op.as_str(), "move" | "copy");
        if !has_from && !matches!(op.as_str(), "add" | "remove" | "replace" | "test") {
            return (operations, Some(format!("Unexpected kind: {op}")));
        }
        if has_from && text("from").is_none() {
            let why = format!("{op} operation failed to decode from: operation, missing from field: missing value");
            return (operations, Some(why));
        }
        let Some(path) = text("path") else {
            let why = match op.as_str() {
                "add" | "remove" | "copy" => format!("{op} operation failed to decode path: missing value"),
                _ => format!("{op} operation failed to decode path: operation missing path field: missing value"),
            };
            return (operations, Some(why));
        };
        if item.get("value").is_none() {
            item["value"] = Value::Null;
        }
        match serde_json::from_value(item) {
            Ok(operation) => operations.push(operation),
            // a path that does not begin with a slash leads nowhere
            Err(_) => {
                let why = match op.as_str() {
                    "replace" => {
                        format!("replace operation does not apply: doc is missing path: {path}: missing value")
                    }
                    "test" => format!("test operation does not apply: is missing path: {path}: missing value"),
                    op => format!("{op} operation does not apply: doc is missing path: \"{path}\": missing value"),
                };
                return (operations, Some(why));
            }
        }
    }
    (operations, None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_that_are_no_operations_are_told_where_they_would_apply() {
        for (item, want) in [
            (json!({ "op": "x", "path": "/a" }), "Unexpected kind: x"),
            (json!({}), "Unexpected kind: unknown"),
            (
                json!({ "op": "add" }),
                "add operation failed to decode path: missing value",
            ),
            (
                json!({ "op": "add", "path": "a", "value": 1 }),
                "add operation does not apply: doc is missing path: \"a\": missing value",
            ),
        ] {
            let good = json!({ "op": "add", "path": "/a", "value": 1 });
            let (before, stop) = operations(vec![good, item.clone()]);
            assert_eq!((before.len(), stop.as_deref()), (1, Some(want)), "{item}");
        }
        let (all, stop) = operations(vec![json!({ "op": "add", "path": "/a" })]);
        assert_eq!((all.len(), stop), (1, None));
        assert!(read(b"[1]").unwrap_err().ends_with("jsonpatch.Operation"));
        assert!(read(b"{}").unwrap_err().ends_with("jsonpatch.Patch"));
    }
}
