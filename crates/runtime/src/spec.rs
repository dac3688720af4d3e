//! What a shim is told to run: one sandbox's namespaces, one container's process, files and limits. Plain data, the
//! same on both sides of the shim's socket and on disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A pod's shared namespaces. Those not private are the host's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The sandbox's id, of 64 hexadecimal digits.
    pub id: String,
    /// The name in the pod's UTS namespace, which it has with a network namespace of its own.
    pub hostname: String,
    /// The pod has network and UTS namespaces of its own.
    pub private_network: bool,
    /// The pod has an IPC namespace of its own.
    pub private_ipc: bool,
    /// One PID namespace for all containers of the pod, held by a process of the shim's.
    pub shared_pid: bool,
    /// Written below `/proc/sys` inside the namespaces.
    pub sysctls: Vec<(String, String)>,
}

/// A process in a container: the first one, or one of exec.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Process {
    /// The program, looked up in `PATH` of `env` unless it has a slash, and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`; not always UTF-8 in images, those are refused before.
    pub env: Vec<String>,
    /// The directory to start in, made if it is not there.
    pub cwd: String,
    /// The process gets a terminal in place of three pipes.
    pub tty: bool,
    /// The user to run as.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Bit n is capability n.
    pub capabilities: u64,
    /// Those that a program keeps that is started as another user than root.
    pub ambient: u64,
    /// Programs with set-user-ID or capabilities give none (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: bool,
    /// Which system calls are left.
    pub seccomp: Seccomp,
    /// From -1000, never ended for lack of memory, to 1000.
    pub oom_score_adj: i32,
    /// `RLIMIT_*` number, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
}

/// Which system calls are left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// All of them.
    #[default]
    Unconfined,
    /// Those of containerd's default profile.
    RuntimeDefault,
    /// A profile in Docker's JSON format.
    Localhost(PathBuf),
}

/// The PID namespace of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// A new one: the first process is number 1.
    #[default]
    Own,
    /// The one the sandbox's process holds.
    Sandbox,
    /// The node's.
    Host,
    /// That of a running container of the same pod.
    Target(String),
}

/// Whether mounts made later below a volume are seen on the other side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// On neither side.
    #[default]
    Private,
    /// Those of the host are seen in the container.
    HostToContainer,
    /// On both sides.
    Bidirectional,
}

/// A file or directory of the host in the container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BindMount {
    /// The file or directory on the node.
    pub source: PathBuf,
    /// The path in the container, made if it is not there.
    pub target: String,
    /// Nothing may be written through this mount.
    pub readonly: bool,
    /// Nor through mounts below it; needs Linux 5.12.
    pub recursive_readonly: bool,
    /// Whether later mounts are seen.
    pub propagation: Propagation,
}

/// A directory made of an image's layers, read-only, in the container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ImageMount {
    /// The path in the container.
    pub target: String,
    /// Names below the layer directory, topmost first.
    pub layers: Vec<String>,
    /// A directory of the image that is shown in place of the whole; empty is all of it.
    pub sub_path: String,
}

/// A device file in the container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DeviceNode {
    /// The path in the container.
    pub path: String,
    /// A block device, else a character device.
    pub block: bool,
    /// The driver's number.
    pub major: u32,
    /// The device's number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owning group.
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
    /// Where the container's changes go.
    pub upper: PathBuf,
    /// overlayfs' own directory, on the same file system as `upper`.
    pub work: PathBuf,
    /// Where it is mounted, in the container's own mount namespace only.
    pub mountpoint: PathBuf,
    /// Nothing in it may be written.
    pub readonly: bool,
    /// Directories that stay writable below a read-only root.
    #[serde(default)]
    pub volumes: Vec<String>,
}

/// Limits. `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// The weight against other groups: 1024 is one core's worth of requests.
    pub cpu_shares: Option<u64>,
    /// Microseconds of all cores together in each period; negative is no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; negative is no limit. Without it there is no swap.
    pub memory_swap: Option<i64>,
    /// The most processes and threads; negative is no limit.
    pub pids: Option<i64>,
    /// Cores, as `0-3,7`; empty is all.
    pub cpuset_cpus: String,
    /// Memory nodes in the same way.
    pub cpuset_mems: String,
    /// Page size, as `2MB`, and bytes.
    pub hugepages: Vec<(String, u64)>,
    /// Files of version 2 and what is written to them.
    pub unified: Vec<(String, String)>,
}

/// All that a shim has to know to start a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's id, of 64 hexadecimal digits.
    pub id: String,
    /// The first process.
    pub process: Process,
    /// The root file system.
    pub root: RootFs,
    /// The PID namespace.
    pub pid: PidNamespace,
    /// The container joins the pod's network and UTS namespaces, else it has the host's.
    pub private_network: bool,
    /// The container joins the pod's IPC namespace, else it has the host's.
    pub private_ipc: bool,
    /// Files and directories of the node. What is nearer to the root is mounted first.
    pub mounts: Vec<BindMount>,
    /// Directories made of images.
    pub images: Vec<ImageMount>,
    /// Devices beside the usual ones.
    pub devices: Vec<DeviceNode>,
    /// Paths that look empty.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<String>,
    /// `/sys` and the cgroups may be written, and every device is allowed.
    pub privileged: bool,
    /// Below each controller's root.
    pub cgroup: String,
    /// The limits of its cgroup.
    pub resources: Resources,
    /// `None` drops what the container says.
    pub log: Option<PathBuf>,
    /// Standard input is kept open for those who attach.
    pub stdin: bool,
    /// It ends when the first who attached goes.
    pub stdin_once: bool,
}

/// How a container ended. On disk, so that a daemon that was away learns it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; of a process that a signal ended, 128 and the signal's number.
    pub code: i32,
    /// Nanoseconds since 1970.
    pub finished_at: i64,
    /// The kernel ended a process of the container for lack of memory.
    pub oom_killed: bool,
}
