//! The conditions of a Deployment: Available, Progressing, ReplicaFailure.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::sizes::{desired, max_unavailable, size};

pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
/// "No deadline" is written as the largest number.
const NO_DEADLINE: i32 = i32::MAX;

pub(super) fn deadline(deployment: &Deployment) -> Option<i32> {
    let seconds = deployment.spec.progress_deadline_seconds;
    seconds.filter(|s| *s != NO_DEADLINE)
}

pub(super) fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(type_.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

pub(super) fn find<'a>(conditions: &'a [DeploymentCondition], type_: &str) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|c| c.type_.as_deref() == Some(type_))
}

/// Puts a condition in place unless one of the same status and reason is there.
pub(super) fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition) {
    if let Some(old) = conditions.iter().find(|c| c.type_ == new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    conditions.retain(|c| c.type_ != new.type_);
    conditions.push(new);
}

fn number(n: Option<i32>) -> i32 {
    n.unwrap_or(0)
}

pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = desired(deployment);
    number(status.updated_replicas) == wanted
        && number(status.replicas) == wanted
        && number(status.available_replicas) == wanted
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn made_progress(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let old_pods = |s: &DeploymentStatus| number(s.replicas) - number(s.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || old_pods(new) < old_pods(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

fn timed_out(deployment: &Deployment, conditions: &[DeploymentCondition], now: Timestamp) -> bool {
    let (Some(deadline), Some(progressing)) = (deadline(deployment), find(conditions, PROGRESSING)) else {
        return false;
    };
    match progressing.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => progressing
            .last_update_time
            .as_ref()
            .is_some_and(|at| now.duration_since(at.0).as_secs_f64() > f64::from(deadline)),
    }
}

/// Numbers and the Available condition, from all ReplicaSets; `new` is the current one's position.
pub(super) fn count(
    deployment: &Deployment,
    conditions: Vec<DeploymentCondition>,
    sets: &[ReplicaSet],
    new: Option<usize>,
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |f: &dyn Fn(&ReplicaSet) -> i32| sets.iter().map(f).sum::<i32>();
    let of = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
    let available = sum(&|s| number(of(s).available_replicas));
    let terminating = sets
        .iter()
        .filter(|s| of(s).observed_generation.unwrap_or(0) != 0 || of(s).terminating_replicas.is_some())
        .map(|s| of(s).terminating_replicas)
        .sum::<Option<i32>>();
    let mut conditions = conditions;
    let (status, reason, message) = if available >= desired(deployment) - max_unavailable(deployment) {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    set(
        &mut conditions,
        condition("Available", status, reason, message.to_owned(), now),
    );
    let some = |n: i32| (n != 0).then_some(n);
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(&|s| of(s).replicas)),
        updated_replicas: new.and_then(|i| some(of(&sets[i]).replicas)),
        ready_replicas: some(sum(&|s| number(of(s).ready_replicas))),
        available_replicas: some(available),
        unavailable_replicas: some((sum(&size) - available).max(0)),
        terminating_replicas: terminating,
        collision_count: deployment.status.as_ref().and_then(|s| s.collision_count),
        conditions: Some(conditions),
    }
}

/// Judges the progress of a rollout and copies the ReplicaSets' failures.
pub(super) fn judge_progress(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    sets: &[ReplicaSet],
    new: Option<usize>,
    now: Timestamp,
) {
    let mut conditions = status.conditions.take().unwrap_or_default();
    let current = find(&conditions, PROGRESSING).cloned();
    let who = match new.and_then(|i| sets[i].metadata.name.as_deref()) {
        Some(set) => format!("ReplicaSet {set:?}"),
        None => format!("Deployment {:?}", crate::meta::name(deployment)),
    };
    let finished = number(status.replicas) == number(status.updated_replicas)
        && current.as_ref().and_then(|c| c.reason.as_deref()) == Some(NEW_SET_AVAILABLE);
    let old = deployment.status.clone().unwrap_or_default();
    if deadline(deployment).is_none() {
        conditions.retain(|c| c.type_.as_deref() != Some(PROGRESSING));
    } else if finished {
    } else if is_complete(deployment, status) {
        let message = format!("{who} has successfully progressed.");
        set(
            &mut conditions,
            condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message, now),
        );
    } else if made_progress(&old, status) {
        let message = format!("{who} is progressing.");
        let mut next = condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
        if let Some(current) = current.filter(|c| c.status.as_deref() == Some("True")) {
            next.last_transition_time = current.last_transition_time;
        }
        conditions.retain(|c| c.type_.as_deref() != Some(PROGRESSING));
        conditions.push(next);
    } else if timed_out(deployment, &conditions, now) {
        let message = format!("{who} has timed out progressing.");
        set(
            &mut conditions,
            condition(PROGRESSING, "False", TIMED_OUT, message, now),
        );
    }
    let newest_first = new.into_iter().chain(0..sets.len());
    let failure = newest_first
        .filter_map(|i| sets[i].status.as_ref()?.conditions.as_ref())
        .flatten()
        .find(|c| c.type_.as_deref() == Some("ReplicaFailure"));
    match failure {
        Some(c) => set(
            &mut conditions,
            DeploymentCondition {
                type_: c.type_.clone(),
                status: c.status.clone(),
                reason: c.reason.clone(),
                message: c.message.clone(),
                last_transition_time: c.last_transition_time.clone(),
                last_update_time: c.last_transition_time.clone(),
            },
        ),
        None => conditions.retain(|c| c.type_.as_deref() != Some("ReplicaFailure")),
    }
    status.conditions = Some(conditions);
}

/// Seconds until a rollout that shows no progress has to be looked at again.
pub(super) fn next_look(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<f64> {
    let deadline = deadline(deployment)?;
    let progressing = find(status.conditions.as_deref().unwrap_or_default(), PROGRESSING)?;
    if is_complete(deployment, status) || progressing.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    if progressing.reason.as_deref() == Some(NEW_SET_AVAILABLE) {
        return None;
    }
    let since = progressing.last_update_time.as_ref()?;
    let left = f64::from(deadline) - now.duration_since(since.0).as_secs_f64();
    Some(left.max(0.0) + 1.0)
}
