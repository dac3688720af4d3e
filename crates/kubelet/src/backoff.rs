//! Growing waits per key, as for crashing containers and failing pulls: doubled with every failure, forgotten after a quiet while.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

#[derive(Debug, Clone)]
pub struct Backoffs {
    base: SignedDuration,
    max: SignedDuration,
    entries: HashMap<String, (SignedDuration, Timestamp)>,
}

impl Backoffs {
    pub fn new(base: SignedDuration, max: SignedDuration) -> Backoffs {
        Backoffs {
            base,
            max,
            entries: HashMap::new(),
        }
    }

    /// The wait still to go after what happened at `since`, if any: the whole wait and when it ends.
    pub fn waiting(&self, key: &str, since: Timestamp, now: Timestamp) -> Option<(SignedDuration, Timestamp)> {
        let (delay, updated) = self.entries.get(key)?;
        if self.expired(since, *updated) {
            return None;
        }
        let end = since.checked_add(*delay).ok()?;
        (now < end).then_some((*delay, end))
    }

    /// Something happened again at `at`: the next wait is longer.
    pub fn next(&mut self, key: &str, at: Timestamp) {
        let max = self.max;
        let delay = match self.entries.get(key) {
            Some((delay, updated)) if !self.expired(at, *updated) => (*delay * 2).min(max),
            _ => self.base,
        };
        self.entries.insert(key.to_owned(), (delay, at));
    }

    /// When the present wait ends.
    pub fn end(&self, key: &str) -> Option<Timestamp> {
        let (delay, updated) = self.entries.get(key)?;
        updated.checked_add(*delay).ok()
    }

    pub fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }

    fn expired(&self, at: Timestamp, updated: Timestamp) -> bool {
        at.duration_since(updated) > self.max * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_limit_and_is_forgotten_after_a_quiet_while() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut b = Backoffs::new(SignedDuration::from_secs(10), SignedDuration::from_secs(300));
        assert_eq!(b.waiting("a", at(0), at(0)), None);
        let mut now = 0;
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            b.next("a", at(now));
            let (delay, end) = b.waiting("a", at(now), at(now + 1)).unwrap();
            assert_eq!(delay.as_secs(), expected);
            now = end.as_second();
            assert_eq!(b.waiting("a", at(now - expected), at(now)), None);
        }
        b.next("a", at(now + 601));
        assert_eq!(b.waiting("a", at(now + 601), at(now + 602)).unwrap().0.as_secs(), 10);
    }
}
