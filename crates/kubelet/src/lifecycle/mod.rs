//! What to do next for a pod: a function of its spec, what the runtime says, what the probes found and the time.

mod resize;

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

pub use self::resize::{Resize, in_progress};
use crate::allocation::PodResources;
use crate::backoff::Backoffs;
use crate::pod::{Kind, PodExt, container_hash, is_sidecar, restarts, restarts_all};
use crate::runtime_pod::{RuntimeContainer, RuntimePod, State};

/// What the probes and hooks of a pod's containers found, by container id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Probed {
    /// The startup probe has passed (or there is none) and the postStart hook has run.
    pub started: HashSet<String>,
    pub ready: HashMap<String, bool>,
    pub startup_failed: HashSet<String>,
    pub liveness_failed: HashSet<String>,
    /// Stopped to be started again, whatever they answered to that.
    pub to_restart: HashSet<String>,
}

/// A container to start.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    pub kind: Kind,
    pub name: String,
    pub attempt: u32,
}

/// A container to stop, and the words of its event.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    pub kind: Kind,
    pub id: String,
    pub name: String,
    pub message: String,
    pub cause: StopCause,
    /// It is to run again, with whatever code it ends.
    pub restart: bool,
}

/// Why a container is stopped while its pod goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    Startup,
    Liveness,
    Changed,
    /// It gets other resources, and its policy says not while it runs.
    Resized,
    /// The runtime does not know its state; it is stopped before it is made again.
    Unknown,
}

/// A container that must wait before it is started again.
#[derive(Debug, Clone, PartialEq)]
pub struct CrashLoop {
    pub kind: Kind,
    pub name: String,
    pub delay_seconds: i64,
    pub until: Timestamp,
}

/// The next steps. All of them may be done at once, but a new sandbox comes before its containers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Stop everything that runs, the sandbox too.
    pub kill_pod: bool,
    /// Make sandbox number `n` (after killing the old one).
    pub create_sandbox: Option<u32>,
    pub stop: Vec<Stop>,
    pub resize: Vec<Resize>,
    /// The pod's own cgroup gets other resources: with its containers, or because they start again.
    pub resize_pod: bool,
    pub start: Vec<Start>,
    pub crash_loops: Vec<CrashLoop>,
    /// Containers to remove before all start anew, in this order.
    pub reset: Vec<Reset>,
}

/// A container to remove, which is killed first if it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Reset {
    pub kind: Kind,
    pub id: String,
    pub name: String,
    pub runs: bool,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        !self.kill_pod
            && self.create_sandbox.is_none()
            && self.stop.is_empty()
            && self.start.is_empty()
            && self.reset.is_empty()
            && !self.resize_pod
    }
}

/// The key of a container's crash back-off.
pub fn crash_key(container: &Container) -> String {
    format!("{}/{}", container.name, container_hash(container))
}

/// A time that a runtime says in nanoseconds.
pub fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

struct Step<'a> {
    pod: &'a Pod,
    runtime: &'a RuntimePod,
    probed: &'a Probed,
    backoffs: &'a Backoffs,
    actuated: &'a PodResources,
    now: Timestamp,
    plan: Plan,
}

/// Decides the next steps of a pod that is to run.
pub fn next_steps(
    pod: &Pod,
    runtime: &RuntimePod,
    probed: &Probed,
    backoffs: &Backoffs,
    actuated: &PodResources,
    now: Timestamp,
) -> Plan {
    let mut step = Step {
        pod,
        runtime,
        probed,
        backoffs,
        actuated,
        now,
        plan: Plan::default(),
    };
    let sandbox = runtime.sandbox();
    let usable = sandbox.filter(|s| s.ready && (pod.host_network() || !s.ips.is_empty()));
    let several = runtime.sandboxes.iter().filter(|s| s.ready).count() > 1;
    match usable {
        Some(sandbox) if !several => step.in_sandbox(&sandbox.id),
        _ => step.without_sandbox(sandbox.map_or(0, |s| s.attempt + 1)),
    }
    step.plan
}

impl Step<'_> {
    fn without_sandbox(&mut self, attempt: u32) {
        self.plan.kill_pod = !self.runtime.stopped();
        // A pod that must not restart and already ran stays ended.
        if self.pod.restart_policy() == "Never"
            && attempt != 0
            && !self.runtime.containers.is_empty()
            && !self.any_restartable()
        {
            return;
        }
        let to_run = self.pod.containers().iter().any(|c| self.wanted(c));
        if !to_run {
            return;
        }
        self.plan.create_sandbox = Some(attempt);
        if let Some(first) = self.pod.init_containers().first() {
            self.start(Kind::Init, first);
        }
        if self.pod.init_containers().is_empty() {
            for container in self.pod.containers() {
                if self.wanted(container) {
                    self.start(Kind::Regular, container);
                }
            }
        }
    }

    fn any_restartable(&self) -> bool {
        self.pod.containers().iter().any(|c| {
            self.runtime
                .newest(&c.name)
                .is_some_and(|s| s.state == State::Exited && self.again(c, s))
        })
    }

    /// Whether a regular container still has to run.
    fn wanted(&self, container: &Container) -> bool {
        match self.runtime.newest(&container.name) {
            Some(s) if s.state == State::Exited => self.again(container, s),
            _ => true,
        }
    }

    /// Whether a container that has ended is started again.
    fn again(&self, container: &Container, ended: &RuntimeContainer) -> bool {
        restarts(self.pod, container, ended.exit_code) || self.probed.to_restart.contains(&ended.id)
    }

    fn start(&mut self, kind: Kind, container: &Container) {
        let newest = self.runtime.newest(&container.name);
        if let Some(last) = newest.filter(|s| s.state == State::Exited)
            && let Some((delay, until)) =
                self.backoffs
                    .waiting(&crash_key(container), timestamp(last.finished_at), self.now)
        {
            let name = container.name.clone();
            self.plan.crash_loops.push(CrashLoop {
                kind,
                name,
                delay_seconds: delay.as_secs(),
                until,
            });
            return;
        }
        let attempt = newest.map_or(0, |s| s.attempt + 1);
        self.plan.start.push(Start {
            kind,
            name: container.name.clone(),
            attempt,
        });
    }

    /// Starts a container again that is stopped in the same go, unless one before it ended too short a while ago.
    fn restart(&mut self, kind: Kind, container: &Container, running: &RuntimeContainer) {
        let before = self.runtime.containers.iter();
        let mut before = before.filter(|c| c.name == container.name && c.state == State::Exited);
        let ended = before.next().map(|last| timestamp(last.finished_at));
        let waiting = ended.and_then(|ended| self.backoffs.waiting(&crash_key(container), ended, self.now));
        let name = container.name.clone();
        match waiting {
            Some((delay, until)) => self.plan.crash_loops.push(CrashLoop {
                kind,
                name,
                delay_seconds: delay.as_secs(),
                until,
            }),
            None => self.plan.start.push(Start {
                kind,
                name,
                attempt: running.attempt + 1,
            }),
        }
    }

    fn stop(&mut self, kind: Kind, status: &RuntimeContainer, cause: StopCause, message: String) {
        let stop = Stop {
            restart: false,
            kind,
            id: status.id.clone(),
            name: status.name.clone(),
            message,
            cause,
        };
        self.plan.stop.push(stop);
    }

    /// Where a container's end calls for it: every container of the pod, those that called for it last.
    fn reset(&mut self) -> bool {
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        let regular = self.pod.containers().iter().map(|c| (Kind::Regular, c));
        let init = self.pod.init_containers().iter().map(|c| (Kind::Init, c));
        for (kind, container) in regular.chain(init) {
            for status in self.runtime.containers.iter().filter(|c| c.name == container.name) {
                let calls = status.state == State::Exited && restarts_all(container, status.exit_code);
                let list = if calls { &mut sources } else { &mut targets };
                list.push(Reset {
                    kind,
                    id: status.id.clone(),
                    name: status.name.clone(),
                    runs: status.state != State::Exited,
                });
            }
        }
        if sources.is_empty() {
            return false;
        }
        self.plan.reset = targets;
        self.plan.reset.append(&mut sources);
        true
    }

    fn in_sandbox(&mut self, sandbox: &str) {
        if self.reset() {
            return;
        }
        for container in self.pod.ephemeral_containers() {
            if self.runtime.newest(&container.name).is_none() {
                self.start(Kind::Ephemeral, &container);
            }
        }
        if !self.init(sandbox) {
            return;
        }
        let mut keep = 0;
        for container in self.pod.containers() {
            let Some(status) = self.runtime.newest_in(sandbox, &container.name) else {
                if self.wanted(container) {
                    keep += 1;
                    self.start(Kind::Regular, container);
                }
                continue;
            };
            keep += usize::from(self.regular(container, status));
        }
        self.resize_pod();
        let ephemeral = self
            .runtime
            .running()
            .any(|c| self.pod.ephemeral_containers().iter().any(|e| e.name == c.name));
        if keep == 0 && !ephemeral {
            self.plan = Plan {
                kill_pod: true,
                ..Plan::default()
            };
        }
    }

    /// Whether the container runs or will run again.
    fn regular(&mut self, container: &Container, status: &RuntimeContainer) -> bool {
        let name = &container.name;
        match status.state {
            State::Exited => {
                let again = self.again(container, status);
                if again {
                    self.start(Kind::Regular, container);
                }
                again
            }
            State::Unknown => {
                let message = "Container is in \"unknown\" state, try killing it before restart".to_owned();
                self.stop(Kind::Regular, status, StopCause::Unknown, message);
                true
            }
            State::Created => {
                self.start(Kind::Regular, container);
                true
            }
            State::Running => {
                let (cause, mut message) = if self.changed(container, status) {
                    (StopCause::Changed, format!("Container {name} definition changed"))
                } else if self.probed.liveness_failed.contains(&status.id) {
                    (StopCause::Liveness, format!("Container {name} failed liveness probe"))
                } else if self.probed.startup_failed.contains(&status.id) {
                    (StopCause::Startup, format!("Container {name} failed startup probe"))
                } else {
                    self.resize(Kind::Regular, container, status);
                    return true;
                };
                // What is not as it is wanted any more is made again under every policy.
                let restart = cause == StopCause::Changed || restarts(self.pod, container, 1);
                if restart {
                    message += ", will be restarted";
                    self.restart(Kind::Regular, container, status);
                }
                self.stop(Kind::Regular, status, cause, message);
                if let Some(stop) = self.plan.stop.last_mut() {
                    stop.restart = restart;
                }
                restart
            }
        }
    }

    fn changed(&self, container: &Container, status: &RuntimeContainer) -> bool {
        status
            .annotations
            .get("io.kubernetes.container.hash")
            .is_some_and(|hash| *hash != container_hash(container))
    }

    /// Goes through the init containers in order. Whether all have done their part, or had before.
    fn init(&mut self, sandbox: &str) -> bool {
        let runtime = self.runtime;
        let initialized = self
            .pod
            .containers()
            .iter()
            .any(|c| runtime.newest_in(sandbox, &c.name).is_some());
        for container in self.pod.init_containers() {
            let sidecar = is_sidecar(container);
            if initialized && !sidecar {
                continue;
            }
            let status = runtime.newest_in(sandbox, &container.name);
            match status {
                None => {
                    self.start(Kind::Init, container);
                    if !initialized {
                        return false;
                    }
                }
                Some(status) => match status.state {
                    State::Created => {
                        self.start(Kind::Init, container);
                        if !initialized {
                            return false;
                        }
                    }
                    State::Unknown => {
                        let message =
                            "Init container is in \"unknown\" state, try killing it before restart".to_owned();
                        self.stop(Kind::Init, status, StopCause::Unknown, message);
                        if !initialized {
                            return false;
                        }
                    }
                    State::Running if !sidecar => {
                        self.resize(Kind::Init, container, status);
                        return false;
                    }
                    State::Running => {
                        let name = &container.name;
                        if self.changed(container, status) {
                            self.stop(
                                Kind::Init,
                                status,
                                StopCause::Changed,
                                format!("Init container {name} definition changed"),
                            );
                        } else if self.probed.startup_failed.contains(&status.id) {
                            self.stop(
                                Kind::Init,
                                status,
                                StopCause::Startup,
                                format!("Init container {name} failed startup probe"),
                            );
                        } else if self.probed.liveness_failed.contains(&status.id) {
                            self.stop(
                                Kind::Init,
                                status,
                                StopCause::Liveness,
                                format!("Init container {name} failed liveness probe"),
                            );
                        } else if self.resize(Kind::Init, container, status) && self.probed.started.contains(&status.id)
                        {
                            continue;
                        }
                        if !initialized {
                            return false;
                        }
                    }
                    State::Exited if sidecar => {
                        self.start(Kind::Init, container);
                        if !initialized {
                            return false;
                        }
                    }
                    State::Exited if status.exit_code == 0 => {}
                    State::Exited => {
                        if restarts(self.pod, container, status.exit_code) {
                            self.start(Kind::Init, container);
                        } else {
                            self.plan = Plan {
                                kill_pod: true,
                                ..Plan::default()
                            };
                        }
                        return false;
                    }
                },
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
