//! A machine for a test: a network and mount namespace of its own with what runs in it, gone without trace afterwards, also when the
//! test fails or is killed.

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
for address in $ADDRESSES; do
  case $address in *:*) ip addr add $address/64 dev node0 nodad ;; *) ip addr add $address/24 dev node0 ;; esac
done
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
SKIFF_LOG=warn "$SKIFF" killall --data-dir "$DIR/data" 2>"$DIR.left"
{ nft list tables; ip -o link | grep -v ': \(lo\|node0\|node0p\)@\?[^:]*:'; } >>"$DIR.left"
ls -d /sys/fs/cgroup/*/"skiff-$TAG" /sys/fs/cgroup/"skiff-$TAG" /run/"skiff-$TAG" 2>/dev/null >>"$DIR.left"
[ -s "$DIR.left" ] || rm "$DIR.left"
rm -rf "$DIR"
"#;

/// A network of machines.
const SWITCH: &str = r#"
set -e
ip link set lo up
ip link add switch type bridge
ip link set switch up
echo ready
read -r _
"#;

pub struct Node {
    holder: Child,
    process: Option<Child>,
    /// By which programs in it find the API.
    kubeconfig: PathBuf,
    /// Of who starts skiff, in place of the test's.
    pub umask: Option<&'static str>,
    pub dir: PathBuf,
}

/// By what the names of a node of its own data directory are told apart.
pub fn tag(dir: &Path) -> String {
    let digest = sha2::Sha256::digest(dir.join("data").as_os_str().as_encoded_bytes());
    digest[..4].iter().map(|b| format!("{b:02x}")).collect()
}

pub fn skiff() -> &'static str {
    env!("CARGO_BIN_EXE_skiff")
}

/// The folder that `examples/images.py` has filled.
pub fn images() -> PathBuf {
    let dir =
        std::env::var("SKIFF_TEST_IMAGES").expect("SKIFF_TEST_IMAGES names the folder that examples/images.py filled");
    PathBuf::from(dir)
}

/// Starts a shell in namespaces of its own and waits until it has set them up.
fn hold(namespaces: &[&str], script: &str, variables: &[(&str, &Path)]) -> Child {
    let mut holder = Command::new("unshare")
        .args(namespaces)
        .args(["bash", "-c", script])
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = std::io::BufReader::new(holder.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert_eq!(line, "ready\n", "the namespace could not be set up");
    holder
}

impl Node {
    /// The namespaces and the images; nothing runs. The first address is the node's own.
    pub fn empty(name: &str, addresses: &str, archives: &[&str]) -> Node {
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
        let tag = tag(&dir);
        let variables = [
            ("DIR", dir.as_path()),
            ("SKIFF", Path::new(skiff())),
            ("TAG", Path::new(&tag)),
            ("ADDRESSES", Path::new(addresses)),
        ];
        Node {
            holder: hold(&["--net", "--mount"], HOLDER, &variables),
            process: None,
            kubeconfig: dir.join("data/server/cred/admin.kubeconfig"),
            umask: None,
            dir,
        }
    }

    /// Runs skiff with these arguments, and the node's data directory.
    pub fn run(&mut self, args: &[&str]) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let mut command = match self.umask {
            None => self.inside(skiff()),
            Some(umask) => {
                let mut command = self.inside("sh");
                command.args(["-c", r#"umask "$0"; exec "$@""#, umask, skiff()]);
                command
            }
        };
        let child = command
            .args(args)
            .arg("--data-dir")
            .arg(self.dir.join("data"))
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::fs::write(self.dir.join("pid"), format!("{}\n", child.id())).unwrap();
        self.process = Some(child);
    }

    /// Whether what was run last has not ended.
    pub fn is_running(&mut self) -> bool {
        let ended = self.process.as_mut().map(|process| process.try_wait().unwrap());
        matches!(ended, Some(None))
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// SIGTERM, and the end.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let status = Command::new("kill").arg(process.id().to_string()).status().unwrap();
            assert!(status.success());
            assert!(process.wait().unwrap().success(), "{}", self.log());
        }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
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

    /// Waits until skiff has said something so many times.
    pub fn until_logged(&self, what: &str, times: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.log().matches(what).count() < times {
            assert!(Instant::now() < deadline, "never said: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A program in the node's namespaces.
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
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {}", self.dir.display(), self.log());
        }
        // closes the pipe: the holder ends everything and itself
        drop(self.holder.stdin.take());
        if let Some(mut process) = self.process.take() {
            // it may have ended already
            drop(process.kill());
            drop(process.wait());
        }
        drop(self.holder.wait());
        // links, tables, cgroups: what killall has left, and what it complained of
        let path = self.dir.with_added_extension("left");
        let left = std::fs::read_to_string(&path).unwrap_or_default();
        drop(std::fs::remove_file(path));
        assert!(std::thread::panicking() || left.is_empty(), "left behind: {left}");
    }
}

/// What joins machines: a bridge in a namespace of its own.
pub struct Switch {
    holder: Child,
    ports: u32,
}

impl Switch {
    pub fn start() -> Switch {
        Switch {
            holder: hold(&["--net"], SWITCH, &[]),
            ports: 0,
        }
    }

    /// Puts the other end of a machine's link into the switch.
    pub fn plug(&mut self, node: &Node) {
        let port = format!("port{}", self.ports);
        self.ports += 1;
        let pid = self.holder.id().to_string();
        let moved = node
            .inside("ip")
            .args(["link", "set", "node0p", "netns", &pid, "name", &port])
            .status();
        assert!(moved.unwrap().success());
        for set in [&["master", "switch"][..], &["up"]] {
            let done = Command::new("nsenter")
                .arg(format!("--target={pid}"))
                .args(["--net", "--", "ip", "link", "set", &port])
                .args(set)
                .status();
            assert!(done.unwrap().success());
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        drop(self.holder.wait());
    }
}

/// What a program printed, or why it failed.
pub fn result(output: &Output) -> Result<String, String> {
    let out = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if output.status.success() {
        Ok(out)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}: {out}{}", output.status, said.trim_end()))
    }
}
