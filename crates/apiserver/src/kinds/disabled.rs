//! Fields of features that are off: what clients send of them is dropped, unless the object has the field already.

use api::schema::rules::FieldPath;
use serde_json::Value;

use crate::kinds::Kind;
use crate::kinds::kind::Path;

/// Fields of a pod's specification whose types do not say that they are of a feature.
const POD: [Path; 3] = [
    &["containers", "*", "lifecycle", "stopSignal"],
    &["initContainers", "*", "lifecycle", "stopSignal"],
    &["ephemeralContainers", "*", "lifecycle", "stopSignal"],
];

/// Drops from an object what is off and not in use in the object that it replaces: what the types declare to be of a feature that
/// is off, and what the kind names besides.
pub fn drop_disabled(kind: &Kind, switched_off: &[FieldPath], new: &mut Value, old: Option<&Value>) {
    let pod = kind.pod_spec;
    for path in kind.disabled {
        drop(path, new, old);
    }
    for path in switched_off {
        drop(path, new, old);
    }
    if pod.is_empty() {
        return;
    }
    let before = old.and_then(|old| pod.iter().try_fold(old, |at, key| at.get(key)));
    let Some(spec) = pod.iter().try_fold(new, |at, key| at.get_mut(*key)) else {
        return;
    };
    for path in POD {
        drop(path, spec, before);
    }
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        let list = spec.get_mut(field).and_then(Value::as_array_mut);
        for container in list.into_iter().flatten().filter_map(Value::as_object_mut) {
            if container
                .get("lifecycle")
                .and_then(Value::as_object)
                .is_some_and(|hooks| hooks.is_empty())
            {
                container.remove("lifecycle");
            }
        }
    }
}

fn drop<K: AsRef<str>>(path: &[K], new: &mut Value, old: Option<&Value>) {
    if !old.is_some_and(|old| has(old, path)) {
        remove(new, path);
    }
}

fn has<K: AsRef<str>>(at: &Value, path: &[K]) -> bool {
    let Some((key, rest)) = path.split_first() else {
        return !at.is_null();
    };
    match (key.as_ref(), at) {
        ("*", Value::Object(map)) => map.values().any(|item| has(item, rest)),
        ("*", _) => at.as_array().into_iter().flatten().any(|item| has(item, rest)),
        (key, _) => at.get(key).is_some_and(|value| has(value, rest)),
    }
}

fn remove<K: AsRef<str>>(at: &mut Value, path: &[K]) {
    let Some((key, rest)) = path.split_first() else { return };
    match (key.as_ref(), at) {
        ("*", Value::Object(map)) => map.values_mut().for_each(|item| remove(item, rest)),
        ("*", at) => {
            let items = at.as_array_mut().into_iter().flatten();
            items.for_each(|item| remove(item, rest));
        }
        (key, Value::Object(object)) if rest.is_empty() => {
            object.remove(key);
        }
        (key, at) => {
            if let Some(value) = at.get_mut(key) {
                remove(value, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::core::{node, pod};

    #[test]
    fn a_field_of_a_feature_that_is_off_is_dropped_unless_it_is_in_use() {
        let pod = |signal: Value| json!({ "spec": { "containers": [{ "name": "c", "lifecycle": signal }], "schedulingGroup": {} } });
        let mut new = pod(json!({ "stopSignal": "SIGTERM", "preStop": {} }));
        let used = new.clone();
        let off = [
            vec![
                "spec".into(),
                "containers".into(),
                "*".into(),
                "lifecycle".into(),
                "stopSignal".into(),
            ],
            vec!["spec".into(), "schedulingGroup".into()],
        ];
        drop_disabled(&pod::KIND, &off, &mut new, None);
        assert_eq!(
            new,
            json!({ "spec": { "containers": [{ "name": "c", "lifecycle": { "preStop": {} } }] } })
        );
        let mut kept = used.clone();
        drop_disabled(&pod::KIND, &off, &mut kept, Some(&used));
        assert_eq!(kept, used);
        let mut node = json!({ "spec": { "configSource": {}, "podCIDR": "c" } });
        drop_disabled(&node::KIND, &[], &mut node, Some(&json!({ "spec": {} })));
        assert_eq!(node, json!({ "spec": { "podCIDR": "c" } }));
    }
}
