//! A collection of the API that is followed while somebody on the node needs it, by one watch for all of them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use client::{Cache, Change, Client, Indexer, Informer, ListWatch};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// The collection, and its watch if there is one.
pub struct SharedWatch {
    client: Client,
    request: ListWatch,
    indexers: fn() -> Vec<Indexer>,
    open: Mutex<Weak<Cache>>,
}

impl std::fmt::Debug for SharedWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedWatch")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl SharedWatch {
    /// A watch that begins when it is first held.
    pub fn new(client: Client, request: ListWatch, indexers: fn() -> Vec<Indexer>) -> SharedWatch {
        SharedWatch {
            client,
            request,
            indexers,
            open: Mutex::default(),
        }
    }

    /// A handle of the objects; the watch ends with the last one.
    pub fn hold(&self) -> Arc<Cache> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = open.upgrade() {
            return cache;
        }
        let cache = Informer::start(&self.client, self.request.clone(), (self.indexers)());
        let cache = Arc::new(cache);
        *open = Arc::downgrade(&cache);
        cache
    }
}

/// A handle of a shared watch that wakes its holder when something changes that concerns it.
#[derive(Debug)]
pub struct Waking {
    pub cache: Arc<Cache>,
    _task: AbortOnDropHandle<()>,
}

impl Waking {
    /// Wakes by `wake` when an object of the cache changes that somebody waits for.
    pub fn new(
        cache: Arc<Cache>,
        wake: mpsc::UnboundedSender<()>,
        concerns: impl Fn(&Change) -> bool + Send + 'static,
    ) -> Waking {
        let mut changes = cache.subscribe();
        let task = tokio::spawn(async move {
            while let Some(change) = changes.recv().await {
                if concerns(&change) && wake.send(()).is_err() {
                    return;
                }
            }
        });
        Waking {
            cache,
            _task: AbortOnDropHandle::new(task),
        }
    }
}
