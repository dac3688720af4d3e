//! What every controller is handed: the client, the shared caches, the settings and the end.

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Change, Client, EventRecorder, WorkQueue, run_workers};
use tokio_util::sync::CancellationToken;

use crate::informers::Informers;
use crate::metrics::ControllerMetrics;
use crate::{ControllerConfig, Error};

/// After a lost race the cache usually catches up within this time.
const RACE_DELAY: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub(crate) struct Context {
    pub client: Client,
    pub informers: Informers,
    pub config: Arc<ControllerConfig>,
    pub counted: Arc<ControllerMetrics>,
    pub shutdown: CancellationToken,
}

impl Context {
    /// A queue that is counted under a name.
    pub(crate) fn queue<K: Eq + Hash + Clone + Send + 'static>(&self, name: &str) -> WorkQueue<K> {
        WorkQueue::named(name, &self.counted.queues)
    }

    pub(crate) fn recorder(&self, component: &str) -> EventRecorder {
        EventRecorder::new(self.client.clone(), component, "")
    }

    /// Calls `f` with every change of a cache, first with what is there, until shutdown.
    pub(crate) fn each_change(&self, cache: &Cache, mut f: impl FnMut(Change) + Send + 'static) {
        let mut changes = cache.subscribe();
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    change = changes.recv() => match change {
                        Some(change) => f(change),
                        None => return,
                    },
                }
            }
        });
    }

    /// Waits for the first list of each cache; `false` if the shutdown comes first.
    pub(crate) async fn synced(&self, caches: &[&Cache]) -> bool {
        let all = async {
            for cache in caches {
                cache.synced().await;
            }
        };
        tokio::select! {
            () = all => true,
            () = self.shutdown.cancelled() => false,
        }
    }

    /// Works on a queue until shutdown. Lost races are tried again and are no failures.
    pub(crate) async fn work<K, F, Fut>(&self, queue: WorkQueue<K>, workers: usize, reconcile: F)
    where
        K: Eq + Hash + Clone + Debug + Send + 'static,
        F: Fn(K) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Option<Duration>, Error>> + Send,
    {
        let end = queue.clone();
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            shutdown.cancelled().await;
            end.shut_down();
        });
        run_workers(queue, workers, move |key| {
            let outcome = reconcile(key);
            async move {
                match outcome.await {
                    Err(error) if error.is_race() => Ok(Some(RACE_DELAY)),
                    other => other,
                }
            }
        })
        .await;
    }
}

/// `namespace` and `name` of a queue's key.
pub(crate) fn split_key(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}
