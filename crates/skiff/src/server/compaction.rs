//! Up to which revision the store forgets its history: what was current a round ago, as upstream's compactor has it.

/// The rounds of compaction.
pub struct Compaction {
    /// The revision of a round ago.
    before: u64,
}

impl Compaction {
    /// Nothing before this revision is needed after the next time.
    pub fn new(revision: u64) -> Compaction {
        Compaction { before: revision }
    }

    /// What is to be forgotten now that the store is at `revision` and has forgotten up to `compacted`: what was current a round ago,
    /// also when nothing was written since. `None` when that was done.
    pub fn due(&mut self, revision: u64, compacted: u64) -> Option<u64> {
        let before = std::mem::replace(&mut self.before, revision);
        (before > compacted).then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_before_an_idle_time_is_forgotten_once() {
        let mut compaction = Compaction::new(1);
        assert_eq!(compaction.due(100, 0), Some(1));
        assert_eq!(compaction.due(100, 1), Some(100), "nothing was written since");
        assert_eq!(compaction.due(100, 100), None);
        assert_eq!(compaction.due(130, 100), None);
        assert_eq!(compaction.due(131, 100), Some(130));
        assert_eq!(
            Compaction::new(50).due(50, 7),
            Some(50),
            "what an earlier start has written"
        );
    }
}
