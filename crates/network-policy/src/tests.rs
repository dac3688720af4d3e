//! What changes cost, and what is in the tables afterwards.

use std::net::IpAddr;
use std::sync::Arc;

use api::object::Object;
use cni::nft::{Batch, Family};
use serde_json::{Value, json};

use crate::engine::{Engine, Scope};
use crate::pod::Pod;
use crate::policy::Policy;

const NODE: &str = "here";

fn engine() -> Engine {
    Engine::new(NODE, "t", &[Family::Ipv4])
}

fn pod(namespace: &str, name: &str, node: &str, number: u32) -> Pod {
    Pod {
        namespace: namespace.into(),
        name: name.into(),
        uid: name.into(),
        labels: [("app".into(), name.split('-').next().unwrap().into())].into(),
        node: node.into(),
        ips: vec![IpAddr::V4((0x0a2a_0000 + number).into())],
        ports: vec![(6, "http".into(), 80)],
    }
}

fn policy(name: &str, spec: &Value) -> (String, Option<Policy>) {
    let (namespace, own) = name.split_once('/').unwrap();
    let object = json!({"metadata": {"namespace": namespace, "name": own}, "spec": spec});
    let object: Arc<Object> = Object::parse(serde_json::to_vec(&object).unwrap().into()).unwrap();
    (name.to_owned(), Some(Policy::read(&object).unwrap()))
}

impl Engine {
    fn pod_is(&mut self, pod: Pod) {
        self.set_pod(&pod.key(), Some(pod));
    }

    fn policy(&mut self, name: &str, spec: &Value) {
        let (key, policy) = policy(name, spec);
        self.set_policy(&key, policy);
    }

    /// Commands that the changes since the last call cost.
    fn cost(&mut self) -> usize {
        let cost = self.batches().iter().map(Batch::len).sum();
        self.sweeps();
        cost
    }
}

/// Lets app a in from app b.
fn from_b() -> Value {
    json!({"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "b"}}}]}]})
}

/// A thousand pods of app b on other nodes and one of app a here, and the first rules.
fn large() -> Engine {
    let mut engine = engine();
    for number in 0..1000 {
        engine.pod_is(pod("n", &format!("b-{number}"), "there", number));
    }
    engine.pod_is(pod("n", "a", NODE, 5000));
    engine.policy("n/p", &from_b());
    assert!(engine.cost() > 10);
    engine
}

#[test]
fn a_policy_that_selects_no_pod_of_this_node_costs_nothing_and_follows_nobody() {
    let mut engine = engine();
    engine.pod_is(pod("n", "c", NODE, 1));
    engine.cost();
    engine.policy("n/p", &from_b());
    engine.policy("m/p", &json!({"podSelector": {}}));
    assert_eq!(engine.cost(), 0);
    assert_eq!(engine.scope(), Scope::Namespaces([].into()));
}

#[test]
fn a_pod_that_comes_changes_or_goes_costs_its_own_elements() {
    let mut engine = large();
    engine.pod_is(pod("n", "b-new", "there", 2000));
    assert_eq!(engine.cost(), 1, "one element");
    engine.pod_is(pod("n", "c-new", "there", 2001));
    assert_eq!(engine.cost(), 0, "nobody asks for it");
    engine.pod_is(pod("n", "b-new", "there", 2002));
    assert_eq!(engine.cost(), 2, "one address for another");
    engine.set_pod("n/b-new", None);
    assert_eq!(engine.cost(), 1);
    // the second pod of the same policies shares their chains
    engine.pod_is(pod("n", "a-2", NODE, 5001));
    assert_eq!(engine.cost(), 2, "its place in the map, and itself");
    engine.set_pod("n/a-2", None);
    assert_eq!(engine.cost(), 2);
}

#[test]
fn a_policy_that_changes_costs_its_own_chain() {
    let mut engine = large();
    let mut spec = from_b();
    spec["ingress"][0]["ports"] = json!([{"port": 80}]);
    engine.policy("n/p", &spec);
    assert_eq!(engine.cost(), 2, "its chain is emptied and has one rule");
    engine.policy("n/p", &spec);
    assert_eq!(engine.cost(), 0);
    engine.policy(
        "n/q",
        &json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}),
    );
    let second = engine.cost();
    assert!(second < 15, "{second}: the thousand addresses stay where they are");
    engine.set_policy("n/q", None);
    engine.set_policy("n/p", None);
    assert_eq!(engine.cost(), 2, "the table goes");
}

#[test]
fn pods_are_followed_in_the_namespaces_that_peers_are_in() {
    let names = |names: &[&str]| Scope::Namespaces(names.iter().map(|n| (*n).to_owned()).collect());
    let mut engine = engine();
    for (name, team) in [("m", "x"), ("o", "x"), ("q", "y")] {
        engine.set_namespace(name, Some(&[("team".into(), team.into())].into()));
    }
    engine.pod_is(pod("n", "a", NODE, 1));
    let peer = |peer: Value| json!({"podSelector": {}, "ingress": [{"from": [peer]}]});
    for (of, scope) in [
        (json!({"ipBlock": {"cidr": "10.0.0.0/8"}}), names(&[])),
        (json!({"podSelector": {}}), names(&["n"])),
        (
            json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}),
            names(&["m", "o"]),
        ),
        (json!({"namespaceSelector": {}}), Scope::All),
    ] {
        engine.policy("n/p", &peer(of.clone()));
        assert_eq!(engine.scope(), scope, "{of}");
    }
    engine.policy(
        "n/p",
        &json!({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}),
    );
    assert_eq!(
        engine.scope(),
        names(&[]),
        "a port's name is looked up among this node's pods"
    );
    engine.policy(
        "n/p",
        &json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}]}),
    );
    assert_eq!(engine.scope(), Scope::All, "outwards it may be any pod's");
    engine.set_pod("n/a", None);
    assert_eq!(engine.scope(), names(&[]));
}

#[test]
fn an_address_that_is_given_to_another_pod_is_judged_by_the_new_ones_policies() {
    let mut engine = large();
    let same = pod("n", "a", NODE, 5000).ips;
    let mut next = pod("n", "c", NODE, 5000);
    engine.pod_is(next.clone());
    assert_eq!(engine.cost(), 0, "whoever has it keeps it");
    engine.give_addresses("n/c", &same);
    // c is selected by no policy: the place in the map goes, and with it the pair
    assert_eq!(engine.cost(), 2);
    engine.set_pod("n/a", None);
    assert_eq!(engine.cost(), 2, "the policy selects no pod any more: the table goes");
    next.labels = [("app".into(), "a".into())].into();
    engine.pod_is(next);
    assert!(engine.cost() > 10);
}

#[test]
fn an_address_of_two_pods_stays_a_peer_until_both_are_gone() {
    let mut engine = large();
    engine.pod_is(pod("n", "b-x", "there", 3000));
    engine.pod_is(pod("n", "b-y", "there", 3000));
    assert_eq!(engine.cost(), 1);
    engine.set_pod("n/b-x", None);
    assert_eq!(engine.cost(), 0);
    engine.set_pod("n/b-y", None);
    assert_eq!(engine.cost(), 1);
}

#[test]
fn services_of_the_node_make_no_table_by_themselves() {
    let mut engine = engine();
    engine.cost();
    engine.set_node_services(vec![([192, 0, 2, 1].into(), 17, 10053)]);
    assert_eq!(engine.cost(), 0);
    engine.pod_is(pod("n", "a", NODE, 1));
    engine.policy("n/p", &from_b());
    assert!(engine.cost() > 10);
    engine.set_node_services(vec![([192, 0, 2, 2].into(), 17, 10053)]);
    assert_eq!(engine.cost(), 2);
}
