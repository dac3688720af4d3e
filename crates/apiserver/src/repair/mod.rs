//! Services and IPAddresses brought together again where somebody has torn them apart: all of them at start, then each
//! whose IPAddress is changed by another than the allocator.

mod default_range;
mod event;

use std::net::IpAddr;
use std::sync::Arc;

use etcd::{Compare, CompareTarget, Txn};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::allocator::ip_address::{self, FAMILY, GROUP};
use crate::allocator::{Family, Network, cluster_ips, network};
use crate::http::status::{ApiError, Result};
use crate::pipeline::Pipeline;
use crate::registry::cache::{Cache, Scope, Subscription};
use crate::registry::cached::Cached;
use crate::registry::commit::Claims;
use crate::registry::metadata;

const CONTROLLER: &str = "ipallocator-repair-controller";
const ACTION: &str = "ClusterIPAllocation";

/// Who an address is written down for.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// The Service that is looked at.
    Own,
    /// Another Service, and whether it has the address too.
    Other { has_it: bool },
    /// A Service that does not exist, or something that is no Service.
    Nobody,
}

#[derive(Debug, PartialEq, Eq)]
enum Repair {
    Leave,
    Create,
    Recreate,
    /// Two Services have it: only a person can say whose it is.
    Report,
}

/// What an address of a Service needs. `entry`: for whom its IPAddress is, and whether that has the allocator's labels.
fn of_service(entry: Option<&(Holder, bool)>) -> Repair {
    match entry {
        None => Repair::Create,
        Some((Holder::Own, true)) => Repair::Leave,
        Some((Holder::Other { has_it: true }, _)) => Repair::Report,
        Some(_) => Repair::Recreate,
    }
}

/// The changes to follow.
pub struct Follower {
    addresses: Subscription,
    default_range: Subscription,
}

fn cache(pipeline: &Pipeline, group: &str, plural: &str) -> Result<Arc<Cache>> {
    let catalog = pipeline.registry.catalog();
    let served = catalog.stored(group, plural);
    served
        .map(|s| s.cache.clone())
        .ok_or_else(|| ApiError::internal(format!("{plural} are not served")))
}

/// The changes from now on; [`repair`] then looks at what is there.
pub fn watch(pipeline: &Arc<Pipeline>) -> Result<Follower> {
    let key = Scope::Key(network::DEFAULT.into());
    Ok(Follower {
        addresses: cache(pipeline, GROUP, "ipaddresses")?.watch(Scope::All, "", None)?.0,
        default_range: cache(pipeline, GROUP, "servicecidrs")?.watch(key, "", None)?.0,
    })
}

/// Makes the cluster's own ServiceCIDR and repairs what is wrong. To be called before addresses are given out.
pub async fn repair(pipeline: &Arc<Pipeline>) -> Result<()> {
    default_range::ensure(pipeline).await?;
    all(pipeline).await
}

/// Both, for a follower that was too slow.
async fn start(pipeline: &Arc<Pipeline>) -> Result<Follower> {
    let follower = watch(pipeline)?;
    repair(pipeline).await?;
    Ok(follower)
}

/// Repairs what changes of IPAddresses break, until `stop`.
pub async fn follow(pipeline: Arc<Pipeline>, mut follower: Follower, stop: CancellationToken) {
    loop {
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            change = follower.addresses.queue.recv() => match change {
                Some(change) => after_change(&pipeline, &change.current, change.previous.as_deref()).await,
                // too slow: everything is looked at again
                None => start(&pipeline).await.map(|again| follower = again),
            },
            change = follower.default_range.queue.recv() => match change {
                Some(_) => default_range::ensure(&pipeline).await,
                None => start(&pipeline).await.map(|again| follower = again),
            },
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "cluster IPs are not repaired");
        }
    }
}

async fn all(pipeline: &Arc<Pipeline>) -> Result<()> {
    let networks = all_networks(pipeline)?;
    for service in pipeline.registry.list("", "services", "") {
        let tree = service.tree()?;
        for address in cluster_ips(&tree) {
            let inside = address.parse().is_ok_and(|a| networks.iter().any(|n| n.contains(a)));
            if !inside {
                let family = family_of(address);
                let note = format!(
                    "Cluster IP [{family}]: {address} is not within any configured Service CIDR; please recreate service"
                );
                event::warn(pipeline, &tree, CONTROLLER, "ClusterIPOutOfRange", ACTION, &note).await;
                continue;
            }
            one(pipeline, &service, &tree, address).await?;
        }
    }
    for object in pipeline.registry.list(GROUP, "ipaddresses", "") {
        orphan(pipeline, &object).await?;
    }
    Ok(())
}

/// Its name as upstream's events give it.
fn family_of(address: &str) -> &'static str {
    match address.contains(':') {
        true => Family::V6.as_str(),
        false => Family::V4.as_str(),
    }
}

/// The networks of all ServiceCIDRs, ready or not.
fn all_networks(pipeline: &Pipeline) -> Result<Vec<Network>> {
    let mut networks = Vec::new();
    for object in pipeline.registry.list(GROUP, "servicecidrs", "") {
        let tree = object.tree()?;
        let cidrs = tree.pointer("/spec/cidrs").and_then(Value::as_array);
        let cidrs = cidrs.into_iter().flatten().filter_map(Value::as_str);
        networks.extend(cidrs.filter_map(Network::parse));
    }
    Ok(networks)
}

async fn after_change(pipeline: &Arc<Pipeline>, current: &Cached, previous: Option<&Cached>) -> Result<()> {
    let address = current.object.meta.name.to_string();
    for object in [Some(current), previous].into_iter().flatten() {
        let Some((namespace, name)) = ip_address::service_of(&object.tree()?) else {
            continue;
        };
        if let Some(service) = pipeline.registry.get("", "services", &namespace, &name) {
            let tree = service.tree()?;
            if cluster_ips(&tree).contains(&&*address) {
                one(pipeline, &service, &tree, &address).await?;
            }
        }
    }
    match pipeline.registry.get(GROUP, "ipaddresses", "", &address) {
        Some(object) => orphan(pipeline, &object).await,
        None => Ok(()),
    }
}

/// Looks at one address of a Service.
async fn one(pipeline: &Arc<Pipeline>, service: &Cached, tree: &Value, address: &str) -> Result<()> {
    let object = pipeline.registry.get(GROUP, "ipaddresses", "", address);
    let (namespace, name) = (metadata::text(tree, "namespace"), metadata::text(tree, "name"));
    let entry = match &object {
        None => None,
        Some(object) => {
            let holder = match ip_address::service_of(&object.tree()?) {
                Some((n, s)) if n == namespace && s == name => Holder::Own,
                Some((n, s)) => match pipeline.registry.get("", "services", &n, &s) {
                    Some(other) => Holder::Other {
                        has_it: cluster_ips(&other.tree()?).contains(&address),
                    },
                    None => Holder::Nobody,
                },
                None => Holder::Nobody,
            };
            let meta = &object.object.meta;
            let labelled = ip_address::is_managed(&object.object) && meta.label(FAMILY) == Some(family_of(address));
            Some((holder, labelled))
        }
    };
    let repair = of_service(entry.as_ref());
    let warn = |reason: &'static str, note: String| async move {
        event::warn(pipeline, tree, CONTROLLER, reason, ACTION, &note).await;
    };
    if repair == Repair::Report {
        let family = family_of(address);
        let note =
            format!("Cluster IP [{family}]:{address} was assigned to multiple services; please recreate service");
        warn("ClusterIPAlreadyAllocated", note).await;
        return Ok(());
    }
    let Ok(ip) = address.parse::<IpAddr>() else {
        return Ok(());
    };
    if repair == Repair::Leave {
        return Ok(());
    }
    if let (Repair::Recreate, Some(object)) = (&repair, &object) {
        let mut claims = Claims::default();
        claims.delete(&ip_address::served(&pipeline.registry)?, object);
        if !commit(pipeline, service, claims).await? {
            return Ok(());
        }
    }
    let mut claims = Claims::default();
    claims.claim(&pipeline.registry, ip, namespace, name)?;
    // if it failed, the Service or the address has just been written, and what changed is looked at again
    if commit(pipeline, service, claims).await? {
        let family = Family::of(ip).as_str();
        let note = format!("Cluster IP [{family}]: {address} is not allocated; repairing");
        warn("ClusterIPNotAllocated", note).await;
    }
    Ok(())
}

/// Deletes an address of the allocator's that no Service has.
async fn orphan(pipeline: &Arc<Pipeline>, object: &Cached) -> Result<()> {
    if !ip_address::is_managed(&object.object) || !object.object.meta.finalizers.is_empty() {
        return Ok(());
    }
    let tree = object.tree()?;
    let address = &*object.object.meta.name;
    let mut claims = Claims::default();
    let (reason, note) = match ip_address::service_of(&tree) {
        None => {
            let note =
                format!("IPAddress {address} appears to have been modified, not referencing a Service: cleaning up");
            ("IPAddressNotAllocated", note)
        }
        Some((namespace, name)) => {
            let service = pipeline.registry.get("", "services", &namespace, &name);
            let has_it = match &service {
                Some(service) => cluster_ips(&service.tree()?).contains(&address),
                None => false,
            };
            if has_it {
                return Ok(());
            }
            // a Service that is being written together with the address must not lose it
            claims.compare.push(Compare {
                key: service_key(pipeline, &namespace, &name)?,
                target: CompareTarget::ModRevision(service.as_ref().map_or(0, |s| s.revision())),
            });
            match service {
                Some(_) => (
                    "IPAddressWrongReference",
                    format!("IPAddress: {address} for Service {namespace}/{name} has a wrong reference; cleaning up"),
                ),
                None => (
                    "IPAddressNotAllocated",
                    format!("IPAddress: {address} for Service {namespace}/{name} appears to have leaked: cleaning up"),
                ),
            }
        }
    };
    claims.delete(&ip_address::served(&pipeline.registry)?, object);
    if transact(pipeline, claims).await? {
        event::warn(pipeline, &tree, CONTROLLER, reason, "IPAddressAllocation", &note).await;
    }
    Ok(())
}

fn service_key(pipeline: &Pipeline, namespace: &str, name: &str) -> Result<bytes::Bytes> {
    let catalog = pipeline.registry.catalog();
    let served = catalog.stored("", "services");
    served
        .map(|s| s.resource.key(namespace, name))
        .ok_or_else(|| ApiError::internal("services are not served"))
}

/// Makes the changes if the Service is still the one that was read.
async fn commit(pipeline: &Pipeline, service: &Cached, mut claims: Claims) -> Result<bool> {
    let meta = &service.object.meta;
    claims.compare.push(Compare {
        key: service_key(pipeline, &meta.namespace, &meta.name)?,
        target: CompareTarget::ModRevision(service.revision()),
    });
    transact(pipeline, claims).await
}

async fn transact(pipeline: &Pipeline, claims: Claims) -> Result<bool> {
    let txn = Txn {
        compare: claims.compare,
        success: claims.operations,
        failure: Vec::new(),
    };
    Ok(pipeline.registry.store.txn(txn).await?.succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_repaired_unless_another_service_has_it_too() {
        for (entry, wanted) in [
            (None, Repair::Create),
            (Some((Holder::Own, true)), Repair::Leave),
            (Some((Holder::Own, false)), Repair::Recreate),
            (Some((Holder::Nobody, true)), Repair::Recreate),
            (Some((Holder::Other { has_it: false }, true)), Repair::Recreate),
            (Some((Holder::Other { has_it: true }, true)), Repair::Report),
        ] {
            let shown = format!("{entry:?}");
            assert_eq!(of_service(entry.as_ref()), wanted, "{shown}");
        }
    }
}
