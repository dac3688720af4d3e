//! The datastore: a multi-version key-value store with etcd's semantics (revisions, transactions, leases,
//! compaction, watches), kept in memory and made durable by a write-ahead log with group commit.
//!
//! [`Store`] is what the API server sees; [`Embedded`] is the store inside this process. The core,
//! [`mvcc::Mvcc`], does no I/O: the [`committer`](embedded) thread around it appends, syncs and answers.
#![deny(missing_docs)]

pub mod disk;
pub mod embedded;
#[doc(hidden)]
pub mod fuzzing;
mod lease;
mod log;
pub mod mvcc;
mod record;
mod snapshot;
pub mod store;

pub use embedded::{Embedded, EmbeddedConfig, truncate};
pub use log::{TruncateError, Truncated};
pub use store::{
    Compare, CompareTarget, Event, EventKind, KeyRange, KeyValue, Op, OpResponse, Put, RangeResult, Sink, Store,
    StoreError, Txn, TxnResult, Value,
};
