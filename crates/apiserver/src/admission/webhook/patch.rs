//! What a webhook makes of an object: its JSON Patch applied, and the result held against the schema.

use json_patch::PatchOperation;
use serde_json::Value;
use serde_json::value::RawValue;

use super::hook::Hook;
use super::review::{JSON_PATCH, Response};
use super::round::Round;
use crate::admission::Attributes;
use crate::admission::matching::Shown;
use crate::admission::webhook::call::Failure;
use crate::http::json_text;
use crate::http::status::ApiError;
use crate::pipeline::patch::Operating;

/// Why a patch or an item of it is none, in upstream's words.
#[derive(Debug, thiserror::Error)]
enum PatchError {
    /// The text is no JSON.
    #[error("{0}")]
    Json(String),
    #[error("json: cannot unmarshal {found} into Go value of type jsonpatch.{wanted}")]
    Type { found: &'static str, wanted: &'static str },
    #[error(transparent)]
    Item(#[from] serde_json::Error),
    #[error("Unexpected kind: {0}")]
    Kind(String),
    #[error("{0} operation failed to decode from: operation, missing from field: missing value")]
    NoFrom(String),
    /// The operation, and what upstream says of some of them.
    #[error("{0} operation failed to decode path: {1}missing value")]
    NoPath(String, &'static str),
    /// The path does not begin with a slash, and leads nowhere; shown is the path.
    #[error("{op} operation does not apply: {what}is missing path: {shown}: missing value")]
    Nowhere {
        op: String,
        what: &'static str,
        shown: String,
    },
}

/// Applies the patch of a response to the object that the webhook was shown. Returns whether it has changed; `None` where the
/// response has no patch.
///
/// # Errors
/// When the patch is none, does not fit, or makes no object of the kind.
pub fn apply(
    hook: &Hook,
    asked: &Attributes<'_>,
    shown: &mut Shown,
    response: &Response,
    round: Round,
) -> Result<Option<bool>, Failure> {
    let internal = |why: &dyn std::fmt::Display| Failure::Refused(ApiError::internal(why));
    if response.patch.is_empty() {
        return Ok(None);
    }
    let items = read(&response.patch)
        .map_err(|why| Failure::Calling(format!("received undecodable patch in webhook response: {why}")))?;
    if items.is_empty() {
        return Ok(None);
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
    // one at a time: there may be any number of them, and a tree of all is many times as long as their text
    let mut object = Operating::on(shown.object.clone());
    for item in items {
        let operation = operation(item).map_err(|why| internal(&why))?;
        object.apply(&operation).map_err(|why| internal(&why))?;
    }
    let changed = shown.replace(asked, object.done()).map_err(Failure::Refused)?;
    round.tell_patch(hook, asked, &response.patch);
    Ok(Some(changed))
}

/// The items of a patch: objects, whatever is in them.
fn read(text: &[u8]) -> Result<Vec<&RawValue>, PatchError> {
    let whole: &RawValue = serde_json::from_slice(text).map_err(|_| PatchError::Json(json_text::problem(text)))?;
    let unfit = |text: &RawValue, wanted| PatchError::Type {
        found: serde_json::from_str(text.get()).map_or("value", |value| json_text::kind(&value)),
        wanted,
    };
    let items: Option<Vec<&RawValue>> = serde_json::from_str(whole.get()).map_err(|_| unfit(whole, "Patch"))?;
    let items = items.unwrap_or_default();
    let is_none = |item: &&&RawValue| !item.get().starts_with('{') && item.get() != "null";
    match items.iter().find(is_none) {
        Some(other) => Err(unfit(other, "Operation")),
        None => Ok(items),
    }
}

/// An operation of a patch.
///
/// # Errors
/// When the item is none, as upstream says it where it comes to it.
fn operation(item: &RawValue) -> Result<PatchOperation, PatchError> {
    let mut item: Value = serde_json::from_str(item.get())?;
    let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    let op = text("op").unwrap_or_else(|| "unknown".into());
    let has_from = matches!(op.as_str(), "move" | "copy");
    if !has_from && !matches!(op.as_str(), "add" | "remove" | "replace" | "test") {
        return Err(PatchError::Kind(op));
    }
    if has_from && text("from").is_none() {
        return Err(PatchError::NoFrom(op));
    }
    let Some(path) = text("path") else {
        let more = match op.as_str() {
            "add" | "remove" | "copy" => "",
            _ => "operation missing path field: ",
        };
        return Err(PatchError::NoPath(op, more));
    };
    if item.get("value").is_none() {
        item["value"] = Value::Null;
    }
    // a path that does not begin with a slash leads nowhere
    serde_json::from_value(item).map_err(|_| {
        let (what, shown) = match op.as_str() {
            "replace" => ("doc ", path),
            "test" => ("", path),
            _ => ("doc ", format!("\"{path}\"")),
        };
        PatchError::Nowhere { op, what, shown }
    })
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
            let text = serde_json::value::to_raw_value(&item).unwrap();
            assert_eq!(operation(&text).unwrap_err().to_string(), want, "{item}");
        }
        let without_value = RawValue::from_string(r#"{"op":"add","path":"/a"}"#.into()).unwrap();
        assert!(operation(&without_value).is_ok());
        assert_eq!(read(b" null ").unwrap().len(), 0);
        assert_eq!(read(br#" [ {"op" : "x"}, null ] "#).unwrap().len(), 2);
        let why = |text| read(text).unwrap_err().to_string();
        assert_eq!(why(b"[{]"), json_text::problem(b"[{]"));
        assert!(why(b"[1]").ends_with("jsonpatch.Operation"));
        assert!(why(b"{}").ends_with("jsonpatch.Patch"));
    }
}
