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
    /// The data directory is a file system of its own of this size.
    disk: Option<&'static str>,
}

/// Mounts a disk for the data directory that nobody else sees, then becomes skiff.
const ON_OWN_DISK: &str = r#"mount -t tmpfs -o "size=$1" skiff-test "$2" && shift 2 && exec "$@""#;

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
            disk,
        };
        server.restart();
        server
    }

    /// Starts the server again on the same data.
    pub fn restart(&mut self) {
        let data = self.dir.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        let written = self.kubeconfig();
        if written.exists() {
            std::fs::remove_file(&written).unwrap();
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let mut command = match self.disk {
            None => Command::new(env!("CARGO_BIN_EXE_skiff")),
            Some(size) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", ON_OWN_DISK, "sh", size]);
                command.arg(&data).arg(env!("CARGO_BIN_EXE_skiff"));
                command
            }
        };
        let child = command
            .args([
                "server",
                "--bind-address",
                "127.0.0.1",
                "--https-listen-port",
                "0",
                "--data-dir",
            ])
            .arg(&data)
            .args(&self.flags)
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        // the kubeconfig is written when the server is ready to be asked
        while !self.kubeconfig().exists() {
            assert!(Instant::now() < deadline, "the server did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
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
        match (&self.child, self.disk) {
            (Some(child), Some(_)) => {
                PathBuf::from(format!("/proc/{}/root", child.id())).join(data.strip_prefix("/").unwrap())
            }
            _ => data,
        }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("server/cred/admin.kubeconfig")
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
        if let Some(mut child) = self.child.take() {
            // both may fail only when it has ended already
            drop(child.kill());
            drop(child.wait());
        }
    }
}
