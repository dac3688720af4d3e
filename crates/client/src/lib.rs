//! What every component talks to the API through: requests in process or over HTTPS, caches that follow a
//! resource, work queues, leader election and events.
#![deny(missing_docs)]

mod client;
mod error;
mod events;
#[doc(hidden)]
pub mod fuzzing;
mod https;
mod informer;
mod kubeconfig;
mod leader;
mod queue_metrics;
mod resolve;
mod rotating;
mod series;
mod transport;
mod upgrade;
mod watch;
mod workqueue;

pub use client::{ApiList, Client, DeleteParams, ListParams, Patch, Preconditions, encode, error_of};
pub use error::{Error, Result};
pub use events::EventRecorder;
pub use https::{HttpsTransport, TlsConfig};
pub use informer::{Cache, Change, Indexer, Informer};
pub use kubeconfig::{Cluster, Config, Context, Kubeconfig, Token, User};
pub use leader::{LeaderElector, LeaderError};
pub use queue_metrics::QueueMetrics;
pub use resolve::{ResolveError, resolve};
pub use rotating::RotatingTransport;
pub use series::{SeriesRecorder, Told};
pub use transport::{Body, ListWatch, Transport, WatchEvent, body_of};
pub use upgrade::Upgraded;
pub use watch::list_watch_over;
pub use workqueue::{Backoff, WorkQueue, run_workers};
