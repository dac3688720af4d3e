//! Patches that lead from what is there to what a file wants.

mod diff;
mod three_way;

pub use diff::{Shape, two_way};
pub use three_way::three_way;

use serde_json::{Map, Value};

use crate::error::{Result, fail, message};

/// The JSON merge patch from one tree to another.
pub fn merge_patch(from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        return to.clone();
    };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before @ Value::Object(_)) if value.is_object() => {
                patch.insert(key.clone(), merge_patch(before, value));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|k| !new.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// A tree with a JSON merge patch applied.
pub fn apply_merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            apply_merge_patch(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Applies a JSON patch to a tree.
///
/// # Errors
/// When it is none, or does not fit.
pub fn operate(target: &mut Value, patch: &Value) -> Result<()> {
    if !patch.is_array() {
        let found = if patch.is_object() { "object" } else { "string" };
        return fail(format!(
            "json: cannot unmarshal {found} into Go value of type jsonpatch.Patch"
        ));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|e| message(e.to_string()))?;
    json_patch::patch(target, &patch).map_err(|e| message(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_patch_leads_from_one_tree_to_the_other() {
        for (from, to, patch) in [
            (json!({"a": 1}), json!({"a": 1}), json!({})),
            (
                json!({"a": 1, "b": {"c": 1, "d": 2}}),
                json!({"b": {"c": 3}}),
                json!({"a": null, "b": {"c": 3, "d": null}}),
            ),
            (json!({"l": [1]}), json!({"l": [2]}), json!({"l": [2]})),
        ] {
            assert_eq!(merge_patch(&from, &to), patch);
            let mut got = from;
            apply_merge_patch(&mut got, &patch);
            assert_eq!(got, to);
        }
    }
}
