//! What names stand for: Services, the endpoints of their slices, namespaces, addresses. Pure; a change costs what the
//! changed Service or slice is big.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// What slices are found by.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// Lower case; empty for a port without a name.
    pub name: String,
    /// "tcp", "udp", "sctp"; empty where nothing has ports.
    pub protocol: String,
    /// Nothing for an address that has no ports: it has no SRV records then.
    pub number: Option<u16>,
}

/// An endpoint of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub ip: IpAddr,
    /// Its label below the Service: the pod's hostname, else the address with dashes.
    pub host: String,
}

/// The ready endpoints of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    /// `namespace/name` of its Service.
    pub service: String,
    pub endpoints: Vec<Endpoint>,
    /// At least one.
    pub ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// At least one port.
    ClusterIp {
        ips: Vec<IpAddr>,
        ports: Vec<Port>,
    },
    Headless,
    ExternalName(String),
}

/// Whom an address belongs to, by key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Service(String),
    Slice(String),
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By `namespace/name`, as slices.
    services: HashMap<String, Entry>,
    slices: HashMap<String, Slice>,
    /// Keys of slices by their Service.
    slices_of: HashMap<String, BTreeSet<String>>,
    namespaces: HashSet<String>,
    by_ip: HashMap<IpAddr, BTreeSet<Owner>>,
    /// Unix time of the last change, in seconds: the serial number of the zone, as CoreDNS has it.
    pub modified: u32,
}

impl Index {
    /// Returns what a Service's name stands for.
    pub(crate) fn service(&self, key: &str) -> Option<&Entry> {
        self.services.get(key)
    }

    /// Returns the slices of a Service `namespace/name`.
    pub(crate) fn slices(&self, service: &str) -> impl Iterator<Item = &Slice> {
        let keys = self.slices_of.get(service).into_iter().flatten();
        keys.filter_map(|key| self.slices.get(key))
    }

    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// Returns the Services (`namespace/name`) that an address belongs to: the one whose cluster address it is, else those that have
    /// it as an endpoint, with the endpoint's label.
    pub(crate) fn by_ip(&self, ip: IpAddr) -> Vec<(&str, Option<&str>)> {
        let owners = || self.by_ip.get(&ip).into_iter().flatten();
        let of_service = owners().find_map(|owner| match owner {
            Owner::Service(key) => Some((key.as_str(), None)),
            Owner::Slice(_) => None,
        });
        if let Some(service) = of_service {
            return vec![service];
        }
        let slices = owners().filter_map(|owner| match owner {
            Owner::Service(_) => None,
            Owner::Slice(key) => self.slices.get(key),
        });
        let hosts = slices.flat_map(|slice| {
            let here = slice.endpoints.iter().filter(|endpoint| endpoint.ip == ip);
            here.map(|endpoint| (slice.service.as_str(), Some(endpoint.host.as_str())))
        });
        hosts.collect()
    }

    pub(crate) fn set_namespace(&mut self, name: &str, there: bool) {
        if there {
            self.namespaces.insert(name.to_owned());
        } else {
            self.namespaces.remove(name);
        }
    }

    /// Puts in, changes or removes a Service.
    pub(crate) fn set_service(&mut self, key: &str, entry: Option<Entry>) {
        let owner = Owner::Service(key.to_owned());
        if let Some(Entry::ClusterIp { ips, .. }) = self.services.remove(key) {
            self.disown(&ips, &owner);
        }
        if let Some(entry) = entry {
            if let Entry::ClusterIp { ips, .. } = &entry {
                self.own(ips, &owner);
            }
            self.services.insert(key.to_owned(), entry);
        }
    }

    /// Puts in, changes or removes a slice.
    pub(crate) fn set_slice(&mut self, key: &str, slice: Option<Slice>) {
        let owner = Owner::Slice(key.to_owned());
        if let Some(old) = self.slices.remove(key) {
            self.disown(&old.addresses(), &owner);
            if let Some(keys) = self.slices_of.get_mut(&old.service) {
                keys.remove(key);
                if keys.is_empty() {
                    self.slices_of.remove(&old.service);
                }
            }
        }
        if let Some(slice) = slice {
            self.own(&slice.addresses(), &owner);
            let keys = self.slices_of.entry(slice.service.clone()).or_default();
            keys.insert(key.to_owned());
            self.slices.insert(key.to_owned(), slice);
        }
    }

    fn own(&mut self, ips: &[IpAddr], owner: &Owner) {
        for ip in ips {
            self.by_ip.entry(*ip).or_default().insert(owner.clone());
        }
    }

    fn disown(&mut self, ips: &[IpAddr], owner: &Owner) {
        for ip in ips {
            if let Some(owners) = self.by_ip.get_mut(ip) {
                owners.remove(owner);
                if owners.is_empty() {
                    self.by_ip.remove(ip);
                }
            }
        }
    }
}

impl Slice {
    fn addresses(&self) -> Vec<IpAddr> {
        self.endpoints.iter().map(|endpoint| endpoint.ip).collect()
    }

    /// Reads a slice; nothing of one that belongs to no Service. Endpoints of a Service that publishes all its addresses are marked
    /// ready by who writes the slices.
    pub(crate) fn of(slice: &EndpointSlice) -> Option<Slice> {
        let metadata = &slice.metadata;
        let service = metadata
            .labels
            .as_ref()?
            .get(SERVICE_NAME)
            .filter(|name| !name.is_empty())?;
        let ready = |ready: Option<bool>| ready.unwrap_or(true);
        let endpoints = slice.endpoints.iter().flatten();
        let endpoints = endpoints.filter(|e| ready(e.conditions.as_ref().and_then(|c| c.ready)));
        let endpoints = endpoints.flat_map(|endpoint| {
            let host = endpoint.hostname.as_deref().filter(|host| !host.is_empty());
            let ips = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
            ips.map(move |ip| Endpoint {
                ip,
                host: host.map_or_else(|| dashed(ip), str::to_lowercase),
            })
        });
        let ports = slice.ports.iter().flatten();
        let ports = ports.map(|p| port(p.name.as_deref(), p.protocol.as_deref().unwrap_or_default(), p.port));
        Some(Slice {
            service: format!("{}/{service}", metadata.namespace.as_deref().unwrap_or_default()),
            endpoints: endpoints.collect(),
            ports: or_none(ports.collect()),
        })
    }
}

impl Entry {
    /// Reads a Service; nothing while it has no address.
    pub(crate) fn of(service: &Service) -> Option<Entry> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            let name = spec.external_name.as_ref()?.trim_end_matches('.').to_lowercase();
            return (!name.is_empty()).then_some(Entry::ExternalName(name));
        }
        if spec.cluster_ip.as_deref() == Some("None") {
            return Some(Entry::Headless);
        }
        let one = spec.cluster_ip.iter().cloned().collect();
        let ips = spec.cluster_ips.clone().filter(|ips| !ips.is_empty()).unwrap_or(one);
        let ips: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        let ports = spec.ports.iter().flatten();
        let ports = ports.map(|p| port(p.name.as_deref(), p.protocol.as_deref().unwrap_or("TCP"), Some(p.port)));
        let ports = or_none(ports.collect());
        (!ips.is_empty()).then_some(Entry::ClusterIp { ips, ports })
    }
}

fn port(name: Option<&str>, protocol: &str, number: Option<i32>) -> Port {
    Port {
        name: name.unwrap_or_default().to_lowercase(),
        protocol: protocol.to_lowercase(),
        number: number.and_then(|number| u16::try_from(number).ok()),
    }
}

/// What has no ports has addresses all the same.
fn or_none(ports: Vec<Port>) -> Vec<Port> {
    if ports.is_empty() {
        return vec![port(None, "", None)];
    }
    ports
}

/// Returns an address as one label.
fn dashed(ip: IpAddr) -> String {
    let label = ip.to_string().replace(['.', ':'], "-");
    // no label ends with a dash
    if label.ends_with('-') { label + "0" } else { label }
}

/// Returns the address that a label of a pod record names.
pub(crate) fn undashed(label: &str) -> Option<IpAddr> {
    let is_v4 = label.matches('-').count() == 3 && !label.contains("--");
    match is_v4 {
        true => label.replace('-', ".").parse().map(IpAddr::V4).ok(),
        false => label.replace('-', ":").parse().map(IpAddr::V6).ok(),
    }
}
