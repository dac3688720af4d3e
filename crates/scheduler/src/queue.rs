//! Pods that wait for a node: ready ones by priority, failed ones until their back-off is over, unschedulable ones until
//! something happens that can help. Pure: the time comes in as milliseconds of any clock that does not go back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::metrics::{Line, SchedulerMetrics};
use crate::pod::PodInfo;

const FIRST_BACKOFF: u64 = 1_000;
const LONGEST_BACKOFF: u64 = 10_000;
/// An unschedulable pod is tried again after this even if nothing happened: a safety net.
const FLUSH_AFTER: u64 = 300_000;

/// What metrics call the changes of a pod that waits, and an attempt that came to nothing.
const UPDATED: &str = "UnscheduledPodUpdate";
const FAILED: &str = "ScheduleAttemptFailure";

/// A pod with its history in the queue.
#[derive(Debug, Clone)]
pub struct Queued {
    pub pod: Arc<PodInfo>,
    pub attempts: u32,
    added: u64,
    sequence: u64,
    tried: u64,
    /// When it was tried first.
    first_tried: u64,
    /// The plugins that refused it last.
    pub refused_by: Vec<&'static str>,
    /// The message it was last refused with, and its generation then.
    pub message: String,
    pub generation: i64,
}

/// PrioritySort: the more important first, then the one that waits longer.
type Rank = (Reverse<i32>, u64, u64);

impl Queued {
    fn rank(&self) -> Rank {
        (Reverse(self.pod.priority), self.added, self.sequence)
    }

    /// Milliseconds since it was tried first.
    pub fn since_first(&self, now: u64) -> u64 {
        now.saturating_sub(self.first_tried)
    }

    fn backoff_until(&self) -> u64 {
        let doublings = self.attempts.saturating_sub(1).min(16);
        self.tried + (FIRST_BACKOFF << doublings).min(LONGEST_BACKOFF)
    }
}

/// Where a pod waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Ready to be tried.
    Active,
    /// Will be ready at this time; sooner if nothing else is, unless it waits after an error.
    Backoff { until: u64, error: bool },
    /// Refused; waits for an event.
    Unschedulable,
    /// Not let in by PreEnqueue.
    Gated,
}

impl Place {
    fn line(self) -> Line {
        match self {
            Place::Active => Line::Active,
            Place::Backoff { .. } => Line::Backoff,
            Place::Unschedulable => Line::Unschedulable,
            Place::Gated => Line::Gated,
        }
    }
}

#[derive(Debug)]
struct Entry {
    queued: Queued,
    place: Place,
}

/// The queue. Pods are told apart by uid.
pub struct Queue {
    entries: HashMap<Box<str>, Entry>,
    active: BTreeMap<Rank, Box<str>>,
    /// By the end of the wait.
    backoff: BTreeSet<(u64, Rank, Box<str>)>,
    sequence: u64,
    counted: Arc<SchedulerMetrics>,
}

impl Queue {
    /// An empty queue that is counted there.
    pub fn new(counted: Arc<SchedulerMetrics>) -> Queue {
        Queue {
            entries: HashMap::new(),
            active: BTreeMap::new(),
            backoff: BTreeSet::new(),
            sequence: 0,
            counted,
        }
    }

    fn detach(&mut self, uid: &str) -> Option<Entry> {
        let entry = self.entries.remove(uid)?;
        self.counted.pending(entry.place.line(), -1);
        if entry.place == Place::Unschedulable {
            self.counted.refused(&entry.queued.refused_by, -1);
        }
        match entry.place {
            Place::Active => {
                self.active.remove(&entry.queued.rank());
            }
            Place::Backoff { until, .. } => {
                self.backoff.remove(&(until, entry.queued.rank(), uid.into()));
            }
            Place::Unschedulable | Place::Gated => {}
        }
        Some(entry)
    }

    /// Puts a pod somewhere; an event has brought it there unless it was there before.
    fn attach(&mut self, queued: Queued, place: Place, event: Option<&str>) {
        self.counted.pending(place.line(), 1);
        if place == Place::Unschedulable {
            self.counted.refused(&queued.refused_by, 1);
        }
        if let Some(event) = event {
            self.counted.came(place.line(), event);
        }
        let uid: Box<str> = queued.pod.uid().into();
        match place {
            Place::Active => {
                self.active.insert(queued.rank(), uid.clone());
            }
            Place::Backoff { until, .. } => {
                self.backoff.insert((until, queued.rank(), uid.clone()));
            }
            Place::Unschedulable | Place::Gated => {}
        }
        self.entries.insert(uid, Entry { queued, place });
    }

    fn ready(&mut self, queued: Queued, now: u64, event: &str) {
        let until = queued.backoff_until();
        let waits = queued.attempts > 0 && until > now;
        let place = if waits {
            Place::Backoff { until, error: false }
        } else {
            Place::Active
        };
        self.attach(queued, place, Some(event));
    }

    /// A pod that is new, or changed. A change of status alone does not make a refused pod ready.
    pub fn add(&mut self, pod: Arc<PodInfo>, gated: bool, now: u64) {
        let Some(Entry { mut queued, place }) = self.detach(pod.uid()) else {
            self.sequence += 1;
            let queued = Queued {
                pod,
                attempts: 0,
                added: now,
                sequence: self.sequence,
                tried: 0,
                first_tried: now,
                refused_by: Vec::new(),
                message: String::new(),
                generation: 0,
            };
            let place = if gated { Place::Gated } else { Place::Active };
            return self.attach(queued, place, Some("UnscheduledPodAdd"));
        };
        let old = std::mem::replace(&mut queued.pod, pod);
        let same = old.shape == queued.pod.shape
            && old.object.meta.labels == queued.pod.object.meta.labels
            && old.gates == queued.pod.gates
            && old.claims == queued.pod.claims;
        match (place, gated) {
            (Place::Gated, true) => self.attach(queued, Place::Gated, None),
            (_, true) => self.attach(queued, Place::Gated, Some(UPDATED)),
            (Place::Unschedulable | Place::Gated, false) if same => self.attach(queued, place, None),
            (Place::Unschedulable | Place::Gated, false) => self.ready(queued, now, UPDATED),
            (place, false) => self.attach(queued, place, None),
        }
    }

    /// A pod that is gone or has a node.
    pub fn remove(&mut self, uid: &str) {
        self.detach(uid);
    }

    /// The next pod to try; it leaves the queue.
    pub fn pop(&mut self, now: u64) -> Option<Queued> {
        while let Some((until, _, uid)) = self.backoff.first().cloned() {
            if until > now {
                break;
            }
            if let Some(entry) = self.detach(&uid) {
                self.attach(entry.queued, Place::Active, Some("BackoffComplete"));
            }
        }
        let uid = match self.active.first_key_value() {
            Some((_, uid)) => uid.clone(),
            // nobody else waits: why should this one?
            None => self
                .backoff
                .iter()
                .map(|(_, _, uid)| uid)
                .find(|uid| matches!(self.entries.get(*uid), Some(e) if matches!(e.place, Place::Backoff { error: false, .. })))?
                .clone(),
        };
        let mut queued = self.detach(&uid)?.queued;
        if queued.attempts == 0 {
            queued.first_tried = now;
        }
        queued.attempts += 1;
        queued.tried = now;
        Some(queued)
    }

    /// Puts a pod back that no node would take.
    pub fn refused(&mut self, queued: Queued) {
        self.attach(queued, Place::Unschedulable, Some(FAILED));
    }

    /// Puts a pod back whose binding failed.
    pub fn failed(&mut self, queued: Queued) {
        let until = queued.backoff_until();
        self.attach(queued, Place::Backoff { until, error: true }, Some(FAILED));
    }

    /// Makes refused pods ready that the event can help.
    pub fn wake(&mut self, now: u64, event: &str, helps: impl Fn(&Queued) -> bool) {
        let woken: Vec<Box<str>> = self
            .entries
            .iter()
            .filter(|(_, e)| e.place == Place::Unschedulable && helps(&e.queued))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in woken {
            if let Some(entry) = self.detach(&uid) {
                self.ready(entry.queued, now, event);
            }
        }
    }

    /// Makes pods ready that have been unschedulable for long.
    pub fn flush(&mut self, now: u64) {
        self.wake(now, "UnschedulableTimeout", |q| now >= q.tried + FLUSH_AFTER);
    }

    /// When there may be something to do although nothing happened.
    pub fn deadline(&self) -> Option<u64> {
        let backoff = self.backoff.first().map(|(until, _, _)| *until);
        let unschedulable = self
            .entries
            .values()
            .filter(|e| e.place == Place::Unschedulable)
            .map(|e| e.queued.tried + FLUSH_AFTER)
            .min();
        [backoff, unschedulable].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
        let tree =
            json!({ "metadata": { "name": name, "uid": name }, "spec": { "priority": priority, "containers": [] } });
        crate::pod::tests::pod(tree)
    }

    fn queue() -> Queue {
        Queue::new(SchedulerMetrics::new("default-scheduler"))
    }

    fn name(queued: Option<Queued>) -> Option<String> {
        queued.map(|q| q.pod.name().to_owned())
    }

    #[test]
    fn the_more_important_comes_first_and_then_the_older() {
        let mut queue = queue();
        for (i, (n, p)) in [("a", 0), ("b", 10), ("c", 0)].into_iter().enumerate() {
            queue.add(pod(n, p), false, i as u64);
        }
        let order: Vec<_> = std::iter::from_fn(|| name(queue.pop(9))).collect();
        assert_eq!(order, ["b", "a", "c"]);
    }

    #[test]
    fn a_refused_pod_waits_for_an_event_that_helps() {
        let mut queue = queue();
        queue.add(pod("a", 0), false, 0);
        let queued = queue.pop(0).unwrap();
        queue.refused(queued);
        assert!(queue.pop(5_000).is_none());
        queue.wake(5_000, "NodeAdd", |_| false);
        assert!(queue.pop(5_000).is_none());
        queue.wake(5_000, "NodeAdd", |_| true);
        assert_eq!(name(queue.pop(5_000)).as_deref(), Some("a"));
    }

    #[test]
    fn a_pod_whose_binding_failed_waits_twice_as_long_each_time() {
        let mut queue = queue();
        queue.add(pod("a", 0), false, 0);
        for (now, until) in [
            (0, 1_000),
            (1_000, 3_000),
            (3_000, 7_000),
            (7_000, 15_000),
            (15_000, 25_000),
        ] {
            let queued = queue.pop(now).unwrap();
            queue.failed(queued);
            assert!(queue.pop(now).is_none());
            assert_eq!(queue.deadline(), Some(until));
        }
    }

    #[test]
    fn a_gated_pod_becomes_ready_when_its_gates_go() {
        let mut gated = json!({ "metadata": { "name": "a", "uid": "a" }, "spec": { "containers": [], "schedulingGates": [{ "name": "g" }] } });
        let mut queue = queue();
        queue.add(crate::pod::tests::pod(gated.clone()), true, 0);
        assert!(queue.pop(0).is_none());
        gated["spec"]["schedulingGates"] = json!([]);
        queue.add(crate::pod::tests::pod(gated), false, 1);
        assert!(queue.pop(1).is_some());
    }

    #[test]
    fn what_is_long_unschedulable_is_tried_again() {
        let mut queue = queue();
        queue.add(pod("a", 0), false, 0);
        let queued = queue.pop(0).unwrap();
        queue.refused(queued);
        assert_eq!(queue.deadline(), Some(300_000));
        queue.flush(300_000);
        assert!(queue.pop(300_000).is_some());
    }
}
