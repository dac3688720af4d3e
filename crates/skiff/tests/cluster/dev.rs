//! Throw-away clusters: `skiff dev`.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::node::images;

/// A machine for the test: namespaces whose clusters go with the test, also when it is killed.
const HOLDER: &str = r#"
set -e
mount --make-rprivate /
ip link set lo up
echo ready
set +e
read -r _
for cluster in $(ls "$SKIFF_DEV_DIR"); do "$SKIFF" dev delete "$cluster" >/dev/null; done
rm -rf "$HOME"
"#;

struct Machine {
    holder: Child,
    dir: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Machine {
        let dir = std::env::temp_dir().join(format!("skiff-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("dev")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "bash", "-c", HOLDER]);
        let mut holder = Machine::environment(&mut command, &dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(holder.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Machine { holder, dir }
    }

    fn environment<'a>(command: &'a mut Command, dir: &std::path::Path) -> &'a mut Command {
        command
            .env("SKIFF", env!("CARGO_BIN_EXE_skiff"))
            .env("SKIFF_DEV_DIR", dir.join("dev"))
            .env("HOME", dir)
            .env_remove("KUBECONFIG")
            .env_remove("LD_LIBRARY_PATH")
    }

    /// What a program prints on the machine, or what it complains of.
    fn run(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.holder.id()));
        command.args(["--net", "--mount", "--", program]).args(args);
        let output = Machine::environment(&mut command, &self.dir)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()),
        }
    }

    fn dev(&self, args: &[&str]) -> Result<String, String> {
        self.run(env!("CARGO_BIN_EXE_skiff"), &[&["dev"], args].concat())
    }

    fn must(&self, args: &[&str]) -> String {
        self.dev(args).unwrap_or_else(|e| panic!("skiff dev {args:?}: {e}"))
    }

    fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        let kubectl = std::env::var("SKIFF_TEST_KUBECTL").expect("SKIFF_TEST_KUBECTL names upstream's kubectl");
        self.run(&kubectl, args)
    }

    fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args)
            .unwrap_or_else(|e| panic!("kubectl {args:?}: {e}"))
    }

    fn until<T>(&self, what: &str, mut done: impl FnMut() -> Result<T, String>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match done() {
                Ok(value) => return value,
                Err(error) => assert!(Instant::now() < deadline, "never: {what}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn until_answers(&self, url: &str) {
        self.until(url, || self.run("curl", &["-sS", "--fail", "--max-time", "3", url]));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().unwrap();
    }
}

const WEB: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  terminationGracePeriodSeconds: 0
  nodeName: shop-server
  containers:
  - { name: c, image: "busybox:1", command: [sh, -c, "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"] }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { type: NodePort, selector: { app: web }, ports: [{ port: 80, nodePort: 30080 }] }
"#;

#[test]
fn a_cluster_for_an_hour_comes_goes_comes_back_and_leaves_nothing() {
    let machine = Machine::new("dev");
    let own = machine.dir.join(".kube/config");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    let mine = "apiVersion: v1\nkind: Config\nclusters:\n- {name: mine, cluster: {server: 'https://192.0.2.1'}}\ncontexts:\n- {name: mine, context: {cluster: mine, user: ''}}\ncurrent-context: mine\n";
    std::fs::write(&own, mine).unwrap();
    let (web, image) = (machine.dir.join("web.yaml"), images().join("busybox.tar"));
    std::fs::write(&web, WEB).unwrap();
    let file = machine.dir.join("skiff-dev.yaml");
    let described = format!(
        "name: shop\nnodes: 2\nnodeArgs: ['{}']\nports: ['8080:30080']\nimages: [{}]\nmanifests: [web.yaml]\n",
        crate::cluster::EVICTION,
        image.display()
    );
    std::fs::write(&file, described).unwrap();
    let file = file.to_str().unwrap();

    // it comes up with what its file asks for, and kubectl finds it
    machine.must(&["up", "--file", file]);
    machine.until_answers("http://127.0.0.1:8080/");
    machine.until_answers("http://198.19.0.10:30080/");
    let nodes = machine.kubectl(&["get", "nodes", "-o", "name"]);
    assert_eq!(nodes, "node/shop-agent-1\nnode/shop-server");
    // pods of both nodes reach each other
    let away = r#"--overrides={"spec":{"nodeName":"shop-agent-1"}}"#;
    machine.kubectl(&["run", "from", "--image=busybox:1", away, "--", "sleep", "1000"]);
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/from", "--timeout=60s"]);
    let service = machine.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    let url = format!("http://{service}/");
    for ask in [
        ["wget", "-qO-", &url],
        ["nslookup", "-type=a", "web.default.svc.cluster.local"],
    ] {
        machine.until("a pod of one node reaches a Service and the DNS of the other", || {
            machine.try_kubectl(&[&["exec", "from", "--"], &ask[..]].concat())
        });
    }
    assert_eq!(machine.kubectl(&["config", "current-context"]), "skiff-shop");
    assert!(machine.must(&["ls"]).contains("Running"));
    assert!(
        machine
            .must(&["kubeconfig", "shop"])
            .contains("https://198.19.0.10:6443")
    );
    assert!(
        machine
            .must(&["load", "--name", "shop", image.to_str().unwrap()])
            .contains("busybox")
    );

    // what it cannot be is said
    let refused = machine.dev(&["start", "shop", "--nodes", "5"]).unwrap_err();
    assert!(refused.contains("delete it first"), "{refused}");
    assert!(machine.dev(&["start", "../shop"]).unwrap_err().contains("no name"));
    assert!(machine.dev(&["stop", "none"]).unwrap_err().contains("no cluster none"));

    // it stops and goes on, also after everything of it has been killed
    machine.must(&["stop", "shop"]);
    assert!(machine.must(&["ls"]).contains("Stopped"));
    machine.must(&["start", "shop"]);
    machine.until_answers("http://127.0.0.1:8080/");
    let holder = std::fs::read_to_string(machine.dir.join("dev/shop/shop-server/pid")).unwrap();
    machine.run("kill", &["-9", holder.trim()]).unwrap();
    machine.must(&["start", "shop"]);
    machine.until_answers("http://127.0.0.1:8080/");

    // it leaves nothing, and the user's own context as it was
    machine.must(&["down", "--file", file]);
    assert_eq!(
        machine.run("ls", &[machine.dir.join("dev").to_str().unwrap()]),
        Ok(String::new())
    );
    assert_eq!(machine.run("nft", &["list", "tables"]), Ok(String::new()));
    let links = machine.run("ip", &["-brief", "link"]).unwrap();
    assert_eq!(links.lines().count(), 1, "{links}");
    assert_eq!(machine.kubectl(&["config", "get-contexts", "-o", "name"]), "mine");
}

/// Pods that no image is needed for.
const CROWD: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: crowd }
spec:
  replicas: 30
  selector: { matchLabels: { app: crowd } }
  template:
    metadata: { labels: { app: crowd } }
    spec:
      nodeSelector: { node.skiff.io/hollow: "true" }
      containers:
      - { name: c, image: "registry.example/crowd:1" }
"#;

#[test]
fn hollow_nodes_take_pods_and_replace_them() {
    let machine = Machine::new("hollow");
    let crowd = machine.dir.join("crowd.yaml");
    std::fs::write(&crowd, CROWD).unwrap();
    let evict = format!("--node-arg={}", crate::cluster::EVICTION);
    machine.must(&["start", "many", "--hollow", "5", &evict]);
    let hollow = ["get", "nodes", "-l", "node.skiff.io/hollow=true", "-o", "name"];
    let named: Vec<String> = (1..=5).map(|n| format!("node/many-hollow-{n}")).collect();
    assert_eq!(machine.kubectl(&hollow), named.join("\n"));

    machine.kubectl(&["apply", "-f", crowd.to_str().unwrap()]);
    machine.kubectl(&["rollout", "status", "deployment/crowd", "--timeout=60s"]);
    machine.kubectl(&["set", "image", "deployment/crowd", "c=registry.example/crowd:2"]);
    machine.kubectl(&["rollout", "status", "deployment/crowd", "--timeout=60s"]);
    let pods = ["get", "pods", "-l", "app=crowd", "-o"];
    machine.until("the old pods are gone", || {
        let images = machine.kubectl(&[&pods[..], &["jsonpath={.items[*].spec.containers[0].image}"]].concat());
        let new = vec!["registry.example/crowd:2"; 30].join(" ");
        if images == new { Ok(()) } else { Err(images) }
    });
    let columns = "custom-columns=NODE:.spec.nodeName,IP:.status.podIP,PHASE:.status.phase";
    let rows = machine.kubectl(&[&pods[..], &[columns, "--no-headers"]].concat());
    let addresses: std::collections::HashSet<&str> =
        rows.lines().filter_map(|row| row.split_whitespace().nth(1)).collect();
    assert_eq!(addresses.len(), 30, "{rows}");
    assert!(rows.lines().all(|row| row.ends_with("Running")), "{rows}");
    // the API server reaches each kubelet, which says that there is nothing to reach
    let pod = machine.kubectl(&[&pods[..], &["jsonpath={.items[0].metadata.name}"]].concat());
    let refused = machine.try_kubectl(&["exec", &pod, "--", "true"]).unwrap_err();
    assert!(refused.contains("hollow node"), "{refused}");

    // they come back with the cluster
    machine.must(&["stop", "many"]);
    machine.must(&["start", "many"]);
    machine.kubectl(&["rollout", "status", "deployment/crowd", "--timeout=60s"]);
    machine.must(&["delete", "many"]);
    assert_eq!(
        machine.run("ls", &[machine.dir.join("dev").to_str().unwrap()]),
        Ok(String::new())
    );
}
