//! Policies against what the specification says: nine pods of three namespaces ask each other on every port, protocol and family,
//! as upstream's own matrix does. The pods are namespaces on one bridge; those of namespace z are another node's.
#![allow(clippy::unwrap_used)]

#[path = "../../cni/tests/common/mod.rs"]
mod common;
mod model;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use api::object::Object;
use cni::nft::{Batch, Family};
use common::Namespace;
use model::{Pod, Probe, allowed};
use network_policy::{Engine, Policy};
use serde_json::{Value, json};

const NODE: &str = "here";
const TABLE: &str = "test-network-policy";
const AGENT: &str = include_str!("agent.py");

struct Machine {
    pod: Pod,
    // dropped first, so that the namespace has nobody in it
    agent: Agent,
    _ns: Namespace,
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

struct World {
    machines: Vec<Machine>,
    node: Namespace,
    engine: Engine,
    policies: Vec<Value>,
}

fn object(value: &Value) -> std::sync::Arc<Object> {
    Object::parse(serde_json::to_vec(value).unwrap().into()).unwrap()
}

/// As the API has it.
fn pod_object(pod: &Pod) -> Value {
    json!({
        "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.name, "labels": {"pod": pod.name}},
        "spec": {
            "nodeName": if pod.local { NODE } else { "there" },
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": pod.http}]}],
        },
        "status": {"phase": "Running", "podIPs": [{"ip": pod.ips[0]}, {"ip": pod.ips[1]}]},
    })
}

fn read_pod(pod: &Pod) -> Option<network_policy::Pod> {
    network_policy::Pod::read(&object(&pod_object(pod))).unwrap()
}

fn read_policy(policy: &Value) -> (String, Policy) {
    let object = object(policy);
    (object.key(), Policy::read(&object).unwrap())
}

fn engine(machines: &[Machine]) -> Engine {
    let mut engine = Engine::new(NODE, TABLE, &[Family::Ipv4, Family::Ipv6]);
    for namespace in ["x", "y", "z"] {
        engine.set_namespace(namespace, Some(&[("ns".into(), namespace.into())].into()));
    }
    for Machine { pod, .. } in machines {
        engine.set_pod(&format!("{}/{}", pod.namespace, pod.name), read_pod(pod));
    }
    engine
}

impl World {
    fn start() -> World {
        let node = Namespace::new("node");
        node.sh(
            "ip link add br0 type bridge; ip link set br0 up; ip addr add 10.42.0.1/24 dev br0; ip -6 addr add fd42::1/64 dev br0 nodad
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
        );
        node.inside(cni::filter_bridged);
        let mut machines = Vec::new();
        for (i, namespace) in (0u8..).zip(["x", "y", "z"]) {
            for (j, name) in (1u8..).zip(["a", "b", "c"]) {
                let number = 10 * (i + 1) + j;
                let ips = [format!("10.42.0.{number}"), format!("fd42::{number}")];
                let ns = Namespace::new("pod");
                node.sh(&format!(
                    "ip link add v{number} type veth peer name eth0 netns {}; ip link set v{number} master br0 up",
                    ns.name
                ));
                ns.sh(&format!(
                    "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; ip link set eth0 up
                     ip addr add {}/24 dev eth0; ip -6 addr add {}/64 dev eth0 nodad",
                    ips[0], ips[1]
                ));
                let mut child = Command::new("ip")
                    .args(["netns", "exec", &ns.name, "python3", "-c", AGENT])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                assert_eq!(line(&mut child), "ready\n");
                let pod = Pod {
                    namespace,
                    name,
                    ips: ips.map(|ip| ip.parse().unwrap()),
                    http: if name == "c" { 81 } else { 80 },
                    local: namespace != "z",
                };
                let agent = Agent(child);
                machines.push(Machine { pod, agent, _ns: ns });
            }
        }
        let engine = engine(&machines);
        World {
            machines,
            node,
            engine,
            policies: Vec::new(),
        }
    }

    fn commit(&mut self) {
        let batches = self.engine.batches();
        self.node
            .inside(|| batches.into_iter().try_for_each(Batch::commit).unwrap());
    }

    /// Has these policies and no others; the change is what differs.
    fn set(&mut self, policies: Vec<Value>) {
        for old in &self.policies {
            let (key, _) = read_policy(old);
            if !policies.iter().any(|p| read_policy(p).0 == key) {
                self.engine.set_policy(&key, None);
            }
        }
        for new in &policies {
            let (key, policy) = read_policy(new);
            self.engine.set_policy(&key, Some(policy));
        }
        self.policies = policies;
        self.commit();
    }

    /// Every pod asks every other one.
    fn check(&mut self) {
        // What was let in goes on: a port that is used again must not be taken for it.
        self.node
            .inside(|| [false, true].map(|v6| cni::conntrack::flush(v6, |_| true).unwrap()));
        let mut asked = Vec::new();
        for from in &self.machines {
            let mut targets = Vec::new();
            for to in self.machines.iter().filter(|to| !std::ptr::eq(*to, from)) {
                for (v6, protocol, port) in [false, true].into_iter().flat_map(|v6| {
                    ["TCP", "UDP"]
                        .into_iter()
                        .flat_map(move |p| [80, 81].map(|port| (v6, p, port)))
                }) {
                    let probe = Probe {
                        from: &from.pod,
                        to: &to.pod,
                        v6,
                        protocol,
                        port,
                    };
                    let expected = allowed(&self.policies, &probe);
                    targets.push(json!([to.pod.ips[usize::from(v6)], protocol, port, expected]));
                }
            }
            asked.push(targets);
        }
        for (machine, targets) in self.machines.iter_mut().zip(&asked) {
            let stdin = machine.agent.0.stdin.as_mut().unwrap();
            writeln!(stdin, "{}", json!(targets)).unwrap();
        }
        let mut wrong = Vec::new();
        for (machine, targets) in self.machines.iter_mut().zip(&asked) {
            let reached: Vec<usize> = serde_json::from_str(&line(&mut machine.agent.0)).unwrap();
            for (n, target) in targets.iter().enumerate() {
                let got = reached.contains(&n);
                if target[3] != got {
                    wrong.push(format!(
                        "{}/{} to {target}: {got}",
                        machine.pod.namespace, machine.pod.name
                    ));
                }
            }
        }
        if !wrong.is_empty() {
            let rules = self.node.sh("nft list ruleset");
            let policies = serde_json::to_string_pretty(&self.policies).unwrap();
            panic!("{} wrong:\n{}\n{policies}\n{rules}", wrong.len(), wrong.join("\n"));
        }
    }

    /// What changes have led to is what one would write anew.
    fn compare_with_anew(&mut self) {
        let sweeps = self.engine.sweeps();
        self.node
            .inside(|| sweeps.into_iter().try_for_each(Batch::commit).unwrap());
        let by_changes = self.listed();
        let mut anew = engine(&self.machines);
        for policy in &self.policies {
            let (key, policy) = read_policy(policy);
            anew.set_policy(&key, Some(policy));
        }
        let batches = anew.batches();
        self.node
            .inside(|| batches.into_iter().try_for_each(Batch::commit).unwrap());
        assert_eq!(by_changes, self.listed());
    }

    /// The rules, in an order that does not depend on when they came.
    fn listed(&self) -> Vec<String> {
        let text = self.node.sh("nft list ruleset");
        let mut blocks: Vec<String> = text
            .split("\n\t}")
            .map(|block| {
                let mut words: Vec<&str> = block.split([' ', ',', '\n', '\t']).filter(|w| !w.is_empty()).collect();
                if block.contains("elements") {
                    words.sort_unstable();
                }
                words.join(" ")
            })
            .collect();
        blocks.sort();
        blocks
    }
}

fn line(child: &mut Child) -> String {
    let mut line = String::new();
    let out = child.stdout.as_mut().unwrap();
    // the agent says one line and then waits, so nothing beyond it is lost
    BufReader::new(out).read_line(&mut line).unwrap();
    line
}

fn policy(namespace: &str, name: &str, spec: Value) -> Value {
    let mut policy = json!({"metadata": {"namespace": namespace, "name": name}});
    policy["spec"] = spec;
    policy
}

/// What people write.
fn recipes() -> Vec<Vec<Value>> {
    let all = json!({});
    let pod = |name: &str| json!({"matchLabels": {"pod": name}});
    let ns = |name: &str| json!({"matchLabels": {"ns": name}});
    vec![
        vec![],
        vec![policy(
            "x",
            "deny-ingress",
            json!({"podSelector": all, "policyTypes": ["Ingress"]}),
        )],
        vec![policy(
            "x",
            "deny-all",
            json!({"podSelector": all, "policyTypes": ["Ingress", "Egress"]}),
        )],
        // another node's pods are judged there
        vec![policy(
            "z",
            "deny-all",
            json!({"podSelector": all, "policyTypes": ["Ingress", "Egress"]}),
        )],
        vec![
            policy(
                "x",
                "deny-all",
                json!({"podSelector": all, "policyTypes": ["Ingress", "Egress"]}),
            ),
            policy(
                "x",
                "allow-all",
                json!({"podSelector": pod("a"), "policyTypes": ["Ingress"], "ingress": [{}]}),
            ),
            policy(
                "x",
                "to-y",
                json!({"podSelector": all, "policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": ns("y")}]}]}),
            ),
        ],
        vec![policy(
            "x",
            "by-label",
            json!({"podSelector": pod("a"), "policyTypes": ["Ingress"], "ingress": [
                {"from": [{"podSelector": pod("b")}, {"namespaceSelector": ns("z"), "podSelector": pod("c")}], "ports": [{"port": 80}, {"protocol": "UDP", "port": 81}]},
            ]}),
        )],
        vec![policy(
            "y",
            "by-block",
            json!({"podSelector": all, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.42.0.0/16", "except": ["10.42.0.31/32", "10.42.0.32/32"]}}]}],
            "egress": [{"to": [{"ipBlock": {"cidr": "fd42::/64", "except": ["fd42::12/128"]}}], "ports": [{"port": 80, "endPort": 90}]}]}),
        )],
        vec![
            policy(
                "x",
                "named",
                json!({"podSelector": all, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": "http"}]}]}),
            ),
            policy(
                "y",
                "named",
                json!({"podSelector": all, "policyTypes": ["Egress"], "egress": [
                    {"to": [{"namespaceSelector": all}], "ports": [{"port": "http"}, {"protocol": "UDP"}]},
                ]}),
            ),
        ],
        vec![policy(
            "y",
            "named-anybody",
            json!({"podSelector": pod("b"), "policyTypes": ["Egress"], "egress": [
                {"to": [{"ipBlock": {"cidr": "10.42.0.0/27"}}], "ports": [{"port": "http"}]}, {"ports": [{"protocol": "UDP", "port": 80}]},
            ]}),
        )],
    ]
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())].clone()
    }

    fn some(&mut self, most: usize, mut make: impl FnMut(&mut Dice) -> Value) -> Value {
        (0..self.roll(most + 1)).map(|_| make(self)).collect()
    }

    fn selector(&mut self, key: &str, values: [&str; 3]) -> Value {
        let [one, other] = [self.one(&values), self.one(&values)];
        match self.roll(6) {
            0 | 1 => json!({"matchLabels": {key: one}}),
            2 => json!({"matchExpressions": [{"key": key, "operator": "In", "values": [one, other]}]}),
            3 => json!({"matchExpressions": [{"key": key, "operator": "NotIn", "values": [one]}]}),
            4 => json!({"matchExpressions": [{"key": "none", "operator": "DoesNotExist"}]}),
            _ => json!({}),
        }
    }

    fn peer(&mut self) -> Value {
        let pods = self.selector("pod", ["a", "b", "c"]);
        let namespaces = self.selector("ns", ["x", "y", "z"]);
        match self.roll(6) {
            0 => json!({"podSelector": pods}),
            1 => json!({"namespaceSelector": namespaces}),
            2 | 3 => json!({"namespaceSelector": namespaces, "podSelector": pods}),
            4 => {
                let except =
                    ["10.42.0.11/32", "10.42.0.20/30", "10.42.0.32/32"].map(|e| (self.roll(2) == 0).then_some(e));
                let except: Vec<_> = except.into_iter().flatten().collect();
                json!({"ipBlock": {"cidr": self.one(&["10.42.0.0/24", "0.0.0.0/0"]), "except": except}})
            }
            _ => {
                let cidr = self.one(&["fd42::/64", "fd42::20/123", "10.42.0.22/32", "::/0"]);
                json!({"ipBlock": {"cidr": cidr}})
            }
        }
    }

    fn port(&mut self) -> Value {
        let protocol = self.one(&["TCP", "UDP", "SCTP"]);
        match self.roll(6) {
            0 => json!({"protocol": protocol}),
            1 => json!({"protocol": protocol, "port": 1, "endPort": 80}),
            2 => json!({"port": "http", "protocol": protocol}),
            _ => json!({"protocol": self.one(&["TCP", "UDP"]), "port": self.one(&[80, 81, 82])}),
        }
    }

    fn policy(&mut self, number: usize) -> Value {
        let mut rules = |peers: &str| {
            self.some(
                2,
                |d| json!({peers: d.some(3, Dice::peer), "ports": d.some(3, Dice::port)}),
            )
        };
        let (ingress, egress) = (rules("from"), rules("to"));
        let types = self.one(&[json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
        let namespace = self.one(&["x", "x", "y", "y", "z"]);
        let pods = self.selector("pod", ["a", "b", "c"]);
        policy(
            namespace,
            &format!("p{number}"),
            json!({"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress}),
        )
    }
}

#[test]
fn what_people_write_holds_and_what_is_taken_away_holds_no_longer() {
    let mut world = World::start();
    for policies in recipes() {
        world.set(policies);
        world.check();
    }
    world.compare_with_anew();
    world.set(Vec::new());
    world.check();
    assert!(world.engine.batches().is_empty());
}

#[test]
fn generated_policies_hold_while_policies_pods_and_namespaces_change() {
    let seeds = std::env::var("SKIFF_TEST_SEEDS").map_or(10, |n| n.parse().unwrap());
    let mut world = World::start();
    let mut dice = Dice(42);
    for seed in 0..seeds {
        let mut policies: Vec<Value> = world.policies.iter().filter(|_| dice.roll(2) == 0).cloned().collect();
        for number in 0..=dice.roll(4) {
            policies.retain(|p| p["metadata"]["name"] != format!("p{number}"));
            policies.push(dice.policy(number));
        }
        // what comes and goes between two transactions leaves nothing
        let key = {
            let pod = &world.machines[dice.roll(9)].pod;
            format!("{}/{}", pod.namespace, pod.name)
        };
        let namespace = dice.one(&["x", "y", "z"]);
        world.engine.set_pod(&key, None);
        world.engine.set_namespace(namespace, Some(&[].into()));
        if seed % 2 == 0 {
            world.commit();
        }
        world
            .engine
            .set_namespace(namespace, Some(&[("ns".into(), namespace.into())].into()));
        for machine in &world.machines {
            let pod = &machine.pod;
            world
                .engine
                .set_pod(&format!("{}/{}", pod.namespace, pod.name), read_pod(pod));
        }
        world.set(policies);
        world.check();
        world.compare_with_anew();
        // the comparison wrote the same again
        world.engine.lost();
        world.commit();
    }
}
