//! The multi-version core: what is known and what a transaction makes of it. No I/O, no clock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::store::{
    Compare, CompareTarget, Event, EventKind, KeyRange, KeyValue, Op, OpResponse, RangeResult, StoreError, Txn,
    TxnResult,
};

/// One version of a key; `value` is `None` for a deletion.
#[derive(Debug, Clone)]
struct Version {
    mod_revision: u64,
    create_revision: u64,
    version: u64,
    lease: i64,
    value: Option<Bytes>,
}

/// Oldest first; nearly every key has one.
type History = SmallVec<[Version; 1]>;

/// All keys with the history kept of each.
#[derive(Debug, Default)]
pub struct Mvcc {
    keys: BTreeMap<Bytes, History>,
    /// Every change since `compacted`, oldest first: what compaction, rollback and late watchers walk.
    changes: VecDeque<(u64, Bytes)>,
    /// Keys attached to each lease.
    leases: HashMap<i64, std::collections::BTreeSet<Bytes>>,
    revision: u64,
    compacted: u64,
    live: usize,
}

/// What a transaction did: the answer and the changes in order.
#[derive(Debug)]
pub struct Applied {
    /// The answer.
    pub result: TxnResult,
    /// The changes, in order; all of one revision.
    pub events: Vec<Event>,
}

impl Mvcc {
    /// An empty store at revision 1.
    pub fn new() -> Mvcc {
        // etcd's first revision is 1, with nothing in it
        Mvcc {
            revision: 1,
            ..Mvcc::default()
        }
    }

    /// The newest revision, visible or not.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Up to this revision history is forgotten.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Keys that exist.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Returns whether no key exists.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Starts again from a snapshot taken at `revision`: history before it is gone.
    pub fn restore(&mut self, revision: u64, kvs: impl IntoIterator<Item = KeyValue>) {
        *self = Mvcc {
            revision,
            compacted: revision,
            ..Mvcc::default()
        };
        for kv in kvs {
            self.attach(kv.lease, &kv.key);
            self.live += 1;
            let version = Version {
                mod_revision: kv.mod_revision,
                create_revision: kv.create_revision,
                version: kv.version,
                lease: kv.lease,
                value: Some(kv.value),
            };
            self.keys.insert(kv.key, SmallVec::from_buf([version]));
        }
    }

    /// Evaluates a transaction and applies it at the next revision if it writes.
    pub fn apply(&mut self, txn: &Txn) -> Applied {
        let succeeded = txn.compare.iter().all(|c| self.holds(c));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let next = self.revision + 1;
        let mut events = Vec::new();
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                Op::Put(put) => {
                    let value = put.value.stamp(next);
                    let previous = self.put(next, put.key.clone(), value.clone(), put.lease);
                    let kv = self.latest(&put.key);
                    if let Some(kv) = kv {
                        let event = Event {
                            kind: EventKind::Put,
                            kv,
                            previous: previous.clone(),
                            hint: put.hint.clone(),
                        };
                        events.push(event);
                    }
                    OpResponse::Put { previous, value }
                }
                Op::Delete(range) => {
                    let deleted = self.scan(range, usize::MAX, next).kvs;
                    for kv in &deleted {
                        events.push(self.delete(next, kv));
                    }
                    OpResponse::Delete { deleted }
                }
                Op::Range { range, limit } => OpResponse::Range(self.scan(range, *limit, next)),
            });
        }
        if !events.is_empty() {
            self.revision = next;
        }
        Applied {
            result: TxnResult {
                succeeded,
                revision: self.revision,
                responses,
            },
            events,
        }
    }

    /// Makes a change that was logged before, at its revision.
    pub fn replay(&mut self, kv: KeyValue, kind: EventKind) {
        let revision = kv.mod_revision;
        match kind {
            EventKind::Put => {
                self.put(revision, kv.key, kv.value, kv.lease);
            }
            EventKind::Delete => {
                if let Some(live) = self.latest(&kv.key) {
                    self.delete(revision, &live);
                }
            }
        }
        self.revision = self.revision.max(revision);
    }

    /// Passes over revisions up to `revision`, and forgets the history before: whoever knew them is told so. Does nothing when the
    /// store is there already.
    pub fn skip_to(&mut self, revision: u64) {
        if revision > self.revision {
            self.revision = revision;
            self.forget(revision);
        }
    }

    /// The content of a range as of `revision`.
    ///
    /// # Errors
    /// `Compacted` or `FutureRevision` when that revision cannot be read.
    pub fn range(&self, range: &KeyRange, limit: usize, revision: u64) -> Result<RangeResult, StoreError> {
        if revision > self.revision {
            return Err(StoreError::FutureRevision {
                asked: revision,
                current: self.revision,
            });
        }
        if revision < self.compacted {
            return Err(StoreError::Compacted {
                compacted: self.compacted,
            });
        }
        Ok(self.scan(range, limit, revision))
    }

    /// Up to `limit` pairs after `after`, as of `revision`: a step of a walk that does not hold the store.
    pub fn walk(&self, after: Option<&Bytes>, limit: usize, revision: u64) -> Vec<KeyValue> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys
            .range::<Bytes, _>((from, Bound::Unbounded))
            .filter_map(|(key, history)| at(key, history, revision))
            .take(limit)
            .collect()
    }

    /// Forgets versions not needed at `revision` or later. Costs what changed since the last compaction.
    ///
    /// # Errors
    /// `Compacted` when it was done already, `FutureRevision` when it is not there yet.
    pub fn compact(&mut self, revision: u64) -> Result<(), StoreError> {
        if revision > self.revision {
            return Err(StoreError::FutureRevision {
                asked: revision,
                current: self.revision,
            });
        }
        if revision <= self.compacted {
            return Err(StoreError::Compacted {
                compacted: self.compacted,
            });
        }
        self.forget(revision);
        Ok(())
    }

    /// Forgets versions not needed at `revision` or later.
    fn forget(&mut self, revision: u64) {
        while self.changes.front().is_some_and(|(at, _)| *at <= revision) {
            let Some((_, key)) = self.changes.pop_front() else {
                break;
            };
            let Some(history) = self.keys.get_mut(&key) else {
                continue;
            };
            let keep = history.iter().rposition(|v| v.mod_revision <= revision).unwrap_or(0);
            history.drain(..keep);
            if history.len() == 1 && history[0].value.is_none() && history[0].mod_revision <= revision {
                self.keys.remove(&key);
            }
        }
        self.compacted = revision;
    }

    /// Takes back everything after `revision`: the log refused it.
    pub fn rollback(&mut self, revision: u64) {
        while self.changes.back().is_some_and(|(at, _)| *at > revision) {
            let Some((at, key)) = self.changes.pop_back() else {
                break;
            };
            let Some(history) = self.keys.get_mut(&key) else {
                continue;
            };
            let was_live = history.last().is_some_and(|v| v.value.is_some());
            let mut gone = None;
            if history.last().is_some_and(|v| v.mod_revision == at) {
                gone = history.pop();
            }
            let now = history.last().filter(|v| v.value.is_some()).map(|v| v.lease);
            self.live = self.live + usize::from(now.is_some()) - usize::from(was_live);
            if history.is_empty() {
                self.keys.remove(&key);
            }
            if let Some(gone) = gone.filter(|v| v.value.is_some()) {
                self.detach(gone.lease, &key);
            }
            if let Some(lease) = now {
                self.attach(lease, &key);
            }
        }
        self.revision = revision;
    }

    /// The keys that a lease's end deletes.
    pub fn lease_keys(&self, lease: i64) -> Vec<Bytes> {
        self.leases
            .get(&lease)
            .map(|keys| keys.iter().cloned().collect())
            .unwrap_or_default()
    }

    fn holds(&self, compare: &Compare) -> bool {
        let live = self
            .keys
            .get(&compare.key)
            .and_then(|h| h.last())
            .filter(|v| v.value.is_some());
        match compare.target {
            CompareTarget::ModRevision(r) => live.map_or(0, |v| v.mod_revision) == r,
            CompareTarget::CreateRevision(r) => live.map_or(0, |v| v.create_revision) == r,
            CompareTarget::Version(n) => live.map_or(0, |v| v.version) == n,
        }
    }

    fn latest(&self, key: &Bytes) -> Option<KeyValue> {
        at(key, self.keys.get(key)?, u64::MAX)
    }

    fn put(&mut self, revision: u64, key: Bytes, value: Bytes, lease: i64) -> Option<KeyValue> {
        let previous = self.latest(&key);
        match &previous {
            Some(p) => self.detach(p.lease, &key),
            None => self.live += 1,
        }
        self.attach(lease, &key);
        let version = Version {
            mod_revision: revision,
            create_revision: previous.as_ref().map_or(revision, |p| p.create_revision),
            version: previous.as_ref().map_or(1, |p| p.version + 1),
            lease,
            value: Some(value),
        };
        self.push(revision, key, version);
        previous
    }

    fn delete(&mut self, revision: u64, live: &KeyValue) -> Event {
        self.detach(live.lease, &live.key);
        self.live -= 1;
        let version = Version {
            mod_revision: revision,
            create_revision: 0,
            version: 0,
            lease: 0,
            value: None,
        };
        self.push(revision, live.key.clone(), version);
        Event {
            kind: EventKind::Delete,
            kv: KeyValue {
                key: live.key.clone(),
                value: Bytes::new(),
                create_revision: 0,
                mod_revision: revision,
                version: 0,
                lease: 0,
            },
            previous: Some(live.clone()),
            hint: None,
        }
    }

    fn push(&mut self, revision: u64, key: Bytes, version: Version) {
        let history = self.keys.entry(key.clone()).or_default();
        // a second change within one transaction replaces the first
        if history.last().is_some_and(|v| v.mod_revision == revision) {
            history.pop();
        } else {
            self.changes.push_back((revision, key));
        }
        history.push(version);
    }

    fn attach(&mut self, lease: i64, key: &Bytes) {
        if lease != 0 {
            self.leases.entry(lease).or_default().insert(key.clone());
        }
    }

    fn detach(&mut self, lease: i64, key: &Bytes) {
        if let Some(keys) = self.leases.get_mut(&lease) {
            keys.remove(key);
            if keys.is_empty() {
                self.leases.remove(&lease);
            }
        }
    }

    fn scan(&self, range: &KeyRange, limit: usize, revision: u64) -> RangeResult {
        let mut out = RangeResult {
            revision: revision.min(self.revision),
            kvs: Vec::new(),
            more: false,
            count: 0,
        };
        let mut take = |key: &Bytes, history: &History| {
            if let Some(kv) = at(key, history, revision) {
                out.count += 1;
                if limit == 0 || out.kvs.len() < limit {
                    out.kvs.push(kv);
                } else {
                    out.more = true;
                }
            }
        };
        match range {
            KeyRange::One(key) => {
                if let Some(history) = self.keys.get(key) {
                    take(key, history);
                }
            }
            KeyRange::Span { start, end } => {
                if start < end {
                    self.keys
                        .range(start.clone()..end.clone())
                        .for_each(|(k, h)| take(k, h));
                }
            }
            KeyRange::From(start) => self.keys.range(start.clone()..).for_each(|(k, h)| take(k, h)),
        }
        out
    }
}

fn at(key: &Bytes, history: &History, revision: u64) -> Option<KeyValue> {
    let v = history.iter().rev().find(|v| v.mod_revision <= revision)?;
    let value = v.value.clone()?;
    Some(KeyValue {
        key: key.clone(),
        value,
        create_revision: v.create_revision,
        mod_revision: v.mod_revision,
        version: v.version,
        lease: v.lease,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Put, Value};

    fn put(key: &str, value: &str) -> Op {
        Op::Put(Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Value::Plain(Bytes::copy_from_slice(value.as_bytes())),
            lease: 0,
            hint: None,
        })
    }

    fn write(m: &mut Mvcc, ops: Vec<Op>) -> Applied {
        m.apply(&Txn {
            success: ops,
            ..Txn::default()
        })
    }

    fn values(m: &Mvcc, revision: u64) -> Vec<(String, String)> {
        let all = m.range(&KeyRange::prefix(b""), 0, revision).unwrap();
        all.kvs
            .iter()
            .map(|kv| {
                (
                    String::from_utf8_lossy(&kv.key).into(),
                    String::from_utf8_lossy(&kv.value).into(),
                )
            })
            .collect()
    }

    #[test]
    fn a_transaction_writes_at_one_revision_and_old_revisions_stay_readable() {
        let mut m = Mvcc::new();
        write(&mut m, vec![put("a", "1"), put("b", "1")]);
        write(&mut m, vec![put("a", "2"), Op::Delete(KeyRange::One("b".into()))]);
        assert_eq!(m.revision(), 3);
        assert_eq!(values(&m, 2), [("a".into(), "1".into()), ("b".into(), "1".into())]);
        assert_eq!(values(&m, 3), [("a".into(), "2".into())]);
        let a = &m.range(&KeyRange::One("a".into()), 0, 3).unwrap().kvs[0];
        assert_eq!((a.create_revision, a.mod_revision, a.version), (2, 3, 2));
    }

    #[test]
    fn a_failed_comparison_takes_the_other_branch_and_changes_nothing() {
        let mut m = Mvcc::new();
        write(&mut m, vec![put("a", "1")]);
        let done = m.apply(&Txn {
            compare: vec![Compare {
                key: "a".into(),
                target: CompareTarget::ModRevision(0),
            }],
            success: vec![put("a", "2")],
            failure: vec![Op::Range {
                range: KeyRange::One("a".into()),
                limit: 0,
            }],
        });
        assert!(!done.result.succeeded);
        assert_eq!(m.revision(), 2);
        let OpResponse::Range(found) = &done.result.responses[0] else {
            panic!("not a range")
        };
        assert_eq!(&found.kvs[0].value[..], b"1");
    }

    #[test]
    fn the_revision_is_stamped_into_the_value() {
        let mut m = Mvcc::new();
        let value = Value::Stamped {
            bytes: Bytes::from_static(b"{\"rv\":\"\"}"),
            at: 7,
        };
        write(
            &mut m,
            vec![Op::Put(Put {
                key: "a".into(),
                value,
                lease: 0,
                hint: None,
            })],
        );
        assert_eq!(values(&m, 2)[0].1, "{\"rv\":\"2\"}");
    }

    #[test]
    fn compaction_forgets_old_versions_and_deleted_keys_only() {
        let mut m = Mvcc::new();
        write(&mut m, vec![put("a", "1"), put("b", "1")]);
        write(&mut m, vec![put("a", "2")]);
        write(&mut m, vec![Op::Delete(KeyRange::One("b".into()))]);
        write(&mut m, vec![put("a", "3")]);
        m.compact(4).unwrap();
        assert!(matches!(
            m.range(&KeyRange::prefix(b""), 0, 3),
            Err(StoreError::Compacted { compacted: 4 })
        ));
        assert_eq!(values(&m, 4), [("a".into(), "2".into())]);
        assert_eq!(values(&m, 5), [("a".into(), "3".into())]);
        assert_eq!(m.keys.len(), 1);
        assert!(m.compact(4).is_err());
        assert!(m.compact(6).is_err());
    }

    #[test]
    fn skipped_revisions_are_history() {
        let mut m = Mvcc::new();
        write(&mut m, vec![put("a", "1")]);
        m.skip_to(100);
        m.skip_to(50);
        assert_eq!(values(&m, 100), [("a".into(), "1".into())]);
        assert!(matches!(
            m.range(&KeyRange::prefix(b""), 0, 2),
            Err(StoreError::Compacted { compacted: 100 })
        ));
        write(&mut m, vec![put("a", "2")]);
        assert_eq!(m.revision(), 101);
    }

    #[test]
    fn rollback_restores_what_was_before() {
        let mut m = Mvcc::new();
        write(&mut m, vec![put("a", "1")]);
        write(&mut m, vec![put("a", "2"), put("c", "1")]);
        write(&mut m, vec![Op::Delete(KeyRange::One("a".into()))]);
        m.rollback(2);
        assert_eq!(m.revision(), 2);
        assert_eq!(m.len(), 1);
        assert_eq!(values(&m, 2), [("a".into(), "1".into())]);
    }

    #[test]
    fn prefix_ends_carry_over_ff() {
        assert_eq!(
            KeyRange::prefix(b"a\xff"),
            KeyRange::Span {
                start: Bytes::from_static(b"a\xff"),
                end: "b".into()
            }
        );
        assert_eq!(KeyRange::prefix(b"\xff"), KeyRange::From(Bytes::from_static(b"\xff")));
    }
}
