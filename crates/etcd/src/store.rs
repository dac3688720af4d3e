//! The `Store` trait and its messages: etcd's KV, lease and watch model in the terms of its v3 API.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use bytes::Bytes;

/// A future returned by a `Store` behind a trait object.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why the store refused. Nothing was changed, unless said otherwise.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The revision asked for is older than the history kept (etcd's `ErrCompacted`).
    #[error("mvcc: required revision has been compacted (compacted at {compacted})")]
    Compacted {
        /// Up to this revision history is forgotten.
        compacted: u64,
    },
    /// The revision asked for does not exist yet (etcd's `ErrFutureRev`).
    #[error("mvcc: required revision {asked} is a future revision (current {current})")]
    FutureRevision {
        /// The revision that was asked for.
        asked: u64,
        /// The newest revision.
        current: u64,
    },
    /// The log could not grow. Reads go on; writes are refused until there is room.
    #[error("no space left for the write-ahead log: {0}")]
    NoSpace(String),
    /// No lease has this id.
    #[error("requested lease not found: {0}")]
    LeaseNotFound(i64),
    /// A lease has this id already.
    #[error("lease already exists: {0}")]
    LeaseExists(i64),
    /// The store is stopped or has failed; whether the write was made is not known.
    #[error("datastore is not available: {0}")]
    Unavailable(String),
}

/// The bytes of a put.
#[derive(Clone)]
pub enum Value {
    /// Bytes as they are.
    Plain(Bytes),
    /// The transaction's revision is written in decimal at `at` when it is assigned: this is how an object's
    /// JSON carries its own `resourceVersion` without being encoded twice.
    Stamped {
        /// Everything but the revision.
        bytes: Bytes,
        /// Where the revision comes, in bytes from the start.
        at: usize,
    },
}

impl Value {
    /// The final bytes for `revision`.
    pub fn stamp(&self, revision: u64) -> Bytes {
        match self {
            Value::Plain(bytes) => bytes.clone(),
            Value::Stamped { bytes, at } => {
                let mut digits = [0u8; 20];
                let mut first = digits.len();
                let mut rest = revision;
                loop {
                    first -= 1;
                    digits[first] = b'0' + (rest % 10) as u8;
                    rest /= 10;
                    if rest == 0 {
                        break;
                    }
                }
                let digits = &digits[first..];
                let mut out = Vec::with_capacity(bytes.len() + digits.len());
                out.extend_from_slice(&bytes[..*at]);
                out.extend_from_slice(digits);
                out.extend_from_slice(&bytes[*at..]);
                Bytes::from(out)
            }
        }
    }
}

/// What a writer hands to the sinks along with its put, so that they need not parse the value.
pub type Hint = Arc<dyn Any + Send + Sync>;

/// One put of a transaction.
#[derive(Clone)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// The new value.
    pub value: Value,
    /// 0 for none.
    pub lease: i64,
    /// What the sinks are told beside it.
    pub hint: Option<Hint>,
}

/// Keys from `start` (inclusive) to `end` (exclusive).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// One key.
    One(Bytes),
    /// Keys at or after `start` and before `end`.
    Span {
        /// The first key.
        start: Bytes,
        /// The key behind the last.
        end: Bytes,
    },
    /// All keys at or after `start`.
    From(Bytes),
}

impl KeyRange {
    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return KeyRange::Span {
                    start: Bytes::copy_from_slice(prefix),
                    end: Bytes::from(end),
                };
            }
        }
        KeyRange::From(Bytes::copy_from_slice(prefix))
    }

    /// Returns whether a key is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(k) => k == key,
            KeyRange::Span { start, end } => &start[..] <= key && key < &end[..],
            KeyRange::From(start) => &start[..] <= key,
        }
    }
}

/// What a comparison looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    /// 0 when the key does not exist.
    ModRevision(u64),
    /// The revision at which the key was created; 0 when it does not exist.
    CreateRevision(u64),
    /// Writes since the key was created; 0 when it does not exist.
    Version(u64),
}

/// `key`'s target must equal the value given.
#[derive(Debug, Clone)]
pub struct Compare {
    /// The key that is looked at.
    pub key: Bytes,
    /// What has to be true of it.
    pub target: CompareTarget,
}

/// One operation of a transaction.
#[derive(Clone)]
pub enum Op {
    /// Writes a key.
    Put(Put),
    /// Deletes keys.
    Delete(KeyRange),
    /// Reads keys.
    Range {
        /// The keys.
        range: KeyRange,
        /// How many at most; 0 for all.
        limit: usize,
    },
}

/// If every comparison holds, `success` is done, else `failure`; all at one revision.
#[derive(Clone, Default)]
pub struct Txn {
    /// What has to be true, all of it.
    pub compare: Vec<Compare>,
    /// What is done then.
    pub success: Vec<Op>,
    /// What is done otherwise.
    pub failure: Vec<Op>,
}

/// A key with one of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The revision at which the key was created.
    pub create_revision: u64,
    /// The revision of this value.
    pub mod_revision: u64,
    /// Writes since creation; 1 for a new key.
    pub version: u64,
    /// The lease that the key ends with; 0 for none.
    pub lease: i64,
}

/// What an operation of a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResponse {
    /// A key was written.
    Put {
        /// What the key was before; `None` for a new key.
        previous: Option<KeyValue>,
        /// The bytes that are stored, with the revision in its place.
        value: Bytes,
    },
    /// Keys were deleted.
    Delete {
        /// What they were before.
        deleted: Vec<KeyValue>,
    },
    /// Keys were read.
    Range(RangeResult),
}

/// Keys that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeResult {
    /// The revision the answer is of.
    pub revision: u64,
    /// The keys with their values, sorted by key.
    pub kvs: Vec<KeyValue>,
    /// Whether `limit` cut the answer.
    pub more: bool,
    /// Keys in the range, regardless of `limit`.
    pub count: usize,
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnResult {
    /// Whether every comparison held.
    pub succeeded: bool,
    /// The store's revision after the transaction.
    pub revision: u64,
    /// What each operation did, in order.
    pub responses: Vec<OpResponse>,
}

/// What a change did to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The key was written.
    Put,
    /// The key was deleted.
    Delete,
}

/// One change of one key.
#[derive(Clone)]
pub struct Event {
    /// What was done.
    pub kind: EventKind,
    /// For a delete: the key, the delete's revision, an empty value.
    pub kv: KeyValue,
    /// What the key was before; `None` for a new key.
    pub previous: Option<KeyValue>,
    /// What the writer handed over beside the value.
    pub hint: Option<Hint>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}@{}", self.kind, self.kv.key, self.kv.mod_revision)
    }
}

/// Receives what was committed, in order, before the writers are answered. Must be quick and must not call the store.
pub trait Sink: Send + Sync {
    /// `revision` is the store's revision after these events; none is skipped.
    fn apply(&self, revision: u64, events: &[Event]);
}

/// A store with etcd's semantics. An answer to a write means it is durable.
pub trait Store: Send + Sync + 'static {
    /// Evaluates a transaction and makes what it writes durable.
    ///
    /// # Errors
    /// `NoSpace` and `LeaseNotFound` when nothing was written; `Unavailable` when that is not known.
    fn txn(&self, txn: Txn) -> StoreFuture<'_, TxnResult>;

    /// Reads a range as of `revision`, or of now.
    ///
    /// # Errors
    /// `Compacted` or `FutureRevision` when that revision cannot be read.
    fn range(&self, range: KeyRange, limit: usize, revision: Option<u64>) -> StoreFuture<'_, RangeResult>;

    /// The newest visible revision.
    fn revision(&self) -> u64;

    /// Bytes that it takes on disk.
    fn size(&self) -> u64;

    /// Forgets versions that are not needed to read at `revision` or later.
    fn compact(&self, revision: u64) -> StoreFuture<'_, ()>;

    /// Makes a lease that ends `ttl_seconds` after now unless kept alive. `id` 0 lets the store choose.
    fn lease_grant(&self, id: i64, ttl_seconds: i64) -> StoreFuture<'_, i64>;

    /// Ends a lease and deletes its keys.
    fn lease_revoke(&self, id: i64) -> StoreFuture<'_, ()>;

    /// Restarts a lease's time; returns its length in seconds.
    fn lease_keep_alive(&self, id: i64) -> StoreFuture<'_, i64>;

    /// Gives `sink`, as long as it lives, every later change and returns the present content of the range with the revision it is of.
    /// No change is lost or given twice between the two.
    fn subscribe(&self, range: KeyRange, sink: Weak<dyn Sink>) -> StoreFuture<'_, RangeResult>;
}
