//! Which autoscalers select which pods: no pod may be scaled by two.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::object::Object;
use api::selectors::LabelSelector;

/// The selectors of autoscalers' targets, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    all: Mutex<HashMap<String, HashMap<String, LabelSelector>>>,
}

impl Selectors {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, LabelSelector>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An autoscaler is there. Until its target is known it selects nothing.
    pub(super) fn add(&self, namespace: &str, name: &str) {
        let mut all = self.lock();
        let here = all.entry(namespace.to_owned()).or_default();
        here.entry(name.to_owned()).or_insert_with(LabelSelector::nothing);
    }

    pub(super) fn remove(&self, namespace: &str, name: &str) {
        let mut all = self.lock();
        if let Some(here) = all.get_mut(namespace) {
            here.remove(name);
            if here.is_empty() {
                all.remove(namespace);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().values().map(HashMap::len).sum()
    }

    /// Keeps what an autoscaler selects, unless it has been deleted meanwhile; and whether that is so.
    pub(super) fn put(&self, namespace: &str, name: &str, selector: &LabelSelector) -> bool {
        let mut all = self.lock();
        match all.get_mut(namespace).and_then(|here| here.get_mut(name)) {
            Some(known) => {
                known.clone_from(selector);
                true
            }
            None => false,
        }
    }

    /// The names of autoscalers that select any of these pods.
    pub(super) fn of_pods(&self, namespace: &str, pods: &[&Object]) -> Vec<String> {
        // pods of one template are alike
        let labels: BTreeSet<_> = pods.iter().map(|pod| &pod.meta.labels).collect();
        let all = self.lock();
        let selects = |selector: &LabelSelector| {
            labels.iter().any(|labels| {
                selector.matches(|key| {
                    let at = labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
                    Some(&*labels[at].1)
                })
            })
        };
        let here = all.get(namespace).into_iter().flatten();
        let mut names: Vec<String> = here.filter(|(_, s)| selects(s)).map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_of_two_autoscalers_is_found_until_one_is_gone() {
        let selectors = Selectors::default();
        let select = |text: &str| LabelSelector::parse(text).unwrap();
        let pod = |labels: &str| {
            let json = format!(r#"{{"metadata":{{"name":"p","namespace":"n","labels":{labels}}}}}"#);
            Object::parse(json.into()).unwrap()
        };
        let (web, both) = (pod(r#"{"app":"web"}"#), pod(r#"{"app":"web","tier":"x"}"#));
        assert!(!selectors.put("n", "a", &select("app=web")), "it was never there");
        selectors.add("n", "a");
        selectors.add("n", "b");
        selectors.add("m", "c");
        assert!(selectors.put("n", "a", &select("app=web")));
        assert_eq!(selectors.of_pods("n", &[&web, &both]), ["a"]);
        assert!(selectors.put("n", "b", &select("tier=x")) && selectors.put("m", "c", &select("app=web")));
        assert_eq!(selectors.of_pods("n", &[&web]), ["a"]);
        assert_eq!(selectors.of_pods("n", &[&web, &both]), ["a", "b"]);
        selectors.add("n", "a");
        assert_eq!(selectors.of_pods("n", &[&both]), ["a", "b"], "what it selects is kept");
        selectors.remove("n", "a");
        assert_eq!(selectors.of_pods("n", &[&both]), ["b"]);
        assert_eq!(selectors.len(), 2);
    }
}
