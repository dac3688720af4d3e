//! Which pods go first when there are too many.

use std::cmp::Ordering;
use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::meta::{annotation, uid};
use crate::pods::{is_active, is_ready, node_name, phase, ready_since, restarts};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

fn deletion_cost(pod: &Pod) -> i32 {
    annotation(pod, DELETION_COST).and_then(|c| c.parse().ok()).unwrap_or(0)
}

fn phase_order(pod: &Pod) -> u8 {
    match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

/// Powers of two of an age: pods of about one age count as equally old. No time counts as new.
fn age_bucket(since: Option<Timestamp>, now: Timestamp) -> i64 {
    match since {
        None => i64::MIN,
        Some(since) => {
            let seconds = now.duration_since(since).as_secs_f64();
            if seconds < 1.0 {
                -1
            } else {
                seconds.log2().floor() as i64
            }
        }
    }
}

/// Orders pods so that the ones to delete first come first; `related` counts the owner's active pods on each node.
fn order(a: &Pod, b: &Pod, related: &HashMap<String, usize>, now: Timestamp) -> Ordering {
    let on_node = |pod: &Pod| related.get(node_name(pod)).copied().unwrap_or(0);
    let restarted = |pod: &Pod| restarts(pod);
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    (!node_name(a).is_empty())
        .cmp(&!node_name(b).is_empty())
        .then_with(|| phase_order(a).cmp(&phase_order(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| on_node(b).cmp(&on_node(a)))
        .then_with(|| match is_ready(a) && is_ready(b) {
            true => age_bucket(ready_since(a), now).cmp(&age_bucket(ready_since(b), now)),
            false => Ordering::Equal,
        })
        .then_with(|| restarted(b).cmp(&restarted(a)))
        .then_with(|| age_bucket(created(a), now).cmp(&age_bucket(created(b), now)))
        .then_with(|| uid(a).cmp(uid(b)))
}

/// The `count` pods to delete. `related` are the pods of all ReplicaSets of the same owner.
pub(crate) fn pods_to_delete(mut pods: Vec<Pod>, related: &[Pod], count: usize, now: Timestamp) -> Vec<Pod> {
    if count < pods.len() {
        let mut on_node: HashMap<String, usize> = HashMap::new();
        for pod in related.iter().filter(|p| is_active(p)) {
            *on_node.entry(node_name(pod).to_owned()).or_default() += 1;
        }
        pods.sort_by(|a, b| order(a, b, &on_node, now));
    }
    pods.truncate(count);
    pods
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, node: &str, phase: &str, ready_at: Option<i64>, more: &Value) -> Pod {
        let time = |s| Timestamp::from_second(s).unwrap().to_string();
        let conditions = ready_at.map_or(
            json!([]),
            |s| json!([{"type": "Ready", "status": "True", "lastTransitionTime": time(s)}]),
        );
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "uid": name, "creationTimestamp": time(more["created"].as_i64().unwrap_or(0)), "annotations": more["annotations"]},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": conditions,
                "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": more["restarts"].as_i64().unwrap_or(0)}]}}))
        .unwrap()
    }

    #[test]
    fn the_pod_that_serves_least_goes_first() {
        let cost = json!({"annotations": {DELETION_COST: "5"}});
        let table = [
            (
                "unbound",
                pod("x", "", "Pending", None, &json!({})),
                pod("y", "n", "Pending", None, &json!({})),
            ),
            (
                "pending",
                pod("y", "n", "Pending", None, &json!({})),
                pod("x", "n", "Running", None, &json!({})),
            ),
            (
                "not ready",
                pod("y", "n", "Running", None, &json!({})),
                pod("x", "n", "Running", Some(0), &json!({})),
            ),
            (
                "cheaper",
                pod("y", "n", "Running", Some(0), &json!({})),
                pod("x", "n", "Running", Some(0), &cost),
            ),
            (
                "crowded node",
                pod("y", "m", "Running", Some(0), &json!({})),
                pod("x", "n", "Running", Some(0), &json!({})),
            ),
            (
                "ready later",
                pod("y", "n", "Running", Some(900), &json!({})),
                pod("x", "n", "Running", Some(0), &json!({})),
            ),
            (
                "restarts",
                pod("y", "n", "Running", Some(0), &json!({"restarts": 3})),
                pod("x", "n", "Running", Some(0), &json!({})),
            ),
            (
                "younger",
                pod("y", "n", "Running", Some(0), &json!({"created": 990})),
                pod("x", "n", "Running", Some(0), &json!({})),
            ),
            (
                "uid",
                pod("x", "n", "Running", Some(0), &json!({})),
                pod("y", "n", "Running", Some(0), &json!({})),
            ),
        ];
        let related = [
            pod("r1", "m", "Running", None, &json!({})),
            pod("r2", "m", "Running", None, &json!({})),
            pod("r3", "n", "Running", None, &json!({})),
        ];
        for (why, first, second) in table {
            let now = Timestamp::from_second(1000).unwrap();
            let expected = first.metadata.name.clone();
            let chosen = pods_to_delete(vec![second, first], &related, 1, now);
            assert_eq!(chosen[0].metadata.name, expected, "{why}");
        }
    }
}
