//! Cluster IPs and node ports of Services: given out when a Service is written, given back when it is deleted.
//! What is in use is known from the Services in the cache; what is being written is reserved here until it is.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use api::field::FieldError;
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::registry::Registry;
use crate::registry::metadata;
use crate::registry::resource::Resource;
use crate::strategy::service::needs_health_check;
use crate::strategy::text;

/// The ranges that Services draw from.
#[derive(Debug, Clone)]
pub struct Ranges {
    pub service_network: Ipv4Addr,
    pub service_prefix: u8,
    pub node_ports: std::ops::RangeInclusive<u16>,
}

static RANGES: OnceLock<Ranges> = OnceLock::new();

#[derive(Default)]
struct InFlight {
    addresses: HashSet<Ipv4Addr>,
    ports: HashSet<(u16, String)>,
}

fn in_flight() -> std::sync::MutexGuard<'static, InFlight> {
    static STATE: OnceLock<Mutex<InFlight>> = OnceLock::new();
    STATE
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Sets the ranges, once, before the server starts.
pub fn configure(ranges: Ranges) {
    if RANGES.set(ranges).is_err() {
        tracing::warn!("service ranges were set before");
    }
}

impl Ranges {
    fn size(&self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.service_prefix))
            .unwrap_or(u32::MAX)
    }

    /// The address of the `kubernetes` Service.
    pub fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_network) + 1)
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.service_network));
        offset > 0 && offset < self.size() - 1
    }
}

/// What one write holds; given back when dropped, unless the write was made.
#[derive(Default)]
pub struct Reservation {
    addresses: Vec<Ipv4Addr>,
    ports: Vec<(u16, String)>,
}

impl Reservation {
    /// The write was made: the cache now knows what is in use.
    pub fn keep(&mut self) {
        self.give_back();
    }

    fn give_back(&mut self) {
        if self.addresses.is_empty() && self.ports.is_empty() {
            return;
        }
        let mut state = in_flight();
        for address in self.addresses.drain(..) {
            state.addresses.remove(&address);
        }
        for port in self.ports.drain(..) {
            state.ports.remove(&port);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back();
    }
}

struct Used {
    addresses: HashSet<Ipv4Addr>,
    ports: HashSet<(u16, String)>,
}

fn used(registry: &Registry, except: (&str, &str)) -> Result<Used> {
    let mut used = Used {
        addresses: HashSet::new(),
        ports: HashSet::new(),
    };
    for object in registry.list("", "services", "") {
        if (&*object.object.meta.namespace, &*object.object.meta.name) == except {
            continue;
        }
        let tree = object.tree()?;
        let ips = tree
            .pointer("/spec/clusterIPs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        used.addresses
            .extend(ips.filter_map(|ip| ip.as_str()?.parse::<Ipv4Addr>().ok()));
        for port in tree
            .pointer("/spec/ports")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let Some(number) = node_port(port) {
                used.ports.insert((number, protocol(port)));
            }
        }
        if let Some(port) = tree.pointer("/spec/healthCheckNodePort").and_then(Value::as_u64) {
            used.ports.insert((u16::try_from(port).unwrap_or(0), "TCP".into()));
        }
    }
    Ok(used)
}

fn node_port(port: &Value) -> Option<u16> {
    port.get("nodePort")
        .and_then(Value::as_u64)
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p != 0)
}

fn protocol(port: &Value) -> String {
    text(port, &["protocol"]).unwrap_or("TCP").to_owned()
}

/// Completes a Service's addresses and ports. Other kinds pass.
pub fn allocate(
    registry: &Arc<Registry>,
    resource: &Resource,
    tree: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Reservation> {
    let mut reservation = Reservation::default();
    if !resource.is("", "services") {
        return Ok(reservation);
    }
    let ranges = RANGES
        .get()
        .ok_or_else(|| ApiError::internal("service ranges are not configured"))?;
    let name = metadata::text(tree, "name").to_owned();
    let namespace = metadata::text(tree, "namespace").to_owned();
    let invalid = |errors: FieldError| resource.invalid(&name, &[errors]);
    let kind = text(tree, &["spec", "type"]).unwrap_or("ClusterIP").to_owned();
    let used = used(registry, (&namespace, &name))?;
    let mut state = in_flight();
    // what is refused later must not be given addresses before
    if kind == "ExternalName" || !matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        return Ok(reservation);
    }
    let asked = text(tree, &["spec", "clusterIP"]).unwrap_or_default().to_owned();
    // what a Service has it keeps when an update leaves the field out
    let had = old.and_then(|o| text(o, &["spec", "clusterIP"])).unwrap_or_default();
    let address = match if asked.is_empty() { had } else { &asked } {
        "None" => "None".to_owned(),
        "" => {
            let free = free_address(registry, ranges, |a| {
                used.addresses.contains(&a) || state.addresses.contains(&a)
            })
            .ok_or_else(|| ApiError::internal("failed to allocate IP: range is full"))?;
            hold(dry_run, &mut state.addresses, &mut reservation.addresses, free);
            free.to_string()
        }
        text if text == had => text.to_owned(),
        text => {
            let problem = match text.parse::<IpAddr>() {
                Ok(IpAddr::V4(v4)) if !ranges.contains(v4) => Some(format!(
                    "failed to allocate IP {v4}: the provided network does not match the current range"
                )),
                Ok(IpAddr::V4(v4)) if used.addresses.contains(&v4) || state.addresses.contains(&v4) => {
                    Some(format!("failed to allocate IP {v4}: provided IP is already allocated"))
                }
                Ok(IpAddr::V4(v4)) => {
                    hold(dry_run, &mut state.addresses, &mut reservation.addresses, v4);
                    None
                }
                Ok(IpAddr::V6(_)) => Some("IPv6 is not configured on this cluster".into()),
                Err(_) => {
                    let why = api::names::ip_errors(text).unwrap_or_default();
                    return Err(invalid(FieldError::invalid("spec.clusterIPs[0]", json!(text), why)));
                }
            };
            if let Some(why) = problem {
                return Err(invalid(FieldError::invalid("spec.clusterIPs", json!([text]), why)));
            }
            text.to_owned()
        }
    };
    let spec = &mut tree["spec"];
    spec["clusterIP"] = json!(address);
    spec["clusterIPs"] = json!([address]);
    let has_selector = spec
        .get("selector")
        .and_then(Value::as_object)
        .is_some_and(|s| !s.is_empty());
    if spec.get("ipFamilyPolicy").is_none() {
        let policy = if address == "None" && !has_selector {
            "RequireDualStack"
        } else {
            "SingleStack"
        };
        spec["ipFamilyPolicy"] = json!(policy);
    }
    if spec.get("ipFamilies").is_none() {
        let dual = spec["ipFamilyPolicy"] == "RequireDualStack";
        spec["ipFamilies"] = if dual { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) };
    }
    let wants_ports = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        && spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
    let old_ports = old
        .and_then(|o| o.pointer("/spec/ports"))
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) else {
        return Ok(reservation);
    };
    for (i, port) in ports.iter_mut().enumerate() {
        let protocol = protocol(port);
        if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            if let Some(port) = port.as_object_mut()
                && old.is_some()
            {
                port.remove("nodePort");
            }
            continue;
        }
        let kept = old_ports
            .iter()
            .find(|o| o["port"] == port["port"] && o["protocol"] == port["protocol"]);
        match node_port(port).or_else(|| kept.and_then(node_port)) {
            Some(number) => {
                let mine = old_ports.iter().any(|o| node_port(o) == Some(number));
                let key = (number, protocol);
                let problem = if !ranges.node_ports.contains(&number) {
                    let (low, high) = (ranges.node_ports.start(), ranges.node_ports.end());
                    Some(format!(
                        "provided port is not in the valid range. The range of valid ports is {low}-{high}"
                    ))
                } else if !mine && (used.ports.contains(&key) || state.ports.contains(&key)) {
                    Some("provided port is already allocated".to_owned())
                } else {
                    None
                };
                if let Some(why) = problem {
                    return Err(invalid(FieldError::invalid(
                        format!("spec.ports[{i}].nodePort"),
                        json!(number),
                        why,
                    )));
                }
                port["nodePort"] = json!(number);
                if !mine {
                    hold(dry_run, &mut state.ports, &mut reservation.ports, key);
                }
            }
            None if wants_ports => {
                let taken = |p: u16| {
                    used.ports.contains(&(p, protocol.clone())) || state.ports.contains(&(p, protocol.clone()))
                };
                let free = free_port(registry, ranges, taken)
                    .ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))?;
                port["nodePort"] = json!(free);
                hold(dry_run, &mut state.ports, &mut reservation.ports, (free, protocol));
            }
            None => {}
        }
    }
    if needs_health_check(tree) {
        let number = |service: &Value| {
            let port = service.pointer("/spec/healthCheckNodePort").and_then(Value::as_u64);
            port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)
        };
        let kept = old.and_then(number);
        let taken = |p: u16| {
            let key = (p, "TCP".to_owned());
            used.ports.contains(&key) || state.ports.contains(&key) || reservation.ports.contains(&key)
        };
        let port = match number(tree).or(kept) {
            Some(port) if kept == Some(port) => port,
            Some(port) if taken(port) || !ranges.node_ports.contains(&port) => {
                let problem = if ranges.node_ports.contains(&port) {
                    "provided port is already allocated".to_owned()
                } else {
                    let (low, high) = (ranges.node_ports.start(), ranges.node_ports.end());
                    format!("provided port is not in the valid range. The range of valid ports is {low}-{high}")
                };
                let why = format!("failed to allocate requested HealthCheck NodePort {port}: {problem}");
                return Err(ApiError::internal(why));
            }
            Some(port) => port,
            None => free_port(registry, ranges, taken)
                .ok_or_else(|| ApiError::internal("failed to allocate a HealthCheck NodePort: range is full"))?,
        };
        tree["spec"]["healthCheckNodePort"] = json!(port);
        if kept != Some(port) {
            hold(
                dry_run,
                &mut state.ports,
                &mut reservation.ports,
                (port, "TCP".to_owned()),
            );
        }
    }
    Ok(reservation)
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

/// A free address, searched from a random place in the upper part of the range: the lower is left to those who ask by number.
fn free_address(registry: &Registry, ranges: &Ranges, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let usable = ranges.size().saturating_sub(2);
    let reserved = (usable / 16).clamp(usable.min(16), 256).min(usable / 2);
    let upper = usable - reserved;
    let start = random(registry) % upper.max(1);
    let base = u32::from(ranges.service_network) + 1;
    let first = (0..upper).map(|i| reserved + (start + i) % upper);
    first
        .chain(0..reserved)
        .map(|offset| Ipv4Addr::from(base + offset))
        .find(|a| !taken(*a))
}

fn free_port(registry: &Registry, ranges: &Ranges, taken: impl Fn(u16) -> bool) -> Option<u16> {
    let low = *ranges.node_ports.start();
    let count = u32::from(ranges.node_ports.end() - low) + 1;
    let start = random(registry) % count;
    (0..count)
        .filter_map(|i| u16::try_from((start + i) % count).ok())
        .map(|o| low + o)
        .find(|p| !taken(*p))
}
