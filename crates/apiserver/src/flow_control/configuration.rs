//! What all requests are classified by: schemas in their order, and their levels. Replaced when one of their objects changes.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::demand::Observed;
use super::level::{CATCH_ALL, EXEMPT, Level, LevelSpec, Settings};
use super::schema::{Distinguisher, Schema, SchemaSpec, uid_header};
use super::{FORGOTTEN, FlowControl, PERIOD, allocation, default};
use crate::http::request_info::RequestInfo;
use crate::http::user::User;
use crate::kinds::flowcontrol::without_empty;
use crate::registry::cached::Cached;

/// A snapshot of the schemas and levels.
#[derive(Debug, Default)]
pub struct Configuration {
    /// The last changes of schemas and levels that it reflects.
    changed: Option<[u64; 2]>,
    /// By precedence, then by name.
    schemas: Vec<Arc<Schema>>,
    pub levels: BTreeMap<String, Arc<Level>>,
    /// Whom no schema names is of this one.
    fallback: Option<Arc<Schema>>,
}

impl Configuration {
    /// The schema of a request: the first that matches.
    pub fn classify(&self, info: &RequestInfo, user: &User) -> Arc<Schema> {
        let found = self.schemas.iter().find(|schema| schema.spec.matches(info, user));
        let found = found.or(self.fallback.as_ref());
        // what was compiled has the schemas that every server has, and nothing is classified before
        found
            .cloned()
            .unwrap_or_else(|| self.schemas[self.schemas.len() - 1].clone())
    }
}

/// An object as it is stored, or as it would be.
struct Found {
    name: String,
    uid: String,
    spec: Value,
}

impl Found {
    fn of(object: &Cached) -> Option<Found> {
        let name = object.object.meta.name.to_string();
        match object.tree() {
            Ok(tree) => Some(Found {
                name,
                uid: object.object.meta.uid.to_string(),
                // lists that are not there may be null
                spec: without_empty(&tree["spec"]),
            }),
            Err(error) => {
                tracing::error!(%error, name, "a stored object of flow control cannot be read; it is not obeyed");
                None
            }
        }
    }

    /// Adds what every server has, unless it is stored.
    fn complete(mut found: Vec<Found>, prototypes: &[Value]) -> Vec<Found> {
        for prototype in prototypes {
            let name = prototype["metadata"]["name"].as_str().unwrap_or_default();
            if !found.iter().any(|one| one.name == name) {
                found.push(Found {
                    name: name.to_owned(),
                    uid: String::new(),
                    spec: prototype["spec"].clone(),
                });
            }
        }
        found
    }
}

/// The spec of an object that every server has.
fn prototype(prototypes: &[Value], name: &str) -> Option<Value> {
    let found = prototypes.iter().find(|one| one["metadata"]["name"] == name)?;
    Some(found["spec"].clone())
}

impl FlowControl {
    /// Compiles what is stored, if it has changed.
    pub fn refresh(&self) {
        let changed = self
            .caches
            .as_ref()
            .map(|caches| [caches[0].changed(), caches[1].changed()]);
        if changed.is_some() && self.current.load().changed != changed {
            self.compile();
        }
    }

    /// Compiles what is stored.
    pub(super) fn compile(&self) {
        let _one = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // read before the objects: what changes meanwhile is compiled next time
        let changed = self
            .caches
            .as_ref()
            .map(|caches| [caches[0].changed(), caches[1].changed()]);
        let before = self.current.load_full();
        if before.changed.is_some() && before.changed == changed {
            return;
        }
        let list = |place: usize| -> Vec<Found> {
            let caches = self.caches.as_ref();
            let items = caches.map(|caches| caches[place].list("").items).unwrap_or_default();
            items.iter().filter_map(|object| Found::of(object)).collect()
        };
        let mut next = Configuration {
            changed,
            ..Configuration::default()
        };
        let now = self.now();
        let mut uids = BTreeMap::new();
        for found in Found::complete(list(1), &default::mandatory_levels()) {
            let read = |spec: Value| Settings::read(&found.name, &serde_json::from_value::<LevelSpec>(spec).ok()?);
            let settings = read(found.spec).or_else(|| {
                tracing::error!(name = found.name, "a priority level cannot be obeyed");
                read(prototype(&default::mandatory_levels(), &found.name)?)
            });
            let Some(settings) = settings else { continue };
            let level = match before.levels.get(&found.name) {
                Some(level) => {
                    level.lock().configure(now, settings);
                    level.clone()
                }
                None => Arc::new(Level::new(&found.name, settings, now)),
            };
            uids.insert(found.name.clone(), found.uid);
            next.levels.insert(found.name, level);
        }
        for found in Found::complete(list(0), &default::mandatory_schemas()) {
            let spec = serde_json::from_value::<SchemaSpec>(found.spec).or_else(|error| {
                tracing::error!(%error, name = found.name, "a flow schema cannot be obeyed");
                let mandatory = prototype(&default::mandatory_schemas(), &found.name);
                serde_json::from_value(mandatory.unwrap_or_default())
            });
            let Ok(spec) = spec else { continue };
            let level = &spec.priority_level_configuration.name;
            // a schema without its level is told so in its status
            let Some((uid, level)) = uids.get(level).zip(next.levels.get(level)) else {
                continue;
            };
            next.schemas.push(Arc::new(Schema {
                headers: [uid_header(&found.uid), uid_header(uid)],
                level: level.clone(),
                distinguisher: Distinguisher::of(&spec),
                name: found.name,
                spec,
            }));
        }
        next.schemas
            .sort_by(|a, b| (a.spec.matching_precedence, &a.name).cmp(&(b.spec.matching_precedence, &b.name)));
        next.fallback = next.schemas.iter().find(|schema| schema.name == CATCH_ALL).cloned();
        // who is in a level whose object is gone is still served
        for (name, level) in &before.levels {
            let mut state = level.lock();
            if !next.levels.contains_key(name) && !state.set.is_idle() {
                state.quiescing = true;
                next.levels.insert(name.clone(), level.clone());
            }
        }
        let shares = next.levels.values().map(|level| level.lock().settings.shares).sum();
        for level in next.levels.values() {
            level.lock().share(self.seats, shares);
        }
        give(&next.levels, now);
        self.current.store(Arc::new(next));
    }

    /// Looks at the demand of levels since the last time, and lets them lend accordingly; answers whether there was any.
    pub(super) fn lend(&self, first: bool) -> bool {
        let now = self.now();
        let missed = {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            let passed = now.saturating_sub(std::mem::replace(&mut *looked, now));
            passed.as_secs() / PERIOD.as_secs()
        };
        let current = self.current.load_full();
        let mut any = false;
        for level in current.levels.values() {
            let mut state = level.lock();
            let observed = state.set.demand.take(now);
            any |= observed.most > 0;
            if first {
                // nobody asked for anything in the periods in which nobody looked
                let nothing = Observed {
                    elapsed: PERIOD.as_secs_f64(),
                    ..Observed::default()
                };
                let missed = u32::try_from(missed).unwrap_or(FORGOTTEN).min(FORGOTTEN);
                (0..missed).for_each(|_| state.demand.update(nothing));
            } else {
                state.demand.update(observed);
            }
        }
        give(&current.levels, now);
        any
    }
}

/// Gives each level its seats for now.
fn give(levels: &BTreeMap<String, Arc<Level>>, now: Duration) {
    let wishes: Vec<_> = levels.values().map(|level| level.lock().wish()).collect();
    for (level, seats) in levels.values().zip(allocation::seats(&wishes)) {
        level.lock().set_limit(now, seats);
    }
}

/// Whether a level is one that every server has.
pub fn is_mandatory(name: &str) -> bool {
    [EXEMPT, CATCH_ALL].contains(&name)
}
