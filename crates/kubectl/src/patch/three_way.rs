//! What `apply` sends: the changes from what is there to what is wanted, and the deletion of what was wanted before.

use serde_json::{Map, Value};

use super::diff::{Shape, Which};
use super::merge_patch;
use crate::error::{Result, fail};

/// The patch for `current`; `original` is what was applied last, `Null` if nothing was. A strategic merge patch if the
/// kind has a shape, else a JSON merge patch.
pub fn three_way(shape: Option<&Shape>, original: &Value, modified: &Value, current: &Value) -> Result<Value> {
    let empty = Value::Object(Map::new());
    let original = if original.is_object() { original } else { &empty };
    if let Some(shape) = shape {
        let changes = shape.diff(current, modified, Which::Changes)?;
        let deletions = shape.diff(original, modified, Which::Deletions)?;
        return Ok(Value::Object(shape.combine(deletions, changes)));
    }
    let same = |at: &str| current.pointer(at) == modified.pointer(at);
    if !["/apiVersion", "/kind", "/metadata/name"].into_iter().all(same) {
        return fail("At least one of apiVersion, kind and name was changed");
    }
    let changes = without(merge_patch(current, modified), true);
    let deletions = without(merge_patch(original, modified), false);
    Ok(Value::Object(join(deletions, changes)))
}

/// A patch without its deletions, or with nothing but them. Values inside lists are left alone.
fn without(patch: Value, deletions: bool) -> Map<String, Value> {
    let Value::Object(patch) = patch else { return Map::new() };
    let mut left = Map::new();
    for (key, value) in patch {
        match value {
            Value::Null if deletions => {}
            Value::Object(inner) if deletions && inner.is_empty() => {
                left.insert(key, Value::Object(inner));
            }
            Value::Object(inner) => {
                let inner = without(Value::Object(inner), deletions);
                if !inner.is_empty() {
                    left.insert(key, Value::Object(inner));
                }
            }
            value if deletions || value.is_null() => {
                left.insert(key, value);
            }
            _ => {}
        }
    }
    left
}

fn join(mut a: Map<String, Value>, b: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in b {
        let joined = match (a.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(join(old, new)),
            (_, value) => value,
        };
        a.insert(key, joined);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: &Value, labels: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels}, "spec": {"containers": containers}})
    }

    #[test]
    fn what_others_have_set_stays_and_what_was_applied_goes() {
        let shape = Shape::of("v1", "Pod").unwrap();
        let original = pod(
            &json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]),
            &json!({"x": "1", "y": "1"}),
        );
        let modified = pod(&json!([{"name": "a", "image": "2"}]), &json!({"x": "1"}));
        let current = pod(
            &json!([{"name": "a", "image": "1", "tty": true}, {"name": "b", "image": "1"}, {"name": "side", "image": "s"}]),
            &json!({"x": "1", "y": "1", "z": "1"}),
        );
        let patch = three_way(Some(&shape), &original, &modified, &current).unwrap();
        assert_eq!(
            patch,
            json!({
                "metadata": {"labels": {"y": null}},
                "spec": {
                    "$setElementOrder/containers": [{"name": "a"}],
                    "containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}],
                }
            })
        );
        let merged = shape.merge(&current, &patch).unwrap();
        assert_eq!(merged["metadata"]["labels"], json!({"x": "1", "z": "1"}));
        assert_eq!(
            merged["spec"]["containers"][0],
            json!({"name": "a", "image": "2", "tty": true})
        );
        assert_eq!(merged["spec"]["containers"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn nothing_to_do_is_an_empty_patch() {
        let shape = Shape::of("v1", "Pod").unwrap();
        let it = pod(&json!([{"name": "a"}]), &json!({}));
        assert_eq!(three_way(Some(&shape), &it, &it, &it).unwrap(), json!({}));
        assert_eq!(three_way(None, &it, &it, &it).unwrap(), json!({}));
    }

    #[test]
    fn custom_resources_are_merged_as_json() {
        let of = |spec: Value| json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "n"}, "spec": spec});
        let patch = three_way(
            None,
            &of(json!({"a": 1, "l": [1]})),
            &of(json!({"l": [1, 2]})),
            &of(json!({"a": 1, "b": 2, "l": [1]})),
        )
        .unwrap();
        assert_eq!(patch, json!({"spec": {"a": null, "l": [1, 2]}}));
        let mut other = of(json!({}));
        other["kind"] = json!("Y");
        assert!(three_way(None, &Value::Null, &of(json!({})), &other).is_err());
    }
}
