//! From one status to the next: the patch that says it to the API.

use k8s_openapi::api::core::v1::{PodCondition, PodStatus};

/// A strategic merge patch from one status to the next; fields that are gone become null.
pub fn status_patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Result<serde_json::Value, serde_json::Error> {
    let mut patch = serde_json::to_value(new)?;
    let before = serde_json::to_value(old)?;
    if let (Some(patch), Some(before)) = (patch.as_object_mut(), before.as_object()) {
        for key in before
            .keys()
            .filter(|k| !patch.contains_key(*k))
            .cloned()
            .collect::<Vec<_>>()
        {
            patch.insert(key, serde_json::Value::Null);
        }
        patch.retain(|key, value| before.get(key) != Some(value));
        if let Some(conditions) = patch.get_mut("conditions").and_then(|c| c.as_array_mut()) {
            conditions.retain(|c| !old_has(before.get("conditions"), c));
            for fields in conditions.iter_mut().filter_map(|c| c.as_object_mut()) {
                for key in ["reason", "message"] {
                    fields.entry(key).or_insert(serde_json::Value::Null);
                }
            }
            // The server keeps what a patch does not name.
            for gone in gone(before.get("conditions"), &new.conditions) {
                conditions.push(serde_json::json!({"type": gone, "$patch": "delete"}));
            }
        }
        for key in ["podIPs", "hostIPs"] {
            if let Some(list) = patch.get_mut(key).and_then(|l| l.as_array_mut()) {
                list.insert(0, serde_json::json!({"$patch": "replace"}));
            }
        }
    }
    Ok(serde_json::json!({"metadata": {"uid": uid}, "status": patch}))
}

fn gone(before: Option<&serde_json::Value>, now: &Option<Vec<PodCondition>>) -> Vec<String> {
    let types = before.and_then(|c| c.as_array()).into_iter().flatten();
    let types = types.filter_map(|c| c["type"].as_str());
    types
        .filter(|t| now.iter().flatten().all(|c| c.type_ != *t))
        .map(str::to_owned)
        .collect()
}

fn old_has(conditions: Option<&serde_json::Value>, condition: &serde_json::Value) -> bool {
    let list = conditions.and_then(|c| c.as_array());
    list.is_some_and(|list| list.contains(condition))
}
