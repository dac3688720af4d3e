//! ConfigMaps and Secrets that pods of this node use: each followed by one watch of its own for as long as a pod needs it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use client::{Cache, Client, Informer};
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::de::DeserializeOwned;

/// Why an object's state is not known.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    #[error("failed to sync {0} cache: timed out waiting for the condition")]
    NotSynced(&'static str),
    #[error("{kind} {name:?}: {source}")]
    Decode {
        kind: &'static str,
        name: String,
        source: serde_json::Error,
    },
}

/// One followed object.
#[derive(Debug)]
pub struct Held {
    cache: Cache,
    /// Where the watches that are open are known, and this one's name there.
    open: Open,
    id: String,
}

/// By kind, namespace and name.
type Open = Arc<Mutex<HashMap<String, Weak<Held>>>>;

impl Drop for Held {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // another may have been opened since the last user let go
        if open.get(&self.id).is_some_and(|held| held.strong_count() == 0) {
            open.remove(&self.id);
        }
    }
}

/// A reference (not even a permission) may reach the API server's authorizer a moment after the pod does.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

impl Held {
    /// `None` when there is no such object.
    pub async fn get<K: Resource + DeserializeOwned>(&self) -> Result<Option<K>, ObjectsError> {
        let kind = if K::KIND == "Secret" { "secret" } else { "configmap" };
        if tokio::time::timeout(SYNC_TIMEOUT, self.cache.synced()).await.is_err() {
            return Err(ObjectsError::NotSynced(kind));
        }
        let key = self.id.split_once('/').map_or("", |(_, key)| key);
        self.cache.decode(key).map_err(|source| ObjectsError::Decode {
            kind,
            name: key.to_owned(),
            source,
        })
    }

    /// Changes from now on, after one for the present state.
    pub fn subscribe(&self) -> tokio::sync::mpsc::UnboundedReceiver<client::Change> {
        self.cache.subscribe()
    }
}

/// The watches that are open. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects {
    client: Client,
    open: Open,
}

impl Objects {
    /// Watches no object yet.
    pub fn new(client: Client) -> Objects {
        Objects {
            client,
            open: Arc::default(),
        }
    }

    /// A ConfigMap, followed for as long as this is held.
    pub fn config_map(&self, namespace: &str, name: &str) -> Arc<Held> {
        self.hold::<ConfigMap>(namespace, name)
    }

    /// A Secret, followed for as long as this is held.
    pub fn secret(&self, namespace: &str, name: &str) -> Arc<Held> {
        self.hold::<Secret>(namespace, name)
    }

    fn hold<K: Resource>(&self, namespace: &str, name: &str) -> Arc<Held> {
        let id = format!("{}/{namespace}/{name}", K::KIND);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = open.get(&id).and_then(Weak::upgrade) {
            return held;
        }
        let request = Client::collection::<K>(namespace).fields(format!("metadata.name={name}"));
        let cache = Informer::start(&self.client, request, vec![]);
        let held = Arc::new(Held {
            cache,
            open: self.open.clone(),
            id: id.clone(),
        });
        open.insert(id, Arc::downgrade(&held));
        held
    }
}

#[cfg(test)]
mod tests {
    use client::{Body, ListWatch, Transport, WatchEvent};
    use futures::future::BoxFuture;
    use futures::stream::BoxStream;
    use futures::{FutureExt, StreamExt, future, stream};

    use super::*;

    /// A server that never answers.
    struct Silent;

    impl Transport for Silent {
        fn call(
            &self,
            _: http::Request<bytes::Bytes>,
        ) -> BoxFuture<'static, Result<http::Response<Body>, client::Error>> {
            future::pending().boxed()
        }

        fn list_watch(&self, _: ListWatch) -> BoxStream<'static, WatchEvent> {
            stream::pending().boxed()
        }
    }

    #[tokio::test]
    async fn a_watch_is_shared_and_its_place_goes_with_the_last_user() {
        let objects = Objects::new(Client::new(Arc::new(Silent), "test"));
        let known = || objects.open.lock().unwrap().len();
        let (first, second) = (objects.config_map("a", "b"), objects.config_map("a", "b"));
        assert!(Arc::ptr_eq(&first, &second));
        let secret = objects.secret("a", "b");
        assert_eq!(known(), 2);
        drop((first, secret));
        assert_eq!(known(), 1);
        drop(second);
        assert_eq!(known(), 0);
    }
}
