//! The store inside this process. One thread owns the log: it takes what has queued up, evaluates it against the core,
//! appends one record, syncs once, makes the result visible, tells the sinks, and answers everyone.

mod committer;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::disk::Disk;
use crate::lease::Leases;
use crate::log::{self, Covered, Log, LogError, TruncateError, Truncated};
use crate::mvcc::Mvcc;
use crate::record::Entry;
use crate::snapshot::{self, Snapshot, SnapshotError};
use crate::store::{EventKind, KeyRange, KeyValue, RangeResult, Sink, Store, StoreError, StoreFuture, Txn, TxnResult};
use committer::Committer;

/// How an embedded store behaves.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// A snapshot is taken when the log has grown to this many bytes; after a compaction, when most of the log is likely
    /// not needed any more, much earlier.
    pub log_size: u64,
    /// A segment of the log is closed when it has grown past this many bytes.
    pub segment_size: u64,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        EmbeddedConfig {
            log_size: 64 << 20,
            segment_size: 16 << 20,
        }
    }
}

fn covered_by(snapshot: Option<&Snapshot>) -> Covered {
    snapshot.map_or(Covered::default(), |s| Covered {
        first: s.first_segment,
        revision: s.revision,
        snapshot: true,
    })
}

/// Cuts the log of a store that cannot be opened at the last whole record before the damage, and keeps what is cut off beside it.
/// `Ok(None)`: the log is not damaged, nothing was changed.
///
/// # Errors
/// When nothing would be left, when the snapshot is damaged, or when the disk refuses.
pub fn truncate(disk: &dyn Disk, config: &EmbeddedConfig) -> Result<Option<Truncated>, TruncateError> {
    let covered = covered_by(snapshot::read(disk)?.as_ref());
    log::truncate(disk, covered, config.segment_size)
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The system gave no thread.
    #[error("cannot start the store's thread: {0}")]
    Thread(std::io::Error),
}

impl OpenError {
    /// Whether files are not as they were written.
    pub fn is_damage(&self) -> bool {
        match self {
            OpenError::Log(LogError::Io(_)) | OpenError::Snapshot(SnapshotError::Io(_)) | OpenError::Thread(_) => false,
            OpenError::Log(_) | OpenError::Snapshot(_) => true,
        }
    }
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
    /// The last snapshot's bytes, 0 for none: what the keys take on disk when nothing else is kept.
    snapshot_size: AtomicU64,
    /// Bytes of the log.
    log_size: AtomicU64,
    /// Whether the log could not grow when it was last asked to.
    full: AtomicBool,
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
        let mut snapshot_size = 0;
        let snapshot = snapshot::read(&*disk)?;
        let covered = covered_by(snapshot.as_ref());
        if let Some(snapshot) = snapshot {
            snapshot_size = snapshot.size;
            mvcc.restore(snapshot.revision, snapshot.kvs);
            snapshot
                .leases
                .iter()
                .for_each(|(id, ttl)| leases.grant(*id, *ttl, Duration::ZERO));
        }
        let log = Log::open(&*disk, covered, config.segment_size, |entry| match entry {
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
            // past the revision only after a truncation: no revision is used again, and what clients know is history
            Entry::Begin { revision } => mvcc.skip_to(revision),
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
            snapshot_size: AtomicU64::new(snapshot_size),
            log_size: AtomicU64::new(log.size()),
            full: AtomicBool::new(false),
        });
        let (requests, queue) = channel();
        let committer = Committer {
            shared: shared.clone(),
            config,
            disk,
            log,
            leases,
            sinks: Vec::new(),
            started: Instant::now(),
            snapshot: None,
            compacted: false,
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

    /// Whether the last write was refused because the disk is full (etcd's alarm NOSPACE).
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Acquire)
    }

    /// Up to this revision history is forgotten.
    pub fn compacted(&self) -> u64 {
        read(&self.shared.mvcc).compacted()
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

    fn size(&self) -> u64 {
        self.shared.snapshot_size.load(Ordering::Acquire) + self.shared.log_size.load(Ordering::Acquire)
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
