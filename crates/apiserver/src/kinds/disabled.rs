//! Fields of features that are off: what clients send of them is dropped, unless the object has the field already.

use serde_json::Value;

use crate::kinds::Kind;
use crate::kinds::kind::Path;

/// The fields of a pod's specification.
const POD: [Path; 6] = [
    &["schedulingGroup"],
    &["containers", "*", "lifecycle", "stopSignal"],
    &["initContainers", "*", "lifecycle", "stopSignal"],
    &["ephemeralContainers", "*", "lifecycle", "stopSignal"],
    &["volumes", "*", "projected", "sources", "*", "clusterTrustBundle"],
    &["volumes", "*", "projected", "sources", "*", "podCertificate"],
];

/// Drops from an object what is off and not in use in the object that it replaces.
pub fn drop_disabled(kind: &Kind, new: &mut Value, old: Option<&Value>) {
    let pod = kind.pod_spec;
    for path in kind.disabled {
        if !old.is_some_and(|old| has(old, path)) {
            remove(new, path);
        }
    }
    if pod.is_empty() {
        return;
    }
    let before = old.and_then(|old| pod.iter().try_fold(old, |at, key| at.get(key)));
    let Some(spec) = pod.iter().try_fold(new, |at, key| at.get_mut(*key)) else {
        return;
    };
    for path in POD {
        if !before.is_some_and(|before| has(before, path)) {
            remove(spec, path);
        }
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

fn has(at: &Value, path: &[&str]) -> bool {
    match path.split_first() {
        None => !at.is_null(),
        Some((&"*", rest)) => match at {
            Value::Object(map) => map.values().any(|item| has(item, rest)),
            _ => at.as_array().into_iter().flatten().any(|item| has(item, rest)),
        },
        Some((key, rest)) => at.get(key).is_some_and(|value| has(value, rest)),
    }
}

fn remove(at: &mut Value, path: &[&str]) {
    match path {
        [] => {}
        ["*", rest @ ..] => match at {
            Value::Object(map) => map.values_mut().for_each(|item| remove(item, rest)),
            _ => at
                .as_array_mut()
                .into_iter()
                .flatten()
                .for_each(|item| remove(item, rest)),
        },
        [key] => {
            if let Some(object) = at.as_object_mut() {
                object.remove(*key);
            }
        }
        [key, rest @ ..] => {
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
    use crate::kinds::coordination::lease;
    use crate::kinds::core::pod;

    #[test]
    fn a_field_of_a_feature_that_is_off_is_dropped_unless_it_is_in_use() {
        let pod = |signal: Value| json!({ "spec": { "containers": [{ "name": "c", "lifecycle": signal }], "schedulingGroup": {} } });
        let mut new = pod(json!({ "stopSignal": "SIGTERM", "preStop": {} }));
        let used = new.clone();
        drop_disabled(&pod::KIND, &mut new, None);
        assert_eq!(
            new,
            json!({ "spec": { "containers": [{ "name": "c", "lifecycle": { "preStop": {} } }] } })
        );
        let mut kept = used.clone();
        drop_disabled(&pod::KIND, &mut kept, Some(&used));
        assert_eq!(kept, used);
        let mut lease = json!({ "spec": { "strategy": "x", "holderIdentity": "h" } });
        drop_disabled(&lease::KIND, &mut lease, Some(&json!({ "spec": {} })));
        assert_eq!(lease, json!({ "spec": { "holderIdentity": "h" } }));
    }
}
