//! Real containers: an image imported from an archive, run by a shim in namespaces and cgroups of its own. Needs root,
//! overlayfs and a static busybox, and fails where one is missing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use runtime::capabilities;
use runtime::cgroup::Hierarchy;
use runtime::image::archive;
use runtime::image::store::{Image, ImageStore};
use runtime::shim::message::{Answer, Call, Failure, Message, Request};
use runtime::shim::{SOCKET, SPEC, socket};
use runtime::spec::{
    BindMount, ContainerSpec, DeviceNode, Exit, PidNamespace, Process, Resources, RootFs, SandboxSpec, Seccomp,
};
use support::{BUSYBOX, saved_image};

/// The longest any event here may take. Milliseconds.
const PATIENCE: i32 = 20_000;

static GROUPS: AtomicU32 = AtomicU32::new(0);

fn able() -> bool {
    let able = nix::unistd::geteuid().is_root() && Path::new(BUSYBOX).exists();
    assert!(able, "needs root and {BUSYBOX}");
    able
}

struct Daemon {
    socket: OwnedFd,
    number: u64,
    exits: Vec<(String, Exit)>,
    execs: Vec<(String, i32)>,
}

impl Daemon {
    fn connect(dir: &Path) -> Self {
        Self {
            socket: socket::connect(&dir.join(SOCKET)).unwrap(),
            number: 0,
            exits: vec![],
            execs: vec![],
        }
    }

    fn next(&mut self) -> Option<(u64, Result<Answer, Failure>, Vec<OwnedFd>)> {
        wait_readable(self.socket.as_fd());
        match socket::receive::<Message>(self.socket.as_fd()).unwrap()? {
            (Message::Reply { number, answer }, fds) => Some((number, answer, fds)),
            (Message::Exited { id, exit }, _) => {
                self.exits.push((id, exit));
                Some((0, Ok(Answer::default()), vec![]))
            }
            (Message::ExecExited { exec, code }, _) => {
                self.execs.push((exec, code));
                Some((0, Ok(Answer::default()), vec![]))
            }
        }
    }

    fn call(&mut self, call: Call, fds: &[BorrowedFd]) -> Result<(Answer, Vec<OwnedFd>), String> {
        self.number += 1;
        socket::send(
            self.socket.as_fd(),
            &Request {
                number: self.number,
                call,
            },
            fds,
        )
        .unwrap();
        loop {
            let (number, answer, fds) = self.next().ok_or("the shim went away")?;
            if number == self.number {
                return answer.map(|a| (a, fds)).map_err(|failure| failure.to_string());
            }
        }
    }

    fn exit_of(&mut self, id: &str) -> Exit {
        loop {
            if let Some((_, exit)) = self.exits.iter().find(|(i, _)| i == id) {
                return exit.clone();
            }
            drop(self.next().expect("the shim went away"));
        }
    }

    fn exec_exit(&mut self, exec: &str) -> i32 {
        loop {
            if let Some((_, code)) = self.execs.iter().find(|(i, _)| i == exec) {
                return *code;
            }
            drop(self.next().expect("the shim went away"));
        }
    }
}

fn wait_readable(fd: BorrowedFd) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
    assert_eq!(ready, 1, "nothing came within {PATIENCE} ms");
}

struct Pod {
    dir: tempfile::TempDir,
    image: Image,
    layers: PathBuf,
    group: String,
    daemon: Daemon,
}

impl Pod {
    fn start(shared_pid: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("skiff-").tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("images")).unwrap();
        saved_image(&dir.path().join("image.tar"));
        let image = archive::import(&store, &dir.path().join("image.tar"))
            .unwrap()
            .remove(0);
        assert_eq!(store.find("busybox:test").unwrap().id, image.id);
        std::fs::create_dir(dir.path().join("containers")).unwrap();
        let spec = SandboxSpec {
            id: "pod".into(),
            hostname: "the-pod".into(),
            private_network: true,
            private_ipc: true,
            shared_pid,
            sysctls: vec![("net.ipv4.ip_local_port_range".into(), "2000 3000".into())],
        };
        std::fs::write(dir.path().join(SPEC), serde_json::to_vec(&spec).unwrap()).unwrap();
        let group = format!(
            "/skiff-test-{}-{}",
            std::process::id(),
            GROUPS.fetch_add(1, Ordering::Relaxed)
        );
        // In a mount namespace of its own: what a failing test leaves mounted goes with the processes.
        let out = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                env!("CARGO_BIN_EXE_skiff-runtime"),
                "shim",
            ])
            .arg(dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        let daemon = Daemon::connect(dir.path());
        Self {
            layers: store.layer_dir(),
            dir,
            image,
            group,
            daemon,
        }
    }

    fn spec(&self, id: &str, script: &str) -> ContainerSpec {
        let own = self.dir.path().join("c").join(id);
        for part in ["upper", "work", "rootfs"] {
            std::fs::create_dir_all(own.join(part)).unwrap();
        }
        let device = |path: &str, minor| DeviceNode {
            path: path.into(),
            major: 1,
            minor,
            mode: 0o666,
            access: "rwm".into(),
            ..DeviceNode::default()
        };
        ContainerSpec {
            id: id.into(),
            process: Process {
                args: vec!["sh".into(), "-c".into(), script.into()],
                env: vec!["PATH=/bin".into()],
                cwd: "/".into(),
                capabilities: capabilities::merge(&[], &[]),
                seccomp: Seccomp::RuntimeDefault,
                ..Process::default()
            },
            root: RootFs {
                layer_dir: self.layers.clone(),
                layers: self.image.layers.clone(),
                upper: own.join("upper"),
                work: own.join("work"),
                mountpoint: own.join("rootfs"),
                readonly: false,
                volumes: vec![],
            },
            private_network: true,
            private_ipc: true,
            mounts: vec![BindMount {
                source: self.dir.path().join("shm"),
                target: "/dev/shm".into(),
                ..BindMount::default()
            }],
            devices: vec![device("/dev/null", 3), device("/dev/zero", 5)],
            masked_paths: vec!["/proc/kcore".into(), "/proc/acpi".into(), "/sys/firmware".into()],
            readonly_paths: vec!["/proc/sys".into()],
            cgroup: format!("{}/{id}", self.group),
            resources: Resources {
                memory: Some(64 << 20),
                pids: Some(50),
                cpu_shares: Some(512),
                ..Resources::default()
            },
            log: Some(self.dir.path().join("logs").join(id)),
            ..ContainerSpec::default()
        }
    }

    fn run(&mut self, spec: &ContainerSpec) -> Result<i32, String> {
        let path = self.dir.path().join("containers").join(format!("{}.json", spec.id));
        std::fs::write(&path, serde_json::to_vec(spec).unwrap()).unwrap();
        self.daemon.call(Call::Start { spec: path }, &[]).map(|(a, _)| a.pid)
    }

    /// Runs to the end: what it said, without times, and its code.
    fn finish(&mut self, spec: &ContainerSpec) -> (String, i32) {
        self.run(spec).unwrap();
        let exit = self.daemon.exit_of(&spec.id);
        (self.log(&spec.id), exit.code)
    }

    fn log(&self, id: &str) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("logs").join(id)).unwrap();
        text.lines()
            .map(|l| l.splitn(4, ' ').nth(3).unwrap().to_owned() + "\n")
            .collect()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.daemon.call(Call::Shutdown, &[]);
        // The end of the connection is the end of the shim: nothing is mounted below the directory any more.
        while self.daemon.next().is_some() {}
        for name in ["net", "ipc", "uts", "shm", SOCKET] {
            let left = self.dir.path().join(name).exists();
            assert!(!left || std::thread::panicking(), "{name} is left");
        }
        let removed = Hierarchy::detect().unwrap().remove(&self.group);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

#[test]
fn a_container_sees_its_image_its_pod_and_nothing_of_the_node() {
    if !able() {
        return;
    }
    let mut pod = Pod::start(false);
    let script = "cat /shown; ls /hidden 2>&1; hostname; readlink /proc/self; id -u; ls /dev | grep -c sda; \
        cat /proc/sys/net/ipv4/ip_local_port_range; ip link | grep -c eth; touch /x && echo wrote; \
        touch /proc/sys/kernel/hostname 2>&1; mount -t tmpfs t /tmp 2>&1; head -c 1 /proc/kcore; \
        cat /proc/self/status | grep -E 'CapEff|Seccomp:'; echo error >&2; exit 3";
    let (said, code) = pod.finish(&pod.spec("a", script));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(code, 3, "{said}");
    for want in [
        "shown",
        "the-pod",
        "2000\t3000",
        "wrote",
        "error",
        "CapEff:\t00000000a80425fb",
        "Seccomp:\t2",
    ] {
        assert!(lines.contains(&want), "{want:?} is not in {said}");
    }
    assert!(
        said.contains("/hidden: No such file") && said.contains("permission denied"),
        "{said}"
    );
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(pod.dir.path().join("c/a/upper/x").exists());
    assert!(
        !pod.dir.path().join("c/a/rootfs/bin").exists(),
        "the overlay is mounted outside of the container"
    );
}

#[test]
fn users_read_only_roots_and_terminals_are_as_asked() {
    if !able() {
        return;
    }
    let mut pod = Pod::start(false);
    let mut spec = pod.spec(
        "user",
        "id -u; id -g; id -G; touch /tmp/x 2>&1; grep -E 'CapEff|NoNewPrivs' /proc/self/status",
    );
    spec.process.uid = 33;
    spec.process.gid = 34;
    spec.process.groups = vec![34, 7];
    spec.process.no_new_privs = true;
    spec.root.readonly = true;
    let (said, _) = pod.finish(&spec);
    for want in ["33", "34", "34 7", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(said.lines().any(|l| l == want), "{want:?} is not in {said}");
    }
    assert!(said.contains("Read-only file system"), "{said}");
    let mut spec = pod.spec("tty", "tty; ls -l /dev/console | grep -c '^c'");
    spec.process.tty = true;
    let (said, code) = pod.finish(&spec);
    assert_eq!((said.replace('\r', "").as_str(), code), ("/dev/pts/0\n1\n", 0));
}

#[test]
fn what_cannot_start_says_why() {
    if !able() {
        return;
    }
    let mut pod = Pod::start(false);
    let mut spec = pod.spec("none", "");
    spec.process.args = vec!["no-such-program".into()];
    let error = pod.run(&spec).unwrap_err();
    assert_eq!(error, "exec: \"no-such-program\": executable file not found in $PATH");
    let mut spec = pod.spec("file", "");
    spec.process.args = vec!["/shown".into()];
    assert!(pod.run(&spec).unwrap_err().contains("permission denied"));
    let mut spec = pod.spec("mount", "true");
    spec.mounts.push(BindMount {
        source: "/no/such/place".into(),
        target: "/m".into(),
        ..BindMount::default()
    });
    assert!(pod.run(&spec).unwrap_err().contains("/no/such/place"));
}

#[test]
fn a_shared_pid_namespace_is_shared_and_emptied_with_its_container() {
    if !able() {
        return;
    }
    let mut pod = Pod::start(true);
    let mut spec = pod.spec("first", "sleep 1000 & sleep 1000");
    spec.pid = PidNamespace::Sandbox;
    pod.run(&spec).unwrap();
    let mut second = pod.spec("second", "ps | grep -c 'sleep 1000$'; cat /proc/1/comm");
    second.pid = PidNamespace::Sandbox;
    let (said, _) = pod.finish(&second);
    assert!(said.ends_with("pause\n") && !said.starts_with('0'), "{said}");
    pod.daemon
        .call(
            Call::Signal {
                id: "first".into(),
                signal: libc::SIGKILL,
                all: false,
            },
            &[],
        )
        .unwrap();
    assert_eq!(pod.daemon.exit_of("first").code, 137);
    pod.daemon.call(Call::Remove { id: "first".into() }, &[]).unwrap();
}

#[test]
fn exec_runs_beside_with_its_own_streams_and_code() {
    if !able() {
        return;
    }
    let mut pod = Pod::start(false);
    pod.run(&pod.spec("main", "sleep 1000")).unwrap();
    let (read, write) = nix::unistd::pipe().unwrap();
    let null: OwnedFd = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap()
        .into();
    let process = Process {
        args: vec![
            "sh".into(),
            "-c".into(),
            "readlink /proc/self/ns/mnt; cat /shown; cat /proc/1/cmdline; exit 7".into(),
        ],
        env: vec!["PATH=/bin".into()],
        cwd: "/tmp".into(),
        ..Process::default()
    };
    let call = Call::Exec {
        id: "main".into(),
        exec: "e1".into(),
        process: Box::new(process),
    };
    pod.daemon
        .call(call, &[null.as_fd(), write.as_fd(), null.as_fd()])
        .unwrap();
    drop(write);
    assert_eq!(pod.daemon.exec_exit("e1"), 7);
    let said = std::io::read_to_string(std::fs::File::from(read)).unwrap();
    assert!(
        said.contains(
            "shown
"
        ) && said.contains("sleep\u{0}1000"),
        "{said:?}"
    );
}

#[test]
fn another_daemon_finds_the_containers_and_input_reaches_them() {
    if !able() {
        return;
    }
    let mut pod = Pod::start(false);
    let mut spec = pod.spec("cat", "cat; echo end");
    spec.stdin = true;
    let pid = pod.run(&spec).unwrap();
    // The first daemon goes away without a word.
    pod.daemon = Daemon::connect(pod.dir.path());
    let (state, _) = pod.daemon.call(Call::State, &[]).unwrap();
    assert_eq!((state.containers[0].pid, &state.containers[0].exit), (pid, &None));
    let (read, write) = nix::unistd::pipe().unwrap();
    let attach = Call::Attach {
        id: "cat".into(),
        stdout: true,
        stderr: false,
    };
    let (_, mut fds) = pod.daemon.call(attach, &[write.as_fd()]).unwrap();
    drop(write);
    let mut input = std::fs::File::from(fds.pop().unwrap());
    input.write_all(b"hello\n").unwrap();
    drop(input);
    pod.daemon.call(Call::CloseStdin { id: "cat".into() }, &[]).unwrap();
    assert_eq!(pod.daemon.exit_of("cat").code, 0);
    assert_eq!(
        std::io::read_to_string(std::fs::File::from(read)).unwrap(),
        "hello\nend\n"
    );
    assert_eq!(pod.log("cat"), "hello\nend\n");
    let kept = std::fs::read(pod.dir.path().join("containers/cat.exit")).unwrap();
    assert_eq!(serde_json::from_slice::<Exit>(&kept).unwrap().code, 0);
}

#[test]
fn a_container_that_takes_too_much_memory_is_killed_for_it() {
    if !able() {
        return;
    }
    let mut pod = Pod::start(false);
    let mut spec = pod.spec("greedy", "x=a; while true; do x=$x$x; done");
    spec.resources.memory = Some(16 << 20);
    pod.run(&spec).unwrap();
    let exit = pod.daemon.exit_of("greedy");
    assert_eq!((exit.code, exit.oom_killed), (137, true));
}
