//! Growing waits per key, as for crashing containers and failing pulls: doubled with every failure, forgotten after a quiet while.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

/// How long to wait before something is tried again, by a key: twice as long each time.
#[derive(Debug, Clone)]
pub struct Backoffs<T = ()> {
    base: SignedDuration,
    max: SignedDuration,
    entries: HashMap<String, Entry<T>>,
    /// With this many entries it is time to look for those of the past.
    crowded: usize,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    delay: SignedDuration,
    /// When it happened last, and what there is to say of it.
    at: Timestamp,
    about: T,
}

/// The least number of entries that are worth a look.
const CROWDED: usize = 64;

impl<T> Backoffs<T> {
    /// Waits `base` the first time and `max` at most.
    pub fn new(base: SignedDuration, max: SignedDuration) -> Backoffs<T> {
        Backoffs {
            base,
            max,
            entries: HashMap::new(),
            crowded: CROWDED,
        }
    }

    /// The wait still to go after what happened at `since`, if any: the whole wait and when it ends.
    pub fn waiting(&self, key: &str, since: Timestamp, now: Timestamp) -> Option<(SignedDuration, Timestamp)> {
        let entry = self.entries.get(key)?;
        if self.expired(since, entry.at) {
            return None;
        }
        let end = since.checked_add(entry.delay).ok()?;
        (now < end).then_some((entry.delay, end))
    }

    /// Something happened again at `at`: the next wait is longer.
    pub fn next(&mut self, key: &str, at: Timestamp, about: T) {
        let delay = match self.entries.get(key) {
            Some(entry) if !self.expired(at, entry.at) => (entry.delay * 2).min(self.max),
            _ => self.base,
        };
        if self.entries.len() >= self.crowded {
            let quiet = self.max * 2;
            self.entries.retain(|_, entry| at.duration_since(entry.at) <= quiet);
            self.crowded = CROWDED.max(2 * self.entries.len());
        }
        self.entries.insert(key.to_owned(), Entry { delay, at, about });
    }

    /// When the wait after the last time ends, and what was said of that.
    pub fn last(&self, key: &str) -> Option<(Timestamp, &T)> {
        let entry = self.entries.get(key)?;
        Some((entry.at.checked_add(entry.delay).ok()?, &entry.about))
    }

    /// The next wait of a key is its first again.
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
            b.next("a", at(now), ());
            let (delay, end) = b.waiting("a", at(now), at(now + 1)).unwrap();
            assert_eq!(delay.as_secs(), expected);
            now = end.as_second();
            assert_eq!(b.waiting("a", at(now - expected), at(now)), None);
        }
        for key in 0..10_000 {
            b.next(&key.to_string(), at(1000 * key), ());
            assert!(b.entries.len() <= CROWDED);
        }
        b.next("a", at(now + 601), ());
        assert_eq!(b.waiting("a", at(now + 601), at(now + 602)).unwrap().0.as_secs(), 10);
    }
}
