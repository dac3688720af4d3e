//! The selectors of all Services, so that a pod's change finds its Services without decoding them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use api::object::Object;
use client::Change;
use serde::Deserialize;

#[derive(Deserialize)]
struct Selecting {
    #[serde(default)]
    spec: SelectingSpec,
}

#[derive(Deserialize, Default)]
struct SelectingSpec {
    #[serde(default)]
    selector: Option<BTreeMap<String, String>>,
}

type BySelector = HashMap<String, BTreeMap<String, String>>;

#[derive(Clone, Default)]
pub(super) struct ServiceSelectors {
    /// Namespace → Service key → selector.
    inner: Arc<Mutex<HashMap<String, BySelector>>>,
}

impl ServiceSelectors {
    pub(super) fn observe(&self, change: &Change) {
        let Some(object) = change.object() else { return };
        let mut all = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let services = all.entry(object.meta.namespace.to_string()).or_default();
        let selector = change
            .new
            .as_ref()
            .and_then(|s| s.decode::<Selecting>().ok()?.spec.selector);
        match selector.filter(|s| !s.is_empty()) {
            Some(selector) => services.insert(object.key(), selector),
            None => services.remove(&object.key()),
        };
        if services.is_empty() {
            all.remove(&*object.meta.namespace);
        }
    }

    /// The Services that select the pod before or after the change.
    pub(super) fn of(&self, change: &Change) -> Vec<String> {
        let Some(object) = change.object() else {
            return Vec::new();
        };
        let all = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let services = all.get(&*object.meta.namespace);
        let selects = |selector: &BTreeMap<String, String>, pod: &Option<Arc<Object>>| {
            pod.as_ref()
                .is_some_and(|p| selector.iter().all(|(k, v)| p.meta.label(k) == Some(v)))
        };
        services
            .into_iter()
            .flatten()
            .filter(|(_, selector)| selects(selector, &change.old) || selects(selector, &change.new))
            .map(|(key, _)| key.clone())
            .collect()
    }
}
