//! The IPAddress object that stands for each cluster IP: made and deleted in the transaction that writes its Service.

use std::net::IpAddr;
use std::sync::Arc;

use api::apply::{self, ManagerContext};
use api::object::Object;
use etcd::{Compare, CompareTarget, KeyRange, Op, Put};
use serde_json::{Value, json};

use super::network::Family;
use crate::http::status::{ApiError, Result};
use crate::registry::cached::{Cached, Encoded};
use crate::registry::commit::Claims;
use crate::registry::{Registry, Served, metadata};
use crate::tree::text;

/// The group of IPAddresses and ServiceCIDRs.
pub const GROUP: &str = "networking.k8s.io";
/// The label that says who keeps an IPAddress.
pub const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// The label that says of which family an IPAddress is.
pub const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// Whom the addresses of Services are managed by.
pub const ALLOCATOR: &str = "ipallocator.k8s.io";

/// IPAddresses as they are stored.
pub fn served(registry: &Registry) -> Result<Served> {
    let catalog = registry.catalog();
    let found = catalog.stored(GROUP, "ipaddresses").cloned();
    found.ok_or_else(|| ApiError::internal("ipaddresses are not served"))
}

/// The Service that an IPAddress belongs to, if it is one.
pub fn service_of(tree: &Value) -> Option<(String, String)> {
    let parent = |key: &str| text(tree, &["spec", "parentRef", key]).unwrap_or_default();
    let is_service = parent("group").is_empty() && parent("resource") == "services";
    is_service.then(|| (parent("namespace").to_owned(), parent("name").to_owned()))
}

/// Whether the allocator keeps this IPAddress.
pub fn is_managed(object: &Object) -> bool {
    object.meta.label(MANAGED_BY) == Some(ALLOCATOR)
}

impl Claims {
    /// Takes an address that must not be taken when the transaction is made.
    pub fn claim(&mut self, registry: &Registry, address: IpAddr, namespace: &str, service: &str) -> Result<()> {
        let served = served(registry)?;
        let resource = &served.resource;
        let mut tree = json!({
            "apiVersion": resource.api_version(),
            "kind": resource.kind,
            "metadata": {
                "name": address.to_string(),
                "labels": { FAMILY: Family::of(address).as_str(), MANAGED_BY: ALLOCATOR },
            },
            "spec": { "parentRef": { "resource": "services", "namespace": namespace, "name": service } },
        });
        let context = ManagerContext {
            manager: "kube-apiserver".into(),
            operation: "Update".into(),
            subresource: String::new(),
            api_version: resource.api_version(),
            now: registry.timestamp(),
            force: false,
            reset: apply::Reset::NOTHING,
        };
        let target = apply::Target::new(resource.schema.get(), resource.root);
        apply::track_update(&target, None, &mut tree, &context);
        metadata::prepare_create(registry, resource, &mut tree, "", |_| false)?;
        let encoded = Encoded::of(resource, &mut tree)?;
        let key = resource.key("", &address.to_string());
        self.compare.push(Compare {
            key: key.clone(),
            target: CompareTarget::ModRevision(0),
        });
        self.operations.push(Op::Put(Put {
            key,
            value: encoded.value(),
            lease: 0,
            hint: Some(Arc::new(encoded.prepared)),
        }));
        Ok(())
    }

    /// Gives back an address if it is this Service's. One that somebody's finalizer holds stays until that is gone.
    pub fn release(&mut self, registry: &Registry, address: &str, namespace: &str, service: &str) -> Result<()> {
        let served = served(registry)?;
        let Some(object) = served.cache.get("", address) else {
            return Ok(());
        };
        let owner = service_of(&object.tree()?);
        let own = owner.is_some_and(|(n, s)| n == namespace && s == service);
        if own && is_managed(&object.object) && object.object.meta.finalizers.is_empty() {
            self.delete(&served, &object);
        }
        Ok(())
    }

    /// Deletes an IPAddress as it was read.
    pub fn delete(&mut self, served: &Served, object: &Cached) {
        let key = served.resource.key("", &object.object.meta.name);
        self.compare.push(Compare {
            key: key.clone(),
            target: CompareTarget::ModRevision(object.revision()),
        });
        self.operations.push(Op::Delete(KeyRange::One(key)));
    }
}
