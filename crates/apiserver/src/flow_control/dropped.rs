//! When a request that was refused may be tried again: later, the more there are (`flowcontrol/dropped_requests_tracker.go`).

use std::collections::VecDeque;

/// Seconds.
const LONGEST: u64 = 32;

/// The refusals of one level.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// How many there were in each second that had some.
    history: VecDeque<(u64, u64)>,
    current: (u64, u64),
    retry_after: u64,
    raised: u64,
}

impl Default for Dropped {
    fn default() -> Dropped {
        Dropped {
            history: VecDeque::new(),
            current: (0, 0),
            retry_after: 1,
            raised: 0,
        }
    }
}

impl Dropped {
    /// Notes a refusal; answers after how many seconds its client may try again.
    pub fn note(&mut self, second: u64) -> u64 {
        if self.current.0 == second {
            self.current.1 += 1;
            return self.retry_after;
        }
        self.history.push_back(self.current);
        let kept = (2 * self.retry_after).min(LONGEST);
        let last = self.current.0;
        while self
            .history
            .front()
            .is_some_and(|(at, _)| last.saturating_sub(*at) > kept)
        {
            self.history.pop_front();
        }
        self.current = (second, 1);
        self.adjust(second);
        self.retry_after
    }

    fn adjust(&mut self, second: u64) {
        let recent = self
            .history
            .iter()
            .filter(|(at, _)| second.saturating_sub(*at) <= self.retry_after && *at < second);
        let dropped: u64 = recent.map(|(_, count)| count).sum();
        if second.saturating_sub(self.raised) >= self.retry_after && dropped >= 3 * self.retry_after {
            self.retry_after = (2 * self.retry_after).min(LONGEST);
            self.raised = second;
        } else if dropped < self.retry_after && self.retry_after > 1 {
            self.retry_after -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `dropped_requests_tracker_test.go`
    #[test]
    fn many_refusals_make_clients_wait_longer_and_few_make_them_wait_less() {
        let mut dropped = Dropped::default();
        let mut waits = Vec::new();
        for second in 100..140 {
            for _ in 0..100 {
                dropped.note(second);
            }
            waits.push(dropped.note(second));
        }
        assert_eq!(waits[..3], [1, 2, 2]);
        assert_eq!(waits.last(), Some(&32));
        let first = dropped.note(300);
        assert_eq!(first, 31);
        assert_eq!(dropped.note(301), 30);
    }
}
