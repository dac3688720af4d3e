//! Jobs as tables: pods before, what one step does.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::backoff::Backoff;
use super::per_index::{FAILURES, Failures, IGNORED_FAILURES};
use super::step::{FINALIZER, INDEX, Step, step as step_after};

fn now() -> Timestamp {
    Timestamp::from_second(100_000).unwrap()
}

fn job(spec: &Value, status: &Value) -> Job {
    let mut tree = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "n", "uid": "ju"},
        "spec": {"parallelism": 2, "completions": 3, "backoffLimit": 1, "template": {"spec": {"containers": [], "restartPolicy": "Never"}}},
        "status": status});
    for (k, v) in spec.as_object().unwrap() {
        tree["spec"][k] = v.clone();
    }
    serde_json::from_value(tree).unwrap()
}

fn pod(name: &str, phase: &str, tracked: bool, index: Option<i32>) -> Pod {
    let finalizers = if tracked { json!([FINALIZER]) } else { json!([]) };
    let annotations = index.map_or(json!({}), |i| json!({INDEX: i.to_string()}));
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "uid": name, "finalizers": finalizers, "annotations": annotations},
        "status": {"phase": phase, "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 3, "finishedAt": "1970-01-01T00:00:00Z"}}}]}}))
    .unwrap()
}

fn step(job: &Job, pods: &[Pod], may_act: bool, now: Timestamp) -> Step {
    step_after(job, pods, &Backoff::default(), may_act, now)
}

fn has(step: &Step, type_: &str) -> bool {
    step.status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == type_ && c.status == "True")
}

#[test]
fn as_many_pods_run_as_are_allowed_and_still_needed() {
    let fresh = step(&job(&json!({}), &json!({})), &[], true, now());
    assert_eq!((fresh.create.len(), fresh.status.active), (2, Some(2)));
    let last = step(&job(&json!({}), &json!({"succeeded": 2})), &[], true, now());
    assert_eq!(last.create.len(), 1);
    let unsure = step(&job(&json!({}), &json!({})), &[], false, now());
    assert!(unsure.create.is_empty());
    let fewer = job(&json!({"parallelism": 1}), &json!({}));
    let running = [pod("a", "Running", true, None), pod("b", "Pending", true, None)];
    let fewer = step(&fewer, &running, true, now());
    assert_eq!(fewer.discard[0].metadata.name.as_deref(), Some("b"));
}

#[test]
fn a_pod_is_counted_in_two_moves() {
    let finished = [pod("a", "Succeeded", true, None)];
    let first = step(&job(&json!({}), &json!({})), &finished, true, now());
    let uncounted = first.status.uncounted_terminated_pods.clone().unwrap();
    assert_eq!(uncounted.succeeded, Some(vec!["a".to_owned()]));
    assert_eq!(
        (first.status.succeeded, first.release.len(), first.create.len()),
        (None, 1, 2)
    );
    let again = job(&json!({}), &serde_json::to_value(&first.status).unwrap());
    let same = step(&again, &finished, true, now());
    assert_eq!(
        same.status.uncounted_terminated_pods,
        first.status.uncounted_terminated_pods
    );
    let second = step(&again, &[pod("a", "Succeeded", false, None)], true, now());
    assert_eq!(second.status.succeeded, Some(1));
    assert_eq!(second.status.uncounted_terminated_pods, Some(Default::default()));
}

#[test]
fn a_job_completes_when_all_is_counted() {
    let first = step(
        &job(&json!({"completions": 1}), &json!({})),
        &[pod("a", "Succeeded", true, None)],
        true,
        now(),
    );
    assert!(has(&first, "SuccessCriteriaMet") && !has(&first, "Complete"));
    let next = job(
        &json!({"completions": 1}),
        &serde_json::to_value(&first.status).unwrap(),
    );
    let second = step(&next, &[pod("a", "Succeeded", false, None)], true, now());
    assert!(has(&second, "Complete") && second.status.completion_time.is_some());
    assert_eq!((second.status.succeeded, second.status.active), (Some(1), None));
    assert_eq!(second.events[0].1, "Completed");
}

#[test]
fn too_many_failures_fail_the_job() {
    let pods = [
        pod("a", "Failed", true, None),
        pod("b", "Failed", true, None),
        pod("c", "Running", true, None),
    ];
    let first = step(&job(&json!({}), &json!({})), &pods, true, now());
    assert!(has(&first, "FailureTarget") && !has(&first, "Failed"));
    assert_eq!(first.stop.len(), 1);
    let next = job(&json!({}), &serde_json::to_value(&first.status).unwrap());
    let second = step(&next, &[], true, now());
    assert!(has(&second, "Failed"));
    assert_eq!(second.status.failed, Some(3));
    assert_eq!(second.events[0].1, "BackoffLimitExceeded");
}

#[test]
fn a_failure_delays_the_next_pod() {
    let mut failed = pod("a", "Failed", true, None);
    let state = failed.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0]
        .state
        .as_mut()
        .unwrap();
    state.terminated.as_mut().unwrap().finished_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let step = step(&job(&json!({}), &json!({})), &[failed], true, now());
    assert!(step.create.is_empty());
    assert_eq!(step.requeue_seconds, Some(10.0));
}

#[test]
fn each_index_succeeds_once() {
    let indexed = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 3});
    let pods = [
        pod("a", "Succeeded", true, Some(1)),
        pod("b", "Running", true, Some(0)),
        pod("c", "Pending", true, Some(0)),
    ];
    let first = step(&job(&indexed, &json!({})), &pods, true, now());
    assert_eq!(first.status.completed_indexes.as_deref(), Some("1"));
    assert_eq!(
        (first.create.len(), first.discard[0].metadata.name.as_deref()),
        (0, Some("c"))
    );
    let second = step(&job(&indexed, &json!({})), &pods[..2], true, now());
    let indexes: Vec<_> = second.create.iter().map(|p| p.index).collect();
    assert_eq!(indexes, [Some(2), Some(3)]);
}

#[test]
fn a_suspended_job_has_no_pods() {
    let suspended = job(&json!({"suspend": true}), &json!({}));
    let step = step(&suspended, &[pod("a", "Running", true, None)], true, now());
    assert!(has(&step, "Suspended") && step.status.start_time.is_none());
    assert_eq!((step.discard.len(), step.create.len()), (1, 0));
}

#[test]
fn the_deadline_ends_a_job() {
    let late = job(
        &json!({"activeDeadlineSeconds": 10}),
        &json!({"startTime": "1970-01-01T00:00:00Z"}),
    );
    let step = step(&late, &[pod("a", "Running", true, None)], true, now());
    assert_eq!(
        step.status.conditions.unwrap()[0].reason.as_deref(),
        Some("DeadlineExceeded")
    );
    assert_eq!(step.stop.len(), 1);
}

#[test]
fn rules_decide_what_a_failure_means() {
    let rule = |action: &str| json!({"podFailurePolicy": {"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [3]}}]}});
    let pods = [pod("a", "Failed", true, None)];
    let failed = step(&job(&rule("FailJob"), &json!({})), &pods, true, now());
    assert_eq!(
        failed.status.conditions.unwrap()[0].reason.as_deref(),
        Some("PodFailurePolicy")
    );
    let ignored = step(&job(&rule("Ignore"), &json!({})), &pods, true, now());
    assert_eq!(ignored.status.uncounted_terminated_pods, Some(Default::default()));
    assert_eq!(ignored.release.len(), 1);
}

#[test]
fn some_indexes_can_be_enough() {
    let spec = json!({"completionMode": "Indexed", "successPolicy": {"rules": [{"succeededIndexes": "0", "succeededCount": 1}]}});
    let pods = [pod("a", "Succeeded", true, Some(0)), pod("b", "Running", true, Some(1))];
    let first = step(&job(&spec, &json!({})), &pods, true, now());
    assert!(has(&first, "SuccessCriteriaMet"));
    // What is taken down then is not counted.
    assert_eq!(
        (first.stop.len(), first.release.len(), first.status.failed),
        (1, 2, None)
    );
    assert_eq!(first.status.uncounted_terminated_pods, Some(Default::default()));
    let next = job(&spec, &serde_json::to_value(&first.status).unwrap());
    let last = step(&next, &[], true, now());
    assert!(has(&last, "Complete") && last.status.failed.is_none());
    let unsure = step(&job(&spec, &json!({})), &pods, false, now());
    assert!(!has(&unsure, "SuccessCriteriaMet") && unsure.stop.len() == 1);
    let outside = json!({"completionMode": "Indexed", "successPolicy": {"rules": [{"succeededIndexes": "7"}]}});
    assert!(!has(
        &step(&job(&outside, &json!({})), &pods, true, now()),
        "SuccessCriteriaMet"
    ));
}

#[test]
fn restarts_within_pods_count_towards_the_limit_init_containers_too() {
    let spec = json!({"template": {"spec": {"containers": [], "restartPolicy": "OnFailure"}}, "backoffLimit": 3});
    let mut running = pod("a", "Running", true, None);
    let status = running.status.as_mut().unwrap();
    let containers = status.container_statuses.as_mut().unwrap();
    containers[0].restart_count = 2;
    let mut init = containers[0].clone();
    init.restart_count = 1;
    status.init_container_statuses = Some(vec![init]);
    let first = step(&job(&spec, &json!({})), &[running], true, now());
    assert_eq!(
        first.status.conditions.unwrap()[0].reason.as_deref(),
        Some("BackoffLimitExceeded")
    );
}

#[test]
fn failures_in_a_row_are_remembered_when_their_pods_are_gone() {
    let running = |names: &[&str], phase: &str| -> Vec<Pod> {
        let ended = names.iter().map(|n| {
            let mut pod = pod(n, phase, true, None);
            let status = pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
            let end = status[0].state.as_mut().unwrap().terminated.as_mut().unwrap();
            end.finished_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
            pod
        });
        ended.collect()
    };
    let spec = job(&json!({"backoffLimit": 9}), &json!({}));
    let first = step(&spec, &running(&["a"], "Failed"), true, now());
    assert_eq!(first.requeue_seconds, Some(10.0));
    let again = job(
        &json!({"backoffLimit": 9}),
        &serde_json::to_value(&first.status).unwrap(),
    );
    let again = step_after(&again, &running(&["a"], "Failed"), &first.backoff, true, now());
    assert_eq!((again.requeue_seconds, &again.backoff), (Some(10.0), &first.backoff));
    let second = step_after(&spec, &running(&["b"], "Failed"), &again.backoff, true, now());
    assert_eq!(second.requeue_seconds, Some(20.0));
    let mut deleted = pod("c", "Running", true, None);
    deleted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    deleted.status.as_mut().unwrap().container_statuses = None;
    let third = step_after(&spec, &[deleted], &second.backoff, true, now());
    assert_eq!(third.requeue_seconds, Some(40.0));
    let success = step_after(&spec, &running(&["d"], "Succeeded"), &third.backoff, true, now());
    assert_eq!((success.requeue_seconds, success.create.len()), (None, 2));
}

#[test]
fn a_job_without_completions_keeps_its_pods_after_the_first_success() {
    let spec = json!({"completions": null, "parallelism": 1});
    let pods = [
        pod("a", "Succeeded", true, None),
        pod("b", "Running", true, None),
        pod("c", "Running", true, None),
    ];
    let first = step(&job(&spec, &json!({})), &pods, true, now());
    assert_eq!(
        (first.status.active, first.discard.len(), first.create.len()),
        (Some(2), 0, 0)
    );
}

/// A pod of an index that had so many failures before.
fn after(mut pod: Pod, counted: i32, ignored: i32) -> Pod {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(FAILURES.to_owned(), counted.to_string());
    annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
    pod
}

fn per_index(more: &Value) -> Value {
    let mut spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimitPerIndex": 1,
        "backoffLimit": i32::MAX});
    for (k, v) in more.as_object().unwrap() {
        spec[k] = v.clone();
    }
    spec
}

#[test]
fn a_failed_pod_of_an_index_stays_until_its_replacement_knows_of_it() {
    let spec = per_index(&json!({}));
    let failed = pod("a", "Failed", true, Some(0));
    let first = step(&job(&spec, &json!({})), std::slice::from_ref(&failed), true, now());
    assert!(first.release.is_empty() && first.status.failed_indexes.as_deref() == Some(""));
    let made: Vec<_> = first
        .create
        .iter()
        .map(|p| (p.index, p.failures.unwrap().counted))
        .collect();
    assert_eq!(made, [(Some(0), 1), (Some(1), 0), (Some(2), 0)]);
    let replaced = [failed, after(pod("b", "Running", true, Some(0)), 1, 0)];
    let second = step(&job(&spec, &json!({})), &replaced, true, now());
    assert_eq!(second.release.len(), 1);
    let uncounted = second.status.uncounted_terminated_pods.unwrap();
    assert_eq!(uncounted.failed, Some(vec!["a".to_owned()]));
}

#[test]
fn an_index_fails_alone_and_the_job_when_the_others_are_through() {
    let spec = per_index(&json!({}));
    let over = after(pod("a", "Failed", true, Some(0)), 1, 0);
    let some = [
        over.clone(),
        pod("b", "Running", true, Some(1)),
        pod("c", "Running", true, Some(2)),
    ];
    let first = step(&job(&spec, &json!({})), &some, true, now());
    assert_eq!(first.status.failed_indexes.as_deref(), Some("0"));
    assert!(first.create.is_empty() && first.stop.is_empty());
    let through = [
        over.clone(),
        pod("b", "Succeeded", true, Some(1)),
        pod("c", "Succeeded", true, Some(2)),
    ];
    let last = step(&job(&spec, &json!({})), &through, true, now());
    assert_eq!(
        last.status.conditions.unwrap()[0].reason.as_deref(),
        Some("FailedIndexes")
    );
    let most = per_index(&json!({"maxFailedIndexes": 0}));
    let early = step(&job(&most, &json!({})), &some, true, now());
    assert_eq!(
        early.status.conditions.unwrap()[0].reason.as_deref(),
        Some("MaxFailedIndexesExceeded")
    );
    assert_eq!(early.stop.len(), 2);
}

#[test]
fn rules_fail_an_index_at_once_or_do_not_count() {
    let rule = |action: &str| {
        per_index(
            &json!({"podFailurePolicy": {"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [3]}}]}}),
        )
    };
    let failed = [pod("a", "Failed", true, Some(0))];
    let at_once = step(&job(&rule("FailIndex"), &json!({})), &failed, true, now());
    assert_eq!(at_once.status.failed_indexes.as_deref(), Some("0"));
    let ignored = step(&job(&rule("Ignore"), &json!({})), &failed, true, now());
    let told = ignored.create.iter().find(|p| p.index == Some(0)).unwrap().failures;
    assert_eq!(told, Some(Failures { counted: 0, ignored: 1 }));
    assert_eq!(ignored.status.failed_indexes.as_deref(), Some(""));
}

#[test]
fn each_index_waits_for_itself() {
    let mut failed = after(pod("a", "Failed", true, Some(0)), 0, 1);
    let status = failed.status.as_mut().unwrap();
    let ended = status.container_statuses.as_mut().unwrap()[0].state.as_mut().unwrap();
    ended.terminated.as_mut().unwrap().finished_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let step = step(&job(&per_index(&json!({})), &json!({})), &[failed], true, now());
    let indexes: Vec<_> = step.create.iter().map(|p| p.index).collect();
    assert_eq!((indexes, step.requeue_seconds), (vec![Some(1), Some(2)], Some(20.0)));
}
