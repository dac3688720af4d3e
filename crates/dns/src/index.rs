//! What names stand for: Services with their ports and endpoints, namespaces, addresses. Pure; a change of one
//! Service costs what that Service is big.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Lower case; empty for a port without a name.
    pub name: String,
    /// "tcp", "udp", "sctp".
    pub protocol: String,
    pub port: u16,
}

/// An endpoint of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub ip: IpAddr,
    /// Its label below the Service: the pod's hostname, else the address with dashes.
    pub host: String,
    pub ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The endpoints have names too, as CoreDNS has it.
    ClusterIp {
        ips: Vec<IpAddr>,
        ports: Vec<Port>,
        endpoints: Vec<Endpoint>,
    },
    Headless {
        endpoints: Vec<Endpoint>,
    },
    ExternalName(String),
}

#[derive(Debug, Default)]
pub struct Index {
    /// By `namespace/name`.
    services: HashMap<String, Entry>,
    namespaces: HashSet<String>,
    /// Address → Service → label below the Service, if it is an endpoint's.
    by_ip: HashMap<IpAddr, BTreeMap<String, Option<String>>>,
}

impl Index {
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.services.get(&format!("{namespace}/{name}"))
    }

    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// Services (`namespace/name`) that an address belongs to, with the label below each.
    pub fn by_ip(&self, ip: IpAddr) -> impl Iterator<Item = (&str, Option<&str>)> {
        let services = self.by_ip.get(&ip).into_iter().flatten();
        services.map(|(service, host)| (service.as_str(), host.as_deref()))
    }

    pub fn set_namespace(&mut self, name: &str, there: bool) {
        if there {
            self.namespaces.insert(name.to_owned());
        } else {
            self.namespaces.remove(name);
        }
    }

    /// Puts in, changes or removes a Service.
    pub fn set_service(&mut self, key: &str, entry: Option<Entry>) {
        if let Some(old) = self.services.remove(key) {
            for (ip, _) in addresses(&old) {
                if let Some(of) = self.by_ip.get_mut(&ip) {
                    of.remove(key);
                    if of.is_empty() {
                        self.by_ip.remove(&ip);
                    }
                }
            }
        }
        if let Some(entry) = entry {
            for (ip, host) in addresses(&entry) {
                self.by_ip.entry(ip).or_default().insert(key.to_owned(), host);
            }
            self.services.insert(key.to_owned(), entry);
        }
    }
}

fn addresses(entry: &Entry) -> Vec<(IpAddr, Option<String>)> {
    match entry {
        Entry::ClusterIp { ips, endpoints, .. } => ips.iter().map(|ip| (*ip, None)).chain(hosts(endpoints)).collect(),
        Entry::Headless { endpoints } => hosts(endpoints).collect(),
        Entry::ExternalName(_) => Vec::new(),
    }
}

fn hosts(endpoints: &[Endpoint]) -> impl Iterator<Item = (IpAddr, Option<String>)> {
    endpoints.iter().map(|e| (e.ip, Some(e.host.clone())))
}

fn is_headless(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|s| s.cluster_ip.as_deref() == Some("None"))
}

/// What a Service's name stands for; nothing while it has no address.
pub fn entry_of(service: &Service, slices: &[EndpointSlice]) -> Option<Entry> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        let name = spec.external_name.as_ref()?.trim_end_matches('.').to_lowercase();
        return (!name.is_empty()).then_some(Entry::ExternalName(name));
    }
    if is_headless(service) {
        return Some(Entry::Headless {
            endpoints: endpoints_of(slices),
        });
    }
    let one = spec.cluster_ip.iter().cloned().collect();
    let ips = spec.cluster_ips.clone().filter(|ips| !ips.is_empty()).unwrap_or(one);
    let ips: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    if ips.is_empty() {
        return None;
    }
    let ports = spec.ports.iter().flatten();
    let ports = ports.filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), Some(p.port)));
    Some(Entry::ClusterIp {
        ips,
        ports: ports.collect(),
        endpoints: endpoints_of(slices),
    })
}

fn port(name: Option<&str>, protocol: Option<&str>, port: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.unwrap_or_default().to_lowercase(),
        protocol: protocol.unwrap_or("TCP").to_lowercase(),
        port: u16::try_from(port?).ok()?,
    })
}

/// The ready endpoints of slices. Those of a Service that publishes all its addresses are marked ready by who writes the slices.
fn endpoints_of(slices: &[EndpointSlice]) -> Vec<Endpoint> {
    let mut all: BTreeMap<(IpAddr, String), Vec<Port>> = BTreeMap::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten();
        let ports: Vec<Port> = ports
            .filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), p.port))
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            if !ready {
                continue;
            }
            for ip in endpoint.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok()) {
                let host = endpoint.hostname.as_ref().filter(|h| !h.is_empty());
                let host = host.map_or_else(|| dashed(ip), |h| h.to_lowercase());
                let known = all.entry((ip, host)).or_default();
                known.extend(ports.iter().filter(|p| !known.contains(p)).cloned().collect::<Vec<_>>());
            }
        }
    }
    let endpoint = |((ip, host), ports)| Endpoint { ip, host, ports };
    all.into_iter().map(endpoint).collect()
}

/// An address as one label.
pub fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// The address that a label of a pod record names.
pub fn undashed(label: &str) -> Option<IpAddr> {
    label
        .replace('-', ".")
        .parse::<std::net::Ipv4Addr>()
        .map(IpAddr::V4)
        .or_else(|_| label.replace('-', ":").parse::<std::net::Ipv6Addr>().map(IpAddr::V6))
        .ok()
}
