//! Which nodes answer for a Service of type LoadBalancer. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Service};

use crate::meta::{is_deleting, label};

/// The class of ours, by k3s's name. A Service without a class is ours too.
const CLASS: &str = "io.cattle.svccontroller";
/// Once a node has this label, only nodes that have it answer.
pub(super) const ENABLED: &str = "svccontroller.k3s.cattle.io/enablelb";
/// A Service with this label is answered by nodes that have it with the same value.
const POOL: &str = "svccontroller.k3s.cattle.io/lbpool";
/// With this label a node never answers.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Taints that do not keep a node from answering.
const TOLERATED: [&str; 4] = [
    "node-role.kubernetes.io/master",
    "node-role.kubernetes.io/control-plane",
    "CriticalAddonsOnly",
    crate::taints::UNSCHEDULABLE,
];

/// What of a node counts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Front {
    pub name: String,
    /// Where clients reach it: the external addresses, else the internal ones.
    addresses: Vec<IpAddr>,
    enabled: bool,
    pool: Option<String>,
}

impl Front {
    /// `None` for a node that answers for nothing.
    pub(super) fn of(node: &Node) -> Option<Front> {
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        let kept_off = taints.iter().any(|taint| {
            matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && !TOLERATED.contains(&taint.key.as_str())
        });
        if is_deleting(node) || kept_off || label(node, EXCLUDED).is_some() || !crate::node_lifecycle::is_ready(node) {
            return None;
        }
        let all = node
            .status
            .as_ref()
            .and_then(|s| s.addresses.as_deref())
            .unwrap_or_default();
        let of_type = |type_: &str| -> Vec<IpAddr> {
            let some = all.iter().filter(|a| a.type_ == type_);
            some.filter_map(|a| a.address.parse().ok()).collect()
        };
        let mut addresses = of_type("ExternalIP");
        if addresses.is_empty() {
            addresses = of_type("InternalIP");
        }
        Some(Front {
            name: crate::meta::name(node).to_owned(),
            addresses,
            enabled: label(node, ENABLED).is_some_and(|value| value != "false"),
            pool: label(node, POOL).map(str::to_owned),
        })
    }
}

/// What of a Service counts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Balanced {
    pub key: String,
    pub uid: String,
    /// When it was made: of two that want one port of a node, the older has it.
    since: i64,
    /// Protocol and port.
    pub ports: Vec<(String, i32)>,
    /// In the order of the Service: whether IPv6.
    families: Vec<bool>,
    pool: Option<String>,
    /// Only nodes with an endpoint of their own answer.
    pub local: bool,
}

impl Balanced {
    /// `None` for a Service that is no balancer of ours.
    pub(super) fn of(service: &Service) -> Option<Balanced> {
        let spec = service.spec.as_ref()?;
        let ours = spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS);
        if spec.type_.as_deref() != Some("LoadBalancer") || !ours || is_deleting(service) {
            return None;
        }
        let ports = spec.ports.iter().flatten();
        let created = service.metadata.creation_timestamp.as_ref();
        Some(Balanced {
            key: crate::meta::key_of(service),
            uid: crate::meta::uid(service).to_owned(),
            since: created.map_or(0, |t| t.0.as_second()),
            ports: ports
                .map(|p| (p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), p.port))
                .collect(),
            families: spec.ip_families.iter().flatten().map(|f| f == "IPv6").collect(),
            pool: label(service, POOL).map(str::to_owned),
            local: spec.external_traffic_policy.as_deref() == Some("Local"),
        })
    }

    fn wants(&self, front: &Front, chosen: bool) -> bool {
        (!chosen || front.enabled) && (self.pool.is_none() || self.pool == front.pool)
    }

    fn before(&self, other: &Balanced) -> bool {
        (self.since, &self.key) < (other.since, &other.key)
    }
}

/// What a Service gets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The addresses of the nodes that answer.
    pub addresses: Vec<IpAddr>,
    /// A port that another has where this one would answer, and who that is.
    pub taken: Option<(String, i32, String)>,
}

/// Chooses the nodes that answer for a Service. `rivals` are the Services that share a port with it; `serves` tells whether a node has an
/// endpoint of its own; `reserved` are the ports that nodes need themselves.
pub(super) fn plan(
    service: &Balanced,
    fronts: &[Front],
    rivals: &[&Balanced],
    reserved: &[u16],
    serves: impl Fn(&str) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    let own = |(protocol, port): &&(String, i32)| protocol == "TCP" && reserved.iter().any(|r| i32::from(*r) == *port);
    if let Some((protocol, port)) = service.ports.iter().find(own) {
        plan.taken = Some((protocol.clone(), *port, "the nodes".to_owned()));
        return plan;
    }
    let chosen = fronts.iter().any(|front| front.enabled);
    for front in fronts.iter().filter(|front| service.wants(front, chosen)) {
        let older = rivals.iter().find_map(|other| {
            let port = service.ports.iter().find(|port| other.ports.contains(port))?;
            (other.before(service) && other.wants(front, chosen)).then_some((port, &other.key))
        });
        if let Some(((protocol, port), other)) = older {
            plan.taken = Some((protocol.clone(), *port, other.clone()));
            continue;
        }
        if !service.local || serves(&front.name) {
            plan.addresses.extend(&front.addresses);
        }
    }
    let order = |ip: &IpAddr| service.families.iter().position(|six| *six == ip.is_ipv6());
    plan.addresses.retain(|ip| order(ip).is_some());
    plan.addresses.sort_by_key(|ip| (order(ip), *ip));
    plan.addresses.dedup();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn front(name: &str, labels: &Value, status: Value) -> Option<Front> {
        let mut status = status;
        status["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status});
        Front::of(&serde_json::from_value(node).unwrap())
    }

    fn fronts() -> Vec<Front> {
        let address = |type_: &str, address: &str| json!({"type": type_, "address": address});
        vec![
            front(
                "a",
                &json!({}),
                json!({"addresses": [address("InternalIP", "10.0.0.1"), address("InternalIP", "fd00::1")]}),
            )
            .unwrap(),
            front(
                "b",
                &json!({POOL: "p"}),
                json!({"addresses": [address("InternalIP", "10.0.0.2"), address("ExternalIP", "203.0.113.2")]}),
            )
            .unwrap(),
        ]
    }

    fn service(name: &str, since: i64, extra: &Value) -> Balanced {
        let mut tree = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "d", "creationTimestamp": format!("2026-01-01T00:00:{since:02}Z")},
            "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ports": [{"port": 80, "protocol": "TCP"}]},
        });
        json_patch(&mut tree, extra);
        Balanced::of(&serde_json::from_value(tree).unwrap()).unwrap()
    }

    fn json_patch(tree: &mut Value, extra: &Value) {
        for (key, value) in extra.as_object().unwrap() {
            match value {
                Value::Object(_) => json_patch(&mut tree[key], value),
                _ => tree[key] = value.clone(),
            }
        }
    }

    fn addresses(plan: &Plan) -> Vec<String> {
        plan.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_node_answers_by_the_address_that_clients_reach() {
        let plan_of = |s: &Balanced| plan(s, &fronts(), &[], &[6443], |_| true);
        let one = service("s", 0, &json!({}));
        assert_eq!(addresses(&plan_of(&one)), ["10.0.0.1", "203.0.113.2"]);
        let both = service("s", 0, &json!({"spec": {"ipFamilies": ["IPv6", "IPv4"]}}));
        assert_eq!(addresses(&plan_of(&both)), ["fd00::1", "10.0.0.1", "203.0.113.2"]);
        let pool = service("s", 0, &json!({"metadata": {"labels": {POOL: "p"}}}));
        assert_eq!(addresses(&plan_of(&pool)), ["203.0.113.2"]);
    }

    #[test]
    fn with_local_traffic_only_nodes_that_serve_answer() {
        let local = service("s", 0, &json!({"spec": {"externalTrafficPolicy": "Local"}}));
        let one = plan(&local, &fronts(), &[], &[], |node| node == "a");
        assert_eq!(addresses(&one), ["10.0.0.1"]);
    }

    #[test]
    fn the_older_of_two_services_has_the_port() {
        let (old, new) = (service("z", 0, &json!({})), service("a", 1, &json!({})));
        assert_eq!(plan(&old, &fronts(), &[&new], &[], |_| true).addresses.len(), 2);
        let none = plan(&new, &fronts(), &[&old], &[], |_| true);
        assert!(none.addresses.is_empty());
        assert_eq!(none.taken, Some(("TCP".to_owned(), 80, "d/z".to_owned())));
        let pooled = service("z", 0, &json!({"metadata": {"labels": {POOL: "p"}}}));
        assert_eq!(
            addresses(&plan(&new, &fronts(), &[&pooled], &[], |_| true)),
            ["10.0.0.1"]
        );
    }

    #[test]
    fn no_service_takes_a_port_that_nodes_need() {
        let api = service("s", 0, &json!({"spec": {"ports": [{"port": 6443, "protocol": "TCP"}]}}));
        let none = plan(&api, &fronts(), &[], &[6443], |_| true);
        assert!(none.addresses.is_empty() && none.taken.is_some());
    }

    #[test]
    fn a_label_on_one_node_chooses_the_nodes() {
        let mut all = fronts();
        all.extend(front(
            "c",
            &json!({ENABLED: "true"}),
            json!({"addresses": [{"type": "InternalIP", "address": "10.0.0.3"}]}),
        ));
        assert_eq!(
            addresses(&plan(&service("s", 0, &json!({})), &all, &[], &[], |_| true)),
            ["10.0.0.3"]
        );
        assert_eq!(front("x", &json!({EXCLUDED: ""}), json!({})), None);
    }

    #[test]
    fn services_of_another_class_are_left_to_others() {
        let of = |spec: Value| {
            Balanced::of(&serde_json::from_value(json!({"apiVersion": "v1", "kind": "Service", "spec": spec})).unwrap())
        };
        assert!(of(json!({"type": "LoadBalancer", "loadBalancerClass": "metallb.io/x"})).is_none());
        assert!(of(json!({"type": "LoadBalancer", "loadBalancerClass": CLASS})).is_some());
        assert!(of(json!({"type": "ClusterIP"})).is_none());
    }
}
