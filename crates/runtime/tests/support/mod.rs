//! What the tests of real containers share: an image made of a static busybox, a node of their own, and its end.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cri::{ImageClient, RuntimeClient, v1};
use runtime::cgroup::Hierarchy;

pub const BUSYBOX: &str = "/usr/bin/busybox";
/// The longest any event may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

static NODES: AtomicU32 = AtomicU32::new(0);

pub fn tar_of(files: &[(&str, Vec<u8>, tar::EntryType, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content, kind, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        let link = *kind == tar::EntryType::Symlink;
        header.set_size(if link { 0 } else { content.len() as u64 });
        if link {
            let target = std::str::from_utf8(content).unwrap();
            builder.append_link(&mut header, path, target).unwrap();
        } else {
            builder.append_data(&mut header, path, content.as_slice()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// An archive as `docker save` makes it: two layers, the upper one hides a file of the lower.
pub fn saved_image(path: &Path) {
    use tar::EntryType::{Directory, Regular, Symlink};
    let busybox = std::fs::read(BUSYBOX).unwrap();
    let passwd = b"root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n".to_vec();
    let mut files = vec![
        ("bin/", vec![], Directory, 0o755),
        ("bin/busybox", busybox, Regular, 0o755),
        ("tmp/", vec![], Directory, 0o1777),
        ("etc/passwd", passwd, Regular, 0o644),
        ("etc/group", b"root:x:0:\nlog:x:44:web\n".to_vec(), Regular, 0o644),
        ("hidden", b"x".to_vec(), Regular, 0o644),
    ];
    let applets = [
        "sh", "cat", "ls", "id", "sleep", "grep", "mkdir", "mount", "tty", "hostname", "readlink", "ps", "touch",
        "head", "ip", "env", "nc", "stty", "wc", "dd", "echo", "kill", "mkfifo", "seq",
    ];
    let links: Vec<String> = applets.iter().map(|a| format!("bin/{a}")).collect();
    for link in &links {
        files.push((link, b"busybox".to_vec(), Symlink, 0o777));
    }
    let lower = tar_of(&files);
    let upper = tar_of(&[
        (".wh.hidden", vec![], Regular, 0),
        ("shown", b"shown\n".to_vec(), Regular, 0o644),
        ("data/", vec![], Directory, 0o777),
        ("data/kept", b"kept\n".to_vec(), Regular, 0o644),
    ]);
    let digest = runtime::image::unpack::digest_of;
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Env":["PATH=/bin","IMAGE=yes"],"Cmd":["sh"],"Volumes":{{"/data":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
        runtime::image::manifest::architecture(),
        digest(&lower),
        digest(&upper)
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&lower).unwrap();
    let manifest = r#"[{"Config":"c.json","RepoTags":["busybox:test"],"Layers":["0.tar","1.tar"]}]"#;
    let plain = tar_of(&[
        ("manifest.json", manifest.into(), Regular, 0o644),
        ("c.json", config.into(), Regular, 0o644),
        ("0.tar", gzip.finish().unwrap(), Regular, 0o644),
        ("1.tar", upper, Regular, 0o644),
    ]);
    std::fs::write(path, plain).unwrap();
}

/// A runtime in a process of its own, in mount and network namespaces of its own.
pub struct Node {
    pub dir: tempfile::TempDir,
    pub group: String,
    pub runtime: RuntimeClient,
    pub image: ImageClient,
    /// The directory of a CNI configuration; none is a node without a pod network.
    pub cni: Option<PathBuf>,
    process: Option<tokio::process::Child>,
    /// Keeps the namespaces between two lives of the runtime.
    holder: tokio::process::Child,
}

impl Node {
    pub async fn start() -> Self {
        assert!(
            nix::unistd::geteuid().is_root() && Path::new(BUSYBOX).exists(),
            "needs root and {BUSYBOX}"
        );
        let dir = tempfile::Builder::new().prefix("skiff-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("images")).unwrap();
        saved_image(&dir.path().join("images/busybox.tar"));
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let group = format!("/skiff-test-cri-{}-{number}", std::process::id());
        let holder = tokio::process::Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--net", BUSYBOX, "sh", "-c"])
            .arg("busybox ip link set lo up && echo ready && exec busybox sleep 100000")
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut holder = holder.unwrap();
        let mut out = holder.stdout.take().unwrap();
        let mut word = [0u8; 6];
        tokio::io::AsyncReadExt::read_exact(&mut out, &mut word).await.unwrap();
        let endpoint = format!("unix://{}", dir.path().join("cri.sock").display());
        let (runtime, image) = cri::connect(&endpoint).unwrap();
        let mut node = Self {
            dir,
            group,
            runtime,
            image,
            cni: None,
            process: None,
            holder,
        };
        node.launch().await;
        node
    }

    /// Starts the runtime and waits until it answers.
    pub async fn launch(&mut self) {
        let socket = self.dir.path().join("cri.sock");
        let _ = std::fs::remove_file(&socket);
        let mut command = tokio::process::Command::new("nsenter");
        command
            .arg(format!("--target={}", self.holder.id().unwrap()))
            .args(["--mount", "--net", env!("CARGO_BIN_EXE_skiff-runtime"), "serve"])
            .arg(self.dir.path().join("root"))
            .arg(self.dir.path().join("run"))
            .arg(&socket)
            .env("IMAGE_DIR", self.dir.path().join("images"))
            .env("REGISTRIES", self.dir.path().join("registries.yaml"))
            .env("CGROUP_PARENT", &self.group)
            .env("RUST_LOG", "debug")
            .kill_on_drop(true);
        if let Some(dir) = &self.cni {
            command.env("CNI_CONF_DIR", dir);
        }
        self.process = Some(command.spawn().unwrap());
        let begun = std::time::Instant::now();
        // The socket's file is what tells; there is no event for it that needs less.
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "the runtime does not answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// As kill -9 does.
    pub async fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.start_kill().unwrap();
        process.wait().await.unwrap();
    }

    /// The file of the node's network namespace.
    pub fn net_namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id().unwrap()))
    }

    /// In the namespaces of the node.
    pub fn command(&self, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("nsenter");
        command
            .arg(format!("--target={}", self.holder.id().unwrap()))
            .args(["--mount", "--net", program])
            .kill_on_drop(true);
        command
    }

    pub fn sandbox_config(&self, name: &str) -> v1::PodSandboxConfig {
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "default".into(),
                attempt: 0,
            }),
            hostname: name.into(),
            log_directory: self.dir.path().join("logs").join(name).display().to_string(),
            dns_config: Some(v1::DnsConfig {
                servers: vec!["10.96.0.10".into()],
                searches: vec!["svc.cluster.local".into()],
                options: vec!["ndots:5".into()],
            }),
            labels: [("io.kubernetes.pod.uid".to_owned(), format!("uid-{name}"))].into(),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: format!("{}/pod-{name}", self.group),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(own_pid()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub async fn sandbox(&mut self, name: &str) -> String {
        let config = Some(self.sandbox_config(name));
        let request = v1::RunPodSandboxRequest {
            config,
            ..Default::default()
        };
        self.runtime
            .run_pod_sandbox(request)
            .await
            .unwrap()
            .into_inner()
            .pod_sandbox_id
    }

    pub async fn create(&mut self, sandbox: &str, config: v1::ContainerConfig) -> Result<String, tonic::Status> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: None,
        };
        Ok(self.runtime.create_container(request).await?.into_inner().container_id)
    }

    pub async fn run(&mut self, sandbox: &str, config: v1::ContainerConfig) -> String {
        let container_id = self.create(sandbox, config).await.unwrap();
        let request = v1::StartContainerRequest {
            container_id: container_id.clone(),
        };
        self.runtime.start_container(request).await.unwrap();
        container_id
    }

    pub async fn status(&mut self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest {
            container_id: id.into(),
            verbose: false,
        };
        let answer = self.runtime.container_status(request).await.unwrap();
        answer.into_inner().status.unwrap()
    }

    pub async fn events(&mut self) -> Events {
        let stream = self
            .runtime
            .get_container_events(v1::GetEventsRequest {})
            .await
            .unwrap();
        Events(stream.into_inner())
    }

    /// Runs to the end: what it said, and its status.
    pub async fn finish(&mut self, sandbox: &str, config: v1::ContainerConfig) -> (String, v1::ContainerStatus) {
        let mut events = self.events().await;
        let id = self.run(sandbox, config).await;
        events.stopped(&id).await;
        let status = self.status(&id).await;
        (log(&status.log_path), status)
    }

    pub async fn exec(&mut self, id: &str, script: &str) -> v1::ExecSyncResponse {
        let request = v1::ExecSyncRequest {
            container_id: id.into(),
            cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
            timeout: 10,
        };
        self.runtime.exec_sync(request).await.unwrap().into_inner()
    }

    /// Processes that name the node's directory as their sandbox's.
    pub fn shims(&self) -> Vec<i32> {
        let own = format!("shim\0{}/", self.dir.path().display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let text = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&text).contains(&own) {
                found.extend(entry.file_name().to_str().unwrap().parse::<i32>());
            }
        }
        found
    }

    /// Removes every pod and checks that nothing is left.
    pub async fn finish_all(mut self) {
        let list = self
            .runtime
            .list_pod_sandbox(v1::ListPodSandboxRequest { filter: None });
        for sandbox in list.await.unwrap().into_inner().items {
            let request = v1::RemovePodSandboxRequest {
                pod_sandbox_id: sandbox.id,
            };
            self.runtime.remove_pod_sandbox(request).await.unwrap();
        }
        for dir in ["run", "root/sandboxes", "root/containers"] {
            let dir = self.dir.path().join(dir);
            let left: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
            assert!(left.is_empty(), "left behind: {left:?}");
        }
        assert!(self.shims().is_empty(), "shims are left: {:?}", self.shims());
        let hierarchy = Hierarchy::detect().unwrap();
        assert!(hierarchy.processes(&self.group).is_empty());
        let mounts = self
            .command("cat")
            .arg("/proc/self/mountinfo")
            .output()
            .await
            .unwrap()
            .stdout;
        let mounts = String::from_utf8(mounts).unwrap();
        assert!(!mounts.contains(&self.dir.path().display().to_string()), "{mounts}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Ok(hierarchy) = Hierarchy::detect() else { return };
        for pid in hierarchy.processes(&self.group) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        // Shims of a test that failed.
        for pid in self.shims() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        for _ in 0..100 {
            if hierarchy.remove(&self.group).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub fn own_pid() -> v1::NamespaceOption {
    v1::NamespaceOption {
        pid: v1::NamespaceMode::Container as i32,
        ..Default::default()
    }
}

pub fn security() -> v1::LinuxContainerSecurityContext {
    v1::LinuxContainerSecurityContext {
        namespace_options: Some(own_pid()),
        masked_paths: vec!["/proc/kcore".into()],
        readonly_paths: vec!["/proc/sys".into()],
        ..Default::default()
    }
}

pub fn container(name: &str, script: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.into(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: "busybox:test".into(),
            ..Default::default()
        }),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: format!("{name}/0.log"),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources {
                memory_limit_in_bytes: 64 << 20,
                cpu_shares: 100,
                ..Default::default()
            }),
            security_context: Some(security()),
        }),
        ..Default::default()
    }
}

/// A container's log without times.
pub fn log(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let said = |line: &str| line.splitn(4, ' ').nth(3).unwrap().to_owned() + "\n";
    text.lines().map(said).collect()
}

pub struct Events(tonic::Streaming<v1::ContainerEventResponse>);

impl Events {
    pub async fn next(&mut self) -> v1::ContainerEventResponse {
        let event = tokio::time::timeout(PATIENCE, self.0.message()).await;
        event.expect("no event came").unwrap().expect("the events ended")
    }

    pub async fn stopped(&mut self, id: &str) -> v1::ContainerEventResponse {
        loop {
            let event = self.next().await;
            let stopped = event.container_event_type() == v1::ContainerEventType::ContainerStoppedEvent;
            if stopped && event.container_id == id {
                return event;
            }
        }
    }
}
