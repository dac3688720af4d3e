//! Cluster IPs and node ports of Services: given out when a Service is written, given back when it is deleted. A cluster
//! IP is an IPAddress object, written in the Service's transaction, in a network of a ServiceCIDR that is ready. KEP-1880.

mod families;
pub mod ip_address;
pub mod network;
mod ports;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::field::FieldError;
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::kinds::core::service::has_node_ports;
use crate::registry::Registry;
use crate::registry::commit::Claims;
use crate::registry::metadata;
use crate::registry::resource::Resource;
use crate::tree::text;

pub use network::{Family, Network};

/// The ranges that Services draw from.
#[derive(Debug, Clone)]
pub struct Ranges {
    /// The networks of the ServiceCIDR `kubernetes`: one, or one of each family. The first one's family is the cluster's.
    pub service_networks: Vec<Network>,
    pub node_ports: std::ops::RangeInclusive<u16>,
}

impl Ranges {
    /// The families that Services may have addresses of, the cluster's own first.
    pub fn families(&self) -> Vec<Family> {
        self.service_networks.iter().map(|n| n.family()).collect()
    }
}

/// What a server gives out.
pub struct Allocator {
    pub ranges: Ranges,
    /// What is being written, and so not yet known from the cache.
    in_flight: Mutex<InFlight>,
}

#[derive(Default)]
struct InFlight {
    addresses: HashSet<IpAddr>,
    ports: HashSet<u16>,
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
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Reservation {
    /// The error of a creation that another's claim on the address made fail.
    pub fn lost(&self, service: &Resource, name: &str) -> Option<ApiError> {
        let address = self.addresses.first()?;
        let why = format!("failed to allocate IP {address}: provided IP is already allocated");
        let all: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        let error = FieldError::invalid("spec.clusterIPs", json!(all), why);
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
            // that a name has an address is for validation to refuse, which looks at the list
            if old.is_none() {
                settle(tree, None);
            }
            return Ok(reservation);
        }
        settle(tree, old);
        let wrong = families::settle(tree, old, &self.ranges.families());
        if !wrong.is_empty() {
            return Err(resource.invalid(metadata::text(tree, "name"), &wrong));
        }
        let mut state = self.in_flight();
        for place in missing(tree, old) {
            let taken = |a: IpAddr| {
                let known = registry.get(ip_address::GROUP, "ipaddresses", "", &a.to_string());
                known.is_some() || state.addresses.contains(&a)
            };
            let address = choose(registry, resource, tree, place, taken)?;
            hold(dry_run, &mut state.addresses, &mut reservation.addresses, address);
            set_address(tree, place, address);
        }
        let ports = self.ports(registry, resource, tree, old, (&state.ports, dry_run));
        let held = ports.map(|ports| {
            for port in ports {
                hold(dry_run, &mut state.ports, &mut reservation.ports, port);
            }
        });
        // a reservation that is dropped asks for the same lock
        drop(state);
        held.map(|()| reservation)
    }

    /// Gives a Service its node ports; those that it had not.
    fn ports(
        &self,
        registry: &Registry,
        resource: &Resource,
        tree: &mut Value,
        old: Option<&Value>,
        (in_flight, dry_run): (&HashSet<u16>, bool),
    ) -> Result<Vec<u16>> {
        if !has_node_ports(tree) {
            return Ok(Vec::new());
        }
        let mut used = ports::used(registry)?;
        used.extend(in_flight);
        let mut operation = ports::Operation::new(&self.ranges.node_ports, used, random(registry), dry_run);
        operation.allocate(resource, tree, old)?;
        Ok(operation.taken().collect())
    }
}

/// Whether a Service has an address of the cluster.
fn is_addressed(service: &Value) -> bool {
    text(service, &["spec", "type"]).is_none_or(|kind| kind != "ExternalName")
}

/// The places in `ipFamilies` whose addresses are to be given out. What a Service has it keeps: validation refuses another.
fn missing(service: &Value, old: Option<&Value>) -> std::ops::Range<usize> {
    let count = |service: &Value| {
        let families = service.pointer("/spec/ipFamilies").and_then(Value::as_array);
        families.map_or(0, Vec::len)
    };
    let headless = |service: &Value| text(service, &["spec", "clusterIP"]) == Some("None");
    match old.filter(|old| is_addressed(old)) {
        _ if headless(service) => 0..0,
        None => 0..count(service),
        Some(old) if headless(old) => 0..0,
        // a second family is added
        Some(old) if count(old) == 1 && count(service) == 2 => 1..2,
        Some(_) => 0..0,
    }
}

fn set_address(service: &mut Value, place: usize, address: IpAddr) {
    let all = &mut service["spec"]["clusterIPs"];
    if !all.is_array() {
        *all = json!([]);
    }
    if let Some(all) = all.as_array_mut() {
        all.resize(all.len().max(place + 1), json!(""));
        all[place] = json!(address.to_string());
    }
    if place == 0 {
        service["spec"]["clusterIP"] = json!(address.to_string());
    }
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

/// The address that is asked for in a place of `clusterIPs`, or a free one of the family that stands there.
fn choose(
    registry: &Registry,
    resource: &Resource,
    service: &Value,
    place: usize,
    taken: impl Fn(IpAddr) -> bool,
) -> Result<IpAddr> {
    let name = metadata::text(service, "name");
    let at = |field: &str| {
        service
            .pointer(&format!("/spec/{field}/{place}"))
            .and_then(Value::as_str)
    };
    let family = at("ipFamilies").and_then(Family::named);
    let mut networks = ready_networks(registry)?;
    networks.retain(|n| Some(n.family()) == family);
    let wanted = at("clusterIPs").unwrap_or_default();
    if wanted.is_empty() {
        let random = random(registry);
        let mut all = networks.iter().flat_map(|n| n.candidates(random));
        return all.find(|a| !taken(*a)).ok_or_else(|| {
            ApiError::internal(format!(
                "failed to allocate a serviceIP for Service {name:?}: range is full"
            ))
        });
    }
    let Ok(address) = wanted.parse::<IpAddr>() else {
        let why = api::names::ip_errors(wanted).unwrap_or_default();
        let error = FieldError::invalid(format!("spec.clusterIPs[{place}]"), json!(wanted), why);
        return Err(resource.invalid(name, &[error]));
    };
    let why = if !networks.iter().any(|n| n.contains(address)) {
        "the provided network does not match the current range"
    } else if taken(address) {
        "provided IP is already allocated"
    } else {
        return Ok(address);
    };
    let shown = service.pointer("/spec/clusterIPs").cloned().unwrap_or_default();
    let why = format!("failed to allocate IP {address}: {why}");
    Err(resource.invalid(name, &[FieldError::invalid("spec.clusterIPs", shown, why)]))
}

fn hold<T: Clone + Eq + std::hash::Hash>(dry_run: bool, state: &mut HashSet<T>, mine: &mut Vec<T>, what: T) {
    if !dry_run {
        state.insert(what.clone());
        mine.push(what);
    }
}

fn random(registry: &Registry) -> u64 {
    let mut bytes = [0u8; 8];
    registry.environment.random(&mut bytes);
    u64::from_le_bytes(bytes)
}
