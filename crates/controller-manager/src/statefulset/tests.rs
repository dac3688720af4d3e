//! StatefulSets as tables: pods before, what one step makes and deletes.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::pods;
use super::step::{Action, Revisions, Step, Template, View, step};

fn set(replicas: i32, more: &Value) -> StatefulSet {
    let mut tree = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "n", "uid": "su"},
        "spec": {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"a": "b"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"spec": {"containers": []}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}});
    for (k, v) in more.as_object().unwrap() {
        tree["spec"][k] = v.clone();
    }
    serde_json::from_value(tree).unwrap()
}

fn pod(ordinal: i32, revision: &str, ready: bool) -> Pod {
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("db-{ordinal}"), "uid": format!("u{ordinal}"), "labels": {"controller-revision-hash": revision, "statefulset.kubernetes.io/pod-name": format!("db-{ordinal}")}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}}))
    .unwrap()
}

const SAME: Revisions<'static> = Revisions {
    current: "one",
    update: "one",
};
const ROLLING: Revisions<'static> = Revisions {
    current: "one",
    update: "two",
};

fn run(set: &StatefulSet, pods: &[Pod], revisions: Revisions<'_>) -> Step {
    step(&View {
        set,
        pods,
        claims: &|_| None,
        revisions,
        now: Timestamp::from_second(0).unwrap(),
    })
}

fn deleted(step: &Step) -> Vec<&str> {
    let deleted = step.actions.iter().filter_map(|action| match action {
        Action::Delete(pod) => pod.metadata.name.as_deref(),
        _ => None,
    });
    deleted.collect()
}

fn created(step: &Step) -> Vec<i32> {
    let created = step.actions.iter().filter_map(|action| match action {
        Action::Create(at, _) => Some(*at),
        _ => None,
    });
    created.collect()
}

#[test]
fn pods_start_in_order_unless_parallel() {
    let ordered = set(3, &json!({}));
    assert_eq!(created(&run(&ordered, &[], SAME)), [0]);
    assert!(run(&ordered, &[pod(0, "one", false)], SAME).actions.is_empty());
    assert_eq!(created(&run(&ordered, &[pod(0, "one", true)], SAME)), [1]);
    let parallel = set(3, &json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(created(&run(&parallel, &[pod(1, "one", false)], SAME)), [0, 2]);
    let shifted = set(2, &json!({"ordinals": {"start": 5}}));
    assert_eq!(created(&run(&shifted, &[pod(5, "one", true)], SAME)), [6]);
}

#[test]
fn scaling_down_goes_from_the_top() {
    let pods = [pod(0, "one", true), pod(1, "one", true), pod(2, "one", true)];
    let step = run(&set(1, &json!({})), &pods, SAME);
    assert_eq!(deleted(&step), ["db-2"]);
    let parallel = set(1, &json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(deleted(&run(&parallel, &pods, SAME)), ["db-2", "db-1"]);
}

#[test]
fn updates_go_from_the_top_to_the_partition_and_wait_for_health() {
    let two = set(2, &json!({}));
    let old = [pod(0, "one", true), pod(1, "one", true)];
    assert_eq!(deleted(&run(&two, &old, ROLLING)), ["db-1"]);
    let starting = [pod(0, "one", true), pod(1, "two", false)];
    assert!(run(&two, &starting, ROLLING).actions.is_empty());
    let half = [pod(0, "one", true), pod(1, "two", true)];
    assert_eq!(deleted(&run(&two, &half, ROLLING)), ["db-0"]);
    let kept = set(
        2,
        &json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}),
    );
    assert!(run(&kept, &half, ROLLING).actions.is_empty());
    assert_eq!(run(&kept, &[], ROLLING).actions, [Action::Create(0, Template::Current)]);
    let by_hand = set(2, &json!({"updateStrategy": {"type": "OnDelete"}}));
    assert!(run(&by_hand, &old, ROLLING).actions.is_empty());
}

#[test]
fn as_many_pods_are_replaced_as_may_be_unavailable() {
    let of = |policy: &str, most: serde_json::Value| {
        set(
            4,
            &json!({ "podManagementPolicy": policy,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": most}} }),
        )
    };
    let old: Vec<_> = (0..4).map(|i| pod(i, "one", true)).collect();
    assert_eq!(
        deleted(&run(&of("OrderedReady", json!(2)), &old, ROLLING)),
        ["db-3", "db-2"]
    );
    assert_eq!(
        deleted(&run(&of("OrderedReady", json!("60%")), &old, ROLLING)),
        ["db-3", "db-2"]
    );
    assert_eq!(deleted(&run(&of("OrderedReady", json!("1%")), &old, ROLLING)), ["db-3"]);
    // those that are unavailable anyway go first, and cost what may still be made so
    let broken = [
        pod(0, "one", false),
        pod(1, "one", true),
        pod(2, "one", true),
        pod(3, "one", true),
    ];
    assert_eq!(deleted(&run(&of("Parallel", json!(1)), &broken, ROLLING)), ["db-0"]);
    assert_eq!(
        deleted(&run(&of("Parallel", json!(2)), &broken, ROLLING)),
        ["db-0", "db-3"]
    );
}

#[test]
fn a_pod_that_never_starts_is_replaced_and_a_place_that_waits_holds_up_the_rest() {
    let two = set(2, &json!({"podManagementPolicy": "Parallel"}));
    let broken = [pod(0, "one", true), pod(1, "one", false)];
    assert_eq!(deleted(&run(&two, &broken, ROLLING)), ["db-1"]);
    let mut waiting = pod(0, "one", false);
    waiting.status.as_mut().unwrap().phase = Some("Pending".to_owned());
    let ordered = set(2, &json!({}));
    let step = run(&ordered, std::slice::from_ref(&waiting), SAME);
    assert_eq!(step.actions, [Action::EnsureClaims(waiting)]);
    assert_eq!((step.status.replicas, step.status.collision_count), (1, Some(0)));
}

#[test]
fn a_pod_that_lost_its_name_label_gets_it_again() {
    let mut lost = pod(0, "one", true);
    let labels = lost.metadata.labels.as_mut().unwrap();
    labels.remove("statefulset.kubernetes.io/pod-name");
    let step = run(&set(1, &json!({})), std::slice::from_ref(&lost), SAME);
    assert_eq!(step.actions, [Action::Correct(lost)]);
}

#[test]
fn a_finished_rollout_makes_the_new_revision_current() {
    let pods = [pod(0, "two", true), pod(1, "two", true)];
    let status = run(&set(2, &json!({})), &pods, ROLLING).status;
    assert_eq!(
        (status.current_revision.as_deref(), status.current_replicas),
        (Some("two"), Some(2))
    );
    let half = [pod(0, "one", true), pod(1, "two", true)];
    let status = run(&set(2, &json!({})), &half, ROLLING).status;
    assert_eq!(
        (status.current_revision.as_deref(), status.updated_replicas),
        (Some("one"), Some(1))
    );
}

#[test]
fn an_ended_pod_is_made_anew() {
    let mut ended = pod(0, "one", false);
    ended.status.as_mut().unwrap().phase = Some("Failed".to_owned());
    let step = run(&set(1, &json!({})), &[ended], SAME);
    assert_eq!(deleted(&step), ["db-0"]);
}

#[test]
fn a_set_takes_pods_of_its_name_only() {
    for (pod, is) in [
        ("db-0", true),
        ("db-12", true),
        ("db", false),
        ("db-", false),
        ("db-x", false),
        ("db-a-0", false),
        ("other-0", false),
    ] {
        assert_eq!(pods::is_member("db", pod), is, "{pod}");
    }
}

#[test]
fn pods_know_their_name_and_claims() {
    let revision: ControllerRevision = serde_json::from_value(json!({"apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {"name": "db-xyz"}, "revision": 1, "data": {"spec": {"template": {"$patch": "replace", "spec": {"containers": []}}}}}))
    .unwrap();
    let set = set(
        1,
        &json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}),
    );
    let made = pods::pod(&set, 3, &revision).unwrap();
    assert_eq!(made.metadata.name.as_deref(), Some("db-3"));
    let labels = made.metadata.labels.unwrap();
    assert_eq!(
        (
            labels["apps.kubernetes.io/pod-index"].as_str(),
            labels["controller-revision-hash"].as_str()
        ),
        ("3", "db-xyz")
    );
    let spec = made.spec.unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("db-3"), Some("db"))
    );
    let claim = &spec.volumes.unwrap()[0]
        .persistent_volume_claim
        .clone()
        .unwrap()
        .claim_name;
    assert_eq!(claim, "data-db-3");
    assert_eq!(made.metadata.generate_name.as_deref(), Some("db-"));
    assert_eq!(pods::claims(&set, 3)[0].metadata.name.as_deref(), Some("data-db-3"));
}
