//! Leases: which exist and when each ends. Time is an argument.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

#[derive(Debug, Clone, Copy)]
struct Lease {
    ttl: i64,
    ends: Duration,
}

/// All leases, ordered by their end. Times count from any fixed point.
#[derive(Debug, Default)]
pub struct Leases {
    by_id: HashMap<i64, Lease>,
    by_end: BTreeSet<(Duration, i64)>,
    last_id: i64,
}

impl Leases {
    /// Returns whether there is such a lease.
    pub fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// An id that no lease has.
    pub fn free_id(&mut self) -> i64 {
        while self.last_id <= 0 || self.contains(self.last_id) {
            self.last_id = self.last_id.max(0) + 1;
        }
        self.last_id
    }

    /// Makes a lease of `ttl` seconds, in place of one that has the id.
    pub fn grant(&mut self, id: i64, ttl: i64, now: Duration) {
        self.revoke(id);
        let ends = now + Duration::from_secs(ttl.max(1).unsigned_abs());
        self.by_id.insert(id, Lease { ttl, ends });
        self.by_end.insert((ends, id));
    }

    /// Restarts the lease's time; its length in seconds, or `None` if there is no such lease.
    pub fn keep_alive(&mut self, id: i64, now: Duration) -> Option<i64> {
        let ttl = self.by_id.get(&id)?.ttl;
        self.grant(id, ttl, now);
        Some(ttl)
    }

    /// Ends the lease; its length in seconds, or `None` if there is no such lease.
    pub fn revoke(&mut self, id: i64) -> Option<i64> {
        let lease = self.by_id.remove(&id)?;
        self.by_end.remove(&(lease.ends, id));
        Some(lease.ttl)
    }

    /// When the next lease ends.
    pub fn next_end(&self) -> Option<Duration> {
        self.by_end.first().map(|(ends, _)| *ends)
    }

    /// Leases that have ended by `now`.
    pub fn ended(&self, now: Duration) -> Vec<i64> {
        self.by_end
            .iter()
            .take_while(|(ends, _)| *ends <= now)
            .map(|(_, id)| *id)
            .collect()
    }

    /// Every lease with its length, for a snapshot.
    pub fn all(&self) -> Vec<(i64, i64)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease.ttl)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_after_its_time_unless_kept_alive() {
        let s = Duration::from_secs;
        let mut leases = Leases::default();
        leases.grant(1, 10, s(0));
        leases.grant(2, 10, s(1));
        assert_eq!(leases.next_end(), Some(s(10)));
        assert_eq!(leases.keep_alive(1, s(5)), Some(10));
        assert_eq!(leases.ended(s(11)), [2]);
        assert_eq!(leases.revoke(2), Some(10));
        assert_eq!(leases.revoke(2), None);
        assert_eq!(leases.next_end(), Some(s(15)));
        assert_eq!(leases.free_id(), 2);
    }
}
