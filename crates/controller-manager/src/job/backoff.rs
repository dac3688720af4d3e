//! When a pod ended, and how long its replacement waits.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::pods::{condition, phase};

const FIRST_SECONDS: f64 = 10.0;
const LONGEST_SECONDS: f64 = 600.0;

/// The end of its last container, or what else is known of its end.
pub(super) fn finish_time(pod: &Pod) -> Option<Timestamp> {
    let containers = || {
        let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
        let ends = statuses
            .iter()
            .map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0));
        ends.collect::<Option<Vec<_>>>()?.into_iter().max()
    };
    let not_ready = || {
        let ready = condition(pod, "Ready").filter(|c| c.status == "False")?;
        ready.last_transition_time.as_ref().map(|t| t.0)
    };
    let deleted = || {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let at = pod.metadata.deletion_timestamp.as_ref()?.0;
        Some(at - SignedDuration::from_secs(grace))
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    containers().or_else(not_ready).or_else(deleted).or_else(created)
}

/// Seconds left to wait after so many failures in a row, the last of them at `last`.
pub(super) fn wait(failures: usize, last: Option<Timestamp>, now: Timestamp) -> f64 {
    let Some(doublings) = failures.checked_sub(1) else {
        return 0.0;
    };
    let doublings = i32::try_from(doublings).unwrap_or(i32::MAX).min(10);
    let wait = (FIRST_SECONDS * 2f64.powi(doublings)).min(LONGEST_SECONDS);
    (wait - now.duration_since(last.unwrap_or(now)).as_secs_f64()).max(0.0)
}

/// Seconds to wait before the Job's next pod, from the failures since its last success.
pub(super) fn since_last_success(pods: &[Pod], now: Timestamp) -> f64 {
    let ended = |wanted: &str| {
        let of_phase = pods.iter().filter(move |p| phase(p) == wanted);
        of_phase.map(|p| finish_time(p).unwrap_or(now)).collect::<Vec<_>>()
    };
    let last_success = ended("Succeeded").into_iter().max();
    let mut failures = ended("Failed");
    failures.retain(|at| last_success.is_none_or(|s| *at > s));
    wait(failures.len(), failures.iter().max().copied(), now)
}
