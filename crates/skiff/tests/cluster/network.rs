//! Names, Services and tokens, from inside of pods.

use crate::cluster::{Cluster, NODE};

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  hostname: first
  subdomain: headless
  containers:
    - name: web
      image: dnsutils:1
      command: [sh, -c, "mkdir /www; echo from $HOSTNAME > /www/index.html; exec httpd -f -p 8080 -h /www"]
      ports: [{ name: http, containerPort: 8080 }]
      readinessProbe: { httpGet: { path: /, port: http }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, type: NodePort, ports: [{ name: http, port: 80, targetPort: http, nodePort: 30123 }] }
---
apiVersion: v1
kind: Service
metadata: { name: balanced }
spec: { selector: { app: web }, type: LoadBalancer, externalTrafficPolicy: Local, ports: [{ port: 8088, targetPort: http }] }
---
apiVersion: v1
kind: Service
metadata: { name: headless }
spec: { selector: { app: web }, clusterIP: None, ports: [{ name: http, port: 8080 }] }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: reader }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: reader }
rules: [{ apiGroups: [""], resources: [pods], verbs: [list] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: reader }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader }
subjects: [{ kind: ServiceAccount, name: reader }]
---
apiVersion: v1
kind: Namespace
metadata: { name: other }
---
apiVersion: v1
kind: Pod
metadata: { name: tools }
spec:
  serviceAccountName: reader
  containers: [{ name: tools, image: dnsutils:1 }]
"#;

/// The host's resolver: whatever it is asked for has the address 203.0.113.7, but `nowhere.example` does not exist.
const RESOLVER: &str = r"
import socket, struct
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('198.51.100.11', 53))
print('ready', flush=True)
while True:
    query, client = server.recvfrom(512)
    end = query.index(0, 12) + 5
    name, kind = query[12:end - 4], struct.unpack('!H', query[end - 4:end - 2])[0]
    missing = name.startswith(b'\x07nowhere')
    found = kind == 1 and not missing
    answer = query[:2] + struct.pack('!HHHHH', 0x8583 if missing else 0x8580, 1, int(found), 0, 0) + query[12:end]
    if found:
        answer += b'\xc0\x0c' + struct.pack('!HHIH', 1, 1, 60, 4) + bytes([203, 0, 113, 7])
    server.sendto(answer, client)
";

#[test]
fn names_services_and_tokens_work_from_inside_a_pod() {
    let c = Cluster::start("network", &["dnsutils"]);
    c.apply(PODS);
    c.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
    let ip = |name: &str, what: &str| c.kubectl(&["get", name, "-o", &format!("jsonpath={{{what}}}")]);
    let (service, pod) = (ip("service/web", ".spec.clusterIP"), ip("pod/web", ".status.podIP"));

    // names: a Service, a headless one and its pod, SRV, from another namespace, an address back to a name
    let dig = |name: &str, kind: &str| c.exec("tools", &["dig", "+short", "+search", kind, name]).unwrap();
    c.until("the name is known", |_| dig("web", "A") == service);
    assert_eq!(dig("web.default", "A"), service);
    c.until("the headless name is known", |_| dig("headless", "A") == pod);
    assert_eq!(dig("first.headless.default.svc.cluster.local", "A"), pod);
    let srv = dig("_http._tcp.headless.default.svc.cluster.local", "SRV");
    assert!(srv.ends_with("8080 first.headless.default.svc.cluster.local."), "{srv}");
    let back = c.exec("tools", &["dig", "+short", "-x", &service]).unwrap();
    assert_eq!(back, "web.default.svc.cluster.local.");
    let found = c.exec("tools", &["nslookup", "kubernetes.default"]).unwrap();
    assert!(found.contains("10.43.0.1"), "{found}");
    let missing = c
        .exec("tools", &["nslookup", "nothing.default.svc.cluster.local"])
        .unwrap_err();
    assert!(missing.contains("NXDOMAIN"), "{missing}");

    // names of the outside: the host's resolver is asked, as it is configured
    let mut resolver = c
        .inside("python3")
        .args(["-c", RESOLVER])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let mut said = std::io::BufReader::new(resolver.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut ready).unwrap();
    let outside = c.exec("tools", &["nslookup", "www.example.com"]);
    let nowhere = c.exec("tools", &["nslookup", "nowhere.example."]);
    resolver.kill().unwrap();
    resolver.wait().unwrap();
    assert!(outside.as_ref().is_ok_and(|o| o.contains("203.0.113.7")), "{outside:?}");
    assert!(nowhere.as_ref().is_err_and(|o| o.contains("NXDOMAIN")), "{nowhere:?}");

    // Services: cluster address, node port, and a pod that reaches itself through its Service
    let fetch = |from: &str, url: &str| c.exec(from, &["curl", "-sS", "--fail", "--max-time", "3", url]);
    assert_eq!(fetch("tools", "http://web/").unwrap(), "from first");
    assert_eq!(fetch("tools", &format!("http://{NODE}:30123/")).unwrap(), "from first");
    assert_eq!(fetch("web", "http://web/").unwrap(), "from first");
    assert_eq!(c.http(&format!("http://{service}/")).unwrap(), "from first");
    assert_eq!(c.http(&format!("http://{NODE}:30123/")).unwrap(), "from first");

    // nodes answer for a load balancer by their own addresses, one Service a port, and never by a port of their own
    let ingress = |name: &str| ip(&format!("service/{name}"), ".status.loadBalancer.ingress[*].ip");
    c.until("the load balancer has the node's address", |_| {
        ingress("balanced") == NODE
    });
    assert_eq!(fetch("tools", &format!("http://{NODE}:8088/")).unwrap(), "from first");
    assert_eq!(c.http(&format!("http://{NODE}:8088/")).unwrap(), "from first");
    for (name, port) in [("second", "8088"), ("api", "6443")] {
        c.kubectl(&["create", "service", "loadbalancer", name, "--tcp", port]);
        let events = [
            "get",
            "events",
            "--field-selector",
            &format!("involvedObject.name={name}"),
            "-o",
            "jsonpath={.items[*].reason}",
        ];
        c.until("the Service is told that its port is taken", |c| {
            c.kubectl(&events).contains("SyncLoadBalancerFailed")
        });
        assert_eq!(ingress(name), "");
    }
    c.kubectl(&["delete", "service", "balanced"]);
    c.until("the next Service has the port", |_| ingress("second") == NODE);

    // the token reads what its role allows, and not more
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let token = c.exec("tools", &["cat", token]).unwrap();
    let ask = |verb: &str, what: &str| {
        c.try_kubectl(&[
            "--token",
            &token,
            "--kubeconfig",
            "/dev/null",
            "--server",
            "https://127.0.0.1:6443",
            "--insecure-skip-tls-verify",
            verb,
            what,
        ])
    };
    assert!(ask("get", "pods").unwrap().contains("tools"));
    let refused = ask("get", "secrets").unwrap_err();
    assert!(refused.contains("system:serviceaccount:default:reader"), "{refused}");
    let can = c.kubectl(&["auth", "can-i", "--list", "--as=system:serviceaccount:default:reader"]);
    assert!(
        can.lines().any(|l| l.starts_with("pods ") && l.contains("[list]")),
        "{can}"
    );
    let created = c.kubectl(&["create", "token", "reader"]);
    assert_eq!(created.split('.').count(), 3);
}
