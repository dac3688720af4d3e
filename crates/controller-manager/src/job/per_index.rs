//! `backoffLimitPerIndex`: every index has its own failures, told from pod to pod by annotations. KEP-3850.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::backoff;
use super::policies::{Failure, judge_failure};
use super::step::{has_finalizer, index_of};
use crate::meta::{annotation, uid};
use crate::pods::is_active;

pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// What the pods of an index before this one came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Failures {
    pub counted: i32,
    pub ignored: i32,
}

impl Failures {
    fn before(pod: &Pod) -> Failures {
        let number = |key: &str| annotation(pod, key).and_then(|v| v.parse().ok()).filter(|n| *n >= 0);
        Failures {
            counted: number(FAILURES).unwrap_or(0),
            ignored: number(IGNORED_FAILURES).unwrap_or(0),
        }
    }

    fn all(self) -> i32 {
        self.counted.saturating_add(self.ignored)
    }

    /// With the failure of this pod.
    fn after(job: &Job, pod: &Pod) -> Failures {
        let mut failures = Failures::before(pod);
        match judge_failure(job, pod) {
            Failure::Ignore => failures.ignored += 1,
            _ => failures.counted += 1,
        }
        failures
    }
}

/// The indexes of a Job that limits the failures of each.
#[derive(Debug, Default)]
pub(super) struct PerIndex<'a> {
    pub failed: BTreeSet<i32>,
    /// Failed pods that stay until they are replaced, by index: only they know of the failures before.
    last: HashMap<i32, &'a Pod>,
}

impl<'a> PerIndex<'a> {
    /// `failed`: the indexes known to have failed. `pods`: those that have failed.
    pub(super) fn new(
        job: &Job,
        mut failed: BTreeSet<i32>,
        succeeded: &BTreeSet<i32>,
        all: &'a [Pod],
        is_failed: impl Fn(&Pod) -> bool,
    ) -> PerIndex<'a> {
        let spec = job.spec.as_ref();
        let completions = spec.and_then(|s| s.completions).unwrap_or(0);
        let limit = spec.and_then(|s| s.backoff_limit_per_index).unwrap_or(i32::MAX);
        let ended = || {
            let held = all.iter().filter(|p| has_finalizer(p) && is_failed(p));
            held.filter_map(|p| Some((index_of(p).filter(|i| *i < completions)?, p)))
        };
        for (index, pod) in ended() {
            let over = match judge_failure(job, pod) {
                Failure::FailIndex => true,
                Failure::Ignore => false,
                _ => Failures::before(pod).counted >= limit,
            };
            if over {
                failed.insert(index);
            }
        }
        let active: HashSet<i32> = all.iter().filter(|p| is_active(p)).filter_map(index_of).collect();
        let mut last: HashMap<i32, &Pod> = HashMap::new();
        for (index, pod) in ended() {
            if succeeded.contains(&index) || failed.contains(&index) || active.contains(&index) {
                continue;
            }
            let rank = |p: &Pod| (Failures::before(p).all(), backoff::finish_time(p));
            let known = last.entry(index).or_insert(pod);
            if rank(pod) >= rank(known) {
                *known = pod;
            }
        }
        PerIndex { failed, last }
    }

    /// Whether the pod must stay as it is until its replacement is made.
    pub(super) fn holds(&self, pod: &Pod) -> bool {
        index_of(pod)
            .and_then(|i| self.last.get(&i))
            .is_some_and(|p| uid(*p) == uid(pod))
    }

    /// What the next pod of an index is told.
    pub(super) fn failures(&self, job: &Job, index: i32) -> Failures {
        self.last
            .get(&index)
            .map(|p| Failures::after(job, p))
            .unwrap_or_default()
    }

    /// Seconds until the next pod of an index may be made.
    pub(super) fn wait(&self, index: i32, now: Timestamp) -> f64 {
        let Some(pod) = self.last.get(&index) else { return 0.0 };
        let failures = usize::try_from(Failures::before(pod).all()).unwrap_or(0) + 1;
        backoff::wait(failures, backoff::finish_time(pod), now)
    }
}
