//! A skiff server of its own for a test, and kubectl to drive it. Ends with the test, also when it fails.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub struct Server {
    child: Option<Child>,
    flags: Vec<String>,
    dir: tempfile::TempDir,
}

impl Server {
    /// The control plane without controllers.
    #[allow(dead_code)]
    pub fn start() -> Server {
        Server::start_with(&["--disable-agent", "--disable-scheduler", "--disable-controller-manager"])
    }

    pub fn start_with(flags: &[&str]) -> Server {
        let mut server = Server {
            child: None,
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
            dir: tempfile::tempdir().unwrap(),
        };
        server.restart();
        server
    }

    /// Starts the server again on the same data.
    pub fn restart(&mut self) {
        let kubeconfig = self.kubeconfig();
        if kubeconfig.exists() {
            std::fs::remove_file(&kubeconfig).unwrap();
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_skiff"))
            .args([
                "server",
                "--bind-address",
                "127.0.0.1",
                "--https-listen-port",
                "0",
                "--data-dir",
            ])
            .arg(self.dir.path().join("data"))
            .args(&self.flags)
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        // the kubeconfig is written when the server is ready to be asked
        while !kubeconfig.exists() {
            assert!(Instant::now() < deadline, "the server did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[allow(dead_code)]
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("server/cred/admin.kubeconfig")
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    #[allow(dead_code)]
    fn run(&self, args: &[&str], input: &str) -> Output {
        use std::io::Write;
        let kubectl = std::env::var("SKIFF_TEST_KUBECTL")
            .expect("SKIFF_TEST_KUBECTL names upstream's kubectl: see tests/upstream/build.sh");
        let mut child = Command::new(kubectl)
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What a kubectl command prints; it must succeed.
    #[allow(dead_code)]
    pub fn ok(&self, args: &[&str]) -> String {
        self.ok_with(args, "")
    }

    #[allow(dead_code)]
    pub fn ok_with(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "kubectl {args:?}: {out}{err}\n{}", self.log());
        out.trim_end().to_owned()
    }

    /// What a kubectl command complains about; it must fail.
    #[allow(dead_code)]
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
