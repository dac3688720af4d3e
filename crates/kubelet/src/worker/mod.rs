//! One task for each pod: brings what runs to what is wanted, and the status in the API to what runs.

mod certificates;
mod files;
mod kill;
mod probing;
mod report;
mod resize;
mod start;
mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::allocation::{PodResources, Wish};
use crate::backoff::Backoffs;
use crate::eviction::Eviction;
use crate::lifecycle::{self, Probed};
use crate::node_context::NodeContext;
use crate::objects::Held;
use crate::pod::PodExt;
use crate::probes::{ProbeKind, ProbeResult};
use crate::runtime::RuntimeError;
use crate::runtime_pod::RuntimePod;
use crate::status::{ResizeConditions, Verdict, Waiting};
use crate::volumes::TokenKey;
use certificates::Certificates;

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// The pod as it is wanted now, with the resources it was given.
    Pod(Box<Pod>, Wish),
    /// The API's picture of a static pod.
    Mirror(Box<Pod>),
    /// The pod is no longer wanted: it left the API, or its file is gone.
    Gone,
    /// Something happened to it in the runtime.
    Runtime,
    /// It is to end now, for its own use of the node or for the node's sake.
    Evict(Box<Eviction>),
}

/// Why a sync could not finish; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Api(#[from] client::Error),
    #[error("{0}")]
    Unsupported(&'static str),
    #[error("volumes not set up: {0}")]
    Volumes(String),
    #[error(transparent)]
    Claim(#[from] crate::volumes::ClaimError),
    #[error(transparent)]
    Objects(#[from] crate::objects::ObjectsError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    #[error("the API server's answer for service account {0} holds no token")]
    NoToken(String),
    #[error("status: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Blocking(#[from] tokio::task::JoinError),
}

/// The way to a worker.
#[derive(Debug)]
pub struct Handle {
    sender: mpsc::UnboundedSender<Message>,
    task: JoinHandle<()>,
}

impl Handle {
    /// Sends a message to the worker.
    pub fn send(&self, message: Message) {
        // A worker that has ended has nothing left to do.
        let _ = self.sender.send(message);
    }

    /// Whether the worker has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Lets go of the pod without touching its containers.
    pub fn abandon(&self) {
        self.task.abort();
    }
}

/// Which part of its life the pod is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its containers are to run.
    Running,
    /// They are to stop, within this many seconds.
    Terminating { grace: i64 },
    /// They have stopped, and the pod's resources are released.
    Terminated,
}

struct Worker {
    node: Arc<NodeContext>,
    pod: Pod,
    /// For a static pod: the uid of its mirror.
    mirror_uid: Option<String>,
    /// It is not in the API (any more).
    gone: bool,
    stage: Stage,
    failed: Option<Verdict>,
    /// It goes for the node's sake, with these words.
    disruption: Option<String>,
    /// Seconds that its containers have at most, whatever the pod says.
    most_grace: Option<i64>,
    runtime: RuntimePod,
    probed: Probed,
    waiting: Waiting,
    backoffs: Backoffs,
    probes: HashMap<(String, ProbeKind), AbortOnDropHandle<()>>,
    probe_results: mpsc::UnboundedSender<ProbeResult>,
    results: mpsc::UnboundedReceiver<ProbeResult>,
    held: HashMap<String, (Arc<Held>, AbortOnDropHandle<()>)>,
    object_changes: mpsc::UnboundedSender<()>,
    tokens: HashMap<TokenKey, (String, Timestamp)>,
    certificates: Certificates,
    /// The persistent volumes of its claims, by the names of its volumes.
    claims: BTreeMap<String, PersistentVolume>,
    /// When something is due even if nothing happens.
    due: Option<Timestamp>,
    /// What its containers were last made or changed with.
    actuated: PodResources,
    resize: ResizeConditions,
    errors: u32,
    /// When the pod came, until it has run.
    came: Option<tokio::time::Instant>,
    sandbox_config: Option<cri::v1::PodSandboxConfig>,
    /// The sandbox whose addresses have passed the gate.
    networked: Option<String>,
    /// A sandbox that the runtime is making. It will be there whether or not this pass is interrupted.
    making: Option<JoinHandle<Result<String, RuntimeError>>>,
}

/// Starts the worker of a pod.
pub fn spawn(node: Arc<NodeContext>, pod: Pod) -> Handle {
    let (sender, messages) = mpsc::unbounded_channel();
    let (probe_results, results) = mpsc::unbounded_channel();
    let (object_changes, changes) = mpsc::unbounded_channel();
    let worker = Worker {
        node,
        gone: false,
        mirror_uid: None,
        stage: Stage::Running,
        failed: None,
        disruption: None,
        most_grace: None,
        runtime: RuntimePod::default(),
        probed: Probed::default(),
        waiting: Waiting::new(),
        backoffs: Backoffs::new(SignedDuration::from_secs(10), SignedDuration::from_secs(300)),
        probes: HashMap::new(),
        probe_results,
        results,
        held: HashMap::new(),
        object_changes,
        tokens: HashMap::new(),
        certificates: Certificates::default(),
        claims: BTreeMap::new(),
        due: None,
        actuated: PodResources::default(),
        resize: ResizeConditions::of(pod.status.as_ref()),
        errors: 0,
        // One that ran before this kubelet began says nothing of how long it takes.
        came: pod
            .status
            .as_ref()
            .is_none_or(|s| s.container_statuses.is_none())
            .then(tokio::time::Instant::now),
        sandbox_config: None,
        networked: None,
        making: None,
        pod,
    };
    Handle {
        sender,
        task: tokio::spawn(worker.run(messages, changes)),
    }
}

/// A message that makes what is being done pointless.
fn interrupts(message: &Message, stage: Stage, pod: &Pod) -> bool {
    let grace = match message {
        Message::Gone => pod.grace_period(),
        Message::Pod(new, _) if new.deleting() => new.grace_period(),
        Message::Evict(eviction) => eviction.grace,
        _ => return false,
    };
    match stage {
        Stage::Running => true,
        Stage::Terminating { grace: before } => grace < before,
        Stage::Terminated => false,
    }
}

impl Worker {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>, mut changes: mpsc::UnboundedReceiver<()>) {
        self.load_actuated();
        self.stage = self.wanted_stage();
        loop {
            let mut pending = Vec::new();
            let (stage, known) = (self.stage, self.pod.clone());
            let interrupted = async {
                while let Some(message) = messages.recv().await {
                    let now = interrupts(&message, stage, &known);
                    pending.push(message);
                    if now {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            };
            self.due = None;
            let outcome = tokio::select! {
                outcome = self.sync() => Some(outcome),
                () = interrupted => None,
            };
            // An interrupted pass starts again at once.
            let finished = outcome.is_some();
            match outcome {
                Some(Ok(true)) => return,
                Some(Ok(false)) => self.errors = 0,
                Some(Err(error)) => {
                    tracing::debug!(pod = self.pod.describe(), %error, "pod not synced");
                    let delay = SignedDuration::from_millis(500i64.saturating_mul(1 << self.errors.min(8)).min(60_000));
                    self.errors += 1;
                    self.wake_at(Timestamp::now() + delay);
                }
                None => {}
            }
            if pending.is_empty() && finished {
                let due = self
                    .due
                    .map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
                let timer = async {
                    match due {
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    message = messages.recv() => match message {
                        Some(message) => pending.push(message),
                        None => return,
                    },
                    Some(result) = self.results.recv() => self.note_probe(&result),
                    Some(()) = changes.recv() => {}
                    () = timer => {}
                }
            }
            while let Ok(message) = messages.try_recv() {
                pending.push(message);
            }
            while let Ok(result) = self.results.try_recv() {
                self.note_probe(&result);
            }
            while changes.try_recv().is_ok() {}
            for message in pending {
                self.note(message);
            }
        }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn wanted_stage(&self) -> Stage {
        match self.stage {
            Stage::Terminated => Stage::Terminated,
            _ if self.pod.deleting() || self.gone || self.failed.is_some() => {
                let before = if let Stage::Terminating { grace } = self.stage {
                    grace
                } else {
                    i64::MAX
                };
                let spec = self.pod.grace_period();
                let spec = self.most_grace.map_or(spec, |most| spec.min(most));
                Stage::Terminating {
                    // whatever is asked for, a pod has a moment to end by itself
                    grace: spec.min(before).max(1),
                }
            }
            stage => stage,
        }
    }

    fn note(&mut self, message: Message) {
        let version = |pod: &Pod| {
            pod.metadata
                .resource_version
                .as_deref()
                .and_then(|v| v.parse::<u64>().ok())
                .unwrap_or(0)
        };
        match message {
            Message::Pod(new, wish) => {
                // The worker's own status may be newer than what the watch has shown; the spec is the watch's.
                if version(&new) >= version(&self.pod) {
                    let mut new = *new;
                    if new.is_static() {
                        new.status = self.pod.status.take();
                    }
                    self.pod = new;
                    self.note_wish(wish);
                }
            }
            Message::Mirror(mirror) => {
                self.mirror_uid = mirror.metadata.uid.clone();
                self.pod.status = mirror.status;
            }
            Message::Gone => self.gone = true,
            Message::Evict(eviction) => {
                self.most_grace = Some(eviction.grace);
                self.disruption = eviction.disruption.then(|| eviction.verdict.message.clone());
                self.failed.get_or_insert(eviction.verdict);
            }
            Message::Runtime => {}
        }
        self.stage = self.wanted_stage();
    }

    /// One pass. Whether the worker's work is over.
    async fn sync(&mut self) -> Result<bool, SyncError> {
        if let Err(error) = self.sandbox_made().await {
            tracing::debug!(pod = self.pod.describe(), %error, "sandbox not made");
        }
        self.refresh().await?;
        match self.stage {
            Stage::Running => {
                let old_phase = self
                    .pod
                    .status
                    .as_ref()
                    .and_then(|s| s.phase.clone())
                    .unwrap_or_default();
                if matches!(old_phase.as_str(), "Failed" | "Succeeded") || self.deadline_passed() {
                    self.stage = Stage::Terminating {
                        grace: self.pod.grace_period(),
                    };
                    return Box::pin(self.terminate()).await;
                }
                let ended = self.run_pod().await?;
                if ended {
                    self.stage = Stage::Terminating {
                        grace: self.pod.grace_period(),
                    };
                    return Box::pin(self.terminate()).await;
                }
                Ok(false)
            }
            Stage::Terminating { .. } => Box::pin(self.terminate()).await,
            Stage::Terminated => self.finish().await,
        }
    }

    fn deadline_passed(&mut self) -> bool {
        let Some(seconds) = self.pod.spec.as_ref().and_then(|s| s.active_deadline_seconds) else {
            return false;
        };
        let Some(start) = self
            .pod
            .status
            .as_ref()
            .and_then(|s| s.start_time.as_ref())
            .map(|t| t.0)
        else {
            return false;
        };
        let end = start + SignedDuration::from_secs(seconds);
        if Timestamp::now() < end {
            self.wake_at(end);
            return false;
        }
        if self.failed.is_none() {
            let verdict = Verdict {
                reason: "DeadlineExceeded".to_owned(),
                message: "Pod was active on the node longer than the specified deadline".to_owned(),
            };
            let about = self.pod.reference();
            self.node
                .recorder
                .normal(&about, &verdict.reason, verdict.message.clone());
            self.failed = Some(verdict);
        }
        true
    }

    /// Brings the pod to what is wanted. Whether all its containers have ended for good.
    async fn run_pod(&mut self) -> Result<bool, SyncError> {
        // What an earlier kubelet said of running containers is taken over before it is said anew.
        self.ensure_probes();
        self.note_resize();
        self.report(false).await?;
        let sources = self.prepare().await?;
        // Each pass performs what the one before made possible; no plan needs more than its containers.
        for _ in 0..64 {
            self.ensure_probes();
            let plan = lifecycle::next_steps(
                &self.pod,
                &self.runtime,
                &self.probed,
                &self.backoffs,
                &self.actuated,
                Timestamp::now(),
            );
            self.note_crash_loops(&plan);
            if plan.is_idle() {
                break;
            }
            if plan.kill_pod && plan.create_sandbox.is_none() {
                return Ok(true);
            }
            let stopped = !plan.stop.is_empty();
            let progressed = self.perform(plan, &sources).await?;
            self.refresh().await?;
            self.ensure_probes();
            self.note_resize();
            // what was stopped to start anew is told of when it has, as upstream does both in one go
            if !stopped {
                self.report(false).await?;
            }
            if !progressed {
                break;
            }
        }
        self.collect_dead().await?;
        let phase = self.report(false).await?;
        Ok(matches!(phase.as_str(), "Failed" | "Succeeded"))
    }

    fn note_crash_loops(&mut self, plan: &lifecycle::Plan) {
        for wait in &plan.crash_loops {
            let delay = crate::images::duration(Duration::from_secs(wait.delay_seconds.unsigned_abs()));
            let delay = if wait.delay_seconds < 60 {
                format!("{}s", wait.delay_seconds)
            } else {
                delay.replace(".000s", "s")
            };
            let described = self.pod.describe();
            let message = format!(
                "back-off {delay} restarting failed container={} pod={described}",
                wait.name
            );
            let before = self
                .waiting
                .insert(wait.name.clone(), ("CrashLoopBackOff".to_owned(), message.clone()));
            if before.is_none_or(|(_, m)| m != message) {
                let about = self.pod.container_reference(wait.kind, &wait.name);
                let text = format!("Back-off restarting failed container {} in pod {described}", wait.name);
                self.node.recorder.warning(&about, "BackOff", text);
            }
            self.wake_at(wait.until);
        }
    }

    async fn refresh(&mut self) -> Result<(), SyncError> {
        let mut runtime = self.node.runtime.pod(self.pod.uid(), &self.runtime).await?;
        self.read_termination_messages(&mut runtime);
        self.runtime = runtime;
        Ok(())
    }
}
