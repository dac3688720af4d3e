//! What the runtime keeps on disk about a sandbox and a container, so that another process can go on with them.

use std::path::Path;

use cri::v1;
use prost::Message;

use super::error::{Result, at};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SandboxRecord {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub config: Option<v1::PodSandboxConfig>,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "3")]
    pub created_at: i64,
    /// False while it is being made, and once it was stopped or lost.
    #[prost(bool, tag = "4")]
    pub ready: bool,
    #[prost(string, repeated, tag = "5")]
    pub ips: Vec<String>,
    #[prost(string, tag = "6")]
    pub runtime_handler: String,
    /// The network was asked to take the pod, and not yet to give it up.
    #[prost(bool, tag = "7")]
    pub networked: bool,
    /// It was made wholly once.
    #[prost(bool, tag = "8")]
    pub made: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerRecord {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    pub config: Option<v1::ContainerConfig>,
    #[prost(int64, tag = "4")]
    pub created_at: i64,
    /// 0 before.
    #[prost(int64, tag = "5")]
    pub started_at: i64,
    /// 0 before.
    #[prost(int64, tag = "6")]
    pub finished_at: i64,
    #[prost(int32, tag = "7")]
    pub exit_code: i32,
    #[prost(string, tag = "8")]
    pub reason: String,
    #[prost(string, tag = "9")]
    pub message: String,
    #[prost(int32, tag = "10")]
    pub pid: i32,
    #[prost(string, tag = "11")]
    pub image_id: String,
    #[prost(string, tag = "12")]
    pub image_ref: String,
    /// The number of the signal that stops it.
    #[prost(int32, tag = "13")]
    pub stop_signal: i32,
    #[prost(string, tag = "14")]
    pub log_path: String,
    #[prost(string, tag = "15")]
    pub cgroup: String,
    #[prost(message, optional, tag = "16")]
    pub user: Option<v1::LinuxContainerUser>,
    /// Layers it runs on or mounts, names below the store's layer directory.
    #[prost(string, repeated, tag = "17")]
    pub layers: Vec<String>,
    /// Every process of it is in a PID namespace of its own.
    #[prost(bool, tag = "18")]
    pub own_pid_namespace: bool,
}

impl ContainerRecord {
    pub(crate) fn state(&self) -> v1::ContainerState {
        if self.finished_at != 0 {
            v1::ContainerState::ContainerExited
        } else if self.started_at != 0 {
            v1::ContainerState::ContainerRunning
        } else {
            v1::ContainerState::ContainerCreated
        }
    }

    pub(crate) fn running(&self) -> bool {
        self.state() == v1::ContainerState::ContainerRunning
    }

    pub(crate) fn config(&self) -> v1::ContainerConfig {
        self.config.clone().unwrap_or_default()
    }
}

/// Replaces the file: whoever reads it finds the old or the new one, never a part.
pub fn save(path: &Path, record: &impl Message) -> Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, record.encode_to_vec()).map_err(at(&new))?;
    std::fs::rename(&new, path).map_err(at(path))
}

/// `None` for one that was never finished or that a power loss cut short.
pub fn load<T: Message + Default>(path: &Path) -> Option<T> {
    let bytes = std::fs::read(path).ok().filter(|b| !b.is_empty())?;
    T::decode(bytes.as_slice()).ok()
}
