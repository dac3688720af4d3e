//! The thread that owns the log: what has queued up becomes one record, one sync, one answer to all.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use super::{EmbeddedConfig, Request, Shared, read};
use crate::disk::Disk;
use crate::lease::Leases;
use crate::log::Log;
use crate::mvcc::Mvcc;
use crate::record::Entry;
use crate::snapshot;
use crate::store::{Event, KeyRange, Op, Sink, StoreError, Txn, TxnResult};

/// The most requests that share one sync.
const MAX_BATCH: usize = 1024;
/// Keys copied at a time by a snapshot.
const SNAPSHOT_STEP: usize = 2048;
/// The least log that is worth a snapshot after a compaction, in bytes.
const LOG_WORTH_CUTTING: u64 = 1 << 20;

/// An answer that waits for the batch's sync.
type Pending = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) config: EmbeddedConfig,
    pub(super) log: Log,
    pub(super) leases: Leases,
    pub(super) sinks: Vec<(KeyRange, Weak<dyn Sink>)>,
    pub(super) started: Instant,
    pub(super) snapshot: Option<JoinHandle<()>>,
    /// Since the last look at whether a snapshot is due.
    pub(super) compacted: bool,
}

/// What one sync makes durable.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    events: Vec<Event>,
    /// Leases to take back should the log refuse.
    granted: Vec<i64>,
    /// Leases, with their lengths, to put back likewise.
    revoked: Vec<(i64, i64)>,
    sinks: Vec<(KeyRange, Weak<dyn Sink>)>,
    answers: Vec<Pending>,
}

impl Committer {
    pub(super) fn run(mut self, queue: &Receiver<Request>) {
        loop {
            let first = match self.wait(queue) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut batch = Batch::default();
            let mut stop = false;
            let mut next = first;
            while let Some(request) = next.take() {
                if matches!(request, Request::Stop) {
                    stop = true;
                    break;
                }
                self.take(request, &mut batch);
                if batch.answers.len() < MAX_BATCH {
                    next = queue.try_recv().ok();
                }
            }
            self.end_leases(&mut batch);
            if !self.commit(batch) || stop {
                break;
            }
            self.maybe_snapshot();
        }
        if let Some(snapshot) = self.snapshot.take() {
            // its panic is reported by the hook; the log still holds everything
            drop(snapshot.join());
        }
        self.log.close();
    }

    fn wait(&self, queue: &Receiver<Request>) -> Result<Request, RecvTimeoutError> {
        match self.leases.next_end() {
            Some(ends) => queue.recv_timeout(ends.saturating_sub(self.started.elapsed())),
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn take(&mut self, request: Request, batch: &mut Batch) {
        match request {
            Request::Txn(txn, answer) => {
                if let Some(missing) = self.missing_lease(&txn) {
                    drop(answer.send(Err(StoreError::LeaseNotFound(missing))));
                    return;
                }
                let result = self.apply(&txn, batch);
                batch
                    .answers
                    .push(Box::new(move |done| drop(answer.send(done.map(|()| result)))));
            }
            Request::Compact(revision, answer) => {
                // a compaction may not pass what is not yet visible, nor a snapshot being read
                let hold = self.shared.hold.load(Ordering::Acquire);
                let current = self.shared.visible.load(Ordering::Acquire);
                let done = if revision > current {
                    Err(StoreError::FutureRevision {
                        asked: revision,
                        current,
                    })
                } else {
                    self.write().compact(revision.min(hold))
                };
                if done.is_ok() {
                    self.compacted = true;
                    batch.entries.push(Entry::Compact {
                        revision: revision.min(hold),
                    });
                    batch.answers.push(Box::new(move |synced| drop(answer.send(synced))));
                } else {
                    drop(answer.send(done));
                }
            }
            Request::LeaseGrant(id, ttl, answer) => {
                if id != 0 && self.leases.contains(id) {
                    drop(answer.send(Err(StoreError::LeaseExists(id))));
                    return;
                }
                let id = if id == 0 { self.leases.free_id() } else { id };
                self.leases.grant(id, ttl, self.started.elapsed());
                batch.granted.push(id);
                batch.entries.push(Entry::LeaseGrant { id, ttl });
                batch
                    .answers
                    .push(Box::new(move |done| drop(answer.send(done.map(|()| id)))));
            }
            Request::LeaseRevoke(id, answer) => {
                if !self.leases.contains(id) {
                    drop(answer.send(Err(StoreError::LeaseNotFound(id))));
                    return;
                }
                self.revoke(id, batch);
                batch.answers.push(Box::new(move |done| drop(answer.send(done))));
            }
            Request::LeaseKeepAlive(id, answer) => {
                let kept = self
                    .leases
                    .keep_alive(id, self.started.elapsed())
                    .ok_or(StoreError::LeaseNotFound(id));
                drop(answer.send(kept));
            }
            Request::Subscribe(range, sink, answer) => {
                // joins after the batch, so that content and first event meet exactly
                let shared = self.shared.clone();
                let asked = range.clone();
                batch.sinks.push((range, sink));
                batch.answers.push(Box::new(move |_| {
                    let visible = shared.visible.load(Ordering::Acquire);
                    drop(answer.send(read(&shared.mvcc).range(&asked, 0, visible)));
                }));
            }
            Request::Stop => {}
        }
    }

    fn missing_lease(&self, txn: &Txn) -> Option<i64> {
        let ops = txn.success.iter().chain(&txn.failure);
        let mut leases = ops.filter_map(|op| if let Op::Put(put) = op { Some(put.lease) } else { None });
        leases.find(|id| *id != 0 && !self.leases.contains(*id))
    }

    fn apply(&self, txn: &Txn, batch: &mut Batch) -> TxnResult {
        let applied = self.write().apply(txn);
        batch.entries.extend(applied.events.iter().map(Entry::of));
        batch.events.extend(applied.events);
        applied.result
    }

    fn revoke(&mut self, id: i64, batch: &mut Batch) {
        let keys = read(&self.shared.mvcc).lease_keys(id);
        let success = keys
            .into_iter()
            .map(|key| Op::Delete(KeyRange::One(key)))
            .collect::<Vec<_>>();
        if !success.is_empty() {
            self.apply(
                &Txn {
                    success,
                    ..Txn::default()
                },
                batch,
            );
        }
        batch.revoked.extend(self.leases.revoke(id).map(|ttl| (id, ttl)));
        batch.entries.push(Entry::LeaseRevoke { id });
    }

    fn end_leases(&mut self, batch: &mut Batch) {
        for id in self.leases.ended(self.started.elapsed()) {
            self.revoke(id, batch);
        }
    }

    /// Makes the batch durable and visible. `false` when the store may not go on.
    fn commit(&mut self, batch: Batch) -> bool {
        let before = self.shared.visible.load(Ordering::Acquire);
        if !batch.entries.is_empty() {
            if let Err(error) = self.log.append(&*self.disk, before, &batch.entries) {
                if !self.shared.full.swap(true, Ordering::AcqRel) {
                    tracing::error!(%error, "the write-ahead log cannot grow; writes are refused until it can");
                }
                self.write().rollback(before);
                for id in batch.granted {
                    self.leases.revoke(id);
                }
                for (id, ttl) in batch.revoked {
                    self.leases.grant(id, ttl, self.started.elapsed());
                }
                let refused = StoreError::NoSpace(error.to_string());
                batch
                    .answers
                    .into_iter()
                    .for_each(|answer| answer(Err(refused.clone())));
                return true;
            }
            if self.shared.full.swap(false, Ordering::AcqRel) {
                tracing::info!("the write-ahead log grows again");
            }
            let now = read(&self.shared.mvcc).revision();
            if let Err(error) = self.log.sync(now) {
                // what the kernel dropped after a failed sync cannot be known: going on could acknowledge lost writes
                tracing::error!(%error, "syncing the write-ahead log failed; the store stops");
                let failed = StoreError::Unavailable(format!("sync failed: {error}"));
                batch.answers.into_iter().for_each(|answer| answer(Err(failed.clone())));
                return false;
            }
            self.shared.log_size.store(self.log.size(), Ordering::Release);
        }
        let revision = read(&self.shared.mvcc).revision();
        if revision != before {
            self.shared.visible.store(revision, Ordering::Release);
            self.publish(revision, &batch.events);
        }
        self.sinks.extend(batch.sinks);
        batch.answers.into_iter().for_each(|answer| answer(Ok(())));
        true
    }

    fn publish(&mut self, revision: u64, events: &[Event]) {
        self.sinks.retain(|(range, sink)| {
            let Some(sink) = sink.upgrade() else { return false };
            if events.iter().all(|e| range.contains(&e.kv.key)) {
                sink.apply(revision, events);
            } else {
                let own: Vec<Event> = events.iter().filter(|e| range.contains(&e.kv.key)).cloned().collect();
                sink.apply(revision, &own);
            }
            true
        });
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Mvcc> {
        self.shared.mvcc.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the log has grown enough to be replaced by a snapshot. After a compaction what was written over and deleted is
    /// only in the log: it goes when it is more than twice what the keys took at the last snapshot, so that all snapshots
    /// together write no more than half of what the log has.
    fn snapshot_is_due(&mut self) -> bool {
        let least = match std::mem::take(&mut self.compacted) {
            true => LOG_WORTH_CUTTING.max(2 * self.shared.snapshot_size.load(Ordering::Acquire)),
            false => self.config.log_size,
        };
        self.log.size() > least.min(self.config.log_size)
    }

    /// Starts a snapshot in the background when one is due.
    fn maybe_snapshot(&mut self) {
        if self.snapshot.as_ref().is_some_and(|s| !s.is_finished()) || !self.snapshot_is_due() {
            return;
        }
        let revision = self.shared.visible.load(Ordering::Acquire);
        let first_segment = match self.log.cut(&*self.disk, revision) {
            Ok(sequence) => sequence,
            Err(error) => {
                tracing::error!(%error, "cannot begin a new log segment for a snapshot");
                return;
            }
        };
        self.shared.hold.store(revision, Ordering::Release);
        let (shared, disk, leases) = (self.shared.clone(), self.disk.clone(), self.leases.all());
        let write = move || {
            let done = write_snapshot(&shared, &*disk, revision, first_segment, &leases);
            shared.hold.store(u64::MAX, Ordering::Release);
            if let Err(error) = done {
                tracing::error!(%error, revision, "snapshot failed; the log is kept");
            }
        };
        match std::thread::Builder::new().name("etcd-snapshot".into()).spawn(write) {
            Ok(handle) => self.snapshot = Some(handle),
            Err(error) => {
                self.shared.hold.store(u64::MAX, Ordering::Release);
                tracing::error!(%error, "cannot start the snapshot thread");
            }
        }
    }
}

fn write_snapshot(
    shared: &Shared,
    disk: &dyn Disk,
    revision: u64,
    first_segment: u64,
    leases: &[(i64, i64)],
) -> std::io::Result<()> {
    let mut writer = snapshot::Writer::begin(disk, revision, first_segment, leases)?;
    let mut after = None;
    loop {
        let step = read(&shared.mvcc).walk(after.as_ref(), SNAPSHOT_STEP, revision);
        let Some(last) = step.last() else { break };
        after = Some(last.key.clone());
        writer.add(step)?;
    }
    let size = writer.finish(disk)?;
    shared.snapshot_size.store(size, Ordering::Release);
    Log::remove_before(disk, first_segment)
}
