//! The registry: every resource that is served, its cache, and the verbs on it.

pub mod cache;
pub mod cached;
pub mod chunk;
pub mod commit;
pub mod conversion;
pub mod event_lease;
pub mod managed;
pub mod metadata;
pub mod own;
pub mod resource;
pub mod selection;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::schema::Schema;
use api::schema::rules::Rules;
use api::time::Instant;
use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::egress::Egress;
use crate::http::status::{ApiError, Result};
use crate::kinds::{self, Kind};
use crate::metrics::Metrics;
use crate::registry::cache::Cache;
use crate::registry::cached::Cached;
use crate::registry::conversion::Conversion;
use crate::registry::event_lease::EventLease;
use crate::registry::resource::{Resource, SchemaRef, Subresource};

/// Upstream retries a conflicting write of its own this many times before it gives up.
pub const ATTEMPTS: usize = 8;

/// A resource in one version with the cache it shares with its other versions.
#[derive(Debug, Clone)]
pub struct Served {
    pub resource: Arc<Resource>,
    pub cache: Arc<Cache>,
}

/// What is served now; replaced whole when a custom resource comes or goes.
#[derive(Debug, Default, Clone)]
pub struct Catalog {
    /// By plural, under which there is rarely more than one, in order of group and version.
    served: BTreeMap<String, Vec<Served>>,
}

impl Catalog {
    /// The resource in a version.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Served> {
        self.named(plural)
            .find(|s| s.resource.group == group && s.resource.version == version)
    }

    /// The resource in the version it is stored in.
    pub fn stored(&self, group: &str, plural: &str) -> Option<&Served> {
        self.named(plural)
            .find(|s| s.resource.group == group && s.resource.is_stored_version())
    }

    /// The resources of a name, in all groups and versions.
    pub fn named(&self, plural: &str) -> impl Iterator<Item = &Served> {
        self.served.get(plural).into_iter().flatten()
    }

    /// Every resource in every version.
    pub fn all(&self) -> impl Iterator<Item = &Served> {
        self.served.values().flatten()
    }

    /// The revision of the last change of a kind; 0 for one that is not served.
    pub fn changed(&self, group: &str, plural: &str) -> u64 {
        self.stored(group, plural).map_or(0, |s| s.cache.changed())
    }

    /// Adds a resource in a version, or replaces it.
    pub fn insert(&mut self, served: Served) {
        let place = |s: &Served| (s.resource.group.clone(), s.resource.version.clone());
        let named = self.served.entry(served.resource.plural.clone()).or_default();
        match named.binary_search_by_key(&place(&served), place) {
            Ok(at) => named[at] = served,
            Err(at) => named.insert(at, served),
        }
    }

    /// Takes a resource out in all versions.
    pub fn remove(&mut self, group: &str, plural: &str) {
        if let Some(named) = self.served.get_mut(plural) {
            named.retain(|s| s.resource.group != group);
            if named.is_empty() {
                self.served.remove(plural);
            }
        }
    }
}

/// Where time and chance come from.
pub trait Environment: Send + Sync {
    fn now(&self) -> Timestamp;
    fn random(&self, into: &mut [u8]);
}

/// The machine's clock and random numbers.
#[derive(Debug)]
pub struct Machine;

impl Environment for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn random(&self, into: &mut [u8]) {
        if let Err(error) = getrandom::fill(into) {
            // without randomness no uid or token may be made
            tracing::error!(%error, "the system gives no random numbers");
            std::process::abort();
        }
    }
}

/// The registry.
pub struct Registry {
    pub store: Arc<dyn etcd::Store>,
    pub environment: Arc<dyn Environment>,
    /// What is counted while requests are answered.
    pub metrics: Arc<Metrics>,
    /// How nodes and pods are reached.
    pub egress: Arc<Egress>,
    pub(crate) event_lease: EventLease,
    catalog: ArcSwap<Catalog>,
    /// What is answered and never kept.
    answered: Vec<Arc<Resource>>,
    /// One change of the catalog at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Registry {
    /// Fills the caches of all built-in resources.
    pub async fn start(store: Arc<dyn etcd::Store>, environment: Arc<dyn Environment>) -> Result<Registry> {
        let mut catalog = Catalog::default();
        let mut caches: BTreeMap<String, Arc<Cache>> = BTreeMap::new();
        let mut answered = Vec::new();
        for resource in builtin_resources()? {
            let resource = Arc::new(resource);
            if resource.verbs.iter().all(|v| v == "create") {
                answered.push(resource);
                continue;
            }
            let cache = match caches.get(&resource.prefix) {
                Some(cache) => cache.clone(),
                None => {
                    let cache = Cache::start(resource.clone(), &*store).await?;
                    caches.insert(resource.prefix.clone(), cache.clone());
                    cache
                }
            };
            catalog.insert(Served { resource, cache });
        }
        Ok(Registry {
            store,
            environment,
            metrics: Arc::default(),
            egress: Arc::default(),
            event_lease: EventLease::default(),
            catalog: ArcSwap::from_pointee(catalog),
            answered,
            changing: tokio::sync::Mutex::new(()),
        })
    }

    /// What is served now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// A resource that is answered and never kept: a review, a binding.
    pub fn answered(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.answered
            .iter()
            .find(|resource| resource.is(group, plural))
            .cloned()
    }

    /// All of these.
    pub fn all_answered(&self) -> &[Arc<Resource>] {
        &self.answered
    }

    /// Lets the caches forget what the store was told to forget.
    pub fn compact(&self, revision: u64) {
        for served in self.catalog().all() {
            served.cache.compact(revision);
        }
    }

    /// Serves another resource, in all its versions.
    pub async fn serve(&self, versions: Vec<Resource>) -> Result<()> {
        let _one = self.changing.lock().await;
        let Some(first) = versions.first() else { return Ok(()) };
        let catalog = self.catalog.load_full();
        let old = catalog
            .all()
            .find(|s| s.resource.is(&first.group, &first.plural))
            .cloned();
        if old.as_ref().is_some_and(|o| o.resource.generation == first.generation) {
            return Ok(());
        }
        let mut next = Catalog::clone(&catalog);
        next.remove(&first.group, &first.plural);
        // what is stored is read by the schema that it was written by
        let versions: Vec<Arc<Resource>> = versions.into_iter().map(Arc::new).collect();
        let stored = versions.iter().find(|r| r.is_stored_version());
        let Some(stored) = stored.or(versions.first()) else {
            return Ok(());
        };
        let cache = Cache::start(stored.clone(), &*self.store).await?;
        for resource in versions {
            let cache = cache.clone();
            next.insert(Served { resource, cache });
        }
        self.catalog.store(Arc::new(next));
        // watches begin anew: the same objects may look different now
        if let Some(old) = old {
            old.cache.close();
        }
        Ok(())
    }

    /// Stops serving a resource; its watches end.
    pub async fn withdraw(&self, group: &str, plural: &str) {
        let _one = self.changing.lock().await;
        let mut next = Catalog::clone(&self.catalog.load());
        if let Some(served) = next.all().find(|s| s.resource.is(group, plural)) {
            served.cache.close();
        }
        next.remove(group, plural);
        self.catalog.store(Arc::new(next));
    }

    /// An object of a built-in kind, for the parts of the server that read the cluster's state.
    pub fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Cached>> {
        self.catalog.load().stored(group, plural)?.cache.get(namespace, name)
    }

    /// All objects of a kind in a namespace, or in all.
    pub fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Arc<Cached>> {
        self.catalog
            .load()
            .stored(group, plural)
            .map(|s| s.cache.list(namespace).items)
            .unwrap_or_default()
    }

    /// The present time as objects carry it.
    pub fn timestamp(&self) -> String {
        format_time(self.environment.now())
    }

    /// The present time.
    pub fn instant(&self) -> Instant {
        let now = self.environment.now();
        Instant {
            seconds: now.as_second(),
            nanos: now.subsec_nanosecond().unsigned_abs(),
        }
    }

    /// A random version 4 UUID.
    pub fn uid(&self) -> String {
        let mut b = [0u8; 16];
        self.environment.random(&mut b);
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        let n = u128::from_be_bytes(b);
        let part = |shift: u32, bits: u32| (n >> shift) & ((1 << bits) - 1);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            part(96, 32),
            part(80, 16),
            part(64, 16),
            part(48, 16),
            part(0, 48)
        )
    }
}

/// RFC 3339 with whole seconds, as `metav1.Time`.
pub fn format_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The rows of the resource table as the registry serves them.
pub(crate) fn builtin_resources() -> Result<Vec<Resource>> {
    let declared = Rules::builtin().map_err(ApiError::internal)?;
    let resources = api::resources::all()
        .iter()
        // a kind without rules is not served: a test sees to it that there is none
        .filter_map(|row| Some((row, kinds::find(row.group, row.plural)?)))
        .map(|(row, rules)| {
            let api_version = row.api_version();
            Resource {
                group: row.group.into(),
                version: row.version.into(),
                kind: row.kind.into(),
                list_kind: row.list_kind.clone(),
                plural: row.plural.into(),
                singular: row.singular.into(),
                short_names: row.short_names.iter().map(|s| (*s).into()).collect(),
                categories: row.categories.iter().map(|s| (*s).into()).collect(),
                namespaced: row.namespaced,
                verbs: row.verbs.iter().map(|s| (*s).into()).collect(),
                subresources: row
                    .subresources
                    .iter()
                    .map(|s| Subresource {
                        name: s.name.into(),
                        kind: s.kind.into(),
                        group: s.group.into(),
                        version: s.version.into(),
                        verbs: s.verbs.iter().map(|v| (*v).into()).collect(),
                    })
                    .collect(),
                prefix: rules.prefix(),
                selectable: row.field_selectors.iter().map(|s| (*s).into()).collect(),
                selectable_stored: stored_row(row, rules)
                    .field_selectors
                    .iter()
                    .map(|s| (*s).into())
                    .collect(),
                schema: SchemaRef::Builtin,
                root: row.type_id,
                rules,
                switched_off: declared.switched_off(Schema::builtin(), row.type_id),
                columns: None,
                scale: None,
                validations: None,
                generation: 0,
                stored_as: rules
                    .stored
                    .map_or_else(|| api_version.clone(), |stored| stored.version.into()),
                conversion: rules
                    .stored
                    .map_or(Conversion::Rename, |stored| Conversion::Function(stored.convert)),
                stored_schema: None,
                deprecation: rules.deprecation.map(Into::into),
            }
        });
    Ok(resources.collect())
}

/// The row of the version that a row's objects are stored in.
fn stored_row(row: &'static api::resources::Row, rules: &Kind) -> &'static api::resources::Row {
    let stored = rules.stored.map(|stored| api::gvk::split_api_version(stored.version));
    let found = stored.and_then(|(group, version)| api::resources::find(group, version, row.plural));
    found.unwrap_or(row)
}
