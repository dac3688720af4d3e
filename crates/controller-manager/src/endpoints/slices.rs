//! EndpointSlices of a Service: what they should hold, and the smallest change of the existing ones to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::address;
use crate::meta::{controller_reference, is_deleting, name, uid};
use crate::metrics::Held;
use crate::pods::{is_ready, node_name};

pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";
const MOST_ENDPOINTS: usize = 100;

/// Address type and ports: what the endpoints of one slice have in common.
type Shape = (String, String);

/// The nodes that are there, with their zones.
pub(super) type Nodes = HashMap<String, Option<String>>;

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<EndpointSlice>,
}

fn shape(family: &str, ports: &[EndpointPort]) -> Shape {
    let mut texts: Vec<String> = ports
        .iter()
        .map(|p| {
            format!(
                "{}/{}/{}/{}",
                p.name.as_deref().unwrap_or_default(),
                p.protocol.as_deref().unwrap_or("TCP"),
                p.port.unwrap_or(0),
                p.app_protocol.as_deref().unwrap_or_default()
            )
        })
        .collect();
    texts.sort();
    (family.to_owned(), texts.join(","))
}

fn endpoint_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = address::ports(service).iter();
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(address::target_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn endpoint(service: &Service, pod: &Pod, addresses: Vec<&str>, nodes: &Nodes) -> Endpoint {
    let (serving, terminating) = (is_ready(pod), is_deleting(pod));
    let ready = address::publishes_not_ready(service) || (serving && !terminating);
    let node = Some(node_name(pod)).filter(|n| !n.is_empty());
    Endpoint {
        addresses: addresses.into_iter().map(str::to_owned).collect(),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: address::hostname(pod, service),
        node_name: node.map(str::to_owned),
        target_ref: Some(address::target(pod)),
        zone: node.and_then(|n| nodes.get(n)).cloned().flatten(),
        ..Endpoint::default()
    }
}

/// `spec.trafficDistribution` as hints for proxies.
fn add_hints(service: &Service, endpoints: &mut [Endpoint]) {
    let distribution = service.spec.as_ref().and_then(|s| s.traffic_distribution.as_deref());
    let same_node = distribution == Some("PreferSameNode");
    if !same_node && !matches!(distribution, Some("PreferClose" | "PreferSameZone")) {
        return;
    }
    for endpoint in endpoints {
        if endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(true) {
            continue;
        }
        let nodes = endpoint.node_name.clone().filter(|_| same_node);
        let zone = endpoint.zone.clone();
        endpoint.hints = Some(EndpointHints {
            for_zones: zone.map(|name| vec![ForZone { name }]),
            for_nodes: nodes.map(|name| vec![ForNode { name }]),
        });
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), name(service).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if address::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn new_slice(service: &Service, family: &str, ports: Vec<EndpointPort>, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name(service))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        ports: Some(ports),
        endpoints: Some(endpoints),
    }
}

fn identity(endpoint: &Endpoint) -> (Option<String>, Vec<String>) {
    let uid = endpoint.target_ref.as_ref().and_then(|t| t.uid.clone());
    (uid, endpoint.addresses.clone())
}

/// Whether the node of a pod is not there (any more): whoever does not want unready pods is not sent to it.
pub(super) fn is_stranded(service: &Service, pod: &Pod, nodes: &Nodes) -> bool {
    !address::publishes_not_ready(service) && !nodes.contains_key(node_name(pod)) && !node_name(pod).is_empty()
}

/// Brings the slices of a Service to what its pods say.
pub(super) fn plan(service: &Service, pods: &[Pod], nodes: &Nodes, existing: Vec<EndpointSlice>) -> Plan {
    let mut wanted: BTreeMap<Shape, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    let families = address::families(service);
    let there = |pod: &&Pod| address::belongs(pod, true) && !is_stranded(service, pod, nodes);
    for pod in pods.iter().filter(there) {
        for family in &families {
            let addresses = address::addresses(pod, family);
            if addresses.is_empty() {
                continue;
            }
            // a pod without the port that is asked for by name is there without one
            let ports = endpoint_ports(service, pod);
            let entry = wanted
                .entry(shape(family, &ports))
                .or_insert_with(|| (ports, Vec::new()));
            entry.1.push(endpoint(service, pod, addresses, nodes));
        }
    }
    // A Service without endpoints has one empty slice of each family, which says so.
    for family in &families {
        if !wanted.keys().any(|(f, _)| f == family) {
            wanted.insert(shape(family, &[]), (Vec::new(), Vec::new()));
        }
    }
    let mut plan = Plan::default();
    let mut by_shape: BTreeMap<Shape, Vec<EndpointSlice>> = BTreeMap::new();
    // those of an earlier Service of this name are in the way
    let (existing, foreign) = existing.into_iter().partition(|slice| is_owned(slice, service));
    plan.delete = foreign;
    for slice in existing {
        let shape = shape(&slice.address_type, slice.ports.as_deref().unwrap_or_default());
        by_shape.entry(shape).or_default().push(slice);
    }
    for (shape, (ports, mut endpoints)) in wanted {
        add_hints(service, &mut endpoints);
        let slices = by_shape.remove(&shape).unwrap_or_default();
        fill(service, &shape.0, &ports, endpoints, slices, &mut plan);
    }
    plan.delete.extend(by_shape.into_values().flatten());
    reuse(&mut plan, service);
    plan
}

/// How many endpoints a plan adds and removes, and what there is once it is done.
pub(super) fn count(before: &[EndpointSlice], plan: &Plan) -> (usize, usize, Held) {
    let gone = |slice: &EndpointSlice| {
        plan.delete
            .iter()
            .chain(&plan.update)
            .any(|other| name(other) == name(slice))
    };
    let stays = before.iter().filter(|slice| !gone(slice));
    let after: Vec<&EndpointSlice> = stays.chain(&plan.update).chain(&plan.create).collect();
    let of = |slices: &mut dyn Iterator<Item = &EndpointSlice>| {
        let mut all = BTreeSet::new();
        for slice in slices {
            let shape = shape(&slice.address_type, slice.ports.as_deref().unwrap_or_default());
            let addresses = slice
                .endpoints
                .iter()
                .flatten()
                .flat_map(|endpoint| endpoint.addresses.first());
            all.extend(addresses.map(|address| (shape.clone(), address.clone())));
        }
        all
    };
    let (old, new) = (of(&mut before.iter()), of(&mut after.iter().copied()));
    let mut sizes = BTreeMap::<&Shape, usize>::new();
    for (shape, _) in &new {
        *sizes.entry(shape).or_default() += 1;
    }
    let desired: usize = sizes.values().map(|size| size.div_ceil(MOST_ENDPOINTS)).sum();
    let held = Held {
        endpoints: new.len() as u64,
        slices: after.len() as u64,
        // a Service without endpoints has one that says so
        desired: desired.max(1) as u64,
        traffic: None,
    };
    (new.difference(&old).count(), old.difference(&new).count(), held)
}

fn is_owned(slice: &EndpointSlice, service: &Service) -> bool {
    let owners = slice.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.uid == uid(service))
}

/// A slice that would go becomes one that would be made: who watches sees one change and no gap.
fn reuse(plan: &mut Plan, service: &Service) {
    let mut gone = std::mem::take(&mut plan.delete);
    gone.retain(|old| {
        let new = plan.create.last().filter(|new| new.address_type == old.address_type);
        if new.is_none() || !is_owned(old, service) {
            return true;
        }
        if let Some(mut new) = plan.create.pop() {
            new.metadata.name.clone_from(&old.metadata.name);
            plan.update.push(new);
        }
        false
    });
    plan.delete = gone;
}

/// Endpoints stay in the slice they are in; new ones go where there is room.
fn fill(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
    slices: Vec<EndpointSlice>,
    plan: &mut Plan,
) {
    let mut left: BTreeMap<(Option<String>, Vec<String>), Endpoint> =
        endpoints.into_iter().map(|e| (identity(&e), e)).collect();
    let empty = left.is_empty();
    let labels = labels(service);
    let mut kept: Vec<(EndpointSlice, bool)> = Vec::new();
    for mut slice in slices {
        let mut changed = slice.metadata.labels.as_ref() != Some(&labels);
        let before = slice.endpoints.take().unwrap_or_default();
        let mut after = Vec::new();
        for old in &before {
            match left.remove(&identity(old)) {
                Some(new) => {
                    changed |= new != *old;
                    after.push(new);
                }
                None => changed = true,
            }
        }
        slice.metadata.labels = Some(labels.clone());
        slice.endpoints = Some(after);
        kept.push((slice, changed));
    }
    let mut left: Vec<Endpoint> = left.into_values().collect();
    // The fullest first, so that the fewest slices change.
    kept.sort_by_key(|(slice, _)| std::cmp::Reverse(slice.endpoints.as_ref().map_or(0, Vec::len)));
    for (slice, changed) in &mut kept {
        let inside = slice.endpoints.get_or_insert_default();
        let room = MOST_ENDPOINTS.saturating_sub(inside.len()).min(left.len());
        if room > 0 {
            inside.extend(left.drain(..room));
            *changed = true;
        }
    }
    let mut first_empty = empty;
    for (slice, changed) in kept {
        let is_empty = slice.endpoints.as_ref().is_none_or(Vec::is_empty);
        if is_empty && !std::mem::take(&mut first_empty) {
            plan.delete.push(slice);
        } else if changed {
            plan.update.push(slice);
        }
        if !is_empty {
            first_empty = false;
        }
    }
    if first_empty {
        plan.create.push(new_slice(service, family, ports.to_vec(), Vec::new()));
    }
    while !left.is_empty() {
        let chunk: Vec<Endpoint> = left.drain(..left.len().min(MOST_ENDPOINTS)).collect();
        plan.create.push(new_slice(service, family, ports.to_vec(), chunk));
    }
}

/// Slices that belong to one Service and to this controller.
pub(super) fn is_ours(slice: &api::object::Object, service: &str) -> bool {
    slice.meta.label(SERVICE_NAME) == Some(service) && slice.meta.label(MANAGED_BY) == Some(MANAGER)
}

/// The distinct ports of a Service's slices, for tests and logs.
#[cfg(test)]
pub(super) fn port_numbers(slice: &EndpointSlice) -> std::collections::BTreeSet<i32> {
    slice.ports.iter().flatten().filter_map(|p| p.port).collect()
}
