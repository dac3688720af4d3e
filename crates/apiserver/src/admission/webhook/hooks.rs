//! All webhooks of a kind, compiled into a snapshot that is replaced when one of their configurations changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use serde_json::Value;

use super::hook::Hook;
use crate::admission::Attributes;
use crate::admission::matching::Index;
use crate::registry::Registry;
use crate::registry::cache::Cache;
use crate::webhook::{ConfigError, Webhook};

/// The group of the configurations. Webhooks are never asked of its kinds: one that fails could not be taken away.
const GROUP: &str = "admissionregistration.k8s.io";

/// A configuration as it was compiled.
struct Configuration {
    revision: u64,
    hooks: Vec<Arc<Hook>>,
}

/// The webhooks at a revision, in upstream's order: by configuration, then as these list them.
#[derive(Default)]
pub struct Snapshot {
    /// The last change of a configuration that it reflects.
    changed: u64,
    configurations: BTreeMap<String, Arc<Configuration>>,
    /// The ways to webhooks by their `clientConfig`: connections outlast changes of anything else.
    ways: BTreeMap<String, Result<Arc<Webhook>, ConfigError>>,
    hooks: Vec<Arc<Hook>>,
    index: Index,
}

impl Snapshot {
    /// The webhooks that may want to be asked, in order, and their places among all.
    pub fn candidates(&self, asked: &Attributes<'_>) -> impl ExactSizeIterator<Item = (usize, &Arc<Hook>)> {
        let places: &[usize] = match asked.resource.group == GROUP {
            true => &[],
            false => self.index.candidates(&asked.resource.plural),
        };
        places.iter().map(|place| (*place, &self.hooks[*place]))
    }
}

/// The webhooks of one kind of configuration.
pub struct Hooks {
    registry: Arc<Registry>,
    /// `None` where the kind is not served.
    cache: Option<Arc<Cache>>,
    current: ArcSwap<Snapshot>,
    compiling: Mutex<()>,
}

impl Hooks {
    /// The webhooks of the configurations of a resource.
    pub fn new(registry: Arc<Registry>, plural: &str) -> Hooks {
        let cache = registry
            .catalog()
            .stored(GROUP, plural)
            .map(|served| served.cache.clone());
        Hooks {
            registry,
            cache,
            current: ArcSwap::default(),
            compiling: Mutex::default(),
        }
    }

    /// The webhooks as they are configured now.
    pub fn current(&self) -> Guard<Arc<Snapshot>> {
        let Some(cache) = &self.cache else {
            return self.current.load();
        };
        if self.current.load().changed != cache.changed() {
            let _one = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
            // read before the objects: what changes meanwhile is compiled next time
            let changed = cache.changed();
            let before = self.current.load_full();
            if before.changed != changed {
                self.current.store(Arc::new(self.compile(cache, &before, changed)));
            }
        }
        self.current.load()
    }

    fn compile(&self, cache: &Cache, before: &Snapshot, changed: u64) -> Snapshot {
        let mut next = Snapshot {
            changed,
            ..Snapshot::default()
        };
        // by name, for that is the cache's order
        for object in cache.list("").items {
            let (name, revision) = (object.object.meta.name.to_string(), object.revision());
            let kept = before.configurations.get(&name).filter(|c| c.revision == revision);
            let tree = match object.tree() {
                Ok(tree) => tree,
                Err(error) => {
                    tracing::error!(%error, name, "a stored webhook configuration cannot be read; it is not obeyed");
                    continue;
                }
            };
            let mut hooks = Vec::new();
            let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
            let list = tree.get("webhooks").and_then(Value::as_array);
            for (place, hook) in list.into_iter().flatten().enumerate() {
                let way = self.way(before, &mut next, &hook["clientConfig"]);
                let count = seen.entry(hook["name"].as_str().unwrap_or_default()).or_default();
                let key = format!("{name}/{}/{count}", hook["name"].as_str().unwrap_or_default());
                *count += 1;
                hooks.push(match kept.and_then(|kept| kept.hooks.get(place)) {
                    Some(hook) => hook.clone(),
                    None => Arc::new(Hook::read(hook, key, way)),
                });
            }
            next.hooks.extend(hooks.iter().cloned());
            let configuration = Configuration { revision, hooks };
            next.configurations.insert(name, Arc::new(configuration));
        }
        next.index = Index::of(next.hooks.iter().map(|hook| &hook.criteria.rules[..]));
        next
    }

    fn way(&self, before: &Snapshot, next: &mut Snapshot, config: &Value) -> Result<Arc<Webhook>, ConfigError> {
        let key = config.to_string();
        let known = next.ways.get(&key).or_else(|| before.ways.get(&key)).cloned();
        let way = known.unwrap_or_else(|| Webhook::read(config, &self.registry).map(Arc::new));
        next.ways.insert(key, way.clone());
        way
    }
}
