//! Questions by dig, over UDP and TCP, in a network namespace. The upstream is the same server with another domain.

#[path = "../../cni/tests/common/mod.rs"]
mod common;

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use api::object::Object;
use client::{Informer, WatchEvent};
use common::Namespace;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::run::{Sources, follow};
use crate::{DnsConfig, Upstreams};

struct Running {
    services: mpsc::UnboundedSender<WatchEvent>,
    slices: mpsc::UnboundedSender<WatchEvent>,
    namespaces: mpsc::UnboundedSender<WatchEvent>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

fn event(value: &Value) -> WatchEvent {
    WatchEvent::Applied(Object::parse(value.to_string().into()).unwrap())
}

impl Running {
    fn start(namespace: &Namespace, domain: &str, listen: &str, upstreams: &[&str]) -> Running {
        let mut config = DnsConfig::new(domain, vec![listen.parse().unwrap()]);
        config.upstreams = Upstreams::Servers(upstreams.iter().map(|s| s.parse().unwrap()).collect());
        let channels = [
            mpsc::unbounded_channel(),
            mpsc::unbounded_channel(),
            mpsc::unbounded_channel(),
        ];
        let [
            (services, of_services),
            (slices, of_slices),
            (namespaces, of_namespaces),
        ] = channels;
        for feed in [&services, &slices, &namespaces] {
            feed.send(WatchEvent::Restarted(Vec::new())).unwrap();
        }
        let stop = CancellationToken::new();
        let (path, stopped) = (namespace.path(), stop.clone());
        let thread = std::thread::spawn(move || {
            let work = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let cache = |receiver| {
                        let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
                        Informer::over(Box::pin(stream), Vec::new())
                    };
                    let sources = Sources {
                        services: cache(of_services),
                        slices: cache(of_slices),
                        namespaces: cache(of_namespaces),
                    };
                    follow(config, sources, stopped).await.unwrap();
                });
            };
            cni::netns::inside(&path, work).unwrap();
        });
        Running {
            services,
            slices,
            namespaces,
            stop,
            thread: Some(thread),
        }
    }

    fn service(&self, name: &str, spec: &Value) {
        let service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "ns"}, "spec": spec});
        self.services.send(event(&service)).unwrap();
    }

    fn slice(&self, service: &str, endpoints: &[Value]) {
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": service, "namespace": "ns", "labels": {"kubernetes.io/service-name": service}},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints});
        self.slices.send(event(&slice)).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _panicked_already = thread.join();
        }
    }
}

fn dig(namespace: &Namespace, question: &str) -> String {
    let line = format!("dig @127.0.0.1 -p 5300 +tries=1 +time=6 {question}");
    String::from_utf8(namespace.try_sh(&line).stdout).unwrap()
}

/// Asks until the short answer is this one.
fn expect(namespace: &Namespace, question: &str, answer: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let got = dig(namespace, &format!("+short {question}"));
        if got.trim() == answer {
            return;
        }
        assert!(Instant::now() < deadline, "{question}: {got:?} is not {answer:?}");
    }
}

#[test]
fn dig_gets_the_clusters_names_and_those_of_others() {
    let namespace = Namespace::new("dns");
    let outside = Running::start(&namespace, "example.org", "127.0.0.1:5301", &[]);
    let known = || event(&json!({"metadata": {"name": "ns"}}));
    outside.namespaces.send(known()).unwrap();
    outside.service("www", &json!({"clusterIP": "192.0.2.80"}));
    let cluster = Running::start(
        &namespace,
        "cluster.local",
        "127.0.0.1:5300",
        // The first does not answer, the second refuses the connection.
        &["192.0.2.1:53", "127.0.0.1:5309", "127.0.0.1:5301"],
    );
    cluster.namespaces.send(known()).unwrap();
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    cluster.service("web", &json!({"clusterIP": "10.43.0.5", "ports": ports}));
    cluster.service("db", &json!({"clusterIP": "None", "ports": ports}));
    cluster.service(
        "out",
        &json!({"type": "ExternalName", "externalName": "www.ns.svc.example.org"}),
    );
    cluster.service(
        "in",
        &json!({"type": "ExternalName", "externalName": "web.ns.svc.cluster.local"}),
    );
    let endpoint = |n: u8| json!({"addresses": [format!("10.42.0.{n}")], "hostname": format!("db-{n}"), "conditions": {"ready": n < 200}});
    cluster.slice("db", &[endpoint(1), endpoint(200)]);

    expect(&namespace, "web.ns.svc.cluster.local", "10.43.0.5");
    expect(&namespace, "+tcp WEB.ns.svc.cluster.local", "10.43.0.5");
    expect(&namespace, "db.ns.svc.cluster.local", "10.42.0.1");
    expect(&namespace, "db-1.db.ns.svc.cluster.local", "10.42.0.1");
    expect(
        &namespace,
        "SRV _http._tcp.db.ns.svc.cluster.local",
        "0 100 8080 db-1.db.ns.svc.cluster.local.",
    );
    expect(&namespace, "-x 10.42.0.1", "db-1.db.ns.svc.cluster.local.");
    expect(&namespace, "TXT dns-version.cluster.local", "\"1.1.0\"");
    expect(
        &namespace,
        "in.ns.svc.cluster.local",
        "web.ns.svc.cluster.local.\n10.43.0.5",
    );
    expect(&namespace, "www.ns.svc.example.org", "192.0.2.80");
    expect(&namespace, "+tcp www.ns.svc.example.org", "192.0.2.80");
    expect(
        &namespace,
        "out.ns.svc.cluster.local",
        "www.ns.svc.example.org.\n192.0.2.80",
    );

    let missing = dig(&namespace, "absent.ns.svc.cluster.local");
    assert!(
        missing.contains("NXDOMAIN") && missing.contains("SOA") && missing.contains("flags: qr aa rd;"),
        "{missing}"
    );
    let nothing = dig(&namespace, "AAAA web.ns.svc.cluster.local");
    assert!(
        nothing.contains("NOERROR") && nothing.contains("ANSWER: 0") && nothing.contains("SOA"),
        "{nothing}"
    );
    let elsewhere = dig(&namespace, "absent.ns.svc.example.org");
    assert!(elsewhere.contains("NXDOMAIN"), "{elsewhere}");
    let case = dig(&namespace, "+qr WeB.ns.svc.cluster.local");
    assert!(case.contains("WeB.ns.svc.cluster.local. 5\tIN\tA"), "{case}");

    cluster.service("web", &json!({"clusterIP": "10.43.0.6"}));
    expect(&namespace, "web.ns.svc.cluster.local", "10.43.0.6");
    cluster.slice("db", &(1..=150).map(endpoint).collect::<Vec<_>>());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let all = dig(&namespace, "db.ns.svc.cluster.local");
        if all.matches("10.42.0.").count() == 150 {
            assert!(all.contains("Truncated, retrying in TCP mode"), "{all}");
            break;
        }
        assert!(Instant::now() < deadline, "{all}");
    }
    let cut = dig(&namespace, "+ignore +noedns db.ns.svc.cluster.local");
    assert!(
        cut.contains("flags: qr aa tc rd;") && cut.contains("MSG SIZE  rcvd: "),
        "{cut}"
    );
    let size: usize = cut.split("rcvd: ").nth(1).and_then(|s| s.trim().parse().ok()).unwrap();
    assert!(size <= 512, "{size}");
}

#[test]
fn an_upstream_that_leads_back_here_is_noticed() {
    let namespace = Namespace::new("dns");
    let _one = Running::start(&namespace, "cluster.local", "127.0.0.1:5300", &["127.0.0.1:5302"]);
    let _two = Running::start(&namespace, "other.local", "127.0.0.1:5302", &["127.0.0.1:5300"]);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let looped = dig(&namespace, "www.example.org");
        if looped.contains("SERVFAIL") {
            break;
        }
        assert!(Instant::now() < deadline, "{looped}");
    }
}
