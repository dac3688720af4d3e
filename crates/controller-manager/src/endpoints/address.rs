//! What Endpoints and EndpointSlices say of one pod behind a Service.

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::meta::{is_deleting, name, namespace};
use crate::pods::is_terminal;

pub(super) fn is_headless(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
    matches!(ip, Some("None"))
}

pub(super) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true)
}

pub(super) fn ports(service: &Service) -> &[ServicePort] {
    service
        .spec
        .as_ref()
        .and_then(|s| s.ports.as_deref())
        .unwrap_or_default()
}

/// All addresses of a pod.
fn ips(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let all = status.and_then(|s| s.pod_ips.as_deref()).unwrap_or_default();
    let first = status.and_then(|s| s.pod_ip.as_deref()).filter(|_| all.is_empty());
    all.iter().map(|ip| ip.ip.as_str()).chain(first)
}

/// The pod's addresses of `IPv4` or `IPv6`.
pub(super) fn addresses<'a>(pod: &'a Pod, family: &str) -> Vec<&'a str> {
    ips(pod).filter(|ip| ip.contains(':') == (family == "IPv6")).collect()
}

/// Whether a pod belongs to its Services' endpoints at all.
pub(super) fn belongs(pod: &Pod, with_terminating: bool) -> bool {
    !is_terminal(pod) && ips(pod).next().is_some() && (with_terminating || !is_deleting(pod))
}

/// The number behind a Service's port in this pod; a name is looked up among the containers' ports.
pub(super) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let wanted = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let all = spec.containers.iter().chain(sidecars);
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    all.flat_map(|c| c.ports.iter().flatten())
        .find(|p| p.name.as_ref() == Some(wanted) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|p| p.container_port)
}

/// The name DNS gives the pod: only if its subdomain is the Service.
pub(super) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|h| !h.is_empty())?;
    (spec.subdomain.as_deref() == Some(name(service)) && namespace(pod) == namespace(service)).then(|| hostname.clone())
}

pub(super) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The address types that slices of a Service have.
pub(super) fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let stated: Vec<&'static str> = spec
        .and_then(|s| s.ip_families.as_deref())
        .unwrap_or_default()
        .iter()
        .filter_map(|family| ["IPv4", "IPv6"].into_iter().find(|f| f == family))
        .collect();
    if !stated.is_empty() {
        return stated;
    }
    match spec.and_then(|s| s.cluster_ip.as_deref()) {
        Some(ip) if ip.contains(':') => vec!["IPv6"],
        _ => vec!["IPv4"],
    }
}
