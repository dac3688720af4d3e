//! The parts of a pod that subresources write: its status, its ephemeral containers, and its size.

use api::apply::Reset;
use serde_json::{Map, Value};

use crate::kinds::{Part, STATUS};
use crate::tree::keep;

/// The parts.
pub const ALL: [Part; 3] = [
    Part {
        reset: Reset::Except(&[
            &["spec"],
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
        ]),
        confine: |part, new, old| {
            (STATUS.confine)(part, new, old);
            // a writer that does not know them leaves them out; an empty list takes them away
            for field in ["resourceClaimStatuses", "extendedResourceClaimStatus"] {
                let was = old.get("status").and_then(|status| status.get(field));
                if let (Some(was), Some(status)) = (was, new.get_mut("status").and_then(Value::as_object_mut)) {
                    status.entry(field).or_insert_with(|| was.clone());
                }
            }
        },
        ..STATUS
    },
    Part {
        name: "ephemeralcontainers",
        reset: Reset::AllBut(&[&["spec", "ephemeralContainers"]]),
        confine: |part, new, old| {
            part.take(&[], new, old, |result, new| {
                if let Some(spec) = new.get("spec") {
                    keep(&mut result["spec"], spec, "ephemeralContainers");
                }
            });
        },
    },
    Part {
        name: "resize",
        reset: Reset::AllBut(&[
            &["spec", "resources"],
            &["spec", "containers", "*", "resources"],
            &["spec", "containers", "*", "resizePolicy"],
            &["spec", "initContainers", "*", "resources"],
            &["spec", "initContainers", "*", "resizePolicy"],
        ]),
        // what adds, removes or renames a container is left for validation to refuse
        confine: |part, new, old| match same_containers(new, old) {
            true => part.take(&[], new, old, resize),
            false => keep(new, old, "status"),
        },
    },
];

const CONTAINERS: [&str; 2] = ["containers", "initContainers"];

fn containers<'a>(pod: &'a Value, field: &str) -> &'a [Value] {
    let list = pod.get("spec").and_then(|s| s.get(field)).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn same_containers(new: &Value, old: &Value) -> bool {
    CONTAINERS.iter().all(|field| {
        let names = |pod| containers(pod, field).iter().map(|c| &c["name"]);
        names(new).eq(names(old))
    })
}

/// Takes the resources of the pod and of each container, and what a resize does to a container.
fn resize(result: &mut Value, new: &Value) {
    let take = |to: Option<&mut Map<String, Value>>, from: &Value, keys: &[&str]| {
        let Some(to) = to else { return };
        for key in keys {
            match from.get(*key) {
                Some(value) => to.insert((*key).into(), value.clone()),
                None => to.remove(*key),
            };
        }
    };
    take(result["spec"].as_object_mut(), &new["spec"], &["resources"]);
    for field in CONTAINERS {
        let Some(list) = result["spec"].get_mut(field).and_then(Value::as_array_mut) else {
            continue;
        };
        for (to, from) in list.iter_mut().zip(containers(new, field)) {
            take(to.as_object_mut(), from, &["resources", "resizePolicy"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::KIND;

    #[test]
    fn a_resize_changes_resources_and_nothing_else_of_a_pod() {
        let pod = |image: &str, cpu: &str| {
            json!({ "metadata": {}, "spec": { "containers": [
                { "name": "a", "image": image, "resources": { "requests": { "cpu": cpu } } }
            ] } })
        };
        let mut new = pod("other", "2");
        KIND.confine("resize", &mut new, &pod("i", "1"));
        assert_eq!(new, pod("i", "2"));
    }
}
