//! `skiff killall`: ends every pod of a node whose skiff has been stopped, and takes down what the node has made: mounts,
//! network, cgroups. The data stays.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use cri::v1;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::node::{self, NodeError};
use crate::node_paths::{DEFAULT_DATA_DIR, NodePaths};
use crate::server::{self, ServerError};

/// The flags of `skiff killall`.
#[derive(Debug, Args)]
pub struct KillallArgs {
    /// Folder that holds the node's state.
    #[arg(short = 'd', long, default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

/// Why a node's pods cannot be ended.
#[derive(Debug, thiserror::Error)]
pub enum KillallError {
    #[error(transparent)]
    Running(#[from] ServerError),
    #[error(transparent)]
    Runtime(#[from] NodeError),
    #[error("pod sandbox {id}: {message}")]
    Sandbox { id: String, message: String },
    #[error("rules of kube-proxy: {0}")]
    Rules(#[from] proxy::ProxyError),
    #[error("network: {0}")]
    Network(String),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KillallError {
    let path = path.to_owned();
    move |source| KillallError::File { path, source }
}

/// Runs `skiff killall`.
///
/// # Errors
/// While skiff runs, and when something cannot be taken away.
pub async fn run(args: KillallArgs) -> Result<(), KillallError> {
    if !args.data_dir.exists() {
        return Ok(());
    }
    let _lock = server::lock(&args.data_dir)?;
    let paths = NodePaths::of(&args.data_dir);
    if paths.agent.join("runtime").exists() {
        end_pods(&paths).await?;
    }
    unmount_below(&[&paths.kubelet, &paths.run, &paths.agent])?;
    if paths.run.exists() {
        std::fs::remove_dir_all(&paths.run).map_err(at(&paths.run))?;
    }
    proxy::cleanup()?;
    network_policy::cleanup(&node::network::policy_table(&paths)).map_err(|e| KillallError::Network(e.to_string()))?;
    cni::overlay::cleanup(&paths.bridge).map_err(|e| KillallError::Network(e.to_string()))?;
    cni::plugin::cleanup(&paths.bridge).map_err(|e| KillallError::Network(e.to_string()))?;
    remove_cgroups(&paths.cgroup)
}

async fn end_pods(paths: &NodePaths) -> Result<(), KillallError> {
    let runtime = node::container_runtime::open(paths, runtime::registry::Registries::default(), None).await?;
    let (mut client, _) = runtime.clients();
    let failed = |id: &str| {
        let id = id.to_owned();
        move |status: tonic::Status| KillallError::Sandbox {
            id,
            message: status.message().to_owned(),
        }
    };
    let list = client
        .list_pod_sandbox(v1::ListPodSandboxRequest { filter: None })
        .await;
    for sandbox in list.map_err(failed("all"))?.into_inner().items {
        let pod_sandbox_id = sandbox.id.clone();
        client
            .stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id })
            .await
            .map_err(failed(&sandbox.id))?;
        let pod_sandbox_id = sandbox.id.clone();
        client
            .remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id })
            .await
            .map_err(failed(&sandbox.id))?;
    }
    Ok(())
}

/// Unmounts everything below the folders, the newest first.
fn unmount_below(folders: &[&Path]) -> Result<(), KillallError> {
    let table = Path::new("/proc/self/mounts");
    let text = std::fs::read_to_string(table).map_err(at(table))?;
    // blanks are written as octal
    let points = text
        .lines()
        .filter_map(|l| l.split(' ').nth(1))
        .map(|p| p.replace("\\040", " "));
    let mut points: Vec<String> = points
        .filter(|p| {
            folders
                .iter()
                .any(|f| Path::new(p).starts_with(f) && Path::new(p) != *f)
        })
        .collect();
    points.reverse();
    for point in points {
        match umount2(point.as_str(), MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(at(Path::new(&point))(error.into())),
        }
    }
    Ok(())
}

/// Ends what is left in the node's cgroups and removes them, in every hierarchy.
pub fn remove_cgroups(name: &str) -> Result<(), KillallError> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).map_err(at(root))?;
    let mut places: Vec<PathBuf> = hierarchies.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    places.push(root.to_owned());
    for place in places {
        let group = place.join(name.trim_start_matches('/'));
        if group.join("cgroup.procs").exists() {
            remove_group(&group).map_err(at(&group))?;
        }
    }
    Ok(())
}

fn remove_group(group: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(group)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    const ATTEMPTS: u32 = 100;
    for _ in 0..ATTEMPTS {
        for pid in std::fs::read_to_string(group.join("cgroup.procs"))?.lines() {
            if let Ok(pid) = pid.parse() {
                match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                    Ok(()) | Err(nix::Error::ESRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        match std::fs::remove_dir(group) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                // the kernel lets go of a killed process in its own time
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            other => return other,
        }
    }
    Err(io::Error::from_raw_os_error(nix::libc::EBUSY))
}
