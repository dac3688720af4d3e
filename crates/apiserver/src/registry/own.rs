//! A compare-and-swap for what the server keeps itself in objects: a status, a label, a finalizer. Nobody else has a say in it,
//! so no rule and no admission stands in its way; who manages the fields is recorded as of any write.

use std::sync::Arc;

use serde_json::Value;

use crate::http::status::{ApiError, Result};
use crate::registry::cached::{Cached, Encoded};
use crate::registry::commit::{Claims, Expect, Place, ends_now};
use crate::registry::managed::WriteOptions;
use crate::registry::{ATTEMPTS, Registry};

/// An object, or the status of one, that the server changes itself.
pub struct Own<'a> {
    pub registry: &'a Registry,
    pub group: &'a str,
    pub plural: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub options: WriteOptions,
}

impl Own<'_> {
    /// Changes the object by `change`, which may be called again when another writer was first. Returns it as it is then; `None`
    /// when it is not there, or gone with its last finalizer.
    ///
    /// # Errors
    /// Those of `change`, and `409` when others are faster too often.
    pub async fn swap(&self, mut change: impl FnMut(&mut Value) -> Result<()>) -> Result<Option<Arc<Cached>>> {
        let catalog = self.registry.catalog();
        let Some(served) = catalog.stored(self.group, self.plural) else {
            return Err(ApiError::internal(format!("{} are not served", self.plural)));
        };
        let place = Place {
            registry: self.registry,
            served,
            namespace: self.namespace,
        };
        let resource = &served.resource;
        for _ in 0..ATTEMPTS {
            let Some(current) = served.cache.get(self.namespace, self.name) else {
                return Ok(None);
            };
            let old = current.tree()?;
            let mut tree = old.clone();
            change(&mut tree)?;
            if tree == old || self.options.dry_run {
                return Ok(Some(current));
            }
            place.track(&self.options, Some(&old), &mut tree);
            let revision = current.revision();
            if ends_now(resource, &tree, &old) {
                if place.end(self.name, revision, Claims::default()).await?.is_some() {
                    return Ok(None);
                }
                continue;
            }
            let encoded = Encoded::of(resource, &mut tree)?;
            let stored = place.put(self.name, Expect::At(revision), &encoded, Claims::default());
            if let Some(stored) = stored.await? {
                return Ok(Some(stored));
            }
        }
        Err(place.modified(self.name))
    }
}
