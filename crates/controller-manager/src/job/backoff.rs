//! When a pod ended, and how long its replacement waits.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::pods::condition;

const FIRST_SECONDS: f64 = 10.0;
const LONGEST_SECONDS: f64 = 600.0;

/// The end of its last container, or what else is known of its end.
pub(super) fn finish_time(pod: &Pod) -> Option<Timestamp> {
    let containers = || {
        let status = pod.status.as_ref()?;
        let init = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
        let sidecars: HashSet<&str> = init
            .filter(|c| c.restart_policy.as_deref() == Some("Always"))
            .map(|c| c.name.as_str())
            .collect();
        // Sidecars end after all others.
        let beside = status.init_container_statuses.iter().flatten();
        let beside = beside.filter(|c| sidecars.contains(c.name.as_str()));
        let all = status.container_statuses.iter().flatten().chain(beside);
        let ends = all.map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0));
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

/// The failures in a row of a Job's pods since the last success, as far as the controller has seen them end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: usize,
    last: Option<Timestamp>,
}

impl Backoff {
    /// With the pods that have ended meanwhile.
    pub(super) fn after(&self, succeeded: &[&Pod], failed: &[&Pod]) -> Backoff {
        let mut next = self.clone();
        let ends = |ended: &[&Pod]| -> Vec<Timestamp> { ended.iter().filter_map(|p| finish_time(p)).collect() };
        let last_success = ends(succeeded).into_iter().max();
        if last_success.is_some() {
            (next.failures, next.last) = (0, None);
        }
        let mut failures = ends(failed);
        failures.retain(|at| last_success.is_none_or(|s| *at > s));
        next.failures += failures.len();
        next.last = failures.into_iter().max().or(next.last);
        next
    }

    /// Seconds to wait before the Job's next pod.
    pub(super) fn wait(&self, now: Timestamp) -> f64 {
        wait(self.failures, self.last, now)
    }
}
