//! What a node counts of itself, its pods and its Services, held against the list of what upstream's components count.

use std::collections::BTreeSet;

use crate::cluster::Cluster;
use crate::prometheus::{compare, file, is_of_nodes, parse, read_by_prometheus};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1
    command: [sleep, "3600"]
    livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, emptyDir: {}}]
"#;

#[test]
fn a_node_counts_what_upstreams_kubelet_counts() {
    let c = Cluster::start("metrics", &["busybox"]);
    c.apply(POD);
    c.kubectl(&["wait", "pod/probed", "--for=condition=Ready", "--timeout=60s"]);
    let page = |path: &str| c.kubectl(&["get", "--raw", &format!("/api/v1/nodes/node/proxy/{path}")]) + "\n";
    c.until("it was probed", |_| {
        page("metrics/probes").contains("result=\"successful\"")
    });
    let (mut wrong, mut found) = (Vec::new(), BTreeSet::new());
    for path in ["metrics", "metrics/resource", "metrics/probes"] {
        let text = page(path);
        read_by_prometheus(&text);
        let (problems, names) = compare(&parse(&text));
        wrong.extend(problems);
        found.extend(names);
    }
    for line in file("upstream.tsv").lines() {
        let name = line.split('\t').next().unwrap();
        if is_of_nodes(name) && !found.contains(name) {
            wrong.push(format!("{name} is not there"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // these are cadvisor's own: only that they can be read is held against something
    read_by_prometheus(&page("metrics/cadvisor"));
    // the first request of a resolver in a pod is counted
    c.kubectl(&[
        "exec",
        "probed",
        "--",
        "nslookup",
        "kubernetes.default.svc.cluster.local",
    ]);
    let server = c.kubectl(&["get", "--raw", "/metrics"]);
    assert!(
        server.contains("coredns_dns_responses_total{plugin=\"kubernetes\",rcode=\"NOERROR\""),
        "{server}"
    );
    let proxy = c.http("http://127.0.0.1:10249/metrics").unwrap() + "\n";
    read_by_prometheus(&proxy);
    let (wrong, found) = compare(&parse(&proxy));
    assert!(
        wrong.is_empty() && found.contains("kubernetes_build_info"),
        "{wrong:?} {found:?}"
    );
}
