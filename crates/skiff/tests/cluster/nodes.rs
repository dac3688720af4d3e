//! More nodes than the server's.

use std::process::Output;

use crate::cluster::{Cluster, EVICTION};
use crate::node::{Node, Switch, result, skiff};

const SERVER: &str = "https://198.51.100.10:6443";
const AGENT: &str = "198.51.100.20";

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: NAME }
spec:
  terminationGracePeriodSeconds: 0
  nodeSelector: { place: there }
  tolerations: [{ key: only, operator: Exists }]
  containers: [{ name: c, image: dnsutils:1, command: [sh, -c, "echo said; sleep 100000"] }]
"#;

const WEB: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  terminationGracePeriodSeconds: 0
  nodeName: node
  containers: [{ name: c, image: dnsutils:1, command: [sh, -c, "mkdir /www; echo web > /www/index.html; exec httpd -f -p 8080 -h /www"] }]
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
"#;

/// No connection comes in.
const FIREWALL: &str = r#"
table inet firewall {
    chain in { type filter hook input priority filter; iifname "node0" ct state new tcp dport 10250 drop; }
}
"#;

fn agent_flags<'a>(resolv_conf: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut flags = vec![
        "agent",
        "--server",
        SERVER,
        "--node-ip",
        AGENT,
        "--resolv-conf",
        resolv_conf,
        EVICTION,
    ];
    flags.extend(more);
    flags
}

/// What an agent says that is not let in.
fn refused(node: &Node, flags: &[&str], data: &str) -> String {
    let output: Output = node
        .inside(skiff())
        .args(["agent", "--server", SERVER, "--node-ip", AGENT])
        .args(flags)
        .arg("--data-dir")
        .arg(node.dir.join(data))
        .output()
        .unwrap();
    result(&output).expect_err("the agent must not be let in")
}

fn column(c: &Cluster, path: &str) -> String {
    c.kubectl(&["get", "node", "agent", "-o", &format!("jsonpath={{{path}}}")])
}

fn ready_nodes(c: &Cluster) -> usize {
    let path = "jsonpath={range .items[*]}{.status.conditions[?(@.type=='Ready')].status} {end}";
    let nodes = c.try_kubectl(&["get", "nodes", "-o", path]);
    nodes.map_or(0, |nodes| nodes.split(' ').filter(|status| *status == "True").count())
}

fn run_pod(c: &Cluster, name: &str) {
    c.apply(&POD.replace("NAME", name));
    c.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
    // its command has begun, and may not have said it yet
    c.until("the pod's log is read", |c| c.kubectl(&["logs", name]) == "said");
    assert_eq!(c.exec(name, &["echo", "inside"]).unwrap(), "inside");
}

#[test]
fn a_node_joins_by_a_token_keeps_its_name_and_comes_back_after_its_server() {
    let mut c = Cluster::start_with("join-server", &["dnsutils"], &["--certificate-lifetime=20s"]);
    let mut agent = Node::empty("join-agent", AGENT, &["dnsutils"]);
    let mut switch = Switch::start();
    switch.plug(&c);
    switch.plug(&agent);
    c.until_ready();
    let server_dir = c.dir.join("data/server");
    let secret = |name: &str| std::fs::read_to_string(server_dir.join(name)).unwrap();
    let token = secret("node-token").trim().to_owned();

    // who is not let in is told why
    let said = refused(&agent, &["--token", "wrong", "--node-name", "agent"], "data");
    assert!(
        said.contains("the server refuses the token: /v1-skiff/config: Unauthorized"),
        "{said}"
    );
    let other = format!("K10{}::{}", "0".repeat(64), token.split("::").nth(1).unwrap());
    let said = refused(&agent, &["--token", &other, "--node-name", "agent"], "data");
    assert!(
        said.contains("token CA hash does not match the Cluster CA certificate hash: 0000"),
        "{said}"
    );
    let said = refused(&agent, &["--token", &token, "--node-name", "node"], "data");
    assert!(said.contains("Node password rejected"), "{said}");
    let said = refused(&agent, &["--node-name", "agent"], "data");
    assert!(said.contains("--token is required"), "{said}");

    // a bootstrap token is enough
    let mut create = c.inside(skiff());
    let made = result(
        &create
            .args(["token", "create", "--description", "a test"])
            .output()
            .unwrap(),
    )
    .unwrap();
    let id = made
        .split("::")
        .nth(1)
        .and_then(|t| t.split('.').next())
        .unwrap()
        .to_owned();
    let listed = result(&c.inside(skiff()).args(["token", "list"]).output().unwrap()).unwrap();
    assert!(listed.contains(&id) && listed.contains("a test"), "{listed}");
    let resolv_conf = agent.dir.join("resolv.conf").display().to_string();
    let settings = [
        "--node-name=agent",
        "--node-label=place=there",
        "--node-taint=only=there:NoSchedule",
        "--node-external-ip=203.0.113.9",
    ];
    let flags = agent_flags(&resolv_conf, &settings);
    let with_token = [&flags[..], &["--token", &made]].concat();
    agent.run(&with_token);
    c.until("both nodes are Ready", |c| {
        assert!(agent.is_running(), "{}", agent.log());
        ready_nodes(c) == 2
    });
    assert_eq!(
        column(&c, ".status.addresses[*].address"),
        format!("{AGENT} 203.0.113.9 agent")
    );
    assert_eq!(column(&c, ".spec.taints[?(@.key=='only')].value"), "there");
    let roles = c.kubectl(&["get", "nodes", "--no-headers"]);
    let role = |name: &str| {
        let line = roles.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        line.split_whitespace().nth(2).unwrap().to_owned()
    };
    assert_eq!(
        (role("node "), role("agent ")),
        ("control-plane".into(), "<none>".into())
    );
    run_pod(&c, "first");
    let started = c.kubectl(&[
        "get",
        "pod",
        "first",
        "-o",
        "jsonpath={.status.containerStatuses[0].containerID}",
    ]);

    // from pod to pod on another node, by its address and by its Service's name
    c.apply(WEB);
    c.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    let address = c.kubectl(&["get", "pod", "web", "-o", "jsonpath={.status.podIP}"]);
    for url in [format!("http://{address}:8080/"), "http://web/".to_owned()] {
        c.until("the pod on the other node answers", |c| {
            let answer = c.exec("first", &["curl", "-sS", "--max-time", "2", &url]);
            answer.is_ok_and(|answer| answer == "web")
        });
    }

    // the name is taken now
    c.kubectl(&["-n", "kube-system", "get", "secret", "agent.node-password.skiff"]);
    let second = ["--token", &token, "--node-name", "agent", "--lb-server-port", "6445"];
    let said = refused(&agent, &second, "other");
    assert!(
        said.contains("agent.node-password.skiff") && said.contains("--with-node-id"),
        "{said}"
    );
    let deleted = result(&c.inside(skiff()).args(["token", "delete", &id]).output().unwrap()).unwrap();
    assert_eq!(deleted, format!("bootstrap token {id:?} deleted"));

    // the server is away and comes back; then both are, and the agent waits for it: without a token, by its own certificate
    c.kill();
    c.restart();
    run_pod(&c, "second");
    c.kill();
    agent.stop();
    agent.run(&flags);
    agent.until_logged("waiting for a server", 1);
    c.restart();
    run_pod(&c, "third");
    let now = c.kubectl(&[
        "get",
        "pod",
        "first",
        "-o",
        "jsonpath={.status.containerStatuses[0].containerID}",
    ]);
    assert_eq!(now, started);
    assert_eq!(c.exec("first", &["echo", "still"]).unwrap(), "still");

    // certificates renew themselves while the node runs
    let certificate = || std::fs::read_to_string(agent.dir.join("data/agent/serving-kubelet.crt")).unwrap();
    let before = certificate();
    c.until("the certificates are renewed", |_| certificate() != before);
    let mut check = agent.inside(skiff());
    check
        .args(["certificate", "check", "--data-dir"])
        .arg(agent.dir.join("data"));
    let checked = result(&check.output().unwrap()).unwrap();
    assert!(
        checked.contains("client-kubelet.crt: certificate system:node:agent (ClientAuth) is ok, expires at"),
        "{checked}"
    );
    assert_eq!(c.kubectl(&["logs", "first"]), "said");
    assert_eq!(ready_nodes(&c), 2);

    // a firewall lets nobody in: the server reaches the node through a tunnel that the node opens
    agent.stop();
    let rules = agent.dir.join("firewall.nft");
    std::fs::write(&rules, FIREWALL).unwrap();
    result(&agent.inside("nft").arg("-f").arg(&rules).output().unwrap()).unwrap();
    agent.run(&flags);
    agent.until_logged("the server reaches this node through a tunnel", 1);
    run_pod(&c, "hidden");
    let metrics = c.kubectl(&["get", "--raw", "/api/v1/nodes/agent/proxy/metrics"]);
    assert!(metrics.contains("kubelet_running_pods"), "{metrics}");
    let lifted = agent
        .inside("nft")
        .args(["delete", "table", "inet", "firewall"])
        .output();
    result(&lifted.unwrap()).unwrap();

    // the token is changed: the old one is nobody's any more
    let rotate = [
        "token",
        "rotate",
        "--new-token",
        "changed",
        "--server",
        SERVER,
        "--data-dir",
    ];
    let mut rotated = c.inside(skiff());
    result(&rotated.args(rotate).arg(c.dir.join("data")).output().unwrap()).unwrap();
    assert!(secret("token").ends_with("::server:changed\n"));
    let said = refused(
        &agent,
        &["--token", &token, "--node-name", "new", "--lb-server-port", "6445"],
        "new",
    );
    assert!(said.contains("the server refuses the token"), "{said}");

    // a node that is deleted gives its name back
    c.kubectl(&["delete", "pods", "--all", "--force"]);
    agent.stop();
    c.kubectl(&["delete", "node", "agent"]);
    c.until("its password is forgotten", |c| {
        let secret = c.try_kubectl(&["-n", "kube-system", "get", "secret", "agent.node-password.skiff"]);
        secret.is_err_and(|e| e.contains("NotFound"))
    });
    assert_eq!(c.kubectl(&["get", "nodes", "-o", "name"]), "node/node");
}
