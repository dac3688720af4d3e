//! A cluster of one node for a test: in a network and mount namespace of its own, driven by upstream's kubectl, gone
//! without trace afterwards, also when the test fails or is killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sha2::Digest;

/// Set up the namespace, say so, wait for the test's end (its side of the pipe closes), take everything down.
const HOLDER: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /var/log
ip link set lo up
ip link add node0 type veth peer name node0p
ip addr add 198.51.100.10/24 dev node0
ip addr add 198.51.100.11/24 dev node0
ip link set node0 up; ip link set node0p up
ip route add default via 198.51.100.1
echo "nameserver 198.51.100.11" > "$DIR/resolv.conf"
echo ready
set +e
read -r _
for pid in $(cat "$DIR/pid" "$DIR/pids" 2>/dev/null); do
  kill -9 "$pid" 2>/dev/null
  while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
done
"$SKIFF" killall --data-dir "$DIR/data" 2>"$DIR.left"
{ nft list tables; ip -o link | grep -v ': \(lo\|node0\|node0p\)@\?[^:]*:'; } >>"$DIR.left"
ls -d /sys/fs/cgroup/*/"skiff-$TAG" /sys/fs/cgroup/"skiff-$TAG" /run/"skiff-$TAG" 2>/dev/null >>"$DIR.left"
[ -s "$DIR.left" ] || rm "$DIR.left"
rm -rf "$DIR"
"#;

pub struct Cluster {
    holder: Child,
    server: Option<Child>,
    daemons: Vec<Child>,
    flags: Vec<String>,
    /// Of who starts skiff, in place of the test's.
    pub umask: Option<&'static str>,
    pub dir: PathBuf,
}

pub const NODE: &str = "198.51.100.10";

/// By what the names of a node of its own data directory are told apart.
pub fn tag(dir: &Path) -> String {
    let digest = sha2::Sha256::digest(dir.join("data").as_os_str().as_encoded_bytes());
    digest[..4].iter().map(|b| format!("{b:02x}")).collect()
}

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
        let images = images();
        let dir = std::env::temp_dir().join(format!("skiff-test-{name}-{}", std::process::id()));
        let agent_images = dir.join("data/agent/images");
        std::fs::create_dir_all(&agent_images).unwrap();
        for archive in archives {
            let file = format!("{archive}.tar");
            let from = images.join(&file);
            std::fs::hard_link(&from, agent_images.join(&file))
                .or_else(|_| std::fs::copy(&from, agent_images.join(&file)).map(|_| ()))
                .unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        }
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "bash", "-c", HOLDER])
            .env("DIR", &dir)
            .env("SKIFF", skiff())
            .env("TAG", tag(&dir))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = std::io::BufReader::new(holder.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert_eq!(line, "ready\n", "the namespace could not be set up");
        Cluster {
            holder,
            server: None,
            daemons: Vec::new(),
            flags: Vec::new(),
            umask: None,
            dir,
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
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let data = self.dir.join("data");
        let mut command = match self.umask {
            None => self.inside(skiff()),
            Some(umask) => {
                let mut command = self.inside("sh");
                command.args(["-c", r#"umask "$0"; exec "$@""#, umask, skiff()]);
                command
            }
        };
        command
            .args(["server", "--node-name=node", "--node-ip", NODE, "--data-dir"])
            .arg(&data)
            .arg("--resolv-conf")
            .arg(self.dir.join("resolv.conf"))
            .args(&self.flags)
            .stderr(log)
            .stdout(Stdio::null());
        let child = command.spawn().unwrap();
        std::fs::write(self.dir.join("pid"), format!("{}\n", child.id())).unwrap();
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

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("data/server/cred/admin.kubeconfig")
    }

    pub fn log(&self) -> String {
        let mut log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|e| e == "log") {
                log += &std::fs::read_to_string(entry.path()).unwrap_or_default();
            }
        }
        log
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
        for daemon in &mut self.daemons {
            drop(daemon.kill());
            drop(daemon.wait());
        }
        drop(self.holder.wait());
        // links, tables, cgroups: what killall has left, and what it complained of
        let path = self.dir.with_added_extension("left");
        let left = std::fs::read_to_string(&path).unwrap_or_default();
        drop(std::fs::remove_file(path));
        assert!(std::thread::panicking() || left.is_empty(), "left behind: {left}");
    }
}
