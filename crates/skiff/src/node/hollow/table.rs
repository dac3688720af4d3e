//! What a hollow node's runtime knows: the sandboxes and containers that it has been told of.

use std::collections::{BTreeMap, BTreeSet};

use cri::v1;
use jiff::Timestamp;
use tonic::Status;

/// A sandbox that is only written down.
#[derive(Debug)]
pub struct Sandbox {
    pub config: v1::PodSandboxConfig,
    pub ready: bool,
    pub created_at: i64,
    /// None on the host's network.
    pub address: Option<u8>,
}

/// A container that is only written down.
#[derive(Debug)]
pub struct Container {
    pub sandbox: String,
    pub config: v1::ContainerConfig,
    pub state: v1::ContainerState,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub resources: Option<v1::LinuxContainerResources>,
}

/// What a runtime would run.
#[derive(Debug, Default)]
pub struct State {
    pub sandboxes: BTreeMap<String, Sandbox>,
    pub containers: BTreeMap<String, Container>,
    pub images: BTreeSet<String>,
    /// Of those that were given out, which are in use.
    pub addresses: BTreeSet<u8>,
    pub made: u64,
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// The error for what is not there.
pub fn absent(what: &str, id: &str) -> Status {
    Status::not_found(format!("{what} {id:?} not found"))
}

/// An id as runtimes make them: 64 digits.
pub fn id(number: u64, created_at: i64) -> String {
    format!("{created_at:032x}{number:032x}")
}

impl Sandbox {
    /// Whether the sandbox counts as ready.
    pub fn state(&self) -> v1::PodSandboxState {
        match self.ready {
            true => v1::PodSandboxState::SandboxReady,
            false => v1::PodSandboxState::SandboxNotready,
        }
    }

    /// The sandbox as it is listed.
    pub fn entry(&self, id: &str) -> v1::PodSandbox {
        v1::PodSandbox {
            id: id.to_owned(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            ..Default::default()
        }
    }
}

impl Container {
    /// The reference of the container's image.
    pub fn image(&self) -> String {
        self.config
            .image
            .as_ref()
            .map(|image| image.image.clone())
            .unwrap_or_default()
    }

    /// The container as it is listed.
    pub fn entry(&self, id: &str) -> v1::Container {
        v1::Container {
            id: id.to_owned(),
            pod_sandbox_id: self.sandbox.clone(),
            metadata: self.config.metadata.clone(),
            image: self.config.image.clone(),
            image_ref: self.image(),
            image_id: self.image(),
            state: self.state.into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
        }
    }

    /// The state of the container.
    pub fn status(&self, id: &str, log_directory: &str) -> v1::ContainerStatus {
        let ended = self.state == v1::ContainerState::ContainerExited;
        v1::ContainerStatus {
            id: id.to_owned(),
            metadata: self.config.metadata.clone(),
            state: self.state.into(),
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            image: self.config.image.clone(),
            image_ref: self.image(),
            image_id: self.image(),
            reason: if ended { "Completed".into() } else { String::new() },
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: format!("{log_directory}/{}", self.config.log_path),
            resources: self.resources.clone().map(|linux| v1::ContainerResources {
                linux: Some(linux),
                windows: None,
            }),
            ..Default::default()
        }
    }

    /// Whether it was started and not stopped.
    pub fn is_running(&self) -> bool {
        self.state == v1::ContainerState::ContainerRunning
    }

    /// Ends the container; returns whether it ran.
    pub fn stop(&mut self) -> bool {
        let ran = self.is_running();
        if ran || self.state == v1::ContainerState::ContainerCreated {
            self.state = v1::ContainerState::ContainerExited;
            self.finished_at = now();
        }
        ran
    }
}

impl State {
    /// An id that nothing has, and the time.
    pub fn id(&mut self) -> (String, i64) {
        self.made += 1;
        let now = now();
        (id(self.made, now), now)
    }

    /// The sandbox of an id.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn sandbox(&self, id: &str) -> Result<&Sandbox, Status> {
        self.sandboxes.get(id).ok_or_else(|| absent("pod sandbox", id))
    }

    /// The container of an id.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn container(&mut self, id: &str) -> Result<&mut Container, Status> {
        self.containers.get_mut(id).ok_or_else(|| absent("container", id))
    }

    /// Ends a sandbox with its containers; tells which of them ran.
    pub fn stop_sandbox(&mut self, id: &str) -> Vec<String> {
        let Some(sandbox) = self.sandboxes.get_mut(id) else {
            return Vec::new();
        };
        sandbox.ready = false;
        if let Some(address) = sandbox.address.take() {
            self.addresses.remove(&address);
        }
        let inside = self
            .containers
            .iter_mut()
            .filter(|(_, container)| container.sandbox == id);
        inside
            .filter_map(|(id, container)| container.stop().then(|| id.clone()))
            .collect()
    }
}
