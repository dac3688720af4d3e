//! All policies that are bound, compiled into a snapshot that is replaced when one of them or of their bindings changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::compiled::{Binding, Policy};
use crate::admission::Attributes;
use crate::admission::matching::Index;
use crate::registry::Registry;
use crate::registry::cache::Cache;

/// The group of policies. None is asked of the group's own kinds: a policy could not be taken away else.
const GROUP: &str = "admissionregistration.k8s.io";

/// What is exempt besides: reviews, which are how it is found out who may do what.
const EXEMPT: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// A policy with its bindings.
pub struct Bound {
    pub policy: Arc<Policy>,
    pub bindings: Vec<Arc<Binding>>,
}

/// The policies at a revision, by name. One that nobody binds is not among them.
#[derive(Default)]
pub struct Snapshot {
    /// The last changes of policies and bindings that it reflects.
    changed: (u64, u64),
    compiled: BTreeMap<String, (u64, Arc<Policy>)>,
    bound: Vec<Bound>,
    index: Index,
}

impl Snapshot {
    /// The policies that a request may concern, in order.
    pub fn candidates(&self, asked: &Attributes<'_>) -> impl Iterator<Item = &Bound> {
        let resource = asked.resource;
        let exempt = resource.group == GROUP || EXEMPT.iter().any(|(group, plural)| resource.is(group, plural));
        let places: &[usize] = if exempt || self.bound.is_empty() {
            &[]
        } else {
            self.index.candidates(&resource.plural)
        };
        places.iter().map(|place| &self.bound[*place])
    }
}

/// The caches of the two kinds.
struct Caches {
    policies: Arc<Cache>,
    bindings: Arc<Cache>,
}

/// The policies that are bound.
pub struct Policies {
    /// `None` where the kinds are not served.
    caches: Option<Caches>,
    current: ArcSwap<Snapshot>,
    compiling: Mutex<()>,
}

impl Policies {
    /// The policies of a registry, by the names of their kind and of that of their bindings.
    pub fn new(registry: &Registry, [policies, bindings]: [&str; 2]) -> Policies {
        let catalog = registry.catalog();
        let cache = |plural: &str| catalog.stored(GROUP, plural).map(|served| served.cache.clone());
        let caches = cache(policies).zip(cache(bindings));
        Policies {
            caches: caches.map(|(policies, bindings)| Caches { policies, bindings }),
            current: ArcSwap::default(),
            compiling: Mutex::default(),
        }
    }

    /// The policies as they are now.
    pub fn current(&self) -> Guard<Arc<Snapshot>> {
        if let Some(caches) = &self.caches {
            let changed = || (caches.policies.changed(), caches.bindings.changed());
            if self.current.load().changed != changed() {
                let _one = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
                // read before the objects: what changes meanwhile is compiled next time
                let changed = changed();
                let before = self.current.load_full();
                if before.changed != changed {
                    self.current.store(Arc::new(compile(caches, &before, changed)));
                }
            }
        }
        self.current.load()
    }
}

fn compile(caches: &Caches, before: &Snapshot, changed: (u64, u64)) -> Snapshot {
    let mut next = Snapshot {
        changed,
        ..Snapshot::default()
    };
    let mut bindings: BTreeMap<String, Vec<Arc<Binding>>> = BTreeMap::new();
    for object in caches.bindings.list("").items {
        match object.tree() {
            Ok(tree) => {
                let binding = Binding::read(&tree);
                bindings
                    .entry(binding.policy.clone())
                    .or_default()
                    .push(Arc::new(binding));
            }
            Err(error) => tracing::error!(%error, "a stored policy binding cannot be read; it is not obeyed"),
        }
    }
    for (name, bindings) in bindings {
        let Some(object) = caches.policies.get("", &name) else {
            continue;
        };
        let kept = before
            .compiled
            .get(&name)
            .filter(|(revision, _)| *revision == object.revision());
        let policy = match (kept, object.tree()) {
            (Some((_, policy)), _) => policy.clone(),
            (None, Ok(tree)) => Arc::new(Policy::read(&tree)),
            (None, Err(error)) => {
                tracing::error!(%error, name, "a stored policy cannot be read; it is not obeyed");
                continue;
            }
        };
        next.compiled.insert(name, (object.revision(), policy.clone()));
        next.bound.push(Bound { policy, bindings });
    }
    next.index = Index::of(next.bound.iter().map(|bound| &bound.policy.criteria.rules[..]));
    next
}
