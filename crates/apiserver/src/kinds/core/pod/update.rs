//! What may change in a pod once it is there.

use std::collections::BTreeMap;

use api::pod::qos_class;
use serde_json::Value;

use crate::kinds::pod_template::{self, MIRROR, app_armor, placement};
use crate::kinds::rules::{in_range, require};
use crate::kinds::{Cursor, Errors};
use crate::tree::keep;

const ONLY: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
                    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                    `spec.tolerations` (only additions to existing tolerations),\
                    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An update of the pod itself.
pub fn spec(errors: &mut Errors, new: &Cursor, old: &Cursor) {
    annotations(errors, new, old);
    let (spec, before) = (new.get("spec"), old.get("spec"));
    for list in ["containers", "initContainers"] {
        let at = spec.get(list);
        if at.list().len() != before.get(list).list().len() {
            errors.push(at.forbidden("pod updates may not add or remove containers"));
            return;
        }
        for image in at.items().map(|c| c.get("image")) {
            if require(errors, &image) && image.text().trim().len() != image.text().len() {
                errors.push(image.invalid("must not have leading or trailing whitespace"));
            }
        }
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.is_some() {
        let found = errors.len();
        in_range(errors, &deadline, 0, i64::from(i32::MAX));
        if errors.len() > found {
            return;
        }
    }
    match (deadline.int(), before.get("activeDeadlineSeconds").int()) {
        (Some(n), Some(was)) if n > was => {
            errors.push(deadline.invalid("must be less than or equal to previous value"));
            return;
        }
        (None, Some(_)) => errors.push(deadline.invalid("must not update from a positive integer to nil value")),
        _ => {}
    }
    tolerations(errors, &spec.get("tolerations"), &before.get("tolerations"));
    let gates_before = before.get("schedulingGates");
    for gate in spec.get("schedulingGates").items() {
        if !gates_before.list().contains(gate.value) {
            let name = gate.get("name");
            let why = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                name.text()
            );
            errors.push(name.forbidden(why));
        }
    }
    let mut munged = spec.value.clone();
    for list in ["containers", "initContainers"] {
        let now = munged.get_mut(list).and_then(Value::as_array_mut);
        for (container, was) in now.into_iter().flatten().zip(before.get(list).list()) {
            keep(container, was, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        keep(&mut munged, before.value, field);
    }
    let grace = |at: &Cursor| at.get("terminationGracePeriodSeconds").int();
    if grace(&before).is_some_and(|s| s < 0) && grace(&spec) == Some(1) {
        keep(&mut munged, before.value, "terminationGracePeriodSeconds");
    }
    if !gates_before.list().is_empty() {
        gated(errors, &spec, &before);
        keep(&mut munged, before.value, "nodeSelector");
        let affinity = before.get("affinity");
        if affinity.is_some()
            || spec
                .get("affinity")
                .map()
                .is_some_and(|a| a.keys().all(|k| k == "nodeAffinity"))
        {
            if munged.get("affinity").is_some() && affinity.is_some() {
                keep(&mut munged["affinity"], affinity.value, "nodeAffinity");
            } else {
                keep(&mut munged, before.value, "affinity");
            }
        }
    }
    if munged != *before.value {
        errors.push(spec.forbidden(ONLY));
    }
}

/// Some annotations stay as they are; all mean what they meant.
pub fn annotations(errors: &mut Errors, new: &Cursor, old: &Cursor) {
    mirror(errors, new, old);
    app_armor::unchanged(errors, new, old);
    pod_template::annotations_of(errors, &new.at(&["metadata", "annotations"]), &new.get("spec"));
}

/// Mirror pods are what they are from the start.
fn mirror(errors: &mut Errors, new: &Cursor, old: &Cursor) {
    let annotation = |at: &Cursor| at.at(&["metadata", "annotations"]).key(MIRROR).value.clone();
    let at = new.at(&["metadata", "annotations"]).key(MIRROR);
    match (annotation(old), annotation(new)) {
        (was, now) if was == now => {}
        (Value::Null, _) => errors.push(at.forbidden("may not add mirror pod annotation")),
        _ => errors.push(at.forbidden("may not remove or update mirror pod annotation")),
    }
}

/// Tolerations may come and change their seconds, but not go.
fn tolerations(errors: &mut Errors, now: &Cursor, before: &Cursor) {
    let plain = |value: &Value| {
        let mut value = value.clone();
        value.as_object_mut().map(|t| t.remove("tolerationSeconds"));
        value
    };
    let stays = |was: &Value| now.list().iter().any(|t| plain(t) == plain(was));
    if !before.list().iter().all(stays) {
        errors.push(now.forbidden("existing toleration can not be modified except its tolerationSeconds"));
        return;
    }
    placement::tolerations(errors, now);
}

/// Where a pod that waits at its gates may run can only be narrowed.
fn gated(errors: &mut Errors, spec: &Cursor, before: &Cursor) {
    let selector = spec.get("nodeSelector");
    let kept = |(key, was): (&str, Cursor)| selector.value.get(key) == Some(was.value);
    if !before.get("nodeSelector").entries().all(kept) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(selector.invalid(why));
    }
    let way = [
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ];
    let (terms, were) = (spec.at(&way), before.at(&way));
    if were.list().is_empty() {
        return;
    }
    if terms.list().len() != were.list().len() {
        errors.push(terms.invalid("no additions/deletions to non-empty NodeSelectorTerms list are allowed"));
        return;
    }
    for (term, was) in terms.items().zip(were.items()) {
        let starts = |field: &'static str| term.get(field).list().starts_with(was.get(field).list());
        let empty =
            |at: &Cursor| at.get("matchExpressions").list().is_empty() && at.get("matchFields").list().is_empty();
        if !starts("matchExpressions") || !starts("matchFields") || (empty(&was) && !empty(&term)) {
            errors.push(term.invalid("only additions are allowed (no mutations or deletions)"));
        }
    }
}

/// The pod itself, as upstream's errors name it.
fn whole<'a>(pod: &Cursor<'a>) -> Cursor<'a> {
    pod.named("[]")
}

/// `pods/ephemeralcontainers`: containers may come, but not change or go.
pub fn ephemeral_containers(errors: &mut Errors, new: &Cursor, old: &Cursor) {
    if old.at(&["metadata", "annotations"]).key(MIRROR).is_some() {
        errors.clear();
        errors.push(whole(new).forbidden("static pods do not support ephemeral containers"));
        return;
    }
    let list = new.at(&["spec", "ephemeralContainers"]);
    let now: BTreeMap<&str, &Value> = list.items().map(|c| (c.get("name").text(), c.value)).collect();
    for was in old.at(&["spec", "ephemeralContainers"]).items() {
        let name = was.get("name").text();
        match now.get(name) {
            None => errors.push(list.forbidden(format!("existing ephemeral containers {name:?} may not be removed\n"))),
            Some(value) if *value != was.value => {
                errors.push(list.forbidden(format!("existing ephemeral containers {name:?} may not be changed")));
            }
            Some(_) => {}
        }
    }
}

/// `pods/resize`: cpu and memory may change, nothing else.
pub fn resize(errors: &mut Errors, new: &Cursor, old: &Cursor) {
    let refuse = |errors: &mut Errors, why: &str| {
        errors.clear();
        errors.push(whole(new).forbidden(why));
    };
    if old.at(&["metadata", "annotations"]).key(MIRROR).is_some() {
        return refuse(errors, "static pods cannot be resized");
    }
    if old.at(&["spec", "os", "name"]).text() == "windows" {
        return refuse(errors, "windows pods cannot be resized");
    }
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let was = match old.at(&["status", "qosClass"]).text() {
        "" => qos_class(old.value),
        class => class,
    };
    if was != qos_class(new.value) {
        let class = new.at(&["status", "qosClass"]).text();
        errors.push(spec.wrong(class, "Pod QOS Class may not change as a result of resizing"));
    }
    let statuses = old.at(&["status", "containerStatuses"]);
    let running = statuses.items().find(|c| c.at(&["state", "running"]).is_some());
    if running.is_some_and(|c| !c.get("resources").is_some()) {
        errors.push(spec.forbidden("Pod running on node without support for resize"));
    }
    let mut munged = spec.value.clone();
    resized_pod(errors, &spec, &before, &mut munged);
    let claims = old.at(&["status", "nodeAllocatableResourceClaimStatuses"]);
    if !claims.list().is_empty() {
        errors.push(spec.forbidden("pods with node allocatable resource claims cannot be resized"));
    }
    if !same_containers(errors, &spec, &before) {
        return;
    }
    for list in ["initContainers", "containers"] {
        for (now, was) in spec.get(list).items().zip(before.get(list).items()) {
            let (now, was) = (now.get("resources"), was.get("resources"));
            kept(errors, &now, &was, "resource");
        }
    }
    for list in ["containers", "initContainers"] {
        let containers = munged.get_mut(list).and_then(Value::as_array_mut);
        let pairs = spec.get(list).items().zip(before.get(list).items());
        for (container, (now, was)) in containers.into_iter().flatten().zip(pairs) {
            drop_compute(&mut container["resources"], was.get("resources").value);
            if let Some(resources) = container["resources"].as_object_mut() {
                resources.remove("claims");
            }
            let other = without_empty(container) != without_empty(was.value);
            if list == "containers" {
                if other {
                    errors.push(spec.forbidden("only cpu and memory resources are mutable"));
                }
                continue;
            }
            if other {
                errors.push(now.forbidden("only cpu and memory resources for init or sidecar containers are mutable"));
            }
            if now.value != was.value && now.get("restartPolicy").text() != "Always" {
                let policies = now.get("resizePolicy");
                let restarting = policies
                    .items()
                    .filter(|policy| policy.get("restartPolicy").text() == "RestartContainer");
                let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                errors.extend(restarting.map(|_| now.forbidden(why)));
            }
        }
    }
    if errors.is_empty() && without_empty(&munged) != without_empty(before.value) {
        errors.push(spec.forbidden("only cpu and memory resources are mutable"));
    }
}

/// What a resize does to the resources of the pod itself.
fn resized_pod(errors: &mut Errors, spec: &Cursor, before: &Cursor, munged: &mut Value) {
    let (now, was) = (spec.get("resources"), before.get("resources"));
    let given = |at: &Cursor| {
        ["requests", "limits"]
            .iter()
            .any(|kind| at.get(kind).entries().next().is_some())
    };
    if !given(&now) && !given(&was) {
        return;
    }
    if was.is_some() && !now.is_some() {
        errors.push(now.forbidden("pod-level resources cannot be removed"));
        return;
    }
    kept(errors, &now, &was, "pod-level resource");
    drop_compute(&mut munged["resources"], was.value);
    let rest = without_empty(&munged["resources"]);
    if rest != without_empty(was.value) && (was.is_some() || rest != Value::Object(serde_json::Map::new())) {
        errors.push(spec.forbidden("only cpu and memory resources are mutable at pod-level"));
    }
}

/// A resize takes no request and no limit away.
fn kept(errors: &mut Errors, now: &Cursor, was: &Cursor, what: &str) {
    for kind in ["requests", "limits"] {
        let at = now.get(kind);
        if was.get(kind).entries().any(|(name, _)| at.value.get(name).is_none()) {
            errors.push(at.forbidden(format!("{what} {kind} cannot be removed")));
        }
    }
}

/// A resize is of the containers that were there, in their order.
fn same_containers(errors: &mut Errors, spec: &Cursor, before: &Cursor) -> bool {
    let found = errors.len();
    for list in ["containers", "initContainers"] {
        let (now, was) = (spec.get(list), before.get(list));
        if now.list().len() != was.list().len() {
            errors.push(now.forbidden(format!("{list} may not be added or removed on resize")));
            continue;
        }
        for (now, was) in now.items().zip(was.items()) {
            if now.get("name").text() != was.get("name").text() {
                let why = format!("{list} may not be renamed or reordered on resize");
                errors.push(now.get("name").forbidden(why));
            }
        }
    }
    errors.len() == found
}

/// Puts cpu and memory back to what they were.
fn drop_compute(now: &mut Value, was: &Value) {
    for kind in ["requests", "limits"] {
        for resource in ["cpu", "memory"] {
            let before = was.get(kind).and_then(|k| k.get(resource)).cloned();
            match (before, now.get_mut(kind).and_then(Value::as_object_mut)) {
                (Some(value), Some(list)) => {
                    list.insert(resource.into(), value);
                }
                (Some(value), None) => now[kind][resource] = value,
                (None, Some(list)) => {
                    list.remove(resource);
                }
                (None, None) => {}
            }
        }
    }
}

/// The tree without maps that hold nothing.
fn without_empty(tree: &Value) -> Value {
    match tree {
        Value::Object(map) => {
            let kept = map.iter().map(|(k, v)| (k.clone(), without_empty(v)));
            Value::Object(
                kept.filter(|(_, v)| !v.is_null() && v.as_object().is_none_or(|m| !m.is_empty()))
                    .collect(),
            )
        }
        Value::Array(list) => Value::Array(list.iter().map(without_empty).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(change: impl Fn(&mut Value)) -> Vec<String> {
        let old = json!({"spec": {
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}],
            "initContainers": [{"name": "i", "image": "x", "resources": {}}],
        }});
        let mut new = old.clone();
        change(&mut new);
        let mut errors = Errors::new();
        resize(&mut errors, &Cursor::root(&new), &Cursor::root(&old));
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_resize_changes_cpu_and_memory_and_nothing_else() {
        let taken = found(|pod| pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("200m"));
        assert!(taken.is_empty(), "{taken:?}");
        let why = |change: fn(&mut Value)| found(change).join("; ");
        assert_eq!(
            why(|pod| pod["spec"]["containers"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "d"}))),
            "spec.containers: Forbidden: containers may not be added or removed on resize"
        );
        assert_eq!(
            why(|pod| pod["spec"]["initContainers"][0]["name"] = json!("j")),
            "spec.initContainers[0].name: Forbidden: initContainers may not be renamed or reordered on resize"
        );
        assert_eq!(
            why(|pod| pod["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "1"}})),
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"
        );
        assert_eq!(
            why(|pod| pod["spec"]["initContainers"][0]["image"] = json!("y")),
            "spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable"
        );
        assert_eq!(
            why(|pod| pod["spec"]["nodeName"] = json!("n")),
            "spec: Forbidden: only cpu and memory resources are mutable"
        );
    }
}
