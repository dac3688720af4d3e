//! Cluster IPs and node ports of Services: given out when a Service is written, given back when it is deleted. A cluster
//! IP is an IPAddress object, written in the Service's transaction, in a network of a ServiceCIDR that is ready. KEP-1880.

mod families;
pub mod ip_address;
pub mod network;
mod ports;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::field::FieldError;
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::registry::Registry;
use crate::registry::commit::Claims;
use crate::registry::metadata;
use crate::registry::resource::Resource;
use crate::tree::text;

pub use network::Network;

/// The ranges that Services draw from.
#[derive(Debug, Clone)]
pub struct Ranges {
    /// The network of the ServiceCIDR `kubernetes`.
    pub service_network: Network,
    pub node_ports: std::ops::RangeInclusive<u16>,
}

/// What a server gives out.
pub struct Allocator {
    pub ranges: Ranges,
    /// What is being written, and so not yet known from the cache.
    in_flight: Mutex<InFlight>,
}

#[derive(Default)]
struct InFlight {
    addresses: HashSet<Ipv4Addr>,
    ports: HashSet<ports::Port>,
}

impl Allocator {
    /// An allocator of these ranges, with nothing given out.
    pub fn new(ranges: Ranges) -> Arc<Allocator> {
        Arc::new(Allocator {
            ranges,
            in_flight: Mutex::default(),
        })
    }

    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one write holds, until it is made and the cache knows what is in use, or is not.
pub struct Reservation {
    of: Arc<Allocator>,
    addresses: Vec<Ipv4Addr>,
    ports: Vec<ports::Port>,
}

impl Reservation {
    /// The error of a creation that another's claim on the address made fail.
    pub fn lost(&self, service: &Resource, name: &str) -> Option<ApiError> {
        let address = self.addresses.first()?.to_string();
        let why = format!("failed to allocate IP {address}: provided IP is already allocated");
        let error = FieldError::invalid("spec.clusterIPs", json!([address]), why);
        Some(service.invalid(name, &[error]))
    }

    /// What a Service's transaction does to IPAddresses: those reserved are taken, those it no longer has given back.
    pub fn claims(&self, registry: &Registry, tree: &Value, old: Option<&Value>) -> Result<Claims> {
        let (namespace, name) = (metadata::text(tree, "namespace"), metadata::text(tree, "name"));
        let mut claims = Claims::default();
        for address in &self.addresses {
            claims.claim(registry, *address, namespace, name)?;
        }
        let kept = cluster_ips(tree);
        for address in old.map(cluster_ips).unwrap_or_default() {
            if !kept.contains(&address) {
                claims.release(registry, address, namespace, name)?;
            }
        }
        Ok(claims)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.addresses.is_empty() && self.ports.is_empty() {
            return;
        }
        let mut state = self.of.in_flight();
        for address in self.addresses.drain(..) {
            state.addresses.remove(&address);
        }
        for port in self.ports.drain(..) {
            state.ports.remove(&port);
        }
    }
}

/// The addresses that a Service has.
pub fn cluster_ips(service: &Value) -> Vec<&str> {
    let list = service.pointer("/spec/clusterIPs").and_then(Value::as_array);
    let ips = list.into_iter().flatten().filter_map(Value::as_str);
    ips.filter(|ip| !matches!(*ip, "" | "None")).collect()
}

/// What the end of an object gives back. Other kinds than Services give nothing.
pub fn release(registry: &Registry, resource: &Resource, old: &Value) -> Result<Claims> {
    let mut claims = Claims::default();
    if resource.rules.allocates {
        for address in cluster_ips(old) {
            claims.release(
                registry,
                address,
                metadata::text(old, "namespace"),
                metadata::text(old, "name"),
            )?;
        }
    }
    Ok(claims)
}

/// The networks that addresses are given out of, the cluster's own first.
fn ready_networks(registry: &Registry) -> Result<Vec<Network>> {
    let mut networks = Vec::new();
    for object in registry.list(ip_address::GROUP, "servicecidrs", "") {
        if object.object.meta.deleting {
            continue;
        }
        let tree = object.tree()?;
        if network::is_ready(&tree) == Some(true) {
            let own = *object.object.meta.name != *network::DEFAULT;
            let cidrs = tree.pointer("/spec/cidrs").and_then(Value::as_array);
            let cidrs = cidrs.into_iter().flatten().filter_map(Value::as_str);
            networks.extend(cidrs.filter_map(Network::parse).map(|n| (own, n)));
        }
    }
    networks.sort_by_key(|(own, _)| *own);
    Ok(networks.into_iter().map(|(_, n)| n).collect())
}

impl Allocator {
    /// Completes a Service's addresses and ports. Other kinds pass.
    pub fn allocate(
        self: &Arc<Allocator>,
        registry: &Registry,
        resource: &Resource,
        tree: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Reservation> {
        let mut reservation = Reservation {
            of: self.clone(),
            addresses: Vec::new(),
            ports: Vec::new(),
        };
        if !resource.rules.allocates {
            return Ok(reservation);
        }
        let kind = text(tree, &["spec", "type"]).unwrap_or("ClusterIP");
        // what is refused later must not be given addresses before
        if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
            return Ok(reservation);
        }
        settle(tree, old);
        let wrong = families::settle(tree, old);
        if !wrong.is_empty() {
            return Err(resource.invalid(metadata::text(tree, "name"), &wrong));
        }
        let mut state = self.in_flight();
        let wanted = text(tree, &["spec", "clusterIP"]).unwrap_or_default();
        // a Service that has its address keeps it: validation refuses another
        if wanted != "None" && !old.is_some_and(is_addressed) {
            let taken = |a: Ipv4Addr| {
                let known = registry.get(ip_address::GROUP, "ipaddresses", "", &a.to_string());
                known.is_some() || state.addresses.contains(&a)
            };
            let address = choose(registry, resource, tree, wanted, taken)?;
            hold(dry_run, &mut state.addresses, &mut reservation.addresses, address);
            tree["spec"]["clusterIP"] = json!(address.to_string());
            tree["spec"]["clusterIPs"] = json!([address.to_string()]);
        }
        let mut ports = ports::Ports {
            registry,
            resource,
            range: &self.ranges.node_ports,
            state: &mut state,
            reservation: &mut reservation,
            dry_run,
        };
        let result = ports.allocate(tree, old);
        // a reservation that is dropped asks for the same lock
        drop(state);
        result.map(|()| reservation)
    }
}

/// Whether a Service has an address of the cluster.
fn is_addressed(service: &Value) -> bool {
    text(service, &["spec", "type"]).is_none_or(|kind| kind != "ExternalName")
}

/// Makes the one address and the list of addresses agree for clients that know only the one. Where both are said and do not
/// agree, validation refuses them.
fn settle(tree: &mut Value, old: Option<&Value>) {
    let spec_of = |service: &Value| {
        let one = text(service, &["spec", "clusterIP"]).unwrap_or_default().to_owned();
        let all = service.pointer("/spec/clusterIPs").cloned().unwrap_or_default();
        (one, all)
    };
    let none = |all: &Value| all.as_array().is_none_or(Vec::is_empty);
    let (mut one, mut all) = spec_of(tree);
    let Some(old) = old.filter(|old| is_addressed(old)) else {
        if !one.is_empty() && none(&all) {
            tree["spec"]["clusterIPs"] = json!([one]);
        }
        return;
    };
    let (had, had_all) = spec_of(old);
    if one.is_empty() {
        one.clone_from(&had);
    }
    if none(&all) && one == had {
        all.clone_from(&had_all);
    }
    if one != had && (all == had_all || none(&all)) {
        all = json!([one]);
    }
    tree["spec"]["clusterIP"] = json!(one);
    tree["spec"]["clusterIPs"] = all;
}

/// The address asked for, or a free one.
fn choose(
    registry: &Registry,
    resource: &Resource,
    service: &Value,
    wanted: &str,
    taken: impl Fn(Ipv4Addr) -> bool,
) -> Result<Ipv4Addr> {
    let name = metadata::text(service, "name");
    let networks = ready_networks(registry)?;
    if wanted.is_empty() {
        let random = random(registry);
        let mut all = networks.iter().flat_map(|n| n.candidates(random));
        return all.find(|a| !taken(*a)).ok_or_else(|| {
            ApiError::internal(format!(
                "failed to allocate a serviceIP for Service {name:?}: range is full"
            ))
        });
    }
    let why = match wanted.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) if !networks.iter().any(|n| n.contains(v4)) => {
            format!("failed to allocate IP {v4}: the provided network does not match the current range")
        }
        Ok(IpAddr::V4(v4)) if taken(v4) => format!("failed to allocate IP {v4}: provided IP is already allocated"),
        Ok(IpAddr::V4(v4)) => return Ok(v4),
        Ok(IpAddr::V6(_)) => "IPv6 is not configured on this cluster".into(),
        Err(_) => {
            let why = api::names::ip_errors(wanted).unwrap_or_default();
            let error = FieldError::invalid("spec.clusterIPs[0]", json!(wanted), why);
            return Err(resource.invalid(name, &[error]));
        }
    };
    let error = FieldError::invalid("spec.clusterIPs", json!([wanted]), why);
    Err(resource.invalid(name, &[error]))
}

fn hold<T: Clone + Eq + std::hash::Hash>(dry_run: bool, state: &mut HashSet<T>, mine: &mut Vec<T>, what: T) {
    if !dry_run {
        state.insert(what.clone());
        mine.push(what);
    }
}

fn random(registry: &Registry) -> u32 {
    let mut bytes = [0u8; 4];
    registry.environment.random(&mut bytes);
    u32::from_le_bytes(bytes)
}
