//! How many pods of a Job run, and which; none while it is suspended.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::step::{MOST_AT_ONCE, NewPod, World, conditions, index_of, is_indexed};
use crate::meta::{is_deleting, uid};
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
            None if succeeded > 0 => active.len(),
            None => usize::try_from(parallelism).unwrap_or(0),
            Some(completions) => usize::try_from(parallelism.min(completions - succeeded)).unwrap_or(0),
        };
        let mut surplus = self.surplus(active, wanted);
        surplus.truncate(MOST_AT_ONCE);
        if !surplus.is_empty() {
            // Pods are made by the next step, when these are gone.
            self.step.discard = surplus;
            return active.len() - self.step.discard.len();
        }
        let waiting = if self.waits_for_the_end() { terminating } else { 0 };
        let missing = wanted.saturating_sub(active.len() + waiting).min(MOST_AT_ONCE);
        if missing == 0 {
            return active.len();
        }
        if self.per_index.is_none() {
            let wait = self.step.backoff.wait(self.now);
            if wait > 0.0 {
                self.wait(wait);
                return active.len();
            }
        }
        if is_indexed(self.job) {
            let busy: HashSet<i32> = active.iter().filter_map(index_of).collect();
            let held: HashSet<i32> = match self.waits_for_the_end() {
                true => self
                    .pods
                    .iter()
                    .filter(|p| is_deleting(*p) && !is_terminal(p))
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
        active.len() + self.step.create.len()
    }

    /// Looks again after so many seconds, or earlier.
    fn wait(&mut self, seconds: f64) {
        let known = self.step.requeue_seconds.unwrap_or(f64::MAX);
        self.step.requeue_seconds = Some(known.min(seconds));
    }

    /// Pods to let go: those without an index that is left, doubles of an index, then as many as there are too many,
    /// those that serve least first.
    fn surplus(&self, active: &[Pod], wanted: usize) -> Vec<Pod> {
        let least = |pods: Vec<Pod>, count: usize| crate::replicaset::pods_to_delete(pods, &[], count, self.now);
        let (mut keep, mut surplus) = (active.to_vec(), Vec::new());
        if is_indexed(self.job) {
            let limit = self.spec_number(|s| s.completions, 0);
            let mut by_index: BTreeMap<i32, Vec<Pod>> = BTreeMap::new();
            for pod in keep.drain(..) {
                match index_of(&pod).filter(|i| *i < limit) {
                    Some(index) => by_index.entry(index).or_default().push(pod),
                    None => surplus.push(pod),
                }
            }
            for pods in by_index.into_values() {
                if pods.len() == 1 {
                    keep.extend(pods);
                    continue;
                }
                let gone = least(pods.clone(), pods.len() - 1);
                let ids: HashSet<&str> = gone.iter().map(uid).collect();
                keep.extend(pods.into_iter().filter(|p| !ids.contains(uid(p))));
                surplus.extend(gone);
            }
        }
        let count = active.len().saturating_sub(wanted).saturating_sub(surplus.len());
        surplus.extend(least(keep, count));
        surplus
    }

    /// Says that the Job is suspended, or no longer.
    pub(super) fn note_suspension(&mut self) {
        let suspended = self.is_suspended();
        let now = self.now;
        let all = conditions(&mut self.step.status);
        let found = all.iter_mut().find(|c| c.type_ == "Suspended");
        let (status, reason, message, event) = match suspended {
            true => ("True", "JobSuspended", "Job suspended", "Suspended"),
            false => ("False", "JobResumed", "Job resumed", "Resumed"),
        };
        match found {
            Some(c)
                if c.status == status
                    && c.reason.as_deref() == Some(reason)
                    && c.message.as_deref() == Some(message) =>
            {
                return;
            }
            Some(c) => {
                c.status = status.to_owned();
                c.reason = Some(reason.to_owned());
                c.message = Some(message.to_owned());
                c.last_probe_time = Some(Time(now));
                c.last_transition_time = Some(Time(now));
            }
            None if !suspended => return,
            None => {
                self.set("Suspended", reason, message.to_owned());
            }
        }
        // The deadline counts from the last start.
        self.step.status.start_time = (!suspended).then_some(Time(now));
        self.step.events.push(("Normal", event.to_owned(), message.to_owned()));
    }
}
