//! A local view of a collection, kept current by a watch, with indexes and subscriptions. Holds the
//! objects' shared bytes only; whoever needs a typed object decodes it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use api::object::Object;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::{Client, ListWatch, WatchEvent};

type KeysOf = Arc<dyn Fn(&Object) -> Vec<String> + Send + Sync>;

/// A named function from an object to the values it is found by.
#[derive(Clone)]
pub struct Indexer {
    name: &'static str,
    keys: KeysOf,
}

impl Indexer {
    /// An index of a name.
    pub fn new(name: &'static str, keys: impl Fn(&Object) -> Vec<String> + Send + Sync + 'static) -> Indexer {
        Indexer {
            name,
            keys: Arc::new(keys),
        }
    }
}

/// One object's change. At least one side is there.
#[derive(Debug, Clone)]
pub struct Change {
    /// What the object was; `None` for a new one.
    pub old: Option<Arc<Object>>,
    /// What it is; `None` for one that is gone.
    pub new: Option<Arc<Object>>,
}

impl Change {
    /// The newest state known.
    pub fn object(&self) -> Option<&Arc<Object>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

#[derive(Default)]
struct State {
    objects: HashMap<String, Arc<Object>>,
    /// Index name → value → keys.
    indexes: HashMap<&'static str, HashMap<String, BTreeSet<String>>>,
}

struct Shared {
    state: RwLock<State>,
    indexers: Vec<Indexer>,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Change>>>,
    synced: watch::Sender<bool>,
}

/// Starts caches.
pub struct Informer;

impl Informer {
    /// Follows a collection until the last handle of the cache is dropped.
    pub fn start(client: &Client, request: ListWatch, indexers: Vec<Indexer>) -> Cache {
        Informer::over(client.list_watch(request), indexers)
    }

    /// The same over any stream of events.
    pub fn over(events: BoxStream<'static, WatchEvent>, indexers: Vec<Indexer>) -> Cache {
        let shared = Arc::new(Shared {
            state: RwLock::default(),
            indexers,
            subscribers: Mutex::default(),
            synced: watch::Sender::new(false),
        });
        let task = tokio::spawn(follow(events, shared.clone()));
        Cache {
            shared,
            _task: Arc::new(AbortOnDropHandle::new(task)),
        }
    }
}

async fn follow(mut events: BoxStream<'static, WatchEvent>, shared: Arc<Shared>) {
    while let Some(event) = events.next().await {
        match event {
            WatchEvent::Restarted(objects) => {
                shared.restart(objects);
                shared.synced.send_replace(true);
            }
            WatchEvent::Applied(object) => shared.apply(object),
            WatchEvent::Deleted(object) => shared.delete(&object),
            WatchEvent::Bookmark(_) => {}
        }
    }
}

impl State {
    fn unindex(&mut self, indexers: &[Indexer], key: &str, object: &Object) {
        for indexer in indexers {
            let Some(index) = self.indexes.get_mut(indexer.name) else {
                continue;
            };
            for value in (indexer.keys)(object) {
                if let Some(keys) = index.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        index.remove(&value);
                    }
                }
            }
        }
    }

    fn index(&mut self, indexers: &[Indexer], key: &str, object: &Object) {
        for indexer in indexers {
            let index = self.indexes.entry(indexer.name).or_default();
            for value in (indexer.keys)(object) {
                index.entry(value).or_default().insert(key.to_owned());
            }
        }
    }

    fn put(&mut self, indexers: &[Indexer], object: &Arc<Object>) -> Option<Arc<Object>> {
        let key = object.key();
        let old = self.objects.insert(key.clone(), object.clone());
        if let Some(old) = &old {
            self.unindex(indexers, &key, old);
        }
        self.index(indexers, &key, object);
        old
    }

    fn remove(&mut self, indexers: &[Indexer], key: &str) -> Option<Arc<Object>> {
        let old = self.objects.remove(key)?;
        self.unindex(indexers, key, &old);
        Some(old)
    }
}

impl Shared {
    /// Changes the state and tells the subscribers in one step, so that a subscription sees every change once.
    fn change(&self, f: impl FnOnce(&mut State) -> Vec<Change>) {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = f(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        for change in changes {
            subscribers.retain(|s| s.send(change.clone()).is_ok());
        }
    }

    fn restart(&self, objects: Vec<Arc<Object>>) {
        self.change(|state| {
            let keep: std::collections::HashSet<String> = objects.iter().map(|o| o.key()).collect();
            let gone: Vec<String> = state.objects.keys().filter(|k| !keep.contains(*k)).cloned().collect();
            let mut changes: Vec<Change> = gone
                .iter()
                .filter_map(|key| state.remove(&self.indexers, key))
                .map(|old| Change {
                    old: Some(old),
                    new: None,
                })
                .collect();
            for object in objects {
                let old = state.put(&self.indexers, &object);
                if old.as_ref().is_none_or(|o| {
                    o.meta.resource_version != object.meta.resource_version || o.meta.uid != object.meta.uid
                }) {
                    changes.push(Change { old, new: Some(object) });
                }
            }
            changes
        });
    }

    fn apply(&self, object: Arc<Object>) {
        self.change(|state| {
            vec![Change {
                old: state.put(&self.indexers, &object),
                new: Some(object),
            }]
        });
    }

    fn delete(&self, object: &Arc<Object>) {
        self.change(|state| {
            state.remove(&self.indexers, &object.key());
            // The last state in the event is newer than the one that was cached.
            vec![Change {
                old: Some(object.clone()),
                new: None,
            }]
        });
    }
}

/// A handle of a cache. Cheap to clone; the watch ends with the last one.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("objects", &self.len())
            .finish_non_exhaustive()
    }
}

impl Cache {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// By `namespace/name`, or `name` for cluster-scoped objects.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.read().objects.get(key).cloned()
    }

    /// Decodes one object. `None` if it is not there; an error if it is not a `K`.
    pub fn decode<K: DeserializeOwned>(&self, key: &str) -> Result<Option<K>, serde_json::Error> {
        self.get(key).map(|o| o.decode()).transpose()
    }

    /// In no order.
    pub fn list(&self) -> Vec<Arc<Object>> {
        self.read().objects.values().cloned().collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Returns whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects for which the indexer gave this value, ordered by key.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<Object>> {
        let state = self.read();
        let keys = state.indexes.get(name).and_then(|index| index.get(value));
        keys.into_iter()
            .flatten()
            .filter_map(|key| state.objects.get(key).cloned())
            .collect()
    }

    /// Every change from now on, after one addition for each object there is now.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut subscribers = self.shared.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        for object in self.list() {
            // The receiver is in hand: it cannot be closed.
            let _ = sender.send(Change {
                old: None,
                new: Some(object),
            });
        }
        subscribers.push(sender);
        receiver
    }

    /// Returns whether the first complete list has come.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Waits for the first complete list.
    pub async fn synced(&self) {
        // The sender lives as long as this handle does.
        let _ = self.shared.synced.subscribe().wait_for(|synced| *synced).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn pod(name: &str, version: u64, node: &str) -> Arc<Object> {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"n","resourceVersion":"{version}","labels":{{"node":"{node}"}}}}}}"#
        );
        Object::parse(Bytes::from(json)).unwrap()
    }

    #[tokio::test]
    async fn changes_reach_the_cache_its_indexes_and_its_subscribers() {
        let (events, receiver) = mpsc::unbounded_channel();
        let stream = futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|e| (e, r)) });
        let by_node = Indexer::new("node", |o| {
            o.meta.label("node").map(str::to_owned).into_iter().collect()
        });
        let cache = Informer::over(Box::pin(stream), vec![by_node]);
        let mut changes = cache.subscribe();

        events
            .send(WatchEvent::Restarted(vec![pod("a", 1, "x"), pod("b", 2, "x")]))
            .unwrap();
        cache.synced().await;
        assert_eq!(cache.by_index("node", "x").len(), 2);
        events.send(WatchEvent::Applied(pod("a", 3, "y"))).unwrap();
        events.send(WatchEvent::Restarted(vec![pod("a", 3, "y")])).unwrap();

        let mut seen = Vec::new();
        for _ in 0..4 {
            let change = changes.recv().await.unwrap();
            seen.push((
                change.object().unwrap().key(),
                change.old.is_some(),
                change.new.is_some(),
            ));
        }
        assert_eq!(seen[2], ("n/a".to_owned(), true, true));
        assert_eq!(seen[3], ("n/b".to_owned(), true, false));
        assert_eq!(cache.by_index("node", "y").len(), 1);
        assert!(cache.by_index("node", "x").is_empty());
        assert!(changes.try_recv().is_err(), "an unchanged object is no change");
    }
}
