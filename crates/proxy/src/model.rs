//! Services and EndpointSlices as far as one family's rules need them. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cni::link::Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// One port of a Service with the addresses of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServicePort {
    pub namespace: String,
    pub name: String,
    /// Empty for a port without a name.
    pub port_name: String,
    pub protocol: Protocol,
    pub cluster_ip: IpAddr,
    pub port: u16,
    pub node_port: Option<u16>,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    pub source_ranges: Vec<Net>,
    /// Seconds that a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn parse(text: Option<&str>) -> Option<Protocol> {
        match text.unwrap_or("TCP") {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl ServicePort {
    pub(crate) fn externally_accessible(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    pub(crate) fn uses_cluster_endpoints(&self) -> bool {
        !self.internal_local || self.externally_accessible()
    }

    pub(crate) fn uses_local_endpoints(&self) -> bool {
        self.internal_local || (self.external_local && self.externally_accessible())
    }

    pub(crate) fn service_ips(&self) -> impl Iterator<Item = IpAddr> {
        let external = self.external_ips.iter().chain(&self.load_balancer_ips).copied();
        std::iter::once(self.cluster_ip).chain(external)
    }
}

/// An endpoint of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub local: bool,
    pub zones: Vec<String>,
    pub nodes: Vec<String>,
}

/// The health check that a load balancer asks this node for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub port: u16,
    /// Local ready endpoints.
    pub endpoints: usize,
}

/// A Service's ports in one family, each with its endpoints. Empty if the proxy has nothing to do with it.
pub(crate) fn ports_of(
    service: &Service,
    slices: &[EndpointSlice],
    v6: bool,
    node: &str,
) -> Vec<(ServicePort, Vec<Endpoint>)> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let of_family = |ips: &[String]| -> Vec<IpAddr> {
        let ips = ips.iter().filter_map(|ip| ip.parse::<IpAddr>().ok());
        ips.filter(|ip| ip.is_ipv6() == v6).collect()
    };
    let cluster_ips = match &spec.cluster_ips {
        Some(ips) => of_family(ips),
        None => of_family(&spec.cluster_ip.iter().cloned().collect::<Vec<_>>()),
    };
    let Some(cluster_ip) = cluster_ips.first() else {
        return Vec::new();
    };
    let load_balancer = spec.type_.as_deref() == Some("LoadBalancer");
    let ingress = service
        .status
        .iter()
        .filter_map(|s| s.load_balancer.as_ref()?.ingress.as_ref())
        .flatten();
    let ingress: Vec<String> = ingress
        .filter(|i| load_balancer && i.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|i| i.ip.clone())
        .collect();
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    let source_ranges: Vec<Net> = ranges
        .filter_map(|r| r.trim().parse::<Net>().ok())
        .filter(|net| net.ip.is_ipv6() == v6)
        .collect();
    let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec
            .session_affinity_config
            .as_ref()
            .and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
        config.and_then(|s| u32::try_from(s).ok()).unwrap_or(10_800)
    });
    let mut ports = Vec::new();
    for port in spec.ports.iter().flatten() {
        let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else {
            continue;
        };
        let port_name = port.name.clone().unwrap_or_default();
        let endpoints = endpoints_of(slices, &port_name, v6, node);
        let number = |n: i32| u16::try_from(n).ok().filter(|n| *n != 0);
        let Some(port_number) = number(port.port) else {
            continue;
        };
        let of = ServicePort {
            namespace: service.metadata.namespace.clone().unwrap_or_default(),
            name: service.metadata.name.clone().unwrap_or_default(),
            port_name,
            protocol,
            cluster_ip: *cluster_ip,
            port: port_number,
            node_port: port.node_port.and_then(number),
            external_ips: of_family(spec.external_ips.as_deref().unwrap_or_default()),
            load_balancer_ips: of_family(&ingress),
            source_ranges: if load_balancer {
                source_ranges.clone()
            } else {
                Vec::new()
            },
            affinity_seconds,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        };
        ports.push((of, endpoints));
    }
    ports
}

/// Endpoints of the port of this name from all slices of the family, in the order of their addresses. An address
/// that moves from one slice to another may be in both for a moment: it counts once, and the better state wins.
fn endpoints_of(slices: &[EndpointSlice], port_name: &str, v6: bool, node: &str) -> Vec<Endpoint> {
    let wanted = if v6 { "IPv6" } else { "IPv4" };
    let mut all: BTreeMap<(IpAddr, u16), Endpoint> = BTreeMap::new();
    for slice in slices.iter().filter(|s| s.address_type == wanted) {
        let port = slice
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref().unwrap_or("") == port_name);
        let Some(port) = port.and_then(|p| u16::try_from(p.port?).ok()) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(ip) = endpoint.addresses.first().and_then(|a| a.parse::<IpAddr>().ok()) else {
                continue;
            };
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            let hints = endpoint.hints.clone().unwrap_or_default();
            let new = Endpoint {
                ip,
                port,
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
                local: endpoint.node_name.as_deref() == Some(node),
                zones: hints.for_zones.into_iter().flatten().map(|z| z.name).collect(),
                nodes: hints.for_nodes.into_iter().flatten().map(|n| n.name).collect(),
            };
            match all.get(&(ip, port)) {
                Some(known) if known.ready || (known.serving && !new.ready) => {}
                _ => {
                    all.insert((ip, port), new);
                }
            }
        }
    }
    all.into_values().collect()
}

/// The health check of a LoadBalancer Service with external traffic policy Local.
pub(crate) fn health_check_of(service: &Service, slices: &[EndpointSlice], node: &str) -> Option<HealthCheck> {
    let spec = service.spec.as_ref()?;
    let load_balancer = spec.type_.as_deref() == Some("LoadBalancer");
    if !load_balancer || spec.external_traffic_policy.as_deref() != Some("Local") {
        return None;
    }
    let port = u16::try_from(spec.health_check_node_port?).ok().filter(|p| *p != 0)?;
    let mut local: Vec<String> = Vec::new();
    for endpoint in slices.iter().flat_map(|s| s.endpoints.iter().flatten()) {
        let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
        if ready && endpoint.node_name.as_deref() == Some(node) {
            local.extend(endpoint.addresses.first().cloned());
        }
    }
    local.sort();
    local.dedup();
    Some(HealthCheck {
        port,
        endpoints: local.len(),
    })
}
