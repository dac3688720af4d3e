//! Node ports of Services (upstream's `registry/core/service/storage/alloc.go`): given out by number, whatever the protocol. The
//! Services in the cache say which are in use.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use api::field::FieldError;
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::kinds::core::service::{has_node_ports, needs_health_check};
use crate::registry::resource::Resource;
use crate::registry::{Registry, metadata};
use crate::tree::text;

const FULL: &str = "range is full";
/// Dry runs are given the numbers after this one.
const BEFORE_DRY: i64 = 32_768;

/// The ports that all Services have.
pub fn used(registry: &Registry) -> Result<HashSet<u16>> {
    let mut used = HashSet::new();
    for object in registry.list("", "services", "") {
        let tree = object.tree()?;
        used.extend(
            node_ports(&tree)
                .into_iter()
                .chain([health_check_port(&tree)])
                .filter_map(to_port),
        );
    }
    Ok(used)
}

fn to_port(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// A number; 0 where it is absent.
fn number(of: &Value, key: &str) -> i64 {
    of.get(key).and_then(Value::as_i64).unwrap_or_default()
}

fn ports(service: &Value) -> &[Value] {
    let list = service.pointer("/spec/ports").and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn node_ports(service: &Value) -> Vec<i64> {
    let numbers = ports(service).iter().map(|port| number(port, "nodePort"));
    numbers.filter(|port| *port != 0).collect()
}

fn health_check_port(service: &Value) -> i64 {
    service
        .get("spec")
        .map_or(0, |spec| number(spec, "healthCheckNodePort"))
}

/// Whether every port of a Service gets a node port, asked for or not.
fn gives_all(service: &Value) -> bool {
    let refused = service.pointer("/spec/allocateLoadBalancerNodePorts") == Some(&Value::Bool(false));
    has_node_ports(service) && !(refused && text(service, &["spec", "type"]) == Some("LoadBalancer"))
}

/// What one write takes. A dry run takes nothing: its numbers are made up, and may be out of the range.
pub struct Operation<'a> {
    range: &'a RangeInclusive<u16>,
    /// What others have, and what this Service had.
    used: HashSet<u16>,
    /// Where in the range the search for a free port begins.
    random: u64,
    dry_run: bool,
    taken: Vec<i64>,
}

impl<'a> Operation<'a> {
    /// An operation that has taken nothing.
    pub fn new(range: &'a RangeInclusive<u16>, used: HashSet<u16>, random: u64, dry_run: bool) -> Operation<'a> {
        Operation {
            range,
            used,
            random,
            dry_run,
            taken: Vec::new(),
        }
    }

    /// The ports that were taken.
    pub fn taken(self) -> impl Iterator<Item = u16> {
        self.taken.into_iter().filter_map(to_port)
    }

    /// Gives a Service the ports that its type asks for.
    ///
    /// # Errors
    /// `422` for a port that cannot be given, `500` when none is free.
    pub fn allocate(&mut self, resource: &Resource, service: &mut Value, old: Option<&Value>) -> Result<()> {
        let name = metadata::text(service, "name").to_owned();
        let refused = |(at, port, why): Refused| {
            let path = format!("spec.ports[{at}].nodePort");
            resource.invalid(&name, &[FieldError::invalid(path, json!(port), why.to_string())])
        };
        if let Some(old) = old {
            keep(service, old);
        }
        if has_node_ports(service) {
            let all = gives_all(service);
            let had = old.map(node_ports);
            if let Some(ports) = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut) {
                match had {
                    None => self.of_new(ports, all).map_err(|problem| problem.told(refused))?,
                    Some(had) => self.of_old(ports, &had, all).map_err(|problem| problem.told(refused))?,
                }
            }
        }
        if needs_health_check(service) && !old.is_some_and(needs_health_check) {
            self.health_check(service)?;
        }
        Ok(())
    }

    /// Ports of one number, such as those of TCP and UDP, get one node port.
    fn of_new(&mut self, ports: &mut [Value], all: bool) -> std::result::Result<(), Problem> {
        let mut given: HashMap<i64, i64> = HashMap::new();
        for at in 0..ports.len() {
            let (port, asked) = (number(&ports[at], "port"), number(&ports[at], "nodePort"));
            if asked == 0 && !all {
                continue;
            }
            let got = match given.get(&port) {
                Some(got) if asked == 0 => *got,
                Some(got) => {
                    if asked != *got {
                        self.take(asked).map_err(|why| (at, asked, why))?;
                    }
                    continue;
                }
                None => {
                    let alike = ports.iter().filter(|other| number(other, "port") == port);
                    let requested = alike.map(|other| number(other, "nodePort")).find(|asked| *asked != 0);
                    let got = match requested {
                        Some(asked) => self.take(asked).map(|()| asked).map_err(|why| (at, asked, why))?,
                        None => self.next().ok_or(Problem::Full)?,
                    };
                    given.insert(port, got);
                    got
                }
            };
            ports[at]["nodePort"] = json!(got);
        }
        Ok(())
    }

    fn of_old(&mut self, ports: &mut [Value], had: &[i64], all: bool) -> std::result::Result<(), Problem> {
        let (mut taken, mut seen) = (HashSet::new(), HashSet::new());
        for (at, port) in ports.iter_mut().enumerate() {
            let asked = number(port, "nodePort");
            if asked == 0 && !all {
                continue;
            }
            if asked == 0 {
                port["nodePort"] = json!(self.next().ok_or(Problem::Full)?);
            } else if !had.contains(&asked) && !taken.contains(&asked) {
                self.take(asked).map_err(|why| (at, asked, why))?;
                taken.insert(asked);
            }
            let known = (
                text(port, &["protocol"]).unwrap_or_default().to_owned(),
                number(port, "nodePort"),
            );
            if let Some((protocol, number)) = seen.replace(known) {
                return Err(Problem::Twice(format!("duplicate nodePort: {{{protocol} {number}}}")));
            }
        }
        Ok(())
    }

    fn health_check(&mut self, service: &mut Value) -> Result<()> {
        let asked = health_check_port(service);
        if asked != 0 {
            return self.take(asked).map_err(|why| {
                ApiError::internal(format!(
                    "failed to allocate requested HealthCheck NodePort {asked}: {why}"
                ))
            });
        }
        let free = self
            .next()
            .ok_or_else(|| ApiError::internal(format!("failed to allocate a HealthCheck NodePort 0: {FULL}")))?;
        service["spec"]["healthCheckNodePort"] = json!(free);
        Ok(())
    }

    fn is_taken(&self, port: i64) -> bool {
        self.taken.contains(&port) || to_port(port).is_some_and(|port| self.used.contains(&port))
    }

    /// Takes a port, or says why not.
    fn take(&mut self, port: i64) -> std::result::Result<(), PortError> {
        let inside = to_port(port).is_some_and(|port| self.range.contains(&port));
        if !inside && !self.dry_run {
            let (low, high) = (*self.range.start(), *self.range.end());
            return Err(PortError::Range { low, high });
        }
        if self.taken.contains(&port) || inside && self.is_taken(port) {
            return Err(PortError::Taken);
        }
        self.taken.push(port);
        Ok(())
    }

    /// Takes a free port.
    fn next(&mut self) -> Option<i64> {
        let free = match self.dry_run {
            true => self.taken.iter().copied().max().unwrap_or(BEFORE_DRY) + 1,
            false => {
                let low = *self.range.start();
                let count = u64::from(self.range.end() - low) + 1;
                let offset = |step: u64| (self.random % count + step) % count;
                let all = (0..count).filter_map(|step| u16::try_from(offset(step)).ok());
                let mut all = all.map(|offset| i64::from(low + offset));
                all.find(|port| !self.is_taken(*port))?
            }
        };
        self.taken.push(free);
        Some(free)
    }
}

/// The place of a port in its list, its node port, and why it is not given.
type Refused = (usize, i64, PortError);

/// Why a port is not given, in upstream's words.
#[derive(Debug, thiserror::Error)]
enum PortError {
    #[error("provided port is not in the valid range. The range of valid ports is {low}-{high}")]
    Range { low: u16, high: u16 },
    #[error("provided port is already allocated")]
    Taken,
}

/// Why the ports of a Service are not given.
enum Problem {
    Refused(Refused),
    Full,
    /// A change names a port twice for one protocol.
    Twice(String),
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        Problem::Refused(refused)
    }
}

impl Problem {
    fn told(self, refused: impl FnOnce(Refused) -> ApiError) -> ApiError {
        match self {
            Problem::Refused(why) => refused(why),
            Problem::Full => ApiError::internal(format!("failed to allocate a nodePort: {FULL}")),
            Problem::Twice(why) => ApiError::plain(why),
        }
    }
}

/// Gives ports that a writer left out what the ports of these names had.
fn keep(service: &mut Value, old: &Value) {
    if gives_all(old) && gives_all(service) {
        let now = node_ports(service);
        let mut had: HashMap<String, i64> = HashMap::new();
        for port in ports(old) {
            let name = text(port, &["name"]).unwrap_or_default().to_owned();
            had.insert(name, number(port, "nodePort"));
        }
        let list = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for port in list.into_iter().flatten().filter(|port| number(port, "nodePort") == 0) {
            let had = had.get(text(port, &["name"]).unwrap_or_default());
            if let Some(had) = had.filter(|had| **had != 0 && !now.contains(had)) {
                port["nodePort"] = json!(had);
            }
        }
    }
    let had = health_check_port(old);
    if needs_health_check(old) && needs_health_check(service) && health_check_port(service) == 0 && had != 0 {
        service["spec"]["healthCheckNodePort"] = json!(had);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::builtin_resources;

    fn given(ports: Value, old: Option<Value>, dry_run: bool) -> std::result::Result<Value, String> {
        let service = |ports: Value| json!({ "spec": { "type": "NodePort", "ports": ports } });
        let old = old.map(service);
        let had = old.iter().flat_map(node_ports).filter_map(to_port);
        let used = [30_005].into_iter().chain(had).collect();
        let range = 30_000..=30_009;
        let mut operation = Operation::new(&range, used, 13, dry_run);
        let mut service = service(ports);
        let services = builtin_resources()
            .unwrap()
            .into_iter()
            .find(|resource| resource.is("", "services"));
        operation
            .allocate(&services.unwrap(), &mut service, old.as_ref())
            .map_err(|error| error.message)?;
        Ok(json!(node_ports(&service)))
    }

    #[test]
    fn ports_of_one_number_get_one_node_port() {
        let both = json!([{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }, { "port": 9153 }]);
        assert_eq!(given(both, None, false).unwrap(), json!([30_003, 30_003, 30_004]));
        let asked = json!([{ "port": 53 }, { "port": 53, "nodePort": 30_008, "protocol": "UDP" }]);
        assert_eq!(given(asked, None, false).unwrap(), json!([30_008, 30_008]));
    }

    #[test]
    fn a_node_port_is_given_once_whatever_the_protocol() {
        let told = |ports: Value, old: Option<Value>| given(ports, old, false).unwrap_err();
        let taken = told(json!([{ "port": 1, "nodePort": 30_005, "protocol": "UDP" }]), None);
        assert!(taken.contains("provided port is already allocated"), "{taken}");
        let twice = json!([{ "port": 1, "nodePort": 30_001 }, { "port": 2, "nodePort": 30_001, "protocol": "UDP" }]);
        let refused = told(twice.clone(), None);
        assert!(
            refused.contains("spec.ports[1].nodePort: Invalid value: 30001"),
            "{refused}"
        );
        // a change may
        assert_eq!(
            given(twice, Some(json!([{ "port": 1 }])), false).unwrap(),
            json!([30_001, 30_001])
        );
        let same = json!([{ "port": 1, "nodePort": 30_001, "protocol": "TCP" }, { "port": 2, "nodePort": 30_001, "protocol": "TCP" }]);
        assert_eq!(told(same, Some(json!([]))), "duplicate nodePort: {TCP 30001}");
    }

    #[test]
    fn a_change_keeps_the_node_ports_of_names() {
        let old =
            json!([{ "name": "a", "port": 1, "nodePort": 30_001 }, { "name": "b", "port": 2, "nodePort": 30_002 }]);
        let new = json!([{ "name": "b", "port": 7 }, { "name": "c", "port": 1, "nodePort": 30_001 }, { "name": "a", "port": 3 }]);
        // the port of `a` has gone to `c`
        assert_eq!(given(new, Some(old), false).unwrap(), json!([30_002, 30_001, 30_003]));
    }

    #[test]
    fn a_dry_run_makes_numbers_up() {
        let ports = json!([{ "port": 1 }, { "port": 2 }, { "port": 3, "nodePort": 70_000 }]);
        assert_eq!(given(ports, None, true).unwrap(), json!([32_769, 32_770, 70_000]));
    }
}
