//! A skiff server of its own for a test, and kubectl to drive it. Ends with the test, also when it fails.

// each test target uses its part
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub struct Server {
    child: Option<Child>,
    flags: Vec<String>,
    dir: tempfile::TempDir,
    /// The data directory is a file system of its own, which this process keeps.
    disk: Option<Child>,
}

/// Mounts a disk that nobody else sees, and keeps it.
const OWN_DISK: &str = r#"mount -t tmpfs -o "size=$1" skiff-test "$2" && echo mounted && exec sleep infinity"#;

fn own_disk(size: &str, at: &std::path::Path) -> Child {
    let mut holder = Command::new("unshare")
        .args(["--mount", "sh", "-c", OWN_DISK, "sh", size])
        .arg(at)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut said).unwrap();
    assert_eq!(said, "mounted\n");
    holder
}

impl Server {
    /// The control plane without controllers.
    pub fn start() -> Server {
        Server::start_with(&["--disable-agent", "--disable-scheduler", "--disable-controller-manager"])
    }

    pub fn start_with(flags: &[&str]) -> Server {
        Server::start_on(flags, None)
    }

    /// The control plane without controllers, its data on a disk of a few megabytes.
    pub fn start_on_disk_of(size: &'static str) -> Server {
        let flags = ["--disable-agent", "--disable-scheduler", "--disable-controller-manager"];
        Server::start_on(&flags, Some(size))
    }

    fn start_on(flags: &[&str], disk: Option<&'static str>) -> Server {
        let mut server = Server {
            child: None,
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
            dir: tempfile::tempdir().unwrap(),
            disk: None,
        };
        std::fs::create_dir_all(server.dir.path().join("data")).unwrap();
        server.disk = disk.map(|size| own_disk(size, &server.dir.path().join("data")));
        server.restart();
        server
    }

    /// Starts the server again on the same data.
    pub fn restart(&mut self) {
        let written = self.kubeconfig();
        if written.exists() {
            std::fs::remove_file(&written).unwrap();
        }
        let child = self.command(&[]).spawn().unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        // the kubeconfig is written when the server is ready to be asked
        while !self.kubeconfig().exists() {
            assert!(Instant::now() < deadline, "the server did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The server's command on its data, with more flags.
    fn command(&self, more: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_skiff");
        let mut command = match &self.disk {
            None => Command::new(program),
            Some(holder) => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--mount=/proc/{}/ns/mnt", holder.id()))
                    .arg(program);
                command
            }
        };
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        command
            .args(["server", "--bind-address", "127.0.0.1", "--https-listen-port", "0"])
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args(&self.flags)
            .args(more)
            .stderr(log)
            .stdout(Stdio::null());
        if self.disk.is_some() {
            command.arg("--write-kubeconfig").arg(self.kubeconfig());
        }
        command
    }

    /// What the server's program says when it does not go on serving: whether it succeeds, and its output.
    pub fn try_command(&self, more: &[&str]) -> (bool, String) {
        let mut command = self.command(more);
        let output = command.stderr(Stdio::piped()).stdout(Stdio::piped()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The data directory, as it is seen from outside of the server's mounts.
    pub fn data(&self) -> PathBuf {
        let data = self.dir.path().join("data");
        match &self.disk {
            Some(holder) => PathBuf::from(format!("/proc/{}/root", holder.id())).join(data.strip_prefix("/").unwrap()),
            None => data,
        }
    }

    /// Beside the disk of a server that has its own: there must be one when the disk is full.
    pub fn kubeconfig(&self) -> PathBuf {
        match self.disk {
            Some(_) => self.dir.path().join("kubeconfig"),
            None => self.data().join("server/cred/admin.kubeconfig"),
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        let kubectl = std::env::var("SKIFF_TEST_KUBECTL")
            .expect("SKIFF_TEST_KUBECTL names upstream's kubectl: see tests/upstream/build.sh");
        let mut command = Command::new(kubectl);
        command
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.dir.path());
        command
    }

    pub fn run(&self, args: &[&str], input: &str) -> Output {
        use std::io::Write;
        let mut child = self
            .kubectl(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // kubectl may end before it has read everything
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    }

    /// What a kubectl command prints; it must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        self.ok_with(args, "")
    }

    pub fn ok_with(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "kubectl {args:?}: {out}{err}\n{}", self.log());
        out.trim_end().to_owned()
    }

    /// What a kubectl command prints, or what it complains about.
    pub fn try_with(&self, args: &[&str], input: &str) -> Result<String, String> {
        let output = self.run(args, input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    /// A kubectl command that goes on, and the lines it prints.
    pub fn going_on(&self, args: &[&str]) -> (Child, std::io::Lines<std::io::BufReader<std::process::ChildStdout>>) {
        let mut child = self.kubectl(args).stdout(Stdio::piped()).spawn().unwrap();
        let out = std::io::BufReader::new(child.stdout.take().unwrap());
        (child, std::io::BufRead::lines(out))
    }

    /// What a kubectl command complains about; it must fail.
    pub fn fails(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        assert!(!output.status.success(), "kubectl {args:?} should fail");
        String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for mut child in [self.child.take(), self.disk.take()].into_iter().flatten() {
            // both may fail only when it has ended already
            drop(child.kill());
            drop(child.wait());
        }
    }
}
