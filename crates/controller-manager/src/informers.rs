//! One watch a kind for all controllers, started when the first of them asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::object::Object;
use client::{Cache, Client, Indexer, Informer, ListWatch};
use k8s_openapi::Resource;
use serde::Deserialize;

/// Objects by the uid of their controller; those without one by [`orphans`].
pub(crate) const BY_CONTROLLER: &str = "controller";
/// Objects by their namespace.
pub(crate) const BY_NAMESPACE: &str = "namespace";
/// Pods by `spec.nodeName`; unbound ones under the empty name.
pub(crate) const BY_NODE: &str = "node";
/// Persistent volumes by who can have them.
pub(crate) const BY_TAKER: &str = "taker";

/// The value of [`BY_CONTROLLER`] for a namespace's objects without a controller.
pub(crate) fn orphans(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

#[derive(Clone)]
pub(crate) struct Informers {
    client: Client,
    caches: Arc<Mutex<HashMap<String, Cache>>>,
}

#[derive(Deserialize)]
struct Bound {
    #[serde(default)]
    spec: BoundSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BoundSpec {
    node_name: String,
}

/// `spec.nodeName` of a pod.
pub(crate) fn node_of(pod: &Object) -> String {
    pod.decode::<Bound>().map(|p| p.spec.node_name).unwrap_or_default()
}

impl Informers {
    pub(crate) fn new(client: Client) -> Informers {
        Informers {
            client,
            caches: Arc::default(),
        }
    }

    /// The cache of a kind in all namespaces.
    pub(crate) fn get<K: Resource>(&self) -> Cache {
        let request = Client::collection::<K>("");
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = caches.get(&request.path) {
            return cache.clone();
        }
        let cache = self.start(request.clone());
        caches.insert(request.path, cache.clone());
        cache
    }

    fn start(&self, request: ListWatch) -> Cache {
        let mut indexers = vec![
            Indexer::new(BY_CONTROLLER, |o| {
                vec![match o.meta.controller() {
                    Some(owner) => owner.uid.to_string(),
                    None => orphans(&o.meta.namespace),
                }]
            }),
            Indexer::new(BY_NAMESPACE, |o| vec![o.meta.namespace.to_string()]),
        ];
        if request.path == "/api/v1/pods" {
            indexers.push(Indexer::new(BY_NODE, |o| vec![node_of(o)]));
        }
        if request.path == "/api/v1/persistentvolumes" {
            indexers.push(Indexer::new(BY_TAKER, crate::persistentvolume::takers));
        }
        Informer::start(&self.client, request, indexers)
    }
}
