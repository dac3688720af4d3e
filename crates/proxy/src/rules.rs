//! One Service as chains and map elements, in upstream's design. Pure.
//!
//! A service address leads, by a verdict map, to the service's chain; that one picks an endpoint by a random number.
//! With session affinity every endpoint has a chain and a set of the clients that are its.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cni::link::Net;
use cni::nft::{Family, Key, Rule, Verdict};
use sha2::{Digest, Sha256};

use crate::base;
use crate::model::{Endpoint, ServicePort};
use crate::topology::{Choice, Place, choose};

/// So many endpoints are picked from by a rule each, more by a map. The kernel looks through all sets and maps of a
/// table for each one that is added: with a map a service, thousands of services take seconds.
const FEW: usize = 8;

/// What the rules of all Services of a family have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub family: Family,
    pub place: Place,
    /// Addresses of this node that accept NodePort traffic.
    pub node_ips: Vec<IpAddr>,
    pub cluster_cidrs: Vec<Net>,
    /// Networks that cluster addresses come from.
    pub service_cidrs: Vec<Net>,
    pub masquerade_all: bool,
    /// The mark that asks for masquerading.
    pub mark: u32,
}

/// A service's part of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub chains: BTreeMap<String, Vec<Rule>>,
    /// Sets of clients, with the milliseconds they stay.
    pub affinity: BTreeMap<String, u64>,
    /// Elements of the shared maps and sets; sets have no verdict.
    pub elements: BTreeMap<(&'static str, Key), Option<Verdict>>,
}

/// The rules of all ports of a Service.
pub(crate) fn fragment(ports: &[(ServicePort, Vec<Endpoint>)], node: &Node) -> Fragment {
    let mut fragment = Fragment::default();
    for (port, endpoints) in ports {
        let choice = choose(port, endpoints, &node.place);
        Port {
            port,
            choice: &choice,
            node,
            id: identity(port, ""),
        }
        .write(&mut fragment);
    }
    fragment
}

/// A rule a target: the first takes one packet of n, the next one of the n - 1 that are left, and so on.
fn one_of<T>(targets: &[T], take: impl Fn(Rule, &T) -> Rule) -> Vec<Rule> {
    let left = (1..).take(targets.len()).collect::<Vec<u32>>().into_iter().rev();
    let rule = |(target, left)| {
        let rule = if left > 1 {
            Rule::new().one_in(left)
        } else {
            Rule::new()
        };
        take(rule, target)
    };
    targets.iter().zip(left).map(rule).collect()
}

/// `<hash>-<namespace>/<name>/<protocol>/<port>`: unique, and readable in a listing. The kernel takes 127 bytes.
fn identity(port: &ServicePort, endpoint: &str) -> String {
    let readable = format!(
        "{}/{}/{}/{}",
        port.namespace,
        port.name,
        port.protocol.name(),
        port.port_name
    );
    let digest = Sha256::digest(format!("{readable}{endpoint}"));
    let hash: String = digest.iter().take(5).map(|b| format!("{b:02x}")).collect();
    let mut name = format!("{hash}-{readable}{endpoint}");
    // Names are ASCII; the longest prefix before them has 9 bytes.
    name.truncate(115);
    name
}

struct Port<'a> {
    port: &'a ServicePort,
    choice: &'a Choice<'a>,
    node: &'a Node,
    id: String,
}

impl Port<'_> {
    fn cluster_chain(&self) -> String {
        format!("service-{}", self.id)
    }

    fn local_chain(&self) -> String {
        format!("local-{}", self.id)
    }

    fn external_chain(&self) -> String {
        format!("external-{}", self.id)
    }

    fn firewall_chain(&self) -> String {
        format!("firewall-{}", self.id)
    }

    fn endpoint_chain(&self, endpoint: &Endpoint) -> String {
        format!(
            "endpoint-{}",
            identity(self.port, &format!("__{}/{}", endpoint.ip, endpoint.port))
        )
    }

    /// The timeout is part of the name: a set's timeout cannot be changed.
    fn affinity_set(&self, endpoint: &Endpoint, seconds: u32) -> String {
        let id = identity(self.port, &format!("__{}/{}/{seconds}", endpoint.ip, endpoint.port));
        format!("affinity-{id}")
    }

    fn write(&self, to: &mut Fragment) {
        let any = self.choice.any;
        let port = self.port;
        let internal = any && !(port.internal_local && self.choice.local.is_empty());
        let external = any && !(port.external_local && self.choice.local.is_empty());
        if port.uses_cluster_endpoints() && !self.choice.cluster.is_empty() {
            self.policy_chain(self.cluster_chain(), &self.choice.cluster, to);
        }
        if port.uses_local_endpoints() && !self.choice.local.is_empty() {
            self.policy_chain(self.local_chain(), &self.choice.local, to);
        }
        let protocol = port.protocol.number();
        for endpoint in self.choice.reachable.iter().filter(|e| e.local) {
            let key = Key::connection(endpoint.ip, endpoint.ip, protocol, endpoint.port);
            to.elements.insert((base::HAIRPIN_CONNECTIONS, key), None);
        }
        // No endpoint anywhere: refused. None that the policy allows here: dropped, for there are others elsewhere.
        let closed = if any {
            Verdict::Drop
        } else {
            Verdict::Goto(base::REJECT_CHAIN.into())
        };

        to.elements.insert((base::CLUSTER_IPS, Key::ip(port.cluster_ip)), None);
        let key = Key::service(port.cluster_ip, protocol, port.port);
        if internal {
            let chain = if port.internal_local {
                self.local_chain()
            } else {
                self.cluster_chain()
            };
            to.elements.insert((base::SERVICE_IPS, key), Some(Verdict::Goto(chain)));
        } else {
            to.elements
                .insert((base::NO_ENDPOINT_SERVICES, key), Some(closed.clone()));
        }

        if any && port.externally_accessible() {
            self.write_external(external, to);
        }
        let open = Verdict::Goto(self.external_chain());
        for ip in port.external_ips.iter().chain(&port.load_balancer_ips) {
            let key = Key::service(*ip, protocol, port.port);
            if any {
                to.elements.insert((base::SERVICE_IPS, key.clone()), Some(open.clone()));
            }
            if !external {
                to.elements
                    .insert((base::NO_ENDPOINT_SERVICES, key), Some(closed.clone()));
            }
        }
        if let Some(node_port) = port.node_port {
            let key = Key::protocol_port(protocol, node_port);
            if any {
                to.elements.insert((base::SERVICE_NODEPORTS, key.clone()), Some(open));
            }
            if !external {
                to.elements.insert((base::NO_ENDPOINT_NODEPORTS, key), Some(closed));
            }
        }
        if !port.source_ranges.is_empty() && !port.load_balancer_ips.is_empty() {
            self.write_firewall(to);
        }
    }

    /// The chain that picks one of the endpoints.
    fn policy_chain(&self, name: String, endpoints: &[&Endpoint], to: &mut Fragment) {
        let family = self.node.family;
        let protocol = self.port.protocol.number();
        let Some(seconds) = self.port.affinity_seconds else {
            let targets: Vec<(IpAddr, u16)> = endpoints.iter().map(|e| (e.ip, e.port)).collect();
            let rules = if targets.len() > FEW {
                vec![Rule::new().l4proto(protocol).random_dnat(family, &targets)]
            } else {
                let dnat = |rule: Rule, (ip, port): &(IpAddr, u16)| rule.l4proto(protocol).dnat(*ip, Some(*port));
                one_of(&targets, dnat)
            };
            to.chains.insert(name, rules);
            return;
        };
        let mut rules = Vec::new();
        let mut chains = Vec::new();
        for endpoint in endpoints {
            let (chain, set) = (self.endpoint_chain(endpoint), self.affinity_set(endpoint, seconds));
            rules.push(Rule::new().saddr_in(family, &set).verdict(Verdict::Goto(chain.clone())));
            let remember = Rule::new().remember_saddr(family, &set);
            let dnat = Rule::new().l4proto(protocol).dnat(endpoint.ip, Some(endpoint.port));
            to.chains.insert(chain.clone(), vec![remember, dnat]);
            to.affinity.insert(set, u64::from(seconds) * 1000);
            chains.push(chain);
        }
        if chains.len() > FEW {
            rules.push(Rule::new().random_goto(&chains));
        } else {
            rules.extend(one_of(&chains, |rule, chain| {
                rule.verdict(Verdict::Goto(chain.clone()))
            }));
        }
        to.chains.insert(name, rules);
    }

    /// What comes to a node port, an external or a load balancer's address.
    fn write_external(&self, external: bool, to: &mut Fragment) {
        let mut rules = Vec::new();
        if self.port.external_local {
            // Pods and the node itself are not bound to the node's own endpoints: for them it is as if the traffic
            // went out to the load balancer and came back to the best node.
            if !self.choice.cluster.is_empty() {
                let cluster = Verdict::Goto(self.cluster_chain());
                for cidr in &self.node.cluster_cidrs {
                    rules.push(Rule::new().saddr(*cidr).verdict(cluster.clone()));
                }
                rules.push(Rule::new().saddr_local().set_mark(self.node.mark));
                rules.push(Rule::new().saddr_local().verdict(cluster));
            }
        } else {
            // The endpoint may be on another node, which must answer through this one.
            rules.push(Rule::new().set_mark(self.node.mark));
        }
        if external {
            let chain = if self.port.external_local {
                self.local_chain()
            } else {
                self.cluster_chain()
            };
            rules.push(Rule::new().verdict(Verdict::Goto(chain)));
        }
        to.chains.insert(self.external_chain(), rules);
    }

    /// Only the source ranges may use the load balancer's addresses.
    fn write_firewall(&self, to: &mut Fragment) {
        let port = self.port;
        let mut allowed = port.source_ranges.clone();
        let from_node = |net: &Net| self.node.node_ips.iter().any(|ip| net.contains(*ip));
        if port.source_ranges.iter().any(from_node) {
            // The node's own packets to an address that it holds itself have that address as their source.
            let own = port.load_balancer_ips.iter().map(|ip| Net {
                ip: *ip,
                prefix: Net::width(*ip),
            });
            allowed.extend(own);
        }
        let mut rules: Vec<Rule> = allowed
            .iter()
            .map(|net| Rule::new().saddr(*net).verdict(Verdict::Return))
            .collect();
        rules.push(Rule::new().verdict(Verdict::Drop));
        to.chains.insert(self.firewall_chain(), rules);
        for ip in &port.load_balancer_ips {
            let key = Key::service(*ip, port.protocol.number(), port.port);
            let verdict = Verdict::Goto(self.firewall_chain());
            to.elements.insert((base::FIREWALL_IPS, key), Some(verdict));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::Protocol;

    pub(crate) fn service_port() -> ServicePort {
        ServicePort {
            namespace: "ns".into(),
            name: "svc".into(),
            port_name: "http".into(),
            protocol: Protocol::Tcp,
            cluster_ip: [10, 43, 0, 5].into(),
            port: 80,
            node_port: None,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            affinity_seconds: None,
            internal_local: false,
            external_local: false,
        }
    }

    pub(crate) fn endpoint(last: u8, local: bool) -> Endpoint {
        Endpoint {
            ip: [10, 42, 0, last].into(),
            port: 8080,
            ready: true,
            serving: true,
            terminating: false,
            local,
            zones: Vec::new(),
            nodes: Vec::new(),
        }
    }

    pub(crate) fn node() -> Node {
        Node {
            family: Family::Ipv4,
            place: Place {
                node: "here".into(),
                zone: String::new(),
            },
            node_ips: vec![[192, 0, 2, 1].into()],
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
            service_cidrs: Vec::new(),
            masquerade_all: false,
            mark: 0x4000,
        }
    }

    fn verdict<'a>(fragment: &'a Fragment, map: &'static str, key: Key) -> Option<&'a Verdict> {
        fragment.elements.get(&(map, key))?.as_ref()
    }

    #[test]
    fn a_service_without_endpoints_is_refused() {
        let made = fragment(&[(service_port(), vec![])], &node());
        let key = Key::service([10, 43, 0, 5].into(), 6, 80);
        let reject = Verdict::Goto("reject-chain".into());
        assert_eq!(verdict(&made, base::NO_ENDPOINT_SERVICES, key.clone()), Some(&reject));
        assert_eq!(verdict(&made, base::SERVICE_IPS, key), None);
        assert!(made.chains.is_empty());
    }

    #[test]
    fn local_policy_without_local_endpoints_drops_from_outside_and_serves_pods() {
        let mut port = service_port();
        port.external_local = true;
        port.node_port = Some(30080);
        let made = fragment(&[(port, vec![endpoint(1, false)])], &node());
        let key = Key::protocol_port(6, 30080);
        assert_eq!(
            verdict(&made, base::NO_ENDPOINT_NODEPORTS, key.clone()),
            Some(&Verdict::Drop)
        );
        let Some(Verdict::Goto(external)) = verdict(&made, base::SERVICE_NODEPORTS, key) else {
            panic!("{made:?}");
        };
        assert_eq!(made.chains[external].len(), 3, "pods, the node's mark, the node");
    }

    #[test]
    fn affinity_gives_each_endpoint_a_chain_and_a_set_named_for_its_timeout() {
        let mut port = service_port();
        port.affinity_seconds = Some(60);
        let endpoints = vec![endpoint(1, true), endpoint(2, false)];
        let made = fragment(&[(port.clone(), endpoints.clone())], &node());
        assert_eq!(made.affinity.len(), 2);
        assert_eq!(made.chains.len(), 3);
        port.affinity_seconds = Some(61);
        let other = fragment(&[(port, endpoints)], &node());
        assert!(made.affinity.keys().all(|k| !other.affinity.contains_key(k)));
        assert_eq!(
            made.elements
                .keys()
                .filter(|(m, _)| *m == base::HAIRPIN_CONNECTIONS)
                .count(),
            1
        );
    }

    #[test]
    fn names_fit_the_kernel_however_long_the_service_is_named() {
        let mut port = service_port();
        port.namespace = "n".repeat(63);
        port.name = "s".repeat(63);
        port.affinity_seconds = Some(60);
        let made = fragment(&[(port, vec![endpoint(1, true)])], &node());
        assert!(made.chains.keys().chain(made.affinity.keys()).all(|n| n.len() < 128));
    }
}
