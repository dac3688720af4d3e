//! What a node's silence and conditions mean for its conditions and taints.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::taints::{
    DISK_PRESSURE, MEMORY_PRESSURE, NETWORK_UNAVAILABLE, NOT_READY, PID_PRESSURE, UNREACHABLE, UNSCHEDULABLE,
};

const KUBELET_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

fn conditions(node: &Node) -> &[NodeCondition] {
    let status = node.status.as_ref();
    status.and_then(|s| s.conditions.as_deref()).unwrap_or_default()
}

pub(super) fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    conditions(node).iter().find(|c| c.type_ == type_)
}

/// The status of the Ready condition, `Unknown` without one.
pub(super) fn ready(node: &Node) -> &str {
    condition(node, "Ready").map_or("Unknown", |c| c.status.as_str())
}

/// The conditions of a node whose kubelet has fallen silent; `None` if they say so already.
pub(super) fn silence(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let mut all = conditions(node).to_vec();
    let mut changed = false;
    for type_ in KUBELET_CONDITIONS {
        match all.iter_mut().find(|c| c.type_ == type_) {
            None => {
                changed = true;
                all.push(NodeCondition {
                    type_: type_.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: Some(Time(now)),
                });
            }
            Some(c) if c.status != "Unknown" => {
                changed = true;
                c.status = "Unknown".to_owned();
                c.reason = Some("NodeStatusUnknown".to_owned());
                c.message = Some("Kubelet stopped posting node status.".to_owned());
                c.last_transition_time = Some(Time(now));
            }
            Some(_) => {}
        }
    }
    changed.then_some(all)
}

/// The taints this controller answers for, by key and effect; with `leave` also those that make pods leave.
fn wanted(node: &Node, leave: bool) -> Vec<(&'static str, &'static str)> {
    let is = |type_: &str, status: &str| condition(node, type_).is_some_and(|c| c.status == status);
    let mut taints = Vec::new();
    for (type_, key) in [
        ("MemoryPressure", MEMORY_PRESSURE),
        ("DiskPressure", DISK_PRESSURE),
        ("PIDPressure", PID_PRESSURE),
        ("NetworkUnavailable", NETWORK_UNAVAILABLE),
    ] {
        if is(type_, "True") {
            taints.push((key, "NoSchedule"));
        }
    }
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        taints.push((UNSCHEDULABLE, "NoSchedule"));
    }
    for (status, key) in [("False", NOT_READY), ("Unknown", UNREACHABLE)] {
        if is("Ready", status) {
            taints.push((key, "NoSchedule"));
            if leave {
                taints.push((key, "NoExecute"));
            }
        }
    }
    taints
}

const OURS: [&str; 7] = [
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    MEMORY_PRESSURE,
    DISK_PRESSURE,
    PID_PRESSURE,
    NETWORK_UNAVAILABLE,
];

/// All taints of the node as its conditions want them; `None` if it has them. A node that never reported is left alone. Pods are made to leave
/// a node that is not ready only with `leave`.
pub(super) fn taints(node: &Node, leave: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let old = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let wanted = wanted(node, leave);
    let known = condition(node, "Ready").is_some();
    let ours = |t: &Taint| OURS.contains(&t.key.as_str()) && matches!(t.effect.as_str(), "NoSchedule" | "NoExecute");
    let has = |t: &Taint| {
        wanted.contains(&(
            OURS.iter().find(|k| **k == t.key).copied().unwrap_or(""),
            t.effect.as_str(),
        ))
    };
    let keep_unknown = |t: &Taint| !known && matches!(t.key.as_str(), NOT_READY | UNREACHABLE);
    let mut new: Vec<Taint> = old
        .iter()
        .filter(|t| !ours(t) || has(t) || keep_unknown(t))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !new.iter().any(|t| t.key == key && t.effect == effect) {
            new.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    (new != old).then_some(new)
}

/// Region and zone of a node, empty where it has none.
pub(super) fn zone(node: &Node) -> [&str; 2] {
    let labels = node.metadata.labels.as_ref();
    let first = |keys: [&str; 2]| {
        let found = keys.iter().find_map(|key| labels?.get(*key));
        found.map_or("", String::as_str)
    };
    [
        first([
            "failure-domain.beta.kubernetes.io/region",
            "topology.kubernetes.io/region",
        ]),
        first(["failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"]),
    ]
}

/// Whether a taint of this controller makes pods leave the node already.
pub(super) fn pods_leave(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    taints
        .iter()
        .any(|taint| taint.effect == "NoExecute" && matches!(taint.key.as_str(), NOT_READY | UNREACHABLE))
}

/// Labels under their old names, which follow those under the new; `None` if they do.
pub(super) fn old_labels(node: &Node) -> Option<BTreeMap<&'static str, String>> {
    const RENAMED: [(&str, &str); 2] = [
        ("kubernetes.io/os", "beta.kubernetes.io/os"),
        ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
    ];
    let labels = node.metadata.labels.as_ref()?;
    let wrong = RENAMED.iter().filter_map(|(new, old)| {
        let value = labels.get(*new)?;
        (labels.get(*old) != Some(value)).then(|| (*old, value.clone()))
    });
    let wrong: BTreeMap<_, _> = wrong.collect();
    (!wrong.is_empty()).then_some(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(ready: Option<&str>, taints: &serde_json::Value) -> Node {
        let conditions = ready.map_or(json!([]), |s| json!([{"type": "Ready", "status": s}]));
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "spec": {"taints": taints}, "status": {"conditions": conditions}}))
        .unwrap()
    }

    fn names(taints: Option<Vec<Taint>>) -> Option<Vec<String>> {
        taints.map(|t| t.iter().map(|t| format!("{}:{}", t.key, t.effect)).collect())
    }

    #[test]
    fn taints_follow_the_ready_condition() {
        let now = Timestamp::from_second(0).unwrap();
        let mine = json!([{"key": "mine", "effect": "NoExecute"}]);
        assert_eq!(names(taints(&node(Some("True"), &mine), true, now)), None);
        let kept = taints(&node(Some("Unknown"), &mine), false, now);
        assert_eq!(
            names(kept).unwrap(),
            ["mine:NoExecute", "node.kubernetes.io/unreachable:NoSchedule"]
        );
        let unreachable = taints(&node(Some("Unknown"), &mine), true, now).unwrap();
        assert_eq!(
            names(Some(unreachable.clone())).unwrap(),
            [
                "mine:NoExecute",
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute"
            ]
        );
        let back = node(Some("True"), &serde_json::to_value(unreachable).unwrap());
        assert_eq!(names(taints(&back, true, now)).unwrap(), ["mine:NoExecute"]);
        let new = json!([{"key": NOT_READY, "effect": "NoSchedule"}]);
        assert_eq!(
            names(taints(&node(None, &new), true, now)),
            None,
            "not before the kubelet has spoken"
        );
    }

    #[test]
    fn labels_of_old_names_follow_the_new() {
        let labelled = |labels: serde_json::Value| {
            serde_json::from_value::<Node>(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"labels": labels}}))
                .unwrap()
        };
        let new = labelled(json!({"kubernetes.io/os": "linux", "beta.kubernetes.io/os": "x"}));
        let wanted = BTreeMap::from([("beta.kubernetes.io/os", "linux".to_owned())]);
        assert_eq!(old_labels(&new), Some(wanted));
        assert_eq!(
            old_labels(&labelled(
                json!({"kubernetes.io/arch": "a", "beta.kubernetes.io/arch": "a"})
            )),
            None
        );
    }

    #[test]
    fn a_silent_node_is_unknown_in_all_it_reports() {
        let now = Timestamp::from_second(0).unwrap();
        let conditions = silence(&node(Some("True"), &json!([])), now).unwrap();
        assert_eq!(conditions.len(), 4);
        assert!(conditions.iter().all(|c| c.status == "Unknown"));
        assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(conditions[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        let mut silent = node(None, &json!([]));
        silent.status.as_mut().unwrap().conditions = Some(conditions);
        assert!(silence(&silent, now).is_none());
    }
}
