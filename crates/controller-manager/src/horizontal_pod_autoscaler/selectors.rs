//! Which autoscalers select which pods: no pod may be scaled by two.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::object::Object;
use api::selectors::LabelSelector;

use super::draft::Inactive;
use crate::meta::selects;

/// Why the pods of a target cannot be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The reason of the event; its message is the error.
    pub told: &'static str,
    pub error: String,
    pub condition: Inactive,
}

impl Refused {
    fn because(reason: &'static str, error: String) -> Refused {
        Refused {
            told: reason,
            condition: Inactive {
                reason,
                message: error.clone(),
            },
            error,
        }
    }
}

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

    /// The pods of a namespace that an autoscaler's target selects, if they are its alone. What it selects is kept.
    pub(super) fn pods<'o>(
        &self,
        selector: &str,
        (namespace, name): (&str, &str),
        objects: &'o [Arc<Object>],
    ) -> Result<Vec<&'o Object>, Refused> {
        if selector.is_empty() {
            let condition = Inactive {
                reason: "InvalidSelector",
                message: "the HPA target's scale is missing a selector".to_owned(),
            };
            return Err(Refused {
                told: "SelectorRequired",
                error: "selector is required".to_owned(),
                condition,
            });
        }
        let parsed = LabelSelector::parse(selector).map_err(|e| {
            let error = format!("couldn't convert selector into a corresponding internal selector object: {e}");
            Refused::because("InvalidSelector", error)
        })?;
        self.put(namespace, name, &parsed);
        let selected = objects.iter().map(|pod| &**pod).filter(|pod| selects(&parsed, pod));
        let selected: Vec<&Object> = selected.collect();
        let takers = self.of_pods(namespace, &selected);
        if takers.len() > 1 {
            let some: Vec<String> = takers
                .iter()
                .take(2)
                .map(|name| format!("{namespace}/{name}"))
                .collect();
            let some = some.join(" ");
            let error = format!("pods by selector {selector} are controlled by more than one HPA (e.g. [{some}])");
            return Err(Refused::because("AmbiguousSelector", error));
        }
        Ok(selected)
    }

    /// Keeps what an autoscaler selects, unless it has been deleted meanwhile.
    fn put(&self, namespace: &str, name: &str, selector: &LabelSelector) {
        let mut all = self.lock();
        if let Some(known) = all.get_mut(namespace).and_then(|here| here.get_mut(name)) {
            known.clone_from(selector);
        }
    }

    /// The names of autoscalers that select any of these pods.
    fn of_pods(&self, namespace: &str, pods: &[&Object]) -> Vec<String> {
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
    fn pods_of_two_autoscalers_are_nobodys_until_one_is_gone() {
        let selectors = Selectors::default();
        let pod = |name: &str, labels: &str| {
            let json = format!(r#"{{"metadata":{{"name":"{name}","namespace":"n","labels":{labels}}}}}"#);
            Object::parse(json.into()).unwrap()
        };
        let pods = [
            pod("p", r#"{"app":"web"}"#),
            pod("q", r#"{"app":"web","tier":"x"}"#),
            pod("r", "{}"),
        ];
        let ask = |name: &str, selector: &str| {
            let found = selectors.pods(selector, ("n", name), &pods);
            found.map(|pods| pods.iter().map(|pod| pod.meta.name.to_string()).collect::<Vec<_>>())
        };
        let names = |some: &[&str]| Ok(some.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(
            ask("gone", "app=web"),
            names(&["p", "q"]),
            "one that is not there takes no part"
        );
        for (namespace, name) in [("n", "a"), ("n", "b"), ("m", "c")] {
            selectors.add(namespace, name);
        }
        assert_eq!(
            ask("a", "app=web"),
            names(&["p", "q"]),
            "what b selects is not known yet"
        );
        let refused = ask("b", "tier=x").unwrap_err();
        assert_eq!(refused.told, "AmbiguousSelector");
        assert_eq!(
            refused.error,
            "pods by selector tier=x are controlled by more than one HPA (e.g. [n/a n/b])"
        );
        assert_eq!(refused.condition.message, refused.error);
        selectors.add("n", "b");
        assert!(ask("a", "app=web").is_err(), "what b selects is kept");
        selectors.remove("n", "b");
        assert_eq!(ask("a", "app=web"), names(&["p", "q"]));
        assert_eq!(selectors.len(), 2);
    }

    #[test]
    fn a_target_without_a_selector_is_refused() {
        let refused = Selectors::default().pods("", ("n", "a"), &[]).unwrap_err();
        assert_eq!(
            (refused.told, refused.error.as_str()),
            ("SelectorRequired", "selector is required")
        );
        assert_eq!(refused.condition.reason, "InvalidSelector");
    }
}
