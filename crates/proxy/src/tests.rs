//! Real traffic through the rules: a node with pods on a bridge, and a machine outside, in network namespaces.

#[path = "../../cni/tests/common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use api::object::Object;
use client::{Informer, WatchEvent};
use common::Namespace;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ProxyConfig;
use crate::run::{Sources, by_service, follow};

/// One of the followed collections.
struct Feed(mpsc::UnboundedSender<WatchEvent>);

fn object(value: &Value) -> Arc<Object> {
    Object::parse(value.to_string().into()).unwrap()
}

impl Feed {
    fn apply(&self, value: &Value) {
        self.0.send(WatchEvent::Applied(object(value))).unwrap();
    }

    fn delete(&self, value: &Value) {
        self.0.send(WatchEvent::Deleted(object(value))).unwrap();
    }
}

struct Cluster {
    node: Namespace,
    outside: Namespace,
    pods: Vec<Namespace>,
    services: Feed,
    slices: Feed,
    stop: CancellationToken,
    proxy: Option<JoinHandle<()>>,
}

type Stream = mpsc::UnboundedReceiver<WatchEvent>;

fn cache(receiver: Stream, indexers: Vec<client::Indexer>) -> client::Cache {
    let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    Informer::over(Box::pin(stream), indexers)
}

impl Cluster {
    /// Pods 10.42.0.2 and so on, behind node 192.0.2.1; outside is 192.0.2.2 and routes Services to the node.
    fn new(pods: u8) -> Cluster {
        let (node, outside) = (Namespace::new("node"), Namespace::new("outside"));
        node.sh(&format!(
            "ip link add up0 type veth peer name up0 netns {} && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up; \
             ip link add br0 type bridge && ip addr add 10.42.0.1/24 dev br0 && ip link set br0 up; \
             echo 1 > /proc/sys/net/ipv4/ip_forward; ip route add default via 192.0.2.2; \
             ip addr add fd00:2::1/64 dev up0 nodad; ip addr add fd42::1/64 dev br0 nodad; \
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; ip route add default via fd00:2::2",
            outside.name
        ));
        outside.sh(
            "ip addr add 192.0.2.2/24 dev up0 && ip link set up0 up && ip route add 10.0.0.0/8 via 192.0.2.1 && \
             ip route add 203.0.113.0/24 via 192.0.2.1 && ip addr add fd00:2::2/64 dev up0 nodad && \
             ip route add fd43::/64 via fd00:2::1",
        );
        let pods = (0..pods)
            .map(|n| {
                let pod = Namespace::new("pod");
                node.sh(&format!(
                    "ip link add p{n} type veth peer name eth0 netns {} && ip link set p{n} master br0 up && \
                     echo 1 > /sys/class/net/p{n}/brport/hairpin_mode",
                    pod.name
                ));
                pod.sh(&format!(
                    "ip addr add 10.42.0.{}/24 dev eth0 && ip link set eth0 up && ip route add default via 10.42.0.1 && \
                     ip addr add fd42::{}/64 dev eth0 nodad && ip route add default via fd42::1",
                    n + 2,
                    n + 2
                ));
                serve(&pod, n + 2);
                pod
            })
            .collect();
        let (services, of_services) = mpsc::unbounded_channel();
        let (slices, of_slices) = mpsc::unbounded_channel();
        for feed in [&services, &slices] {
            feed.send(WatchEvent::Restarted(Vec::new())).unwrap();
        }
        let mut cluster = Cluster {
            node,
            outside,
            pods,
            services: Feed(services),
            slices: Feed(slices),
            stop: CancellationToken::new(),
            proxy: None,
        };
        cluster.start(of_services, of_slices);
        cluster
    }

    fn start(&mut self, services: Stream, slices: Stream) {
        let (stop, path) = (self.stop.clone(), self.node.path());
        let mut config = ProxyConfig::new("here", vec!["192.0.2.1".parse().unwrap(), "fd00:2::1".parse().unwrap()]);
        config.cluster_cidrs = vec!["10.42.0.0/16".parse().unwrap(), "fd42::/48".parse().unwrap()];
        let _set_by_an_earlier_test = tracing_subscriber::fmt().with_test_writer().try_init();
        let thread = std::thread::spawn(move || {
            let work = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let (nodes, of_nodes) = mpsc::unbounded_channel();
                    let here = object(&json!({"metadata": {"name": "here"}}));
                    nodes.send(WatchEvent::Restarted(vec![here])).unwrap();
                    let (cidrs, of_cidrs) = mpsc::unbounded_channel();
                    let cidr =
                        object(&json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.43.0.0/16"]}}));
                    cidrs.send(WatchEvent::Restarted(vec![cidr])).unwrap();
                    let sources = Sources {
                        services: cache(services, Vec::new()),
                        slices: cache(slices, vec![by_service()]),
                        nodes: cache(of_nodes, Vec::new()),
                        service_cidrs: cache(of_cidrs, Vec::new()),
                    };
                    follow(config, sources, stop).await.unwrap();
                    drop((nodes, cidrs));
                });
            };
            cni::netns::inside(&path, work).unwrap();
        });
        self.proxy = Some(thread);
    }

    fn stop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.proxy.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.proxy.take() {
            let _panicked_already = thread.join();
        }
    }
}

/// Answers with the pod's last number and the client's address, over TCP and UDP.
fn serve(pod: &Namespace, number: u8) {
    let (tcp, udp) = pod.inside(|| {
        let address = ("::", 8080);
        (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap())
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = tcp.accept() {
            let _gone = stream.write_all(format!("{number} {}", peer.ip().to_canonical()).as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _gone = udp.send_to(format!("{number} {}", peer.ip().to_canonical()).as_bytes(), peer);
        }
    });
}

fn ask(from: &Namespace, address: &str) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().unwrap();
    from.inside(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(1500))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

/// Asks until the answer is this one.
fn expect(from: &Namespace, address: &str, answer: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let got = ask(from, address);
        if got.as_deref().ok() == Some(answer) {
            return;
        }
        assert!(Instant::now() < deadline, "{address}: {got:?} is not {answer}");
        std::thread::yield_now();
    }
}

fn expect_error(from: &Namespace, address: &str, kind: std::io::ErrorKind) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let got = ask(from, address);
        if got.as_ref().is_err_and(|e| e.kind() == kind) {
            return;
        }
        assert!(Instant::now() < deadline, "{address}: {got:?} is not {kind:?}");
        std::thread::yield_now();
    }
}

fn expect_health(from: &Namespace, status: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let health = from.sh("curl -s -i http://192.0.2.1:32000/");
        if health.contains(status) {
            return health;
        }
        assert!(Instant::now() < deadline, "{health}");
    }
}

fn service(spec: Value) -> Value {
    let mut value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
        "spec": {"clusterIP": "10.43.0.5", "clusterIPs": ["10.43.0.5"], "type": "ClusterIP",
                 "ports": [{"port": 80, "name": "p", "protocol": "TCP"}]}});
    let Value::Object(spec) = spec else { unreachable!() };
    for (key, part) in spec {
        value["spec"][key] = part;
    }
    value
}

fn slice(protocol: &str, endpoints: &[(u8, &str)]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(
            |(n, node)| json!({"addresses": [format!("10.42.0.{n}")], "nodeName": node, "conditions": {"ready": true}}),
        )
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
        "ports": [{"name": "p", "port": 8080, "protocol": protocol}], "endpoints": endpoints})
}

#[test]
fn a_service_answers_pods_the_node_and_the_outside_and_refuses_without_endpoints() {
    let mut cluster = Cluster::new(2);
    let (a, b) = (&cluster.pods[0], &cluster.pods[1]);
    let node_port = json!({"type": "NodePort", "externalIPs": ["203.0.113.9"],
        "ports": [{"port": 80, "name": "p", "nodePort": 30080}]});
    cluster.services.apply(&service(node_port.clone()));
    expect_error(b, "10.43.0.5:80", std::io::ErrorKind::ConnectionRefused);
    expect_error(&cluster.node, "10.43.0.5:80", std::io::ErrorKind::ConnectionRefused);
    expect_error(
        &cluster.outside,
        "192.0.2.1:30080",
        std::io::ErrorKind::ConnectionRefused,
    );

    cluster.slices.apply(&slice("TCP", &[(2, "here")]));
    expect(b, "10.43.0.5:80", "2 10.42.0.3");
    expect(a, "10.43.0.5:80", "2 10.42.0.1");
    expect(&cluster.node, "10.43.0.5:80", "2 10.42.0.1");
    expect(&cluster.outside, "10.43.0.5:80", "2 10.42.0.1");
    expect(&cluster.outside, "192.0.2.1:30080", "2 10.42.0.1");
    expect(&cluster.outside, "203.0.113.9:80", "2 10.42.0.1");
    expect_error(b, "10.43.0.5:81", std::io::ErrorKind::ConnectionRefused);
    expect_error(b, "10.43.9.9:80", std::io::ErrorKind::TimedOut);
    assert!(
        cluster
            .node
            .sh("nft list chain ip kube-proxy cluster-ips-check")
            .contains("10.43.0.0/16 drop")
    );

    cluster.slices.apply(&slice("TCP", &[(2, "here"), (3, "here")]));
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = BTreeSet::new();
    while seen.len() < 2 && Instant::now() < deadline {
        seen.insert(ask(&cluster.outside, "10.43.0.5:80").unwrap());
    }
    assert_eq!(seen.len(), 2, "both endpoints");

    cluster.stop();
    expect(&cluster.node, "10.43.0.5:80", "2 10.42.0.1");
    cluster.node.inside(|| crate::cleanup().unwrap());
    assert_eq!(cluster.node.sh("nft list tables"), "");
}

#[test]
fn a_service_of_two_families_answers_in_both() {
    let cluster = Cluster::new(2);
    let both = json!({"type": "NodePort", "clusterIPs": ["10.43.0.5", "fd43::5"], "sessionAffinity": "ClientIP",
        "ports": [{"port": 80, "name": "p", "nodePort": 30080}]});
    cluster.services.apply(&service(both));
    expect_error(&cluster.pods[1], "[fd43::5]:80", std::io::ErrorKind::ConnectionRefused);
    let mut of_v6 = slice("TCP", &[]);
    of_v6["metadata"]["name"] = json!("s-2");
    of_v6["addressType"] = json!("IPv6");
    of_v6["endpoints"] = json!([{"addresses": ["fd42::2"], "nodeName": "here"}]);
    cluster.slices.apply(&of_v6);
    cluster.slices.apply(&slice("TCP", &[(3, "here")]));
    expect(&cluster.pods[1], "[fd43::5]:80", "2 fd42::3");
    expect(&cluster.pods[0], "[fd43::5]:80", "2 fd42::1");
    expect(&cluster.outside, "[fd43::5]:80", "2 fd42::1");
    expect(&cluster.outside, "[fd00:2::1]:30080", "2 fd42::1");
    expect(&cluster.outside, "10.43.0.5:80", "3 10.42.0.1");
}

#[test]
fn a_client_stays_with_its_endpoint_if_the_service_asks_for_it() {
    let cluster = Cluster::new(3);
    let affinity =
        json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 100}}});
    cluster
        .slices
        .apply(&slice("TCP", &[(2, "here"), (3, "here"), (4, "here")]));
    cluster.services.apply(&service(affinity));
    let deadline = Instant::now() + Duration::from_secs(10);
    let first = loop {
        match ask(&cluster.outside, "10.43.0.5:80") {
            Ok(first) => break first,
            Err(e) => assert!(Instant::now() < deadline, "{e}"),
        }
    };
    for _ in 0..20 {
        assert_eq!(ask(&cluster.outside, "10.43.0.5:80").unwrap(), first);
    }
    assert!(cluster.node.sh("nft list ruleset").contains("192.0.2.2 expires 1m"));
}

#[test]
fn a_udp_client_is_moved_when_its_endpoint_goes() {
    let cluster = Cluster::new(2);
    cluster.services.apply(&service(
        json!({"ports": [{"port": 80, "name": "p", "protocol": "UDP"}]}),
    ));
    cluster.slices.apply(&slice("UDP", &[(2, "here")]));
    let socket = cluster.outside.inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let answer_of = |wanted: &str| {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut buffer = [0; 100];
        loop {
            // An unroutable moment at the start, or a port unreachable, is no answer yet.
            let _refused = socket.send_to(b"?", "10.43.0.5:80");
            if let Ok((len, _)) = socket.recv_from(&mut buffer)
                && buffer[..len].starts_with(wanted.as_bytes())
            {
                return;
            }
            assert!(Instant::now() < deadline, "no answer of {wanted}");
        }
    };
    answer_of("2 ");
    cluster.slices.apply(&slice("UDP", &[(3, "here")]));
    answer_of("3 ");
}

#[test]
fn traffic_policy_local_keeps_the_clients_address_and_drops_where_no_endpoint_is() {
    let cluster = Cluster::new(2);
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
        "loadBalancerSourceRanges": ["192.0.2.2/32", "10.42.0.0/16"],
        "ports": [{"port": 80, "name": "p", "nodePort": 30080}]});
    let mut with_ip = service(local);
    with_ip["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}});
    cluster.services.apply(&with_ip);
    cluster.slices.apply(&slice("TCP", &[(2, "here")]));
    expect(&cluster.outside, "192.0.2.1:30080", "2 192.0.2.2");
    expect(&cluster.outside, "203.0.113.7:80", "2 192.0.2.2");
    let health = expect_health(&cluster.outside, "200 OK");
    assert!(health.contains("\"localEndpoints\":1"), "{health}");
    assert!(health.contains("x-load-balancing-endpoint-weight: 1"), "{health}");

    cluster.slices.apply(&slice("TCP", &[(2, "there")]));
    expect_error(&cluster.outside, "192.0.2.1:30080", std::io::ErrorKind::TimedOut);
    expect_health(&cluster.outside, "503 Service Unavailable");
    expect(&cluster.pods[1], "203.0.113.7:80", "2 10.42.0.3");

    with_ip["spec"]["loadBalancerSourceRanges"] = json!(["198.51.100.0/24"]);
    cluster.services.apply(&with_ip);
    cluster.slices.apply(&slice("TCP", &[(2, "here")]));
    expect(&cluster.outside, "192.0.2.1:30080", "2 192.0.2.2");
    expect_error(&cluster.outside, "203.0.113.7:80", std::io::ErrorKind::TimedOut);
}

#[test]
fn what_a_deleted_service_had_is_gone_and_a_lost_table_comes_back() {
    let cluster = Cluster::new(1);
    let of_tcp = service(json!({}));
    cluster.slices.apply(&slice("TCP", &[(2, "here")]));
    cluster.services.apply(&of_tcp);
    expect(&cluster.node, "10.43.0.5:80", "2 10.42.0.1");
    cluster.services.delete(&of_tcp);
    let deadline = Instant::now() + Duration::from_secs(10);
    while cluster.node.sh("nft list ruleset").contains("n/s/tcp/p") {
        assert!(Instant::now() < deadline, "the chain stays");
    }
    cluster.node.sh("nft flush ruleset");
    cluster.services.apply(&of_tcp);
    expect(&cluster.node, "10.43.0.5:80", "2 10.42.0.1");
}

#[test]
fn five_thousand_services_and_one_of_three_thousand_endpoints_are_one_transaction() {
    use crate::rules::tests::{endpoint, node, service_port};
    use crate::rules::{Fragment, fragment};
    use crate::table::Table;

    let namespace = Namespace::new("many");
    let of = |n: u32, endpoints: u32| {
        let mut port = service_port();
        port.name = format!("s{n}");
        port.cluster_ip = std::net::Ipv4Addr::from(0x0a2b_0000 + n).into();
        let to = |e: u32| {
            let mut end = endpoint(1, false);
            end.ip = std::net::Ipv4Addr::from(0x0a2a_0000 + n + e).into();
            end
        };
        (
            format!("ns/s{n}"),
            fragment(&[(port, (0..endpoints).map(to).collect())], &node()),
        )
    };
    let mut table = Table::new(node());
    table.apply((1..5000).map(|n| of(n, 2)).chain([of(5000, 3000)]).collect());
    namespace.inside(|| {
        let start = Instant::now();
        table.full().commit().unwrap();
        let full = start.elapsed();
        let start = Instant::now();
        let change = table.apply(vec![of(7, 3), of(5000, 2999)]);
        assert!(change.len() < 12, "{}", change.len());
        change.commit().unwrap();
        eprintln!("all {full:?}, two services {:?}", start.elapsed());
        table.full().commit().unwrap();
        table
            .apply((1..=5000).map(|n| (format!("ns/s{n}"), Fragment::default())).collect())
            .commit()
            .unwrap();
        table.sweep().unwrap().commit().unwrap();
    });
    assert!(!namespace.sh("nft list chains").contains("chain service-0"));
}
