//! DaemonSets as tables: nodes and pods in, pods to make and delete out.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::step::{Step, step};

fn set(strategy: &Value) -> DaemonSet {
    serde_json::from_value(
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d", "generation": 2},
        "spec": {"selector": {}, "updateStrategy": strategy,
            "template": {"spec": {"containers": [], "nodeSelector": {"os": "linux"}}}}}),
    )
    .unwrap()
}

fn node(name: &str, os: &str, taints: &Value) -> Node {
    serde_json::from_value(
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"os": os}},
        "spec": {"taints": taints}}),
    )
    .unwrap()
}

fn pod(name: &str, node: &str, hash: &str, ready: bool) -> Pod {
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "uid": name, "labels": {"controller-revision-hash": hash}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}}))
    .unwrap()
}

fn run(set: &DaemonSet, nodes: &[Node], pods: &[Pod]) -> Step {
    step(set, nodes, pods, "new", true, Timestamp::from_second(0).unwrap())
}

fn deleted(step: &Step) -> Vec<&str> {
    step.delete.iter().filter_map(|p| p.metadata.name.as_deref()).collect()
}

#[test]
fn every_fitting_node_gets_one_pod() {
    let rolling = set(&json!({"type": "RollingUpdate"}));
    let pressed = json!([{"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]);
    let nodes = [
        node("a", "linux", &json!([])),
        node("b", "windows", &json!([])),
        node("c", "linux", &json!([{"key": "mine", "effect": "NoSchedule"}])),
        node("d", "linux", &pressed),
    ];
    let step = run(&rolling, &nodes, &[]);
    assert_eq!(step.create, ["a", "d"]);
    assert_eq!(step.status.desired_number_scheduled, 2);
    let stays = run(
        &rolling,
        &nodes,
        &[pod("x", "c", "new", true), pod("y", "b", "new", true)],
    );
    assert_eq!(deleted(&stays), ["y"], "a pod may stay where none would start");
    assert_eq!(stays.status.number_misscheduled, 2);
}

#[test]
fn doubles_and_ended_pods_go() {
    let rolling = set(&json!({"type": "RollingUpdate"}));
    let nodes = [node("a", "linux", &json!([]))];
    let doubles = [pod("x", "a", "new", false), pod("y", "a", "new", true)];
    assert_eq!(deleted(&run(&rolling, &nodes, &doubles)), ["y"]);
    let mut failed = pod("z", "a", "new", false);
    failed.status.as_mut().unwrap().phase = Some("Failed".to_owned());
    let step = run(&rolling, &nodes, &[failed]);
    assert_eq!((deleted(&step), step.ended.len()), (vec!["z"], 1));
}

#[test]
fn old_pods_are_replaced_within_the_limits() {
    let nodes: Vec<Node> = ["a", "b", "c"].iter().map(|n| node(n, "linux", &json!([]))).collect();
    let all_old = [
        pod("x", "a", "old", true),
        pod("y", "b", "old", true),
        pod("z", "c", "old", true),
    ];
    let rolling = set(&json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}));
    assert_eq!(deleted(&run(&rolling, &nodes, &all_old)), ["x"]);
    let one_down = [
        pod("x", "a", "new", false),
        pod("y", "b", "old", true),
        pod("z", "c", "old", true),
    ];
    assert!(run(&rolling, &nodes, &one_down).delete.is_empty());
    let broken = [
        pod("x", "a", "old", false),
        pod("y", "b", "old", true),
        pod("z", "c", "old", true),
    ];
    assert_eq!(
        deleted(&run(&rolling, &nodes, &broken)),
        ["x"],
        "what serves nobody may go"
    );
    assert!(
        run(&set(&json!({"type": "OnDelete"})), &nodes, &all_old)
            .delete
            .is_empty()
    );
}

#[test]
fn a_surge_starts_the_new_pod_first() {
    let nodes: Vec<Node> = ["a", "b"].iter().map(|n| node(n, "linux", &json!([]))).collect();
    let surge = set(&json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}));
    let old = [pod("x", "a", "old", true), pod("y", "b", "old", true)];
    let first = run(&surge, &nodes, &old);
    assert_eq!((first.create, first.delete.len()), (vec!["a".to_owned()], 0));
    let starting = [
        pod("x", "a", "old", true),
        pod("n", "a", "new", false),
        pod("y", "b", "old", true),
    ];
    let second = run(&surge, &nodes, &starting);
    assert_eq!((second.create.len(), second.delete.len()), (0, 0));
    let ready = [
        pod("x", "a", "old", true),
        pod("n", "a", "new", true),
        pod("y", "b", "old", true),
    ];
    assert_eq!(deleted(&run(&surge, &nodes, &ready)), ["x"]);
    let both_broken = [
        pod("x", "a", "old", false),
        pod("n", "a", "new", false),
        pod("y", "b", "old", true),
    ];
    assert_eq!(deleted(&run(&surge, &nodes, &both_broken)), ["x"]);
    let mut going = pod("x", "a", "old", true);
    going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert_eq!(run(&surge, &nodes[..1], &[going]).create, ["a"]);
}

#[test]
fn a_pod_that_waits_for_a_node_that_is_gone_goes_too() {
    let rolling = set(&json!({"type": "RollingUpdate"}));
    let mut waiting = pod("x", "", "new", false);
    super::step::pin(waiting.spec.as_mut().unwrap(), "gone");
    let bound = pod("y", "gone", "new", true);
    assert_eq!(deleted(&run(&rolling, &[], &[waiting, bound])), ["x"]);
}
