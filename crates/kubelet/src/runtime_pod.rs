//! What the runtime says about one pod: its sandboxes and containers, newest first.

use std::collections::HashMap;

/// A pod as the runtime has it, its newest parts first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RuntimePod {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<RuntimeContainer>,
}

/// A sandbox as the runtime has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    pub ips: Vec<String>,
}

/// The state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Created,
    Running,
    Exited,
    Unknown,
}

/// A container as the runtime has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RuntimeContainer {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    /// How often this container was started before.
    pub attempt: u32,
    pub state: State,
    /// Nanoseconds since 1970; 0 when it has not happened.
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_id: String,
    pub log_path: String,
    pub annotations: HashMap<String, String>,
    /// What the runtime limits it to, if it says so.
    pub limits: Option<RuntimeLimits>,
    /// uid, gid, supplemental groups.
    pub user: Option<(i64, i64, Vec<i64>)>,
}

/// 0 for what the runtime does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuntimeLimits {
    pub cpu_shares: i64,
    /// Microseconds of a period.
    pub cpu_quota: i64,
    pub cpu_period: i64,
    /// Bytes.
    pub memory: i64,
}

impl RuntimePod {
    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    /// The newest container of a name.
    pub fn newest(&self, name: &str) -> Option<&RuntimeContainer> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The newest one in a sandbox.
    pub fn newest_in(&self, sandbox: &str, name: &str) -> Option<&RuntimeContainer> {
        self.containers
            .iter()
            .find(|c| c.name == name && c.sandbox_id == sandbox)
    }

    /// The containers that run.
    pub fn running(&self) -> impl Iterator<Item = &RuntimeContainer> {
        self.containers
            .iter()
            .filter(|c| matches!(c.state, State::Running | State::Unknown))
    }

    /// Nothing of the pod runs any more.
    pub fn stopped(&self) -> bool {
        self.running().next().is_none() && self.sandboxes.iter().all(|s| !s.ready)
    }
}
