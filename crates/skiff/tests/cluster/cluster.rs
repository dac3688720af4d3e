//! A cluster for a test, driven by upstream's kubectl: a server with its node, and more nodes that join it.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub use crate::node::tag;
use crate::node::{Node, result};

pub struct Cluster {
    node: Node,
    daemons: Vec<Child>,
    flags: Vec<String>,
}

pub const NODE: &str = "198.51.100.10";
/// Of the other family; a test that wants it known says so by `--node-ip`.
pub const NODE_V6: &str = "fd00:51::10";

/// A machine that runs the tests may be short of disk by any share of it: only a node that is all but full evicts.
pub const EVICTION: &str =
    "--kubelet-arg=eviction-hard=memory.available<100Mi,nodefs.available<64Mi,imagefs.available<64Mi";

impl Deref for Cluster {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Node {
        &mut self.node
    }
}

impl Cluster {
    /// A node that is Ready and has the images.
    pub fn start(name: &str, archives: &[&str]) -> Cluster {
        let cluster = Cluster::start_with(name, archives, &[]);
        cluster.until_ready();
        cluster
    }

    /// The same with more flags of `skiff server`.
    pub fn start_with(name: &str, archives: &[&str], flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::empty(name, archives);
        cluster.flags = flags.iter().map(|f| (*f).to_owned()).collect();
        cluster.restart();
        cluster
    }

    /// A program that goes on in the cluster's namespaces until the cluster ends. Its log is `<name>.log` of the folder.
    pub fn daemon(&mut self, name: &str, program: &str, args: &[&str]) {
        use std::io::Write;
        let log = std::fs::File::create(self.dir.join(format!("{name}.log"))).unwrap();
        let child = self
            .inside(program)
            .args(args)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut pids = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("pids"))
            .unwrap();
        writeln!(pids, "{}", child.id()).unwrap();
        self.daemons.push(child);
    }

    /// The namespaces and the images; nothing runs.
    pub fn empty(name: &str, archives: &[&str]) -> Cluster {
        Cluster {
            node: Node::empty(name, &format!("{NODE} {NODE_V6} 198.51.100.11"), archives),
            daemons: Vec::new(),
            flags: Vec::new(),
        }
    }

    pub fn until_ready(&self) {
        self.until("the node is Ready", |c| {
            c.try_kubectl(&[
                "get",
                "nodes",
                "-o",
                "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}",
            ])
            .is_ok_and(|out| out == "True")
        });
    }

    /// Starts skiff on the same data.
    pub fn restart(&mut self) {
        let kubeconfig = self.kubeconfig();
        if kubeconfig.exists() {
            std::fs::remove_file(&kubeconfig).unwrap();
        }
        let resolv_conf = self.dir.join("resolv.conf").display().to_string();
        let mut args = vec!["server", "--node-name=node", "--node-ip", NODE];
        args.extend(["--resolv-conf", &resolv_conf, EVICTION]);
        args.extend(self.flags.iter().map(String::as_str));
        self.node.run(&args);
        self.until("the API server is ready", |c| c.kubeconfig().exists());
    }

    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let kubectl = std::env::var("SKIFF_TEST_KUBECTL").expect("SKIFF_TEST_KUBECTL names upstream's kubectl");
        let mut command = self.inside(&kubectl);
        command.args(args);
        command
    }

    /// kubectl with a terminal around it.
    pub fn terminal(&self, args: &[&str]) -> Command {
        let kubectl = std::env::var("SKIFF_TEST_KUBECTL").expect("SKIFF_TEST_KUBECTL names upstream's kubectl");
        let quoted: Vec<String> = args.iter().map(|a| format!("'{a}'")).collect();
        let mut command = self.inside("script");
        command.args(["--quiet", "--return", "--echo", "never", "--command"]);
        command.arg(format!("{kubectl} {}", quoted.join(" "))).arg("/dev/null");
        command
    }

    pub fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        let output = self.kubectl_command(args).output().unwrap();
        result(&output)
    }

    /// What kubectl prints; it must succeed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args)
            .unwrap_or_else(|e| panic!("kubectl {args:?}: {e}\n{}", self.log()))
    }

    pub fn apply(&self, yaml: &str) {
        let path = self.dir.join("manifest.yaml");
        std::fs::write(&path, yaml).unwrap();
        self.kubectl(&["apply", "-f", path.to_str().unwrap()]);
    }

    /// A command in a pod.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<String, String> {
        let mut args = vec!["exec", pod, "--"];
        args.extend(command);
        self.try_kubectl(&args)
    }

    /// The body of an HTTP answer, asked for from the node.
    pub fn http(&self, url: &str) -> Result<String, String> {
        let output = self
            .inside("curl")
            .args(["-sS", "--fail", "--max-time", "3", url])
            .output();
        result(&output.unwrap())
    }

    /// Waits for what must come to be.
    pub fn until(&self, what: &str, mut holds: impl FnMut(&Cluster) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !holds(self) {
            let pods = self.try_kubectl(&["get", "pods,events", "-A"]);
            assert!(
                Instant::now() < deadline,
                "never: {what}\n{}\n{}",
                self.log(),
                pods.unwrap_or_else(|e| e)
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What a node leaves on a machine, as far as it would be seen here: processes, mounts, cgroups, its folder.
pub fn traces(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let needle = dir.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let of_this_test = entry.file_name().to_string_lossy() == std::process::id().to_string();
        if command.contains(needle) && !of_this_test {
            found.push(command);
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|l| l.contains(needle)).map(str::to_owned));
    if dir.exists() {
        found.push(needle.to_owned());
    }
    found
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}
