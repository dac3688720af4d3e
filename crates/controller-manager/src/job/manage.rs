//! How many pods of a Job run, and which.

use std::collections::{BTreeSet, HashSet};

use k8s_openapi::api::core::v1::Pod;

use super::backoff;
use super::step::{MOST_AT_ONCE, NewPod, World, index_of, is_indexed};
use crate::meta::uid;
use crate::pods::is_terminal;

impl World<'_> {
    /// Brings the number of active pods to what is wanted; gives the number there will be.
    pub(super) fn manage(&mut self, active: &[Pod], terminating: usize, succeeded: i32, done: &BTreeSet<i32>) -> usize {
        if self.is_suspended() {
            self.step.discard = active.to_vec();
            return 0;
        }
        let parallelism = self.spec_number(|s| s.parallelism, 1);
        let completions = self.job.spec.as_ref().and_then(|s| s.completions);
        let wanted = match completions {
            None if succeeded > 0 => i32::try_from(active.len()).unwrap_or(i32::MAX).min(parallelism),
            None => parallelism,
            Some(completions) => parallelism.min(completions - succeeded),
        };
        let wanted = usize::try_from(wanted).unwrap_or(0);
        let (keep, surplus) = self.choose(active, wanted, done);
        self.step.discard = surplus;
        let waiting = if self.waits_for_the_end() { terminating } else { 0 };
        let missing = wanted.saturating_sub(keep.len() + waiting).min(MOST_AT_ONCE);
        if missing == 0 {
            return keep.len();
        }
        if self.per_index.is_none() {
            let wait = backoff::since_last_success(self.pods, self.now);
            if wait > 0.0 {
                self.wait(wait);
                return keep.len();
            }
        }
        if is_indexed(self.job) {
            let busy: HashSet<i32> = keep.iter().filter_map(index_of).collect();
            let held: HashSet<i32> = match self.waits_for_the_end() {
                true => self
                    .pods
                    .iter()
                    .filter(|p| !is_terminal(p))
                    .filter_map(index_of)
                    .collect(),
                false => HashSet::new(),
            };
            let failed = self.per_index.as_ref().map(|p| p.failed.clone()).unwrap_or_default();
            let free = (0..completions.unwrap_or(0))
                .filter(|i| !busy.contains(i) && !held.contains(i) && !done.contains(i) && !failed.contains(i));
            for index in free.take(missing) {
                let wait = self.per_index.as_ref().map_or(0.0, |p| p.wait(index, self.now));
                if wait > 0.0 {
                    self.wait(wait);
                    continue;
                }
                let failures = self.per_index.as_ref().map(|p| p.failures(self.job, index));
                self.step.create.push(NewPod {
                    index: Some(index),
                    failures,
                });
            }
        } else {
            self.step.create = vec![NewPod::default(); missing];
        }
        keep.len() + self.step.create.len()
    }

    /// Looks again after so many seconds, or earlier.
    fn wait(&mut self, seconds: f64) {
        let known = self.step.requeue_seconds.unwrap_or(f64::MAX);
        self.step.requeue_seconds = Some(known.min(seconds));
    }

    /// Pods to keep and pods to let go: doubles of an index first, then those that serve least.
    fn choose(&self, active: &[Pod], wanted: usize, done: &BTreeSet<i32>) -> (Vec<Pod>, Vec<Pod>) {
        let (mut keep, mut surplus) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let limit = self.spec_number(|s| s.completions, i32::MAX);
        for pod in active {
            let fits = match index_of(pod).filter(|_| is_indexed(self.job)) {
                Some(index) => index < limit && !done.contains(&index) && seen.insert(index),
                None => !is_indexed(self.job),
            };
            if fits {
                keep.push(pod.clone());
            } else {
                surplus.push(pod.clone());
            }
        }
        if keep.len() > wanted {
            let count = keep.len() - wanted;
            let gone = crate::replicaset::pods_to_delete(keep.clone(), &[], count, self.now);
            let ids: HashSet<&str> = gone.iter().map(uid).collect();
            keep.retain(|p| !ids.contains(uid(p)));
            surplus.extend(gone);
        }
        (keep, surplus)
    }
}
