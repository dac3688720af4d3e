//! The older `Endpoints` of a Service: addresses grouped by the ports they serve.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::address;
use super::slices::HEADLESS;
use crate::meta::name;
use crate::pods::{is_ready, node_name};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MOST_ADDRESSES: usize = 1000;

/// An address and its pod's uid.
type AddressKey = (String, Option<String>);
/// Addresses, and whether they are ready.
type Addresses = BTreeMap<AddressKey, (EndpointAddress, bool)>;
/// Name, protocol and number; none for a headless Service without ports.
type PortKey = Option<(String, String, i32)>;
type ByPort = BTreeMap<PortKey, (Option<EndpointPort>, Addresses)>;
type ByAddresses = BTreeMap<Vec<AddressKey>, (Vec<EndpointPort>, Addresses)>;

pub(super) fn subsets(service: &Service, pods: &[Pod]) -> Vec<EndpointSubset> {
    let not_ready_too = address::publishes_not_ready(service);
    let family = address::families(service).first().copied().unwrap_or("IPv4");
    let mut by_port = ByPort::new();
    for pod in pods.iter().filter(|p| address::belongs(p, not_ready_too)) {
        let Some(ip) = address::addresses(pod, family).first().map(|ip| (*ip).to_owned()) else {
            continue;
        };
        let at = EndpointAddress {
            ip: ip.clone(),
            hostname: address::hostname(pod, service),
            node_name: Some(node_name(pod).to_owned()).filter(|n| !n.is_empty()),
            target_ref: Some(address::target(pod)),
        };
        let value = (at, not_ready_too || is_ready(pod));
        let key = (ip, pod.metadata.uid.clone());
        let mut add = |port: Option<EndpointPort>| {
            let sort = port.as_ref().map(|p| {
                let text = |t: &Option<String>| t.clone().unwrap_or_default();
                (text(&p.name), text(&p.protocol), p.port)
            });
            let entry = by_port.entry(sort).or_insert_with(|| (port, Addresses::new()));
            entry.1.insert(key.clone(), value.clone());
        };
        let ports = address::ports(service);
        if ports.is_empty() && address::is_headless(service) {
            add(None);
        }
        for port in ports {
            if let Some(number) = address::target_port(pod, port) {
                add(Some(EndpointPort {
                    name: port.name.clone().filter(|n| !n.is_empty()),
                    port: number,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                    app_protocol: port.app_protocol.clone(),
                }));
            }
        }
    }
    // Ports served by the same pods share a subset.
    let mut grouped = ByAddresses::new();
    for (_, (port, addresses)) in by_port {
        let key: Vec<_> = addresses.keys().cloned().collect();
        let entry = grouped.entry(key).or_insert_with(|| (Vec::new(), addresses));
        entry.0.extend(port);
    }
    let some = |v: Vec<EndpointAddress>| (!v.is_empty()).then_some(v);
    let split = |addresses: Addresses| -> (Vec<_>, Vec<_>) {
        let (ready, not): (Vec<_>, Vec<_>) = addresses.into_values().partition(|(_, ready)| *ready);
        (
            ready.into_iter().map(|(a, _)| a).collect(),
            not.into_iter().map(|(a, _)| a).collect(),
        )
    };
    grouped
        .into_values()
        .map(|(ports, addresses)| {
            let (ready, not_ready) = split(addresses);
            EndpointSubset {
                addresses: some(ready),
                not_ready_addresses: some(not_ready),
                ports: (!ports.is_empty()).then_some(ports),
            }
        })
        .collect()
}

/// Cuts to what one object may hold, ready addresses first. Says whether it did.
fn truncate(subsets: &mut Vec<EndpointSubset>) -> bool {
    let mut room = MOST_ADDRESSES;
    let mut cut = false;
    let mut take = |list: &mut Option<Vec<EndpointAddress>>| {
        if let Some(addresses) = list {
            cut |= addresses.len() > room;
            addresses.truncate(room);
            room -= addresses.len();
        }
    };
    for subset in subsets.iter_mut() {
        take(&mut subset.addresses);
    }
    for subset in subsets.iter_mut() {
        take(&mut subset.not_ready_addresses);
    }
    subsets.retain(|s| {
        let count = |l: &Option<Vec<EndpointAddress>>| l.as_ref().map_or(0, Vec::len);
        count(&s.addresses) + count(&s.not_ready_addresses) > 0
    });
    cut
}

/// The Endpoints to write, or none if they are right already.
pub(super) fn plan(service: &Service, pods: &[Pod], existing: Option<&Endpoints>) -> Option<Endpoints> {
    let mut subsets = subsets(service, pods);
    let cut = truncate(&mut subsets);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if address::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    let mut meta = existing.map(|e| e.metadata.clone()).unwrap_or_else(|| ObjectMeta {
        name: Some(name(service).to_owned()),
        namespace: service.metadata.namespace.clone(),
        ..ObjectMeta::default()
    });
    meta.labels = Some(labels);
    let annotations = meta.annotations.get_or_insert_default();
    if cut {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if annotations.is_empty() {
        meta.annotations = None;
    }
    let endpoints = Endpoints {
        metadata: meta,
        subsets: (!subsets.is_empty()).then_some(subsets),
    };
    let comparable = |e: &Endpoints| {
        let annotations = e.metadata.annotations.clone().unwrap_or_default();
        (
            e.metadata.labels.clone(),
            annotations,
            e.subsets.clone().unwrap_or_default(),
        )
    };
    let right = existing.is_some_and(|e| comparable(e) == comparable(&endpoints));
    (!right).then_some(endpoints)
}
