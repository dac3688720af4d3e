//! Addresses of both families: of nodes, pods, Services and names, from one node to another.

use crate::cluster::{Cluster, EVICTION, NODE_V6};
use crate::node::{Node, Switch};

const AGENT: &str = "198.51.100.20";
const AGENT_V6: &str = "fd00:51::20";

const OBJECTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  terminationGracePeriodSeconds: 0
  nodeName: node
  containers: [{ name: c, image: dnsutils:1, command: [sh, -c, "mkdir /www; echo web > /www/index.html; exec httpd -f -p 8080 -h /www"] }]
---
apiVersion: v1
kind: Pod
metadata: { name: client }
spec:
  terminationGracePeriodSeconds: 0
  nodeName: agent
  containers: [{ name: c, image: dnsutils:1, command: [sleep, "100000"] }]
---
apiVersion: v1
kind: Service
metadata: { name: both }
spec: { type: NodePort, ipFamilyPolicy: RequireDualStack, selector: { app: web }, ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: one }
spec: { selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: six }
spec: { ipFamilies: [IPv6], selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
"#;

fn words(c: &Cluster, what: &[&str], path: &str) -> Vec<String> {
    let output = format!("jsonpath={{{path}}}");
    let args = [&["get"], what, &["-o", &output]].concat();
    c.kubectl(&args).split_whitespace().map(str::to_owned).collect()
}

fn cluster_ips(c: &Cluster, service: &str) -> Vec<String> {
    words(c, &["service", service], ".spec.clusterIPs[*]")
}

fn asks(c: &Cluster, host: &str, port: u16) -> Result<String, String> {
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let url = format!("http://{host}:{port}");
    c.exec("client", &["curl", "-sS", "--fail", "--max-time", "3", &url])
}

#[test]
fn pods_and_services_have_addresses_of_both_families_and_are_reached_by_them() {
    let node_ip = format!("--node-ip={NODE_V6}");
    let flags = [
        "--cluster-cidr=10.42.0.0/16,fd00:42::/56",
        "--service-cidr=10.43.0.0/16,fd00:43::/112",
        &node_ip,
    ];
    let c = Cluster::start_with("dual-server", &["dnsutils"], &flags);
    let mut agent = Node::empty("dual-agent", &format!("{AGENT} {AGENT_V6}"), &["dnsutils"]);
    let mut switch = Switch::start();
    switch.plug(&c);
    switch.plug(&agent);
    c.until_ready();
    let token = std::fs::read_to_string(c.dir.join("data/server/node-token")).unwrap();
    let resolv_conf = agent.dir.join("resolv.conf").display().to_string();
    let node_ip = format!("{AGENT},{AGENT_V6}");
    let args = [
        "agent",
        "--server=https://198.51.100.10:6443",
        "--token",
        token.trim(),
        "--node-name=agent",
        "--node-ip",
        &node_ip,
        "--resolv-conf",
        &resolv_conf,
        EVICTION,
    ];
    agent.run(&args);
    c.until("the agent is there", |c| {
        assert!(agent.is_running(), "{}", agent.log());
        c.try_kubectl(&["get", "node", "agent"]).is_ok()
    });
    c.kubectl(&["wait", "--for=condition=Ready", "node/agent", "--timeout=60s"]);
    for (name, addresses) in [("node", ["198.51.100.10", NODE_V6]), ("agent", [AGENT, AGENT_V6])] {
        let path = ".status.addresses[?(@.type=='InternalIP')].address";
        assert_eq!(words(&c, &["node", name], path), addresses);
        let cidrs = words(&c, &["node", name], ".spec.podCIDRs[*]");
        assert!(
            cidrs.len() == 2 && cidrs[0].starts_with("10.42.") && cidrs[1].starts_with("fd00:42:"),
            "{cidrs:?}"
        );
    }
    let range = words(&c, &["servicecidr", "kubernetes"], ".spec.cidrs[*]");
    assert_eq!(range, ["10.43.0.0/16", "fd00:43::/112"]);

    c.apply(OBJECTS);
    c.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/web",
        "pod/client",
        "--timeout=60s",
    ]);
    let pod = words(&c, &["pod", "web"], ".status.podIPs[*].ip");
    assert!(
        pod.len() == 2 && pod[0].starts_with("10.42.") && pod[1].starts_with("fd00:42:"),
        "{pod:?}"
    );
    let both = cluster_ips(&c, "both");
    assert!(
        both.len() == 2 && both[0].starts_with("10.43.") && both[1].starts_with("fd00:43::"),
        "{both:?}"
    );
    assert_eq!(words(&c, &["service", "both"], ".spec.ipFamilies[*]"), ["IPv4", "IPv6"]);
    let six = cluster_ips(&c, "six");
    assert!(six.len() == 1 && six[0].starts_with("fd00:43::"), "{six:?}");
    c.until("both families have their endpoints", |c| {
        let path = ".items[*].addressType";
        let mut types = words(c, &["endpointslices", "-l", "kubernetes.io/service-name=both"], path);
        types.sort();
        types == ["IPv4", "IPv6"]
    });

    // pod to pod, by Services, and by the nodes' ports, each from another node
    for (host, port) in [
        (&pod[0], 8080),
        (&pod[1], 8080),
        (&both[0], 80),
        (&both[1], 80),
        (&six[0], 80),
        (&"198.51.100.10".to_owned(), 30080),
        (&NODE_V6.to_owned(), 30080),
        (&AGENT_V6.to_owned(), 30080),
    ] {
        c.until(&format!("{host} answers"), |c| {
            asks(c, host, port).is_ok_and(|said| said == "web")
        });
    }
    let dig = |name: &str, kind: &str| {
        let said = c.exec("client", &["dig", "+short", name, kind]);
        said.unwrap_or_else(|e| panic!("dig {name} {kind}: {e}"))
    };
    assert_eq!(dig("both.default.svc.cluster.local", "AAAA"), both[1]);
    assert_eq!(dig("both.default.svc.cluster.local", "A"), both[0]);
    assert_eq!(dig("six.default.svc.cluster.local", "AAAA"), six[0]);
    assert_eq!(dig("six.default.svc.cluster.local", "A"), "");
    let dns = words(&c, &["service", "kube-dns", "-n", "kube-system"], ".spec.clusterIPs[*]");
    let by_six = c.exec(
        "client",
        &[
            "dig",
            "+short",
            &format!("@{}", dns[1]),
            "both.default.svc.cluster.local",
            "AAAA",
        ],
    );
    assert_eq!(by_six.unwrap(), both[1]);

    // a Service gets its second address when it asks for it, and gives it back
    let first = cluster_ips(&c, "one");
    assert_eq!(first.len(), 1);
    c.kubectl(&[
        "patch",
        "service",
        "one",
        "-p",
        r#"{"spec":{"ipFamilyPolicy":"PreferDualStack"}}"#,
    ]);
    let second = cluster_ips(&c, "one");
    assert!(second.len() == 2 && second[0] == first[0], "{second:?}");
    c.kubectl(&["get", "ipaddress", &second[1]]);
    let answers = |c: &Cluster| asks(c, &second[1], 80).is_ok();
    c.until("the second address answers", answers);
    c.kubectl(&[
        "patch",
        "service",
        "one",
        "-p",
        r#"{"spec":{"ipFamilyPolicy":"SingleStack"}}"#,
    ]);
    assert_eq!(cluster_ips(&c, "one"), first);
    assert!(
        c.try_kubectl(&["get", "ipaddress", &second[1]])
            .unwrap_err()
            .contains("NotFound")
    );
    c.until("the second address answers no more", |c| !answers(c));
}
