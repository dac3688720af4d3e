//! Node ports of Services. What is in use is known from the Services in the cache.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use api::field::FieldError;
use serde_json::{Value, json};

use super::{InFlight, Reservation, hold};
use crate::http::status::{ApiError, Result};
use crate::kinds::core::service::needs_health_check;
use crate::registry::resource::Resource;
use crate::registry::{Registry, metadata};
use crate::tree::text;

/// A port and its protocol.
pub type Port = (u16, String);

/// One write's ports.
pub struct Ports<'a> {
    pub registry: &'a Registry,
    pub resource: &'a Resource,
    pub range: &'a RangeInclusive<u16>,
    pub state: &'a mut InFlight,
    pub reservation: &'a mut Reservation,
    pub dry_run: bool,
}

/// The ports of all Services but one.
fn used(registry: &Registry, except: (&str, &str)) -> Result<HashSet<Port>> {
    let mut used = HashSet::new();
    for object in registry.list("", "services", "") {
        if (&*object.object.meta.namespace, &*object.object.meta.name) == except {
            continue;
        }
        let tree = object.tree()?;
        let ports = tree.pointer("/spec/ports").and_then(Value::as_array);
        for port in ports.into_iter().flatten() {
            if let Some(number) = node_port(port) {
                used.insert((number, protocol(port)));
            }
        }
        if let Some(port) = health_check_port(&tree) {
            used.insert((port, "TCP".into()));
        }
    }
    Ok(used)
}

fn number(value: Option<&Value>) -> Option<u16> {
    let number = value.and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok());
    number.filter(|p| *p != 0)
}

/// A number that is asked for and is no port.
fn no_port(value: Option<&Value>) -> Option<i64> {
    let number = value.and_then(Value::as_i64).filter(|n| *n != 0);
    number.filter(|n| u16::try_from(*n).is_err())
}

fn node_port(port: &Value) -> Option<u16> {
    number(port.get("nodePort"))
}

fn health_check_port(service: &Value) -> Option<u16> {
    number(service.pointer("/spec/healthCheckNodePort"))
}

fn protocol(port: &Value) -> String {
    text(port, &["protocol"]).unwrap_or("TCP").to_owned()
}

impl Ports<'_> {
    /// Gives a Service the ports that its type asks for.
    pub fn allocate(&mut self, tree: &mut Value, old: Option<&Value>) -> Result<()> {
        let kind = text(tree, &["spec", "type"]).unwrap_or("ClusterIP").to_owned();
        let open = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
        let name = metadata::text(tree, "name").to_owned();
        let used = match open {
            // nobody else's ports matter to a Service that takes none
            false => HashSet::new(),
            true => used(self.registry, (metadata::text(tree, "namespace"), &name))?,
        };
        let spec = &mut tree["spec"];
        let wants_ports = open && spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
        let old_ports = old.and_then(|o| o.pointer("/spec/ports")).and_then(Value::as_array);
        let old_ports = old_ports.cloned().unwrap_or_default();
        let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) else {
            return Ok(());
        };
        for (i, port) in ports.iter_mut().enumerate() {
            if open {
                let problem = self.node_port(&used, &old_ports, port, wants_ports)?;
                if let Some((number, why)) = problem {
                    let at = format!("spec.ports[{i}].nodePort");
                    let error = FieldError::invalid(at, json!(number), why);
                    return Err(self.resource.invalid(&name, &[error]));
                }
            }
        }
        if needs_health_check(tree) {
            self.health_check(&used, tree, old)?;
        }
        Ok(())
    }

    /// One port; what is wrong with the one asked for.
    fn node_port(
        &mut self,
        used: &HashSet<Port>,
        old: &[Value],
        port: &mut Value,
        wanted: bool,
    ) -> Result<Option<(i64, String)>> {
        if let Some(number) = no_port(port.get("nodePort")) {
            return Ok(Some((number, self.out_of_range())));
        }
        let protocol = protocol(port);
        let kept = old
            .iter()
            .find(|o| o["port"] == port["port"] && o["protocol"] == port["protocol"]);
        match node_port(port).or_else(|| kept.and_then(node_port)) {
            Some(number) => {
                let mine = old.iter().any(|o| node_port(o) == Some(number));
                let key = (number, protocol);
                if !self.range.contains(&number) {
                    return Ok(Some((number.into(), self.out_of_range())));
                }
                if !mine && (used.contains(&key) || self.state.ports.contains(&key)) {
                    return Ok(Some((number.into(), "provided port is already allocated".to_owned())));
                }
                port["nodePort"] = json!(number);
                if !mine {
                    self.hold(key);
                }
            }
            None if wanted => {
                let taken = |p: u16| {
                    let key = (p, protocol.clone());
                    used.contains(&key) || self.state.ports.contains(&key)
                };
                let free = self
                    .free(taken)
                    .ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))?;
                port["nodePort"] = json!(free);
                self.hold((free, protocol));
            }
            None => {}
        }
        Ok(None)
    }

    fn health_check(&mut self, used: &HashSet<Port>, tree: &mut Value, old: Option<&Value>) -> Result<()> {
        let refused = |port: i64, problem: String| {
            let why = format!("failed to allocate requested HealthCheck NodePort {port}: {problem}");
            Err(ApiError::internal(why))
        };
        if let Some(port) = no_port(tree.pointer("/spec/healthCheckNodePort")) {
            return refused(port, self.out_of_range());
        }
        let kept = old.and_then(health_check_port);
        let taken = |p: u16| {
            let key = (p, "TCP".to_owned());
            used.contains(&key) || self.state.ports.contains(&key) || self.reservation.ports.contains(&key)
        };
        let port = match health_check_port(tree).or(kept) {
            Some(port) if kept == Some(port) => port,
            Some(port) if taken(port) || !self.range.contains(&port) => {
                let problem = match self.range.contains(&port) {
                    true => "provided port is already allocated".to_owned(),
                    false => self.out_of_range(),
                };
                return refused(port.into(), problem);
            }
            Some(port) => port,
            None => self
                .free(taken)
                .ok_or_else(|| ApiError::internal("failed to allocate a HealthCheck NodePort: range is full"))?,
        };
        tree["spec"]["healthCheckNodePort"] = json!(port);
        if kept != Some(port) {
            self.hold((port, "TCP".to_owned()));
        }
        Ok(())
    }

    fn out_of_range(&self) -> String {
        let (low, high) = (self.range.start(), self.range.end());
        format!("provided port is not in the valid range. The range of valid ports is {low}-{high}")
    }

    fn hold(&mut self, port: Port) {
        hold(self.dry_run, &mut self.state.ports, &mut self.reservation.ports, port);
    }

    /// A free port, searched from a random place in the range.
    fn free(&self, taken: impl Fn(u16) -> bool) -> Option<u16> {
        let low = *self.range.start();
        let count = u64::from(self.range.end() - low) + 1;
        let start = super::random(self.registry) % count;
        (0..count)
            .filter_map(|i| u16::try_from((start + i) % count).ok())
            .map(|o| low + o)
            .find(|p| !taken(*p))
    }
}
