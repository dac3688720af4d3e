//! The store inside this process. One thread owns the log: it takes what has queued up, evaluates it against the core,
//! appends one record, syncs once, makes the result visible, tells the sinks, and answers everyone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::disk::Disk;
use crate::lease::Leases;
use crate::log::{Log, LogError};
use crate::mvcc::Mvcc;
use crate::record::Entry;
use crate::snapshot::{self, SnapshotError};
use crate::store::{
    Event, EventKind, KeyRange, KeyValue, Op, RangeResult, Sink, Store, StoreError, StoreFuture, Txn, TxnResult,
};

/// The most requests that share one sync.
const MAX_BATCH: usize = 1024;
/// Keys copied at a time by a snapshot.
const SNAPSHOT_STEP: usize = 2048;

/// How an embedded store behaves.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// A snapshot is taken when the log has grown by this many segments (16 MiB each).
    pub snapshot_segments: u64,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        EmbeddedConfig { snapshot_segments: 4 }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("cannot start the store's thread: {0}")]
    Thread(std::io::Error),
}

enum Request {
    Txn(Txn, oneshot::Sender<Result<TxnResult, StoreError>>),
    Compact(u64, oneshot::Sender<Result<(), StoreError>>),
    LeaseGrant(i64, i64, oneshot::Sender<Result<i64, StoreError>>),
    LeaseRevoke(i64, oneshot::Sender<Result<(), StoreError>>),
    LeaseKeepAlive(i64, oneshot::Sender<Result<i64, StoreError>>),
    Subscribe(
        KeyRange,
        Weak<dyn Sink>,
        oneshot::Sender<Result<RangeResult, StoreError>>,
    ),
    Stop,
}

struct Shared {
    mvcc: RwLock<Mvcc>,
    /// The newest synced revision: what readers see.
    visible: AtomicU64,
    /// A snapshot in progress reads at this revision: compaction waits behind it. `u64::MAX` for none.
    hold: AtomicU64,
}

/// The embedded store. Dropping it stops its thread after what has queued up is done.
pub struct Embedded {
    shared: Arc<Shared>,
    requests: Sender<Request>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// Opens the store kept on `disk`, replaying its snapshot and log.
    ///
    /// # Errors
    /// When either is damaged in a place that holds acknowledged writes.
    pub fn open(disk: Arc<dyn Disk>, config: EmbeddedConfig) -> Result<Embedded, OpenError> {
        let mut mvcc = Mvcc::new();
        let mut leases = Leases::default();
        let mut first = 0;
        if let Some(snapshot) = snapshot::read(&*disk)? {
            first = snapshot.first_segment;
            mvcc.restore(snapshot.revision, snapshot.kvs);
            snapshot
                .leases
                .iter()
                .for_each(|(id, ttl)| leases.grant(*id, *ttl, Duration::ZERO));
        }
        let log = Log::open(&*disk, first, |entry| match entry {
            // the snapshot's revision may lie past the beginning of its first segment
            Entry::Put(kv) if kv.mod_revision <= mvcc.compacted() => {}
            Entry::Delete { revision, .. } if revision <= mvcc.compacted() => {}
            Entry::Put(kv) => mvcc.replay(kv, EventKind::Put),
            Entry::Delete { key, revision } => {
                let value = bytes::Bytes::new();
                let kv = KeyValue {
                    key,
                    value,
                    create_revision: 0,
                    mod_revision: revision,
                    version: 0,
                    lease: 0,
                };
                mvcc.replay(kv, EventKind::Delete);
            }
            Entry::LeaseGrant { id, ttl } => leases.grant(id, ttl, Duration::ZERO),
            Entry::LeaseRevoke { id } => {
                leases.revoke(id);
            }
            Entry::Compact { revision } => {
                // a compaction covered by the snapshot was done by taking it
                if revision > mvcc.compacted()
                    && let Err(error) = mvcc.compact(revision)
                {
                    tracing::warn!(%error, revision, "compaction in the log does not apply");
                }
            }
        })?;
        let shared = Arc::new(Shared {
            visible: AtomicU64::new(mvcc.revision()),
            mvcc: RwLock::new(mvcc),
            hold: AtomicU64::new(u64::MAX),
        });
        let (requests, queue) = channel();
        let committer = Committer {
            shared: shared.clone(),
            snapshot_at: log.sequence() + config.snapshot_segments,
            config,
            disk,
            log,
            leases,
            sinks: Vec::new(),
            started: Instant::now(),
            snapshot: None,
        };
        let thread = std::thread::Builder::new()
            .name("etcd-commit".into())
            .spawn(move || committer.run(&queue))
            .map_err(OpenError::Thread)?;
        Ok(Embedded {
            shared,
            requests,
            thread: Mutex::new(Some(thread)),
        })
    }

    fn ask<T: Send + 'static>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> StoreFuture<'_, T> {
        let (answer, wait) = oneshot::channel();
        let sent = self.requests.send(make(answer));
        Box::pin(async move {
            let gone = || StoreError::Unavailable("the store has stopped".into());
            sent.map_err(|_| gone())?;
            wait.await.map_err(|_| gone())?
        })
    }

    /// Keys that exist now.
    pub fn key_count(&self) -> usize {
        read(&self.shared.mvcc).len()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        let stopped = self.requests.send(Request::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Ok(()), Some(thread)) = (stopped, thread)
            && thread.join().is_err()
        {
            tracing::error!("the store's thread ended by a panic");
        }
    }
}

impl Store for Embedded {
    fn txn(&self, txn: Txn) -> StoreFuture<'_, TxnResult> {
        self.ask(|answer| Request::Txn(txn, answer))
    }

    fn range(&self, range: KeyRange, limit: usize, revision: Option<u64>) -> StoreFuture<'_, RangeResult> {
        let visible = self.revision();
        let asked = revision.unwrap_or(visible);
        let result = if asked > visible {
            Err(StoreError::FutureRevision {
                asked,
                current: visible,
            })
        } else {
            read(&self.shared.mvcc).range(&range, limit, asked)
        };
        Box::pin(std::future::ready(result))
    }

    fn revision(&self) -> u64 {
        self.shared.visible.load(Ordering::Acquire)
    }

    fn compact(&self, revision: u64) -> StoreFuture<'_, ()> {
        self.ask(|answer| Request::Compact(revision, answer))
    }

    fn lease_grant(&self, id: i64, ttl_seconds: i64) -> StoreFuture<'_, i64> {
        self.ask(|answer| Request::LeaseGrant(id, ttl_seconds, answer))
    }

    fn lease_revoke(&self, id: i64) -> StoreFuture<'_, ()> {
        self.ask(|answer| Request::LeaseRevoke(id, answer))
    }

    fn lease_keep_alive(&self, id: i64) -> StoreFuture<'_, i64> {
        self.ask(|answer| Request::LeaseKeepAlive(id, answer))
    }

    fn subscribe(&self, range: KeyRange, sink: Weak<dyn Sink>) -> StoreFuture<'_, RangeResult> {
        self.ask(|answer| Request::Subscribe(range, sink, answer))
    }
}

fn read(mvcc: &RwLock<Mvcc>) -> std::sync::RwLockReadGuard<'_, Mvcc> {
    mvcc.read().unwrap_or_else(PoisonError::into_inner)
}

/// An answer that waits for the batch's sync.
type Pending = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

struct Committer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    config: EmbeddedConfig,
    log: Log,
    leases: Leases,
    sinks: Vec<(KeyRange, Weak<dyn Sink>)>,
    started: Instant,
    snapshot_at: u64,
    snapshot: Option<JoinHandle<()>>,
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
    fn run(mut self, queue: &Receiver<Request>) {
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
            if let Err(error) = self.log.append(&*self.disk, &batch.entries) {
                tracing::error!(%error, "the write-ahead log cannot grow; writes are refused");
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
            if let Err(error) = self.log.sync() {
                // what the kernel dropped after a failed sync cannot be known: going on could acknowledge lost writes
                tracing::error!(%error, "syncing the write-ahead log failed; the store stops");
                let failed = StoreError::Unavailable(format!("sync failed: {error}"));
                batch.answers.into_iter().for_each(|answer| answer(Err(failed.clone())));
                return false;
            }
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

    /// Starts a snapshot in the background when the log has grown enough.
    fn maybe_snapshot(&mut self) {
        if self.log.sequence() < self.snapshot_at || self.snapshot.as_ref().is_some_and(|s| !s.is_finished()) {
            return;
        }
        let first_segment = match self.log.rotate(&*self.disk) {
            Ok(sequence) => sequence,
            Err(error) => {
                tracing::error!(%error, "cannot begin a new log segment for a snapshot");
                return;
            }
        };
        self.snapshot_at = first_segment + self.config.snapshot_segments;
        let revision = self.shared.visible.load(Ordering::Acquire);
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
    writer.finish(disk)?;
    Log::remove_before(disk, first_segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use crate::store::{Put, Value};
    use bytes::Bytes;

    fn put(key: String, value: impl Into<Bytes>, lease: i64) -> Txn {
        let put = Put {
            key: key.into(),
            value: Value::Plain(value.into()),
            lease,
            hint: None,
        };
        Txn {
            success: vec![Op::Put(put)],
            ..Txn::default()
        }
    }

    fn open(disk: &MemoryDisk) -> Embedded {
        Embedded::open(Arc::new(disk.clone()), EmbeddedConfig { snapshot_segments: 1 }).unwrap()
    }

    async fn keys(store: &Embedded) -> Vec<String> {
        let all = store.range(KeyRange::prefix(b""), 0, None).await.unwrap();
        all.kvs
            .iter()
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect()
    }

    #[tokio::test]
    async fn every_acknowledged_write_survives_power_loss_wherever_the_record_tears() {
        for torn in [0, 1, 7, 8, 9, 40, 4096] {
            let disk = MemoryDisk::default();
            let store = open(&disk);
            for i in 0..5 {
                store.txn(put(format!("k{i}"), "v", 0)).await.unwrap();
            }
            let crashed = disk.after_power_loss(torn);
            drop(store);
            let again = open(&crashed);
            assert_eq!(keys(&again).await, ["k0", "k1", "k2", "k3", "k4"]);
            assert_eq!(again.revision(), 6);
            again.txn(put("k5".into(), "v", 0)).await.unwrap();
            assert_eq!(again.revision(), 7);
        }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
        let disk = MemoryDisk::default();
        let store = open(&disk);
        store.txn(put("a".into(), "v", 0)).await.unwrap();
        disk.set_room(Some(1000));
        let refused = store.txn(put("b".into(), vec![0; 2 << 20], 0)).await;
        assert!(matches!(refused, Err(StoreError::NoSpace(_))), "{refused:?}");
        assert_eq!(keys(&store).await, ["a"]);
        disk.set_room(None);
        store.txn(put("c".into(), "v", 0)).await.unwrap();
        drop(store);
        assert_eq!(keys(&open(&disk)).await, ["a", "c"]);
    }

    #[tokio::test]
    async fn a_failed_sync_stops_the_store() {
        let disk = MemoryDisk::default();
        let store = open(&disk);
        disk.fail_sync();
        assert!(matches!(
            store.txn(put("a".into(), "v", 0)).await,
            Err(StoreError::Unavailable(_))
        ));
        assert!(matches!(
            store.txn(put("b".into(), "v", 0)).await,
            Err(StoreError::Unavailable(_))
        ));
    }

    #[tokio::test]
    async fn snapshots_replace_the_log_and_lose_nothing() {
        let disk = MemoryDisk::default();
        let store = open(&disk);
        for i in 0..50 {
            store
                .txn(put(format!("k{:02}", i % 40), vec![b'x'; 1 << 20], 0))
                .await
                .unwrap();
        }
        let revision = store.revision();
        drop(store);
        let names = disk.list().unwrap();
        assert!(names.contains(&"snapshot".to_owned()), "{names:?}");
        assert!(!names.contains(&"0000000000000000.wal".to_owned()), "{names:?}");
        let again = open(&disk);
        assert_eq!(again.key_count(), 40);
        assert_eq!(again.revision(), revision);
    }

    #[tokio::test]
    async fn a_lease_that_ends_deletes_its_keys() {
        struct Deleted(std::sync::mpsc::Sender<Bytes>);
        impl Sink for Deleted {
            fn apply(&self, _: u64, events: &[Event]) {
                for event in events.iter().filter(|e| e.kind == EventKind::Delete) {
                    self.0.send(event.kv.key.clone()).unwrap();
                }
            }
        }
        let store = open(&MemoryDisk::default());
        let (sender, deleted) = channel();
        let sink = Arc::new(Deleted(sender));
        let told: Weak<Deleted> = Arc::downgrade(&sink);
        store.subscribe(KeyRange::prefix(b""), told.clone()).await.unwrap();
        assert!(matches!(
            store.txn(put("a".into(), "v", 9)).await,
            Err(StoreError::LeaseNotFound(9))
        ));
        let lease = store.lease_grant(0, 1).await.unwrap();
        store.txn(put("a".into(), "v", lease)).await.unwrap();
        assert_eq!(deleted.recv_timeout(Duration::from_secs(10)).unwrap(), "a");
        assert!(keys(&store).await.is_empty());
        drop(sink);
        store.txn(put("a".into(), "v", 0)).await.unwrap();
        assert_eq!(told.strong_count(), 0, "a sink ends when its owner drops it");
    }

    #[tokio::test]
    async fn sinks_see_every_change_after_the_content_they_were_given() {
        struct Count(AtomicU64);
        impl Sink for Count {
            fn apply(&self, _: u64, events: &[Event]) {
                self.0.fetch_add(events.len() as u64, Ordering::SeqCst);
            }
        }
        let store = Arc::new(open(&MemoryDisk::default()));
        let writers: Vec<_> = (0..4)
            .map(|w| {
                let store = store.clone();
                tokio::spawn(async move {
                    for i in 0..200 {
                        store.txn(put(format!("w{w}/{i}"), "v", 0)).await.unwrap();
                    }
                })
            })
            .collect();
        let sink = Arc::new(Count(AtomicU64::new(0)));
        let told: Weak<Count> = Arc::downgrade(&sink);
        let content = store.subscribe(KeyRange::prefix(b"w"), told).await.unwrap();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(content.kvs.len() as u64 + sink.0.load(Ordering::SeqCst), 800);
    }
}
