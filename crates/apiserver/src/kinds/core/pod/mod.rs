//! Pod.

pub mod columns;
mod parts;
mod resources;
mod status;
mod update;
mod validation;

use std::collections::{HashMap, VecDeque};

use api::pod::qos_class;
use serde_json::{Value, json};

use crate::kinds::pod_template::app_armor::app_armor_annotations;
use crate::kinds::warnings::hostname;
use crate::kinds::{Again, Asked, Generation, Kind, Writer, pod_template};
use crate::tree::text;

pub(in crate::kinds) const KIND: Kind = Kind {
    metadata: Asked::on_update(Again::BOTH),
    generation: Generation::Counted,
    read: |pod| {
        // in templates it stays, with a warning
        if let Some(grace) = pod.pointer_mut("/spec/terminationGracePeriodSeconds")
            && grace.as_i64().is_some_and(|seconds| seconds < 0)
        {
            *grace = json!(1);
        }
        one_address(pod);
    },
    prepare_create,
    prepare_update: |new, old, _| {
        keep_marks(new, old);
        keep_resources(new, old);
    },
    parts: &parts::ALL,
    disabled: &[
        &["status", "containerStatuses", "*", "volumeMounts", "*", "volumeStatus"],
        &[
            "status",
            "initContainerStatuses",
            "*",
            "volumeMounts",
            "*",
            "volumeStatus",
        ],
        &[
            "status",
            "ephemeralContainerStatuses",
            "*",
            "volumeMounts",
            "*",
            "volumeStatus",
        ],
    ],
    pod_spec: &["spec"],
    warn_before_creation: |told, pod| {
        let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
        let found = app_armor_annotations(pod).into_iter();
        told.extend(found.map(|(_, _, key, _)| format!("metadata.annotations[{key}]: {why}")));
    },
    // as upstream: people rarely update pods
    warn: |told, new, old| {
        if old.is_none() {
            hostname(told, new, "the Pod's hostname");
            pod_template::warnings::pod(told, new, "");
        }
    },
    absent: |path| if path == "spec.hostNetwork" { "false" } else { "" },
    grace,
    returns_deleted: true,
    columns: columns::COLUMNS,
    reads: Some(columns::READS),
    completed: |pod| match pod.pointer("/status/phase").and_then(Value::as_str) {
        Some("Succeeded") => Some(("Succeeded", "The pod has completed successfully.")),
        Some("Failed") => Some(("Failed", "The pod failed.")),
        _ => None,
    },
    ..Kind::new("", "pods", validation::validate)
};

/// The one address of old is the first of the many of today.
fn one_address(pod: &mut Value) {
    let Some(status) = pod.get_mut("status").and_then(Value::as_object_mut) else {
        return;
    };
    let one = status
        .get("podIP")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let first = status
        .get("podIPs")
        .and_then(|all| all.pointer("/0/ip"))
        .and_then(Value::as_str);
    if !one.is_empty() && first != Some(one.as_str()) {
        status.insert("podIPs".into(), json!([{ "ip": one }]));
    } else if one.is_empty()
        && let Some(first) = first.map(str::to_owned)
    {
        status.insert("podIP".into(), json!(first));
    }
}

fn prepare_create(pod: &mut Value, writer: &Writer) {
    let gated = pod
        .pointer("/spec/schedulingGates")
        .and_then(Value::as_array)
        .is_some_and(|g| !g.is_empty());
    merge_label_keys(pod);
    app_armor_fields(pod);
    resources::fill(pod);
    let mut status = json!({ "phase": "Pending", "qosClass": qos_class(pod) });
    if gated {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastTransitionTime": writer.now,
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    pod["status"] = status;
}

fn grace(pod: &Value, asked: Option<i64>) -> Option<i64> {
    // what never ran or has ended needs no time to end
    let scheduled = text(pod, &["spec", "nodeName"]).is_some_and(|n| !n.is_empty());
    if !scheduled || api::pod::has_ended(pod) {
        return Some(0);
    }
    let own = pod
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64);
    // a negative period is read as one second
    Some(asked.or(own).unwrap_or(30)).map(|s| if s < 0 { 1 } else { s })
}

fn app_armor_fields(pod: &mut Value) {
    for (field, i, _, profile) in app_armor_annotations(pod) {
        if let Some(profile) = profile {
            pod["spec"][field][i]["securityContext"]["appArmorProfile"] = profile;
        }
    }
}

/// Puts the pod's own values of `matchLabelKeys` and `mismatchLabelKeys` into the selectors beside them. KEP-3633, KEP-3243.
fn merge_label_keys(pod: &mut Value) {
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object).cloned();
    let Some(labels) = labels else { return };
    let merge = |term: &mut Value| {
        let mut added = Vec::new();
        for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            let keys = term.get(keys).and_then(Value::as_array).into_iter().flatten();
            let known = keys.filter_map(|key| Some((key, labels.get(key.as_str()?)?)));
            added.extend(known.map(|(key, value)| json!({ "key": key, "operator": operator, "values": [value] })));
        }
        // a selector that is not there selects nothing, whatever is added
        let selector = term.get_mut("labelSelector").and_then(Value::as_object_mut);
        if let (Some(selector), false) = (selector, added.is_empty()) {
            match selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
                Some(list) => list.extend(added),
                None => {
                    selector.insert("matchExpressions".into(), Value::Array(added));
                }
            }
        }
    };
    let Some(spec) = pod.get_mut("spec") else { return };
    for constraint in list(spec, "topologySpreadConstraints") {
        merge(constraint);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.get_mut("affinity").and_then(|a| a.get_mut(kind)) else {
            continue;
        };
        list(affinity, "requiredDuringSchedulingIgnoredDuringExecution").for_each(&merge);
        for weighted in list(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            weighted.get_mut("podAffinityTerm").into_iter().for_each(&merge);
        }
    }
}

fn list<'a>(parent: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = parent.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// What the writer of a status leaves out stays as it was: the class, and which generation was seen.
/// A writer that does not know what a pod asks for as a whole leaves it out; a resize that changes it may change it in part.
fn keep_resources(new: &mut Value, old: &Value) {
    if let Some(was) = old.pointer("/spec/resources").filter(|was| !was.is_null())
        && let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut)
        && spec.get("resources").is_none_or(Value::is_null)
    {
        spec.insert("resources".into(), was.clone());
    }
    if new.pointer("/spec/resources") != old.pointer("/spec/resources") {
        resources::fill(new);
    }
}

fn keep_marks(new: &mut Value, old: &Value) {
    const SEEN: &str = "observedGeneration";
    let is_set = |at: Option<&Value>| at.is_some_and(|v| !v.is_null() && *v != json!("") && *v != json!(0));
    for field in ["qosClass", SEEN] {
        let was = old.get("status").and_then(|status| status.get(field));
        if is_set(was) && !is_set(new.get("status").and_then(|status| status.get(field))) {
            new["status"][field] = was.cloned().unwrap_or_default();
        }
    }
    let conditions = |pod: &Value| pod.pointer("/status/conditions").and_then(Value::as_array).cloned();
    // there may be several of one type
    let mut seen: HashMap<String, VecDeque<Value>> = HashMap::new();
    for was in conditions(old).unwrap_or_default() {
        let kind = text(&was, &["type"]).unwrap_or_default().to_owned();
        seen.entry(kind).or_default().push_back(was[SEEN].clone());
    }
    for condition in new
        .get_mut("status")
        .into_iter()
        .flat_map(|status| list(status, "conditions"))
    {
        let kind = text(condition, &["type"]).unwrap_or_default();
        let was = seen.get_mut(kind).and_then(VecDeque::pop_front);
        if is_set(was.as_ref()) && !is_set(condition.get(SEEN)) {
            condition[SEEN] = was.unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::pod_template::app_armor::APP_ARMOR;

    #[test]
    fn label_keys_go_into_the_selectors_beside_them() {
        let selector = || json!({ "matchLabels": { "a": "b" } });
        let mut pod = json!({
            "metadata": { "labels": { "a": "b", "rev": "7" } },
            "spec": {
                "topologySpreadConstraints": [
                    { "labelSelector": selector(), "matchLabelKeys": ["rev", "gone"] },
                    { "matchLabelKeys": ["rev"] },
                ],
                "affinity": { "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        { "labelSelector": selector(), "matchLabelKeys": ["rev"], "mismatchLabelKeys": ["tenant"] },
                    ],
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        { "weight": 1, "podAffinityTerm": { "labelSelector": selector(), "mismatchLabelKeys": ["rev"] } },
                    ],
                } },
            },
        });
        merge_label_keys(&mut pod);
        let with = |operator: &str| {
            let term = json!({ "key": "rev", "operator": operator, "values": ["7"] });
            json!({ "matchLabels": { "a": "b" }, "matchExpressions": [term] })
        };
        let spread = &pod["spec"]["topologySpreadConstraints"];
        assert_eq!(
            (&spread[0]["labelSelector"], spread[1].get("labelSelector")),
            (&with("In"), None)
        );
        let affinity = &pod["spec"]["affinity"]["podAntiAffinity"];
        let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(required["labelSelector"], with("In"));
        let preferred = &affinity["preferredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(preferred["podAffinityTerm"]["labelSelector"], with("NotIn"));
    }

    #[test]
    fn a_status_without_the_class_and_the_generations_seen_keeps_them() {
        let condition = |kind: &str, seen: Value| json!({ "type": kind, "observedGeneration": seen });
        let old = json!({ "status": { "qosClass": "Burstable", "observedGeneration": 3,
            "conditions": [condition("Ready", json!(2)), condition("x", json!(1))] } });
        let mut new = json!({ "status": { "conditions": [condition("x", json!(4)), condition("Ready", json!(0))] } });
        keep_marks(&mut new, &old);
        let want = json!({ "status": { "qosClass": "Burstable", "observedGeneration": 3,
            "conditions": [condition("x", json!(4)), condition("Ready", json!(2))] } });
        assert_eq!(new, want);
    }

    #[test]
    fn an_annotation_sets_the_app_armor_profile_of_a_container_that_has_none() {
        let profile = |annotation: &str, of_pod: Value| {
            let mut pod = json!({
                "metadata": { "annotations": { (format!("{APP_ARMOR}c")): annotation } },
                "spec": { "securityContext": { "appArmorProfile": of_pod }, "containers": [{ "name": "c" }] },
            });
            app_armor_fields(&mut pod);
            pod.pointer("/spec/containers/0/securityContext/appArmorProfile")
                .cloned()
        };
        let default = json!({ "type": "RuntimeDefault" });
        assert_eq!(profile("runtime/default", Value::Null), Some(default.clone()));
        let local = json!({ "type": "Localhost", "localhostProfile": "x" });
        assert_eq!(profile("localhost/x", Value::Null), Some(local));
        assert_eq!(profile("foo", Value::Null), None);
        assert_eq!(profile("runtime/default", default), None);
    }
}
