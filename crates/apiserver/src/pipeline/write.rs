//! Create and update.

use std::sync::Arc;

use serde_json::Value;

use crate::allocator;
use crate::http::status::{ApiError, Result};
use crate::pipeline::layers::{Before, Settled};
use crate::pipeline::{Change, Origin, Write};
use crate::registry::cached::{Cached, Encoded};
use crate::registry::commit::{Expect, ends_now};
use crate::registry::{ATTEMPTS, metadata};

impl Write<'_> {
    /// Stores a new object. `tree` is of the served version, decoded and defaulted.
    ///
    /// # Errors
    /// `409` when there is one of this name, and whatever the layers refuse.
    pub async fn create(&self, mut tree: Value, origin: Origin) -> Result<Arc<Cached>> {
        let mut versioned = false;
        if origin == Origin::Post {
            metadata::wipe(&mut tree)?;
            let version = metadata::text(&tree, "resourceVersion").parse();
            versioned = version.is_ok_and(|n: u64| n != 0);
        } else {
            // whatever its writer thought was there
            metadata::of(&mut tree)?.remove("resourceVersion");
        }
        let mut settled = self.settle(tree, Before::Nothing(origin)).await?;
        let stored = self.store_new(&mut settled, versioned).await;
        self.finish(settled, stored.is_ok()).await;
        stored
    }

    async fn store_new(&self, settled: &mut Settled, versioned: bool) -> Result<Arc<Cached>> {
        let resource = &self.served.resource;
        let name = &settled.name;
        let is_generated = !metadata::text(&settled.tree, "generateName").is_empty();
        let exists = || {
            let mut error = match is_generated {
                true => ApiError::generated_name_exists(&resource.group, &resource.plural, name),
                false => ApiError::already_exists(&resource.group, &resource.plural, name),
            };
            let there = self.served.cache.get(self.namespace, name);
            if there.is_some_and(|there| there.object.meta.deleting) {
                error.message.insert_str(0, "object is being deleted: ");
            }
            error
        };
        let claims = settled.allocated.claims(&self.pipeline.registry, &settled.tree, None)?;
        let mut tree = settled.tree.take();
        if resource.is_custom() {
            // a status that the definition gives is there from the start, though its writer could not set one
            resource.schema.get().set_defaults(resource.root, &mut tree);
        }
        let encoded = Encoded::of(resource, &mut resource.stored(tree).await?)?;
        if self.options.dry_run {
            return match self.served.cache.get(self.namespace, name) {
                Some(_) => Err(exists()),
                None => Ok(Arc::new(encoded.at(None))),
            };
        }
        if versioned {
            return Err(ApiError::plain(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        if let Some(stored) = self.place().put(name, Expect::Absent, &encoded, claims).await? {
            return Ok(stored);
        }
        // it may be the address that was lost, not the name
        let lost = match self.served.cache.get(self.namespace, name) {
            None => settled.allocated.lost(resource, name),
            Some(_) => None,
        };
        Err(lost.unwrap_or_else(exists))
    }

    /// Changes an object by `change`, which gets it in the served version and may be called again when another writer
    /// was first, unless the caller insists on a resourceVersion.
    ///
    /// # Errors
    /// `404` when it is not there, `409` when others are faster too often, and whatever the layers refuse.
    pub async fn update(&self, name: &str, mut change: impl FnMut(&Value) -> Result<Change>) -> Result<Arc<Cached>> {
        let resource = &self.served.resource;
        for _ in 0..ATTEMPTS {
            let current = self.place().current(name)?;
            let old = resource.changed(&current).await?;
            let change = change(&old)?;
            self.check_uid(&change, &current, name)?;
            let before = Before::Object {
                old: &old,
                applied: change.applied,
                seen: change.seen.as_deref(),
                stale: change.revision.is_some_and(|revision| revision != current.revision()),
            };
            let mut settled = self.settle(change.tree, before).await?;
            // an object in a version that is no longer stored is written anew, though nothing else changes
            if same(&settled.tree, &old) && resource.is_stored_as_now(&current) {
                self.finish(settled, false).await;
                return Ok(current);
            }
            let stored = self.store_over(&mut settled, &current, &old).await;
            self.finish(settled, matches!(stored, Ok(Some(_)))).await;
            if let Some(stored) = stored? {
                return Ok(stored);
            }
            if change.revision.is_some() {
                break;
            }
        }
        Err(self.place().modified(name))
    }

    fn check_uid(&self, change: &Change, current: &Cached, name: &str) -> Result<()> {
        let resource = &self.served.resource;
        if let Some(uid) = &change.uid
            && **uid != *current.object.meta.uid
        {
            let uids = (&**uid, &*current.object.meta.uid);
            return Err(resource.other_uid(self.namespace, name, uids, self.options.dry_run));
        }
        Ok(())
    }

    async fn store_over(&self, settled: &mut Settled, current: &Cached, old: &Value) -> Result<Option<Arc<Cached>>> {
        let resource = &self.served.resource;
        let name = &settled.name;
        let ends = ends_now(resource, &settled.tree, old);
        let claims = match ends {
            true => allocator::release(&self.pipeline.registry, resource, old)?,
            false => settled
                .allocated
                .claims(&self.pipeline.registry, &settled.tree, Some(old))?,
        };
        let encoded = Encoded::of(resource, &mut resource.stored(settled.tree.take()).await?)?;
        let revision = current.revision();
        if self.options.dry_run {
            return Ok(Some(Arc::new(encoded.at(Some(revision)))));
        }
        if ends {
            let ended = self.place().end(name, revision, claims).await?;
            return Ok(ended.map(|at| Arc::new(encoded.at(Some(at)))));
        }
        self.place().put(name, Expect::At(revision), &encoded, claims).await
    }

    /// Lets go of what a write held: what it used of quotas is given back when it was not made.
    async fn finish(&self, settled: Settled, made: bool) {
        // addresses and ports: the cache knows now what is in use
        drop(settled.allocated);
        for charge in settled.charges.into_iter().filter(|_| !made) {
            charge.give_back(&self.pipeline.registry, self.namespace).await;
        }
    }
}

/// Whether nothing would change but the record of who wrote. Copies nothing: objects may be large.
fn same(new: &Value, old: &Value) -> bool {
    alike(new, old, "", |name, a, b| match name {
        "metadata" => alike(a, b, "resourceVersion", |name, a, b| match name {
            "managedFields" => same_managers(a, b),
            _ => a == b,
        }),
        _ => a == b,
    })
}

/// An apply that changes only the owners of fields is a change; a time alone is not.
fn same_managers(new: &Value, old: &Value) -> bool {
    let (Value::Array(new), Value::Array(old)) = (new, old) else {
        return new == old;
    };
    let entry = |(a, b)| alike(a, b, "time", |_, a, b| a == b);
    new.len() == old.len() && new.iter().zip(old).all(entry)
}

/// Whether two objects have the same members, each as `same` sees it; one member does not count.
fn alike(new: &Value, old: &Value, but: &str, same: impl Fn(&str, &Value, &Value) -> bool) -> bool {
    let (Value::Object(new), Value::Object(old)) = (new, old) else {
        return new == old;
    };
    let counts = |(name, _): &(&String, &Value)| *name != but;
    let here = |(name, value): (&String, &Value)| old.get(name).is_some_and(|other| same(name, value, other));
    new.iter().filter(counts).all(here) && old.iter().filter(counts).all(|(name, _)| new.contains_key(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_write_that_changes_nothing_is_told_from_one_that_does() {
        let object = |version: &str, time: &str, fields: Value, data: Value| json!({"metadata": {"name": "a", "resourceVersion": version, "managedFields": [{"manager": "m", "time": time, "fieldsV1": fields}]}, "data": data});
        let old = object("1", "t1", json!({"f:a": {}}), json!({"a": "b"}));
        assert!(same(&object("2", "t2", json!({"f:a": {}}), json!({"a": "b"})), &old));
        assert!(!same(&object("1", "t1", json!({"f:b": {}}), json!({"a": "b"})), &old));
        assert!(!same(&object("1", "t1", json!({"f:a": {}}), json!({"a": "c"})), &old));
        assert!(!same(&object("1", "t1", json!({"f:a": {}}), json!({})), &old));
        let mut without = old.clone();
        without["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        assert!(same(&without, &old) && same(&old, &without));
        without.as_object_mut().unwrap().remove("data");
        assert!(!same(&without, &old) && !same(&old, &without));
    }
}
