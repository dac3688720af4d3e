//! Which thresholds are met for how long: what of it evicts pods, and what is a condition of the node. Reads no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::thresholds::{Observations, Pressure, Threshold};

/// What was seen so far. Thresholds are named by their place in the policy's list.
#[derive(Debug, Default)]
pub struct Tracker {
    first_met: BTreeMap<usize, Instant>,
    /// They evict until their minimum to reclaim is free, too.
    due: BTreeSet<usize>,
    last_met: BTreeMap<Pressure, Instant>,
}

impl Tracker {
    /// Takes what is seen now; returns the thresholds that evict, in the list's order.
    pub fn look(&mut self, thresholds: &[Threshold], seen: &Observations, now: Instant) -> Vec<Threshold> {
        let met: BTreeSet<usize> = thresholds
            .iter()
            .enumerate()
            .filter(|(n, threshold)| threshold.met(seen, self.due.contains(n)))
            .map(|(n, _)| n)
            .collect();
        self.first_met.retain(|n, _| met.contains(n));
        for n in &met {
            self.first_met.entry(*n).or_insert(now);
            self.last_met.insert(thresholds[*n].signal.pressure(), now);
        }
        let long_enough = |(n, since): (&usize, &Instant)| {
            let grace = thresholds[*n].grace.unwrap_or_default();
            (now.duration_since(*since) >= grace).then_some(*n)
        };
        self.due = self.first_met.iter().filter_map(long_enough).collect();
        self.due.iter().map(|n| thresholds[*n]).collect()
    }

    /// The conditions of the node: whose thresholds were met within the transition period, soft ones from the first.
    pub fn pressures(&mut self, transition: Duration, now: Instant) -> BTreeSet<Pressure> {
        self.last_met.retain(|_, at| now.duration_since(*at) < transition);
        self.last_met.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::thresholds::{Amount, Observation, Policy, Signal};
    use super::*;

    fn free(available: i64) -> Observations {
        let seen = Observation {
            capacity: 1000,
            available,
        };
        [(Signal::MemoryAvailable, seen)].into()
    }

    #[test]
    fn soft_thresholds_wait_and_what_is_met_stays_so_until_the_minimum_is_reclaimed() {
        let memory = Signal::MemoryAvailable;
        let policy = Policy {
            hard: [(memory, Amount::Quantity(100))].into(),
            soft: [(memory, Amount::Quantity(300))].into(),
            soft_grace: [(memory, Duration::from_secs(30))].into(),
            minimum_reclaim: [(memory, Amount::Quantity(50))].into(),
            ..Policy::default()
        };
        let thresholds = policy.thresholds().unwrap();
        let start = Instant::now();
        let mut tracker = Tracker::default();
        // (seconds, what is free, which evict, the node is short)
        for (at, available, hard, soft, short) in [
            (0, 500, false, false, false),
            (10, 250, false, false, true),
            (20, 310, false, false, true),
            (30, 250, false, false, true),
            (50, 250, false, false, true),
            (60, 250, false, true, true),
            // a minimum more has to be free now
            (70, 349, false, true, true),
            (80, 350, false, false, true),
            (90, 90, true, false, true),
            (100, 149, true, false, true),
            (110, 150, false, false, true),
            (120, 400, false, false, true),
            (409, 400, false, false, true),
            (410, 400, false, false, false),
        ] {
            let now = start + Duration::from_secs(at);
            let due = tracker.look(&thresholds, &free(available), now);
            let has = |is_hard: bool| due.iter().any(|t| t.grace.is_none() == is_hard);
            assert_eq!((has(true), has(false)), (hard, soft), "at {at} s");
            assert_eq!(
                tracker.pressures(policy.transition, now).len(),
                usize::from(short),
                "at {at} s"
            );
        }
    }
}
