//! Network policies between pods of a cluster.

use crate::cluster::Cluster;

const PODS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: { name: other, labels: { team: other } }
---
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  containers:
    - name: web
      image: dnsutils:1
      command: [sh, -c, "mkdir /www; echo web > /www/index.html; exec httpd -f -p 8080 -h /www"]
      ports: [{ name: http, containerPort: 8080 }]
      readinessProbe: { httpGet: { path: /, port: http }, periodSeconds: 1, failureThreshold: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80, targetPort: http }] }
---
apiVersion: v1
kind: Pod
metadata: { name: client, labels: { app: client } }
spec: { containers: [{ name: tools, image: dnsutils:1 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: other, labels: { app: client } }
spec: { containers: [{ name: tools, image: dnsutils:1 }] }
"#;

/// Tries once, at once, and says what came of it.
const LATE: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: late-NUMBER, labels: { app: LABEL } }
spec:
  restartPolicy: Never
  containers:
    - { name: late, image: "dnsutils:1", command: [sh, -c, "curl -sS --max-time 2 http://ADDRESS:8080/ 2>/dev/null || echo closed"] }
"#;

fn policy(name: &str, spec: &str) -> String {
    format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{ name: {name} }}\nspec: {spec}\n")
}

/// Whether web answers to the client of a namespace.
fn reaches(c: &Cluster, namespace: &str, url: &str) -> bool {
    let command = [
        "exec",
        "--namespace",
        namespace,
        "client",
        "--",
        "curl",
        "-sS",
        "--max-time",
        "2",
        url,
    ];
    c.try_kubectl(&command).is_ok_and(|out| out == "web")
}

#[test]
fn pods_are_held_to_network_policies_from_their_first_packet() {
    let c = Cluster::start("network-policy", &["dnsutils"]);
    c.apply(PODS);
    c.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod",
        "--all",
        "--all-namespaces",
        "--timeout=60s",
    ]);
    let ip = |pod: &str| c.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]);
    let (web, client) = (ip("web"), ip("client"));
    let (direct, service) = (format!("http://{web}:8080/"), "http://web.default/".to_owned());
    let both = |namespace: &str| [&direct, &service].map(|url| reaches(&c, namespace, url));
    let tables = || String::from_utf8(c.inside("nft").args(["list", "tables"]).output().unwrap().stdout).unwrap();
    c.until("the Service answers", |_| {
        both("default") == [true; 2] && both("other") == [true; 2]
    });
    assert!(
        !tables().contains("network-policy"),
        "without a policy there are no rules"
    );

    // nobody but the node, which goes on with its probes
    c.apply(&policy(
        "web",
        "{ podSelector: { matchLabels: { app: web } }, policyTypes: [Ingress] }",
    ));
    c.until("nobody reaches it", |_| both("default") == [false; 2]);
    assert_eq!(both("other"), [false; 2]);
    assert_eq!(c.http(&direct).unwrap(), "web");
    let itself = c.exec("web", &["curl", "-sS", "--max-time", "2", &service]);
    assert_eq!(itself.unwrap(), "web", "a pod reaches itself, also through its Service");

    // by label, by namespace and label, by address, by the name of a port
    let from = |peers: &str, ports: &str| {
        let spec = format!(
            "{{ podSelector: {{ matchLabels: {{ app: web }} }}, ingress: [{{ from: [{peers}], ports: [{ports}] }}] }}"
        );
        c.apply(&policy("web", &spec));
    };
    from("{ podSelector: { matchLabels: { app: client } } }", "");
    c.until("the client is let in", |_| both("default") == [true; 2]);
    assert_eq!(both("other"), [false; 2]);
    from(
        "{ namespaceSelector: { matchLabels: { team: other } }, podSelector: { matchLabels: { app: client } } }",
        "{ port: http }",
    );
    c.until("the other namespace is let in", |_| both("other") == [true; 2]);
    assert_eq!(both("default"), [false; 2]);
    c.kubectl(&["label", "namespace", "other", "team-"]);
    c.until("a namespace without the label is not", |_| both("other") == [false; 2]);
    from(
        &format!("{{ ipBlock: {{ cidr: 10.42.0.0/16, except: [{client}/32] }} }}"),
        "{ port: 8000, endPort: 8080 }",
    );
    c.until("addresses are let in", |_| both("other") == [true; 2]);
    assert_eq!(both("default"), [false; 2]);
    from("", "{ port: 8081 }");
    c.until("another port helps nobody", |_| both("other") == [false; 2]);

    // outwards: names and nothing else
    c.kubectl(&["delete", "networkpolicy", "web"]);
    c.until("without a policy all are let in", |_| both("default") == [true; 2]);
    c.apply(&policy(
        "client",
        "{ podSelector: { matchLabels: { app: client } }, policyTypes: [Egress], egress: [{ to: [{ namespaceSelector: \
         { matchLabels: { kubernetes.io/metadata.name: kube-system } }, podSelector: { matchLabels: { k8s-app: kube-dns } } }], \
         ports: [{ protocol: UDP, port: 53 }, { port: 53 }] }] }",
    ));
    c.until("the client gets nowhere", |_| both("default") == [false; 2]);
    assert_eq!(both("other"), [true; 2]);
    let name = c.exec("client", &["dig", "+short", "web.default.svc.cluster.local", "A"]);
    assert!(name.unwrap().starts_with("10.43."));

    // a pod that starts is held to its policies, and one that has none is not held up
    let labels = ["client", "free"];
    for number in 0..6 {
        let late = LATE.replace("NUMBER", &number.to_string()).replace("ADDRESS", &web);
        c.apply(&late.replace("LABEL", labels[number % 2]));
    }
    for number in 0..6 {
        let name = format!("late-{number}");
        c.kubectl(&[
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            "pod",
            &name,
            "--timeout=60s",
        ]);
        let said = c.kubectl(&["logs", &name]);
        let want = ["closed", "web"][number % 2];
        assert_eq!(said.lines().last(), Some(want), "{name}: {said}");
    }

    // the last policy takes the rules with it
    c.kubectl(&["delete", "networkpolicy", "client"]);
    c.until("the rules are gone", |_| !tables().contains("network-policy"));
    assert_eq!(both("default"), [true; 2]);
}
