//! What to do about a ReplicaSet, from what is known of it and its pods.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rank::pods_to_delete;
use crate::meta::label;
use crate::pods::{is_available, is_ready, seconds_to_available};

/// At most so many pods are made or deleted in one go.
const BURST: usize = 500;

#[derive(Debug)]
pub(crate) enum Plan {
    Nothing,
    Create(usize),
    Delete(Vec<Pod>),
}

pub(crate) fn wanted(set: &ReplicaSet) -> usize {
    let replicas = set.spec.replicas.unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.min_ready_seconds.unwrap_or(0)
}

/// `related` is asked only when pods are to be deleted.
pub(crate) fn plan(set: &ReplicaSet, active: &[Pod], related: impl FnOnce() -> Vec<Pod>, now: Timestamp) -> Plan {
    let wanted = wanted(set);
    if active.len() < wanted {
        Plan::Create((wanted - active.len()).min(BURST))
    } else if active.len() > wanted {
        let count = (active.len() - wanted).min(BURST);
        Plan::Delete(pods_to_delete(active.to_vec(), &related(), count, now))
    } else {
        Plan::Nothing
    }
}

/// The status to write; `failure` is what went wrong in making or deleting pods.
pub(crate) fn status(
    set: &ReplicaSet,
    active: &[Pod],
    terminating: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let count = |f: &dyn Fn(&Pod) -> bool| i32::try_from(active.iter().filter(|p| f(p)).count()).unwrap_or(i32::MAX);
    let template = set.spec.template.as_ref();
    let labels = template
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.as_ref());
    let mut status = set.status.clone().unwrap_or_default();
    let failed = |c: &ReplicaSetCondition| c.type_.as_deref() == Some("ReplicaFailure");
    let mut conditions = status.conditions.take().unwrap_or_default();
    match failure {
        None => conditions.retain(|c| !failed(c)),
        Some(message) if !conditions.iter().any(failed) => conditions.push(ReplicaSetCondition {
            type_: Some("ReplicaFailure".to_owned()),
            status: Some("True".to_owned()),
            reason: Some(
                match active.len() < wanted(set) {
                    true => "FailedCreate",
                    false => "FailedDelete",
                }
                .to_owned(),
            ),
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
    }
    let min_ready = min_ready_seconds(set);
    ReplicaSetStatus {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: Some(count(&|p| {
            labels.into_iter().flatten().all(|(k, v)| label(p, k) == Some(v))
        })),
        ready_replicas: Some(count(&is_ready)),
        available_replicas: Some(count(&|p| is_available(p, min_ready, now))),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}

/// Whether two statuses say the same: absent numbers are zero.
pub(crate) fn same(a: &ReplicaSetStatus, b: &ReplicaSetStatus) -> bool {
    let numbers = |s: &ReplicaSetStatus| {
        (
            s.replicas,
            s.fully_labeled_replicas.unwrap_or(0),
            s.ready_replicas.unwrap_or(0),
            s.available_replicas.unwrap_or(0),
            s.terminating_replicas,
            s.observed_generation.unwrap_or(0),
        )
    };
    numbers(a) == numbers(b) && a.conditions.clone().unwrap_or_default() == b.conditions.clone().unwrap_or_default()
}

/// Seconds until the next ready pod becomes available.
pub(crate) fn next_check(set: &ReplicaSet, active: &[Pod], now: Timestamp) -> Option<f64> {
    let min_ready = min_ready_seconds(set);
    let left = active.iter().filter_map(|p| seconds_to_available(p, min_ready, now));
    left.filter(|s| *s > 0.0).min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"generation": 3},
            "spec": {"replicas": replicas, "minReadySeconds": 10, "selector": {},
                     "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}}}),
        )
        .unwrap()
    }

    fn pod(name: &str, ready_at: Option<i64>) -> Pod {
        let at = |s| Timestamp::from_second(s).unwrap().to_string();
        let conditions = ready_at.map_or(
            json!([]),
            |s| json!([{"type": "Ready", "status": "True", "lastTransitionTime": at(s)}]),
        );
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"a": "b"}}, "status": {"phase": "Running", "conditions": conditions}}))
        .unwrap()
    }

    #[test]
    fn the_number_of_pods_is_brought_to_what_is_wanted() {
        let now = Timestamp::from_second(100).unwrap();
        let pods = [pod("a", Some(0)), pod("b", None)];
        assert!(matches!(plan(&set(5), &pods, Vec::new, now), Plan::Create(3)));
        assert!(matches!(plan(&set(2), &pods, Vec::new, now), Plan::Nothing));
        assert!(matches!(plan(&set(1000), &pods, Vec::new, now), Plan::Create(500)));
        let Plan::Delete(gone) = plan(&set(1), &pods, Vec::new, now) else {
            panic!("one is too many")
        };
        assert_eq!(gone[0].metadata.name.as_deref(), Some("b"));
    }

    #[test]
    fn the_status_counts_pods_and_tells_failures() {
        let now = Timestamp::from_second(100).unwrap();
        let pods = [pod("a", Some(0)), pod("b", Some(95)), pod("c", None)];
        let status = status(&set(4), &pods, 1, Some("quota"), now);
        assert_eq!(
            (
                status.replicas,
                status.ready_replicas,
                status.available_replicas,
                status.terminating_replicas
            ),
            (3, Some(2), Some(1), Some(1))
        );
        let condition = &status.conditions.unwrap()[0];
        assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
        assert_eq!(next_check(&set(4), &pods, now), Some(5.0));
    }
}
