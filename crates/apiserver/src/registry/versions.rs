//! The versions of one resource beside the served one, as server-side apply asks for them.

use std::sync::Arc;

use api::apply::Versions;
use api::gvk::split_api_version;
use api::schema::{Schema, TypeId};
use serde_json::Value;

use crate::registry::resource::Resource;
use crate::registry::{Catalog, Registry, Served};

/// A resource and the catalog that its other versions stand in.
pub struct OtherVersions {
    catalog: Arc<Catalog>,
    own: Served,
}

impl OtherVersions {
    pub fn of(registry: &Registry, served: &Served) -> OtherVersions {
        OtherVersions {
            catalog: registry.catalog(),
            own: served.clone(),
        }
    }

    /// The resource in a version. Events are one kind in two groups.
    fn find(&self, api_version: &str) -> Option<&Resource> {
        let (group, version) = split_api_version(api_version);
        let found = self.catalog.find(group, version, &self.own.resource.plural)?;
        (found.resource.prefix == self.own.resource.prefix).then_some(&*found.resource)
    }
}

impl Versions for OtherVersions {
    fn type_in(&self, api_version: &str) -> Option<(&Schema, TypeId)> {
        let resource = self.find(api_version)?;
        Some((resource.schema.get(), resource.root))
    }

    fn convert(&self, tree: Value, from: &str, to: &str) -> Option<Value> {
        let (from, to) = (self.find(from)?, self.find(to)?);
        Some(to.to_served(from.to_stored(tree)))
    }
}
