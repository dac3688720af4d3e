//! A cluster of one node for a test: in a network and mount namespace of its own, driven by upstream's kubectl, gone
//! without trace afterwards, also when the test fails or is killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Set up the namespace, say so, wait for the test's end (its side of the pipe closes), take everything down.
const HOLDER: &str = r#"
set -e
mount --make-rprivate /
ip link set lo up
ip link add node0 type veth peer name node0p
ip addr add 198.51.100.10/24 dev node0
ip link set node0 up; ip link set node0p up
ip route add default via 198.51.100.1
echo "nameserver 198.51.100.10" > "$DIR/resolv.conf"
echo ready
set +e
read -r _
[ -f "$DIR/pid" ] && kill -9 "$(cat "$DIR/pid")" 2>/dev/null
while [ -f "$DIR/pid" ] && kill -0 "$(cat "$DIR/pid")" 2>/dev/null; do sleep 0.05; done
"$SKIFF" killall --data-dir "$DIR/data" || echo "killall failed" >&2
rm -rf "$DIR"
"#;

pub struct Cluster {
    holder: Child,
    server: Option<Child>,
    pub dir: PathBuf,
}

pub const NODE: &str = "198.51.100.10";

fn skiff() -> &'static str {
    env!("CARGO_BIN_EXE_skiff")
}

/// The folder that `examples/images.py` has filled.
fn images() -> PathBuf {
    let dir =
        std::env::var("SKIFF_TEST_IMAGES").expect("SKIFF_TEST_IMAGES names the folder that examples/images.py filled");
    PathBuf::from(dir)
}

impl Cluster {
    /// A node that is Ready and has the images.
    pub fn start(name: &str, archives: &[&str]) -> Cluster {
        let dir = std::env::temp_dir().join(format!("skiff-test-{name}-{}", std::process::id()));
        let agent_images = dir.join("data/agent/images");
        std::fs::create_dir_all(&agent_images).unwrap();
        for archive in archives {
            let file = format!("{archive}.tar");
            let from = images().join(&file);
            std::fs::hard_link(&from, agent_images.join(&file))
                .or_else(|_| std::fs::copy(&from, agent_images.join(&file)).map(|_| ()))
                .unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        }
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "bash", "-c", HOLDER])
            .env("DIR", &dir)
            .env("SKIFF", skiff())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = std::io::BufReader::new(holder.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert_eq!(line, "ready\n", "the namespace could not be set up");
        let mut cluster = Cluster {
            holder,
            server: None,
            dir,
        };
        cluster.restart();
        cluster.until("the node is Ready", |c| {
            c.try_kubectl(&[
                "get",
                "nodes",
                "-o",
                "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}",
            ])
            .is_ok_and(|out| out == "True")
        });
        cluster
    }

    /// Starts skiff on the same data.
    pub fn restart(&mut self) {
        let kubeconfig = self.kubeconfig();
        if kubeconfig.exists() {
            std::fs::remove_file(&kubeconfig).unwrap();
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let data = self.dir.join("data");
        let mut command = self.inside(skiff());
        command
            .args(["server", "--node-name=node", "--node-ip", NODE, "--data-dir"])
            .arg(&data)
            .arg("--resolv-conf")
            .arg(self.dir.join("resolv.conf"))
            .stderr(log)
            .stdout(Stdio::null());
        let child = command.spawn().unwrap();
        std::fs::write(self.dir.join("pid"), child.id().to_string()).unwrap();
        self.server = Some(child);
        self.until("the API server is ready", |c| c.kubeconfig().exists());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// SIGTERM, and the end.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let status = Command::new("kill").arg(server.id().to_string()).status().unwrap();
            assert!(status.success());
            assert!(server.wait().unwrap().success(), "{}", self.log());
        }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.join("data/server/cred/admin.kubeconfig")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// A program in the cluster's namespaces.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.holder.id()))
            .args([
                "--net",
                "--mount",
                &format!("--wd={}", self.dir.display()),
                "--",
                program,
            ])
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", &self.dir)
            // what cargo sets for its own children
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::null());
        command
    }

    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let kubectl = std::env::var("SKIFF_TEST_KUBECTL").expect("SKIFF_TEST_KUBECTL names upstream's kubectl");
        let mut command = self.inside(&kubectl);
        command.args(args);
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

fn result(output: &Output) -> Result<String, String> {
    let out = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if output.status.success() {
        Ok(out)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}: {out}{}", output.status, said.trim_end()))
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
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        // closes the pipe: the holder ends everything and itself
        drop(self.holder.stdin.take());
        if let Some(mut server) = self.server.take() {
            // it may have ended already
            drop(server.kill());
            drop(server.wait());
        }
        drop(self.holder.wait());
    }
}
