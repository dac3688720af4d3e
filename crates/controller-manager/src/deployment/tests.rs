//! Rollouts as tables: ReplicaSets before, what one step does to them.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::{Value, json};

use super::rollout::{Step, step};

fn now() -> Timestamp {
    Timestamp::from_second(10_000).unwrap()
}

fn deployment(replicas: i32, image: &str, more: &Value) -> Deployment {
    let mut tree = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n", "uid": "du", "generation": 1},
        "spec": {"replicas": replicas, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {"a": "b"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}});
    for (k, v) in more.as_object().unwrap() {
        tree["spec"][k] = v.clone();
    }
    serde_json::from_value(tree).unwrap()
}

/// A ReplicaSet of an image: its size, how many are available, the size the Deployment had, its revision.
fn set(name: &str, image: &str, size: i32, available: i32, desired: i32, revision: i64) -> ReplicaSet {
    let max = desired + (desired + 3) / 4;
    serde_json::from_value(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "n", "uid": name, "generation": 1,
            "creationTimestamp": Timestamp::from_second(revision).unwrap().to_string(),
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string(),
                "deployment.kubernetes.io/desired-replicas": desired.to_string(),
                "deployment.kubernetes.io/max-replicas": max.to_string()}},
        "spec": {"replicas": size, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b", "pod-template-hash": name}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
        "status": {"replicas": size, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 1}}))
    .unwrap()
}

fn sizes(step: &Step) -> Vec<(String, i32, i32)> {
    let changed = step
        .changes
        .iter()
        .filter_map(|(n, c)| c.replicas.map(|(a, b)| (n.clone(), a, b)));
    changed.collect()
}

/// Name and two numbers of each ReplicaSet.
type Sizes = &'static [(&'static str, i32, i32)];

fn changed(list: &[(&str, i32, i32)]) -> Vec<(String, i32, i32)> {
    list.iter().map(|(n, a, b)| ((*n).to_owned(), *a, *b)).collect()
}

#[test]
fn the_first_step_makes_a_replica_set_of_full_size() {
    let step = step(&deployment(3, "v1", &json!({})), vec![], &[], now()).unwrap();
    let made = step.create.unwrap();
    assert_eq!(made.spec.replicas, Some(3));
    assert_eq!(step.revision.as_deref(), Some("1"));
    let hash = made.metadata.labels.as_ref().unwrap()["pod-template-hash"].clone();
    assert_eq!(made.metadata.name, Some(format!("d-{hash}")));
    assert_eq!(made.spec.selector.match_labels.unwrap()["pod-template-hash"], hash);
    assert_eq!(
        made.metadata.annotations.unwrap()["deployment.kubernetes.io/max-replicas"],
        "4"
    );
    let conditions = step.status.conditions.unwrap();
    assert_eq!(
        conditions
            .iter()
            .find(|c| c.type_.as_deref() == Some("Progressing"))
            .unwrap()
            .reason
            .as_deref(),
        Some("NewReplicaSetCreated")
    );
    assert_eq!(
        conditions
            .iter()
            .find(|c| c.type_.as_deref() == Some("Available"))
            .unwrap()
            .status
            .as_deref(),
        Some("False")
    );
}

#[test]
fn a_rollout_keeps_within_surge_and_availability() {
    let d = deployment(4, "v2", &json!({}));
    let first = step(&d, vec![set("old", "v1", 4, 4, 4, 1)], &[], now()).unwrap();
    assert_eq!(first.create.as_ref().unwrap().spec.replicas, Some(1));
    assert_eq!(first.revision.as_deref(), Some("2"));
    assert_eq!(sizes(&first), changed(&[("old", 4, 3)]));
    let table: [(Sizes, Sizes); 5] = [
        (&[("old", 3, 3), ("new", 1, 0)], &[("new", 1, 2)]),
        (&[("old", 3, 3), ("new", 2, 0)], &[]),
        (&[("old", 3, 3), ("new", 2, 1)], &[("old", 3, 2)]),
        (&[("old", 2, 0), ("new", 2, 1)], &[("new", 2, 3)]),
        (&[("old", 1, 1), ("new", 4, 4)], &[("old", 1, 0)]),
    ];
    for (before, after) in table {
        let sets = before.iter().map(|(n, size, available)| match *n {
            "old" => set("old", "v1", *size, *available, 4, 1),
            _ => set("new", "v2", *size, *available, 4, 2),
        });
        let step = step(&d, sets.collect(), &[], now()).unwrap();
        assert_eq!(sizes(&step), changed(after), "{before:?}");
    }
}

#[test]
fn unhealthy_old_pods_go_first() {
    let d = deployment(4, "v2", &json!({}));
    let sets = vec![
        set("bad", "v0", 2, 0, 4, 1),
        set("old", "v1", 2, 2, 4, 2),
        set("new", "v2", 1, 0, 4, 3),
    ];
    assert_eq!(sizes(&step(&d, sets, &[], now()).unwrap()), changed(&[("bad", 2, 1)]));
}

#[test]
fn a_change_of_size_during_a_rollout_is_shared() {
    let d = deployment(8, "v2", &json!({}));
    let sets = vec![set("old", "v1", 3, 3, 4, 1), set("new", "v2", 2, 1, 4, 2)];
    assert_eq!(
        sizes(&step(&d, sets, &[], now()).unwrap()),
        changed(&[("old", 3, 6), ("new", 2, 4)])
    );
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let d = deployment(2, "v2", &json!({"strategy": {"type": "Recreate"}}));
    let first = step(&d, vec![set("old", "v1", 2, 2, 2, 1)], &["old".into()], now()).unwrap();
    assert_eq!(sizes(&first), changed(&[("old", 2, 0)]));
    assert!(first.create.is_none());
    let waiting = step(&d, vec![set("old", "v1", 0, 0, 2, 1)], &["old".into()], now()).unwrap();
    assert!(waiting.create.is_none());
    let done = step(&d, vec![set("old", "v1", 0, 0, 2, 1)], &[], now()).unwrap();
    assert_eq!(done.create.unwrap().spec.replicas, Some(2));
}

#[test]
fn going_back_reuses_the_old_replica_set_under_a_new_revision() {
    let d = deployment(1, "v1", &json!({}));
    let sets = vec![set("one", "v1", 0, 0, 1, 1), set("two", "v2", 1, 1, 1, 2)];
    let step = step(&d, sets, &[], now()).unwrap();
    assert!(step.create.is_none());
    assert_eq!(step.revision.as_deref(), Some("3"));
    let (_, change) = step.changes.iter().find(|(n, _)| n == "one").unwrap();
    assert_eq!(change.annotations["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(change.replicas, Some((0, 1)));
}

#[test]
fn a_paused_deployment_is_scaled_and_not_rolled() {
    let d = deployment(5, "v2", &json!({"paused": true}));
    let step = step(&d, vec![set("old", "v1", 2, 2, 2, 1)], &[], now()).unwrap();
    assert!(step.create.is_none());
    assert_eq!(sizes(&step), changed(&[("old", 2, 5)]));
    let conditions = step.status.conditions.unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c.reason.as_deref() == Some("DeploymentPaused"))
    );
}

#[test]
fn a_finished_rollout_forgets_old_revisions_and_says_so() {
    let mut d = deployment(1, "v4", &json!({}));
    let sets = vec![
        set("a", "v1", 0, 0, 1, 1),
        set("b", "v2", 0, 0, 1, 2),
        set("c", "v3", 0, 0, 1, 3),
        set("d", "v4", 1, 1, 1, 4),
    ];
    let before = step(&d, sets.clone(), &[], now()).unwrap();
    let progressing = |s: &Step| {
        s.status
            .conditions
            .clone()
            .unwrap()
            .into_iter()
            .find(|c| c.type_.as_deref() == Some("Progressing"))
    };
    assert_eq!(
        progressing(&before).unwrap().reason.as_deref(),
        Some("NewReplicaSetAvailable")
    );
    d.status = Some(before.status);
    assert_eq!(step(&d, sets, &[], now()).unwrap().delete, ["a", "b"]);
}

#[test]
fn a_rollout_without_progress_times_out() {
    let mut d = deployment(1, "v1", &json!({}));
    let sets = || vec![set("a", "v1", 1, 0, 1, 1)];
    let first = step(&d, sets(), &[], now()).unwrap();
    d.status = Some(first.status);
    assert_eq!(
        super::conditions::next_look(&d, d.status.as_ref().unwrap(), now()),
        Some(601.0)
    );
    let later = Timestamp::from_second(10_601).unwrap();
    let late = step(&d, sets(), &[], later).unwrap();
    let conditions = late.status.conditions.unwrap();
    let progressing = conditions
        .iter()
        .find(|c| c.type_.as_deref() == Some("Progressing"))
        .unwrap();
    assert_eq!(
        (progressing.status.as_deref(), progressing.reason.as_deref()),
        (Some("False"), Some("ProgressDeadlineExceeded"))
    );
    assert_eq!(
        progressing.message.as_deref(),
        Some("ReplicaSet \"a\" has timed out progressing.")
    );
}
