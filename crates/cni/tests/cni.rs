//! The caller with the default chain, in network namespaces: a node, pods, and a machine outside.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cni::{AddResult, Cni, CniConfig, Error, PodNetwork, PortMapping, Protocol};
use common::Namespace;
use serde_json::json;

struct Node {
    namespace: Namespace,
    outside: Namespace,
    dir: tempfile::TempDir,
    cni: Cni,
}

impl Node {
    /// A node with the default chain, joined to a machine outside that knows no route to the pods.
    fn new() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        Node::with_plugins(dir, bin)
    }

    fn with_plugins(dir: tempfile::TempDir, bin: std::path::PathBuf) -> Node {
        let namespace = Namespace::new("node");
        let outside = Namespace::new("outside");
        namespace.sh(&format!(
            "ip link add up0 type veth peer name up0 netns {} && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up",
            outside.name
        ));
        outside.sh("ip addr add 192.0.2.2/24 dev up0 && ip link set up0 up");
        let cni = Cni::new(CniConfig {
            conf_dir: dir.path().join("net.d"),
            bin_dirs: vec![bin],
            cache_dir: dir.path().join("cache"),
        });
        Node {
            namespace,
            outside,
            dir,
            cni,
        }
    }

    fn configure(&self, version: &str) {
        let network = cni::DefaultNetwork {
            bridge: "cni0".into(),
            pod_cidrs: vec!["10.42.0.0/24".parse().unwrap(), "fd42::/64".parse().unwrap()],
            data_dir: self.dir.path().join("networks"),
            mtu: 1400,
            masquerade: true,
        };
        let mut conf = network.conf_list();
        conf["cniVersion"] = json!(version);
        std::fs::create_dir_all(self.dir.path().join("net.d")).unwrap();
        std::fs::write(self.dir.path().join("net.d/10-default.conflist"), conf.to_string()).unwrap();
    }

    /// Runs a call of the caller with the node as its host.
    fn call<T: Send>(&self, work: impl AsyncFnOnce(&Cni) -> T + Send) -> T {
        let cni = &self.cni;
        self.namespace.inside(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(work(cni))
        })
    }

    fn add(&self, pod: &PodNetwork) -> Result<AddResult, Error> {
        self.call(async |cni| cni.add(pod).await)
    }
}

fn pod(namespace: &Namespace, ports: &[(u16, u16)]) -> PodNetwork {
    PodNetwork {
        sandbox_id: format!("sandbox-of-{}", namespace.name),
        netns: namespace.path(),
        namespace: "default".into(),
        name: namespace.name.clone(),
        uid: "1".into(),
        port_mappings: ports
            .iter()
            .map(|(host_port, container_port)| PortMapping {
                host_port: *host_port,
                container_port: *container_port,
                protocol: Protocol::Tcp,
                host_ip: None,
            })
            .collect(),
        ..PodNetwork::default()
    }
}

/// Answers each connection with the address of who connected.
fn serve(namespace: &Namespace, port: u16) {
    let listener = namespace.inside(|| TcpListener::bind(("0.0.0.0", port))).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _gone = stream.write_all(peer.ip().to_string().as_bytes());
        }
    });
}

fn ask(namespace: &Namespace, address: &str) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().unwrap();
    namespace.inside(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

#[test]
fn pods_reach_each_other_and_the_outside_and_leave_nothing_behind() {
    the_default_chain(&Node::new(), true);
}

/// The reference plugins, where `$UPSTREAM` or `~/.cache/upstream` has them built.
fn reference_plugins() -> Option<std::path::PathBuf> {
    let base = std::env::var_os("UPSTREAM").map(std::path::PathBuf::from);
    let base = base.or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cache/upstream")))?;
    let dir = base.join("cni");
    dir.join("bridge").is_file().then_some(dir)
}

#[test]
fn the_reference_plugins_do_the_same_in_our_hands() {
    let Some(bin) = reference_plugins() else {
        eprintln!("skipped: the reference plugins are not built");
        return;
    };
    the_default_chain(&Node::with_plugins(tempfile::tempdir().unwrap(), bin), false);
}

#[test]
fn one_reference_plugin_works_with_the_rest_of_ours() {
    let Some(bin) = reference_plugins() else {
        eprintln!("skipped: the reference plugins are not built");
        return;
    };
    for plugin in ["bridge", "host-local", "portmap"] {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("bin");
        std::fs::create_dir(&own).unwrap();
        std::os::unix::fs::symlink(bin.join(plugin), own.join(plugin)).unwrap();
        if plugin == "bridge" {
            // It runs its address plugin as a program.
            std::os::unix::fs::symlink(bin.join("host-local"), own.join("host-local")).unwrap();
        }
        the_default_chain(&Node::with_plugins(dir, own), plugin != "bridge");
    }
}

/// The reference bridge leaves a pod's masquerading rule if the namespace is gone before DEL: then GC comes first.
fn the_default_chain(node: &Node, namespace_goes_first: bool) {
    assert!(matches!(node.call(async |cni| cni.status().await), Err(Error::Conf(_))));
    node.configure("1.1.0");
    node.call(async |cni| cni.status().await).unwrap();

    let (a, b) = (Namespace::new("pod"), Namespace::new("pod"));
    let (pod_a, pod_b) = (pod(&a, &[(8080, 80)]), pod(&b, &[]));
    let added = node.add(&pod_a).unwrap();
    let ips: Vec<IpAddr> = vec!["10.42.0.2".parse().unwrap(), "fd42::2".parse().unwrap()];
    assert_eq!(added.ips, ips);
    assert_eq!(a.sh("cat /sys/class/net/eth0/mtu").trim(), "1400");
    assert_eq!(node.add(&pod_b).unwrap().ips[0].to_string(), "10.42.0.3");
    node.call(async |cni| cni.check(&pod_a).await).unwrap();
    serve(&a, 80);
    serve(&node.outside, 90);

    b.sh("ping -c1 -W2 10.42.0.2 || nc -z -w2 10.42.0.2 80");
    assert_eq!(ask(&b, "10.42.0.2:80").unwrap(), "10.42.0.3");
    assert_eq!(ask(&b, "192.0.2.2:90").unwrap(), "192.0.2.1", "masqueraded");
    assert_eq!(
        ask(&node.outside, "192.0.2.1:8080").unwrap(),
        "192.0.2.2",
        "host port from outside"
    );
    assert_eq!(
        ask(&node.namespace, "127.0.0.1:8080").unwrap(),
        "10.42.0.1",
        "host port from loopback"
    );
    assert_eq!(ask(&b, "192.0.2.1:8080").unwrap(), "10.42.0.3", "host port from a pod");
    assert_eq!(
        ask(&a, "192.0.2.1:8080").unwrap(),
        "10.42.0.1",
        "host port from the pod itself"
    );
    assert_eq!(
        added.interfaces[0].mac,
        node.namespace.sh("cat /sys/class/net/cni0/address").trim(),
        "the bridge keeps its address"
    );
    assert_eq!(
        added.interfaces[2].mac,
        a.sh("cat /sys/class/net/eth0/address").trim(),
        "the MAC of the pod's end is told"
    );
    assert!(a.sh("ip -6 route show default").contains("fd42::1"));

    node.call(async |cni| cni.del(&pod_a).await).unwrap();
    node.call(async |cni| cni.del(&pod_a).await).unwrap();
    assert!(ask(&node.outside, "192.0.2.1:8080").is_err());
    assert!(node.call(async |cni| cni.check(&pod_a).await).is_err());
    let b = (!namespace_goes_first).then_some(b);
    let keep: [String; 0] = [];
    node.call(async |cni| cni.gc(&keep).await).unwrap();
    assert!(!node.namespace.sh("ip -o link").contains("veth"));
    let rules = node.namespace.sh("nft list ruleset");
    assert!(!rules.contains("10.42.0."), "{rules}");
    drop(b);
    let left = std::fs::read_dir(node.dir.path().join("cache/results"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
    let names = node.dir.path().join("networks/cbr0");
    let files: Vec<_> = std::fs::read_dir(names)
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    assert!(
        files.iter().all(|f| !f.to_str().unwrap().contains("10.42")),
        "{files:?}"
    );
}

#[test]
fn a_failed_add_gives_back_what_it_took() {
    let node = Node::new();
    node.configure("0.4.0");
    let bin = node.dir.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::write(
        bin.join("portmap"),
        "#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit 0\necho '{\"code\": 117, \"msg\": \"refused by the test\"}'; exit 1\n",
    )
    .unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(bin.join("portmap"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let a = Namespace::new("pod");
    let error = node.add(&pod(&a, &[])).unwrap_err();
    assert!(
        matches!(&error, Error::Plugin { source, .. } if source.code == 117),
        "{error}"
    );
    assert!(error.to_string().contains("refused by the test"), "{error}");
    assert!(!a.sh("ip -o link").contains("eth0"));
    std::fs::remove_file(bin.join("portmap")).unwrap();
    assert_eq!(node.add(&pod(&a, &[])).unwrap().ips.len(), 2);
    node.call(async |cni| cni.del(&pod(&a, &[])).await).unwrap();
}

#[test]
fn a_third_party_plugin_gets_the_specifications_parameters() {
    let node = Node::new();
    let bin = node.dir.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let log = node.dir.path().join("log");
    let script = format!(
        "#!/bin/sh\n(env | grep ^CNI_ | sort; cat; echo) >> {}\n[ $CNI_COMMAND = ADD ] && echo '{{\"cniVersion\": \"0.3.1\", \"ips\": [{{\"version\": \"4\", \"address\": \"10.9.0.5/24\"}}]}}'\nexit 0\n",
        log.display()
    );
    std::fs::write(bin.join("third"), script).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(bin.join("third"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let conf = json!({"cniVersion": "0.3.1", "name": "third", "type": "third", "capabilities": {"portMappings": true}});
    std::fs::create_dir_all(node.dir.path().join("net.d")).unwrap();
    std::fs::write(node.dir.path().join("net.d/1.conf"), conf.to_string()).unwrap();
    let a = Namespace::new("pod");
    let added = node.add(&pod(&a, &[(1, 2)])).unwrap();
    assert_eq!(added.ips[0].to_string(), "10.9.0.5");
    node.call(async |cni| cni.del(&pod(&a, &[])).await).unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    for part in [
        "CNI_COMMAND=ADD",
        "CNI_COMMAND=DEL",
        "CNI_IFNAME=eth0",
        "K8S_POD_NAMESPACE=default;K8S_POD_NAME=skiff-pod",
        r#""runtimeConfig":{"portMappings":[{"containerPort":2,"hostPort":1,"protocol":"tcp"}]}"#,
    ] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    assert_eq!(
        log.matches("portMappings\":[{").count(),
        2,
        "DEL gets what ADD got: {log}"
    );
}

#[test]
fn many_pods_come_and_go_at_once() {
    let node = Node::new();
    node.configure("1.1.0");
    let namespaces: Vec<Namespace> = (0..12).map(|_| Namespace::new("pod")).collect();
    let pods: Vec<PodNetwork> = (0u16..)
        .zip(&namespaces)
        .map(|(n, ns)| pod(ns, &[(9000 + n, 80)]))
        .collect();
    for _ in 0..2 {
        let ips: Vec<IpAddr> = std::thread::scope(|scope| {
            let adds: Vec<_> = pods
                .iter()
                .map(|pod| scope.spawn(|| node.add(pod).unwrap().ips[0]))
                .collect();
            adds.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let unique: std::collections::BTreeSet<_> = ips.iter().collect();
        assert_eq!(unique.len(), pods.len());
        let rules = node.namespace.sh("nft list ruleset");
        assert_eq!(rules.matches("dnat to 10.42.0.").count(), pods.len(), "{rules}");
        std::thread::scope(|scope| {
            for pod in &pods {
                scope.spawn(|| node.call(async |cni| cni.del(pod).await).unwrap());
            }
        });
        let rules = node.namespace.sh("nft list ruleset");
        assert!(!rules.contains("10.42.0."), "{rules}");
    }
}
