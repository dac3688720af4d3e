//! Keeps a write to what its path may change: the object without its status, the status alone, or the part that a
//! subresource is there for.

use api::apply::Reset;
use serde_json::{Map, Value, json};

use crate::registry::resource::Resource;
use crate::strategy::keep;
use crate::strategy::reset::reset_fields;

/// Whether a subresource is a view of the whole object of which it changes a part.
pub fn is_part(resource: &Resource, subresource: &str) -> bool {
    subresource == "status"
        || matches!(
            (resource.group.as_str(), resource.plural.as_str(), subresource),
            ("", "pods", "ephemeralcontainers" | "resize")
                | ("", "namespaces", "finalize")
                | ("certificates.k8s.io", "certificatesigningrequests", "approval")
        )
}

/// Undoes in `new` what a write of this path may not change.
pub fn confine(resource: &Resource, subresource: &str, new: &mut Value, old: &Value) {
    match subresource {
        "" => {
            if resource.strategy.has_status {
                keep(new, old, "status");
            }
            if let (true, Some(spec)) = (resource.is("", "namespaces"), old.get("spec")) {
                if !new["spec"].is_object() {
                    new["spec"] = json!({});
                }
                keep(&mut new["spec"], spec, "finalizers");
            }
        }
        "status" => part((resource, subresource), new, old, |result, new| {
            keep(result, new, "status");
        }),
        "ephemeralcontainers" => part((resource, subresource), new, old, |result, new| {
            if let Some(spec) = new.get("spec") {
                keep(&mut result["spec"], spec, "ephemeralContainers");
            }
        }),
        // what adds, removes or renames a container is left for validation to refuse
        "resize" if same_containers(new, old) => part((resource, subresource), new, old, resize),
        "resize" => keep(new, old, "status"),
        "approval" => {
            let conditions = new.pointer("/status/conditions").cloned();
            keep(new, old, "spec");
            keep(new, old, "status");
            if let Some(conditions) = conditions {
                new["status"]["conditions"] = conditions;
            } else if let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) {
                status.remove("conditions");
            }
        }
        "finalize" => keep(new, old, "status"),
        _ => {}
    }
}

/// Makes `new` the old object with one part of it changed. The writers of most kinds' status may mark the object, claim and
/// free it too.
fn part(
    (resource, subresource): (&Resource, &str),
    new: &mut Value,
    old: &Value,
    take: impl FnOnce(&mut Value, &Value),
) {
    let mut result = old.clone();
    take(&mut result, new);
    if let (Some(to), Some(from)) = (
        result.get_mut("metadata").and_then(Value::as_object_mut),
        new.get("metadata"),
    ) {
        let resets = |path: &[&str]| matches!(reset_fields(resource, subresource), Reset::Except(paths) if paths.contains(&path));
        // the uid and its like are taken to be refused where they are others
        const SYSTEM: [&str; 4] = [
            "managedFields",
            "uid",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ];
        const MARKS: [&str; 5] = ["labels", "annotations", "finalizers", "ownerReferences", "generateName"];
        let marks = match subresource {
            "ephemeralcontainers" | "resize" => &[],
            _ if resets(&["metadata"]) => &[],
            _ => MARKS.as_slice(),
        };
        for key in SYSTEM.iter().chain(marks).filter(|key| !resets(&["metadata", key])) {
            match from.get(*key) {
                Some(value) => to.insert((*key).into(), value.clone()),
                None => to.remove(*key),
            };
        }
    }
    *new = result;
}

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
    use super::*;
    use crate::registry::builtin_resources;

    fn confined(plural: &str, subresource: &str, mut new: Value, old: &Value) -> Value {
        let all = builtin_resources();
        let resource = all.iter().find(|r| r.plural == plural).unwrap();
        confine(resource, subresource, &mut new, old);
        new
    }

    #[test]
    fn a_namespace_keeps_its_finalizers_whatever_an_update_leaves_out() {
        let old = json!({ "metadata": {}, "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" } });
        let update = json!({ "metadata": { "labels": { "a": "b" } } });
        let kept = confined("namespaces", "", update.clone(), &old);
        assert_eq!(kept["spec"], old["spec"]);
        assert_eq!(
            (&kept["status"], &kept["metadata"]),
            (&old["status"], &update["metadata"])
        );
        let ended = json!({ "metadata": {}, "spec": { "finalizers": [] } });
        assert_eq!(
            confined("namespaces", "finalize", ended.clone(), &old)["spec"],
            ended["spec"]
        );
    }

    #[test]
    fn an_approval_marks_the_request_and_changes_its_conditions_alone() {
        let old = json!({ "metadata": {}, "spec": { "request": "r" }, "status": { "certificate": "c" } });
        let new = json!({ "metadata": { "annotations": { "a": "b" } }, "spec": { "request": "other" },
            "status": { "certificate": "forged", "conditions": [{ "type": "Approved" }] } });
        let kept = confined("certificatesigningrequests", "approval", new, &old);
        let want = json!({ "metadata": { "annotations": { "a": "b" } }, "spec": { "request": "r" },
            "status": { "certificate": "c", "conditions": [{ "type": "Approved" }] } });
        assert_eq!(kept, want);
    }

    #[test]
    fn a_resize_changes_resources_and_nothing_else_of_a_pod() {
        let pod = |image: &str, cpu: &str| {
            json!({ "metadata": {}, "spec": { "containers": [
                { "name": "a", "image": image, "resources": { "requests": { "cpu": cpu } } }
            ] } })
        };
        assert_eq!(
            confined("pods", "resize", pod("other", "2"), &pod("i", "1")),
            pod("i", "2")
        );
    }
}
