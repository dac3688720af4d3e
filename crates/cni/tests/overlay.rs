//! The overlay between three nodes, which are namespaces on one bridge, with pods in namespaces behind them: real packets.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use api::object::Object;
use client::WatchEvent;
use cni::overlay::{Backend, Overlay, OverlayConfig, cleanup};
use common::Namespace;
use serde_json::{Value, json};

/// A node: its namespace, a pod behind its bridge, and its overlay.
struct Node {
    name: String,
    number: u8,
    ns: Namespace,
    pod: Namespace,
    overlay: Option<Overlay>,
    backend: Backend,
    address: String,
    conf: tempfile::TempDir,
    /// Of its pod.
    mtu: u32,
    /// As the API has it.
    object: Value,
}

/// The link between the nodes.
struct Cluster {
    switch: Namespace,
    nodes: Vec<Node>,
}

fn event(object: &Value) -> Arc<Object> {
    Object::parse(serde_json::to_vec(object).unwrap().into()).unwrap()
}

impl Node {
    fn start(number: u8, switch: &Namespace, backend: Backend) -> Node {
        let ns = Namespace::new("node");
        let pod = Namespace::new("pod");
        let address = format!("192.0.2.{number}");
        // A larger frame between nodes than usual shows that the MTU is found and not guessed.
        switch.sh(&format!(
            "ip link add port{number} mtu 1600 type veth peer name eth0 netns {}; ip link set port{number} master switch up",
            ns.name
        ));
        ns.sh(&format!(
            "ip link set eth0 mtu 1600 up; ip addr add {address}/24 dev eth0; ip -6 addr add 2001:db8::{number}/64 dev eth0 nodad"
        ));
        // What another program has, and must keep.
        ns.sh("ip route add 203.0.113.0/24 dev eth0");
        let mut node = Node {
            name: format!("node-{number}"),
            number,
            ns,
            pod,
            overlay: None,
            backend,
            address,
            conf: tempfile::tempdir().unwrap(),
            mtu: 0,
            object: json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{number}"), "annotations": {}},
                "spec": {"podCIDRs": [format!("10.42.{number}.0/24"), format!("fd42:0:0:{number}::/64")]},
            }),
        };
        node.open();
        let mtu = node.overlay.as_ref().unwrap().mtu();
        node.mtu = mtu;
        node.ns.sh(&format!(
            "ip link add cni0 type bridge; ip link set cni0 up; ip addr add 10.42.{number}.1/24 dev cni0
             ip -6 addr add fd42:0:0:{number}::1/64 dev cni0 nodad
             ip link add veth0 mtu {mtu} type veth peer name eth0 netns {}; ip link set veth0 master cni0 up",
            node.pod.name
        ));
        node.pod.sh(&format!(
            "ip link set eth0 mtu {mtu} up; ip addr add 10.42.{number}.2/24 dev eth0; ip route add default via 10.42.{number}.1
             ip -6 addr add fd42:0:0:{number}::2/64 dev eth0 nodad; ip -6 route add default via fd42:0:0:{number}::1"
        ));
        node
    }

    /// The program starts, or starts again.
    fn open(&mut self) {
        let config = OverlayConfig {
            node: self.name.clone(),
            node_ips: vec![
                self.address.parse().unwrap(),
                format!("2001:db8::{}", self.number).parse().unwrap(),
            ],
            backend: self.backend,
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap(), "fd42::/56".parse().unwrap()],
            bridge: "cni0".into(),
            addresses: "/run/nowhere".into(),
            conf_dir: self.conf.path().to_owned(),
        };
        self.overlay = Some(self.ns.inside(|| Overlay::open(config).unwrap()));
    }

    /// Sees an event; what it says of itself goes into its object.
    fn see(&mut self, event: &WatchEvent) -> bool {
        let overlay = self.overlay.as_mut().unwrap();
        let said = self.ns.inside(|| {
            let work = overlay.decide(event);
            overlay.perform(&work).unwrap();
            work.announce
        });
        for (key, value) in &said {
            self.object["metadata"]["annotations"][key] = json!(value);
        }
        !said.is_empty()
    }

    fn ip(&self, v6: bool) -> String {
        let number = self.number;
        if v6 {
            format!("fd42:0:0:{number}::2")
        } else {
            format!("10.42.{number}.2")
        }
    }

    /// All that the overlay may have made, without what changes by itself.
    fn entries(&self) -> String {
        self.ns.sh(
            "for f in -4 -6; do ip $f route show proto 83; ip $f neigh show nud permanent | grep flannel; done
             for d in flannel.1 flannel-v6.1; do ip link show $d >/dev/null 2>&1 && bridge fdb show dev $d; done; true",
        )
    }
}

impl Cluster {
    fn start(count: u8, backend: Backend) -> Cluster {
        let switch = Namespace::new("switch");
        switch.sh("ip link add switch type bridge; ip link set switch up");
        let nodes = (1..=count).map(|n| Node::start(n, &switch, backend)).collect();
        let mut cluster = Cluster { switch, nodes };
        for at in 0..cluster.nodes.len() {
            cluster.list(at);
        }
        cluster
    }

    /// A node lists all nodes; what it says of itself the others hear.
    fn list(&mut self, at: usize) {
        let all = self.nodes.iter().map(|n| event(&n.object)).collect();
        if self.nodes[at].see(&WatchEvent::Restarted(all)) {
            self.tell(at);
        }
    }

    fn tell(&mut self, of: usize) {
        let changed = event(&self.nodes[of].object);
        for node in &mut self.nodes {
            node.see(&WatchEvent::Applied(changed.clone()));
        }
    }

    /// Addresses of links that came up a moment ago are still being checked for duplicates.
    fn reaches(&self, from: usize, to: usize, v6: bool) -> bool {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !self.ping(from, to, v6) {
            if std::time::Instant::now() > deadline {
                return false;
            }
        }
        true
    }

    fn ping(&self, from: usize, to: usize, v6: bool) -> bool {
        let to = self.nodes[to].ip(v6);
        let size = self.nodes[from].mtu - if v6 { 48 } else { 28 };
        // As large as pods may send, and not to be broken up on the way.
        let line = format!("ping -c 1 -W 1 -M do -s {size} {to}");
        self.nodes[from].pod.try_sh(&line).status.success()
    }
}

/// Sends many bytes over TCP from pod to pod and says how many came, from whom.
fn transfer(from: &Node, to: &Node, v6: bool, bytes: usize) -> (usize, String) {
    let family = if v6 { "AF_INET6" } else { "AF_INET" };
    let ip = to.ip(v6);
    let server = format!(
        "import socket
s = socket.socket(socket.{family}); s.bind(('{ip}', 9)); s.listen(); s.settimeout(20); print('ready', flush=True)
c, who = s.accept(); c.settimeout(20); n = 0
while b := c.recv(1 << 16): n += len(b)
print(n, who[0])"
    );
    let mut child = python(&to.pod, &server);
    let mut out = child.stdout.take().unwrap();
    let mut ready = [0; 6];
    out.read_exact(&mut ready).unwrap();
    let client = format!(
        "import socket
s = socket.create_connection(('{ip}', 9), 5); s.settimeout(20); s.sendall(bytes({bytes})); s.close()"
    );
    let mut sending = python(&from.pod, &client);
    let sent = sending.wait().unwrap().success();
    if !sent {
        child.kill().unwrap();
    }
    let mut said = String::new();
    out.read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    let (count, who) = said.trim().split_once(' ').unwrap_or(("0", "nobody"));
    (count.parse().unwrap(), who.to_owned())
}

fn python(ns: &Namespace, program: &str) -> Child {
    Command::new("ip")
        .args(["netns", "exec", &ns.name, "python3", "-c", program])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn pods_on_different_nodes_reach_each_other(backend: Backend, overhead: u32) {
    let mut c = Cluster::start(3, backend);
    let mtu = c.nodes[0].overlay.as_ref().unwrap().mtu();
    assert_eq!(mtu, 1600 - overhead);
    for v6 in [false, true] {
        for from in 0..3 {
            for to in (0..3).filter(|to| *to != from) {
                assert!(
                    c.reaches(from, to, v6),
                    "{from} to {to}, IPv6 {v6}\n{}",
                    c.nodes[from].entries()
                );
            }
        }
        // pods see each other's own addresses
        let (count, who) = transfer(&c.nodes[0], &c.nodes[1], v6, 50_000_000);
        assert_eq!((count, who), (50_000_000, c.nodes[0].ip(v6)));
    }

    // the program starts again: what is there stays, and packets go on
    let before = c.nodes[0].entries();
    c.nodes[0].open();
    c.list(0);
    assert_eq!(c.nodes[0].entries(), before);
    assert!(c.reaches(0, 1, false));

    // what was lost, and what is too much, is put right at a start
    c.nodes[0]
        .ns
        .sh("ip route flush proto 83; ip route add 10.42.77.0/24 via 192.0.2.2 proto 83");
    c.nodes[0].open();
    c.list(0);
    assert_eq!(c.nodes[0].entries(), before);

    // a node moves to another address
    let moved = "192.0.2.99";
    c.nodes[1].ns.sh(&format!(
        "ip addr del 192.0.2.2/24 dev eth0; ip addr add {moved}/24 dev eth0"
    ));
    c.nodes[1].address = moved.into();
    c.nodes[1].open();
    c.list(1);
    assert!(
        c.reaches(0, 1, false) && c.reaches(1, 2, false),
        "{}",
        c.nodes[0].entries()
    );

    // a node goes: nothing of it stays with the others, and they still reach each other
    let gone = event(&c.nodes[1].object);
    for at in [0, 2] {
        c.nodes[at].see(&WatchEvent::Deleted(gone.clone()));
        let left = c.nodes[at].entries();
        for trace in ["10.42.2.", "fd42:0:0:2:", moved, "2001:db8::2"] {
            assert!(!left.contains(trace), "{trace} in\n{left}");
        }
    }
    assert!(c.reaches(0, 2, false) && c.reaches(2, 0, true));
    assert!(!c.ping(0, 1, false));

    // everything goes, and only that
    for node in &c.nodes {
        node.ns.inside(|| cleanup("cni0").unwrap());
        assert_eq!(node.entries(), "");
        assert_eq!(node.ns.sh("nft list tables"), "");
        let links = node.ns.sh("ip -o link");
        assert!(!links.contains("flannel"), "{links}");
        // the kernel took it from the node that lost its address
        assert!(node.number == 2 || node.ns.sh("ip route").contains("203.0.113.0/24"));
    }
}

#[test]
fn pods_on_different_nodes_reach_each_other_through_vxlan() {
    pods_on_different_nodes_reach_each_other(Backend::Vxlan, 70);
}

#[test]
fn pods_on_different_nodes_reach_each_other_through_host_routes() {
    pods_on_different_nodes_reach_each_other(Backend::HostGw, 0);
}

#[test]
fn a_node_alone_has_no_device_and_one_with_another_back_end_is_changed_to_this_one() {
    let mut c = Cluster::start(1, Backend::Vxlan);
    assert!(!c.nodes[0].ns.sh("ip -o link").contains("flannel"));
    assert!(c.nodes[0].conf.path().join("99-skiff.conflist").exists());
    let other = Node::start(2, &c.switch, Backend::Vxlan);
    c.nodes.push(other);
    c.list(1);
    c.list(0);
    assert!(c.reaches(0, 1, false));
    // both change
    for at in 0..2 {
        c.nodes[at].backend = Backend::HostGw;
        c.nodes[at].open();
        c.list(at);
    }
    assert!(
        c.reaches(0, 1, false),
        "{}\n{}",
        c.nodes[0].entries(),
        c.nodes[1].entries()
    );
    assert!(
        c.reaches(1, 0, true),
        "{}\n{}",
        c.nodes[0].entries(),
        c.nodes[1].entries()
    );
    assert!(!c.nodes[0].ns.sh("ip -o link").contains("flannel"));
    assert!(
        c.nodes[0].entries().contains("10.42.2.0/24 via 192.0.2.2 dev eth0"),
        "{}",
        c.nodes[0].entries()
    );
}

#[test]
fn what_leaves_the_cluster_has_the_nodes_address() {
    let c = Cluster::start(1, Backend::Vxlan);
    let outside = Namespace::new("outside");
    c.switch.sh(&format!(
        "ip link add port9 type veth peer name eth0 netns {}; ip link set port9 master switch up",
        outside.name
    ));
    outside.sh("ip link set eth0 up; ip addr add 192.0.2.9/24 dev eth0");
    let server = "import socket
s = socket.socket(); s.bind(('192.0.2.9', 9)); s.listen(); s.settimeout(20); print('ready', flush=True)
print(s.accept()[1][0])";
    let mut child = python(&outside, server);
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 6]).unwrap();
    let client = "import socket; socket.create_connection(('192.0.2.9', 9), 5)";
    assert!(python(&c.nodes[0].pod, client).wait().unwrap().success());
    let mut who = String::new();
    out.read_to_string(&mut who).unwrap();
    child.wait().unwrap();
    assert_eq!(who.trim(), "192.0.2.1");
}
