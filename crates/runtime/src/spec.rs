//! What a shim is told to run: one sandbox's namespaces, one container's process, files and limits. Plain data, the
//! same on both sides of the shim's socket and on disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A pod's shared namespaces. Those not private are the host's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub id: String,
    pub hostname: String,
    pub private_network: bool,
    pub private_ipc: bool,
    /// One PID namespace for all containers of the pod, held by a process of the shim's.
    pub shared_pid: bool,
    /// Written below `/proc/sys` inside the namespaces.
    pub sysctls: Vec<(String, String)>,
    pub oom_score_adj: i32,
}

/// A process in a container: the first one, or one of exec.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Process {
    pub args: Vec<String>,
    /// `NAME=value`; not always UTF-8 in images, those are refused before.
    pub env: Vec<String>,
    pub cwd: String,
    pub tty: bool,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// Bit n is capability n.
    pub capabilities: u64,
    pub ambient: u64,
    pub no_new_privs: bool,
    pub seccomp: Seccomp,
    pub oom_score_adj: i32,
    /// `RLIMIT_*` number, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
}

/// Which system calls are left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    #[default]
    Unconfined,
    RuntimeDefault,
    /// A profile in Docker's JSON format.
    Localhost(PathBuf),
}

/// The PID namespace of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    #[default]
    Own,
    /// The one the sandbox's process holds.
    Sandbox,
    Host,
    /// That of a running container of the same pod.
    Target(String),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// A file or directory of the host in the container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BindMount {
    pub source: PathBuf,
    pub target: String,
    pub readonly: bool,
    pub recursive_readonly: bool,
    pub propagation: Propagation,
}

/// A directory made of an image's layers, read-only, in the container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ImageMount {
    pub target: String,
    /// Names below the layer directory, topmost first.
    pub layers: Vec<String>,
    pub sub_path: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DeviceNode {
    pub path: String,
    pub block: bool,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// `rwm`.
    pub access: String,
}

/// A container's root: an overlay of layers and a writable directory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RootFs {
    /// The directory that holds the layers; their names are short because one mount takes one page of options.
    pub layer_dir: PathBuf,
    /// Topmost first.
    pub layers: Vec<String>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// Where it is mounted, in the container's own mount namespace only.
    pub mountpoint: PathBuf,
    pub readonly: bool,
    /// Directories that stay writable below a read-only root.
    #[serde(default)]
    pub volumes: Vec<String>,
}

/// Limits. `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub cpu_shares: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpu_period: Option<u64>,
    /// Bytes.
    pub memory: Option<i64>,
    pub memory_swap: Option<i64>,
    pub pids: Option<i64>,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub hugepages: Vec<(String, u64)>,
    pub unified: Vec<(String, String)>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub id: String,
    pub process: Process,
    pub root: RootFs,
    pub pid: PidNamespace,
    pub private_network: bool,
    pub private_ipc: bool,
    pub mounts: Vec<BindMount>,
    pub images: Vec<ImageMount>,
    pub devices: Vec<DeviceNode>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub privileged: bool,
    /// Below each controller's root.
    pub cgroup: String,
    pub resources: Resources,
    /// `None` drops what the container says.
    pub log: Option<PathBuf>,
    pub stdin: bool,
    pub stdin_once: bool,
}

/// How a container ended. On disk, so that a daemon that was away learns it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub code: i32,
    /// Nanoseconds since 1970.
    pub finished_at: i64,
    pub oom_killed: bool,
}
