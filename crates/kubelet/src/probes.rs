//! Probing containers: one task for each probe of each running container, telling the pod's worker what changes.

use std::sync::Arc;
use std::time::Duration;

use client::EventRecorder;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Probe};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::env::expand;
use crate::figures::ProbeSeries;
use crate::handlers::{self, Outcome};
use crate::node_context::NodeContext;
use crate::runtime::Runtime;

/// What a probe decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        }
    }
}

/// How often a probe that could not be performed is tried, as upstream's `maxProbeRetries`.
const TRIES: usize = 3;

/// The first wait between early tries; each following one is twice as long.
const EARLY: Duration = Duration::from_millis(100);

/// A probe's verdict on a container changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    pub container_id: String,
    pub kind: ProbeKind,
    pub success: bool,
}

/// Counts results until a threshold is reached.
#[derive(Debug)]
pub struct Threshold {
    success: i32,
    failure: i32,
    last: Option<bool>,
    run: i32,
}

impl Threshold {
    /// No result counts yet.
    pub fn new(probe: &Probe) -> Threshold {
        Threshold {
            success: probe.success_threshold.unwrap_or(1).max(1),
            failure: probe.failure_threshold.unwrap_or(3).max(1),
            last: None,
            run: 0,
        }
    }

    /// The verdict once this result has come often enough in a row.
    pub fn count(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run + 1 } else { 1 };
        self.last = Some(success);
        (self.run >= if success { self.success } else { self.failure }).then_some(success)
    }
}

/// What one probe task needs.
#[derive(Debug, Clone)]
pub struct Target {
    pub runtime: Runtime,
    pub recorder: EventRecorder,
    pub node: Arc<NodeContext>,
    pub about: ObjectReference,
    pub container: Container,
    pub container_id: String,
    pub pod_ip: String,
    /// How long the container has been running already.
    pub age: Duration,
}

/// Probes until the container fails for good, or (startup) passes; then only readiness goes on. Stops when dropped.
pub async fn run(target: Target, kind: ProbeKind, probe: Probe, results: mpsc::UnboundedSender<ProbeResult>) {
    let seconds = |s: Option<i32>, default: i32| Duration::from_secs(s.unwrap_or(default).max(0).unsigned_abs().into());
    let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
    let timeout = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let delay = seconds(probe.initial_delay_seconds, 0);
    tokio::time::sleep(delay.saturating_sub(target.age)).await;
    let mut threshold = Threshold::new(&probe);
    let mut told = None;
    let eager = kind != ProbeKind::Liveness && probe.exec.is_none();
    let mut next = Instant::now();
    // Upstream's first probe comes somewhere in the first period: what has just begun is not asked before it can answer.
    if delay.is_zero() && target.age < period && (kind == ProbeKind::Liveness || eager) {
        next += period;
    }
    loop {
        // What opens the container to traffic need not wait a whole period: until it first passes, tries in between that
        // succeed count. Commands are left alone, they may count their runs.
        if told != Some(true) && eager {
            let mut wait = EARLY;
            while Instant::now() + wait < next {
                tokio::time::sleep(wait).await;
                if once(&target, &probe, timeout).await == Outcome::Success {
                    next = Instant::now();
                    break;
                }
                wait *= 2;
            }
        }
        tokio::time::sleep_until(next).await;
        let mut outcome = once(&target, &probe, timeout).await;
        for _ in 1..TRIES {
            if !matches!(outcome, Outcome::Unknown(_)) {
                break;
            }
            outcome = once(&target, &probe, timeout).await;
        }
        let warn = |reason: &str, text: String| target.recorder.warning(&target.about, reason, text);
        let name = kind.as_str();
        let result = match &outcome {
            Outcome::Success => Some(true),
            Outcome::Warning(text) => {
                warn("ProbeWarning", format!("{name} probe warning: {text}"));
                Some(true)
            }
            Outcome::Failure(text) => {
                warn("Unhealthy", format!("{name} probe failed: {text}"));
                Some(false)
            }
            // What was found before stands.
            Outcome::Unknown(text) => {
                let text = format!("{name} probe errored and resulted in unknown state: {text}");
                warn("Unhealthy", text);
                None
            }
        };
        target.node.figures.probed(ProbeSeries {
            pod_uid: target.about.uid.clone().unwrap_or_default(),
            namespace: target.about.namespace.clone().unwrap_or_default(),
            pod: target.about.name.clone().unwrap_or_default(),
            container: target.container.name.clone(),
            probe: name,
            result: match result {
                Some(true) => "successful",
                Some(false) => "failed",
                None => "unknown",
            },
        });
        if let Some(success) = result.and_then(|r| threshold.count(r))
            && told != Some(success)
        {
            told = Some(success);
            let result = ProbeResult {
                container_id: target.container_id.clone(),
                kind,
                success,
            };
            if results.send(result).is_err() {
                return;
            }
            match (kind, success) {
                (ProbeKind::Startup, _) | (ProbeKind::Liveness, false) => return,
                _ => {}
            }
        }
        next += period;
        let now = Instant::now();
        if next < now {
            next = now;
        }
    }
}

async fn once(target: &Target, probe: &Probe, timeout: Duration) -> Outcome {
    if let Some(action) = &probe.exec {
        // Only what the pod itself says of the container's variables, as upstream.
        let value = |name: &str| {
            let mut variables = target.container.env.iter().flatten();
            let found = variables.rfind(|e| e.name == name)?;
            Some(found.value.clone().unwrap_or_default())
        };
        let command = action.command.iter().flatten();
        let command: Vec<String> = command.map(|word| expand(word, &value)).collect();
        handlers::exec(&target.runtime, &target.container_id, &command, timeout).await
    } else if let Some(action) = &probe.http_get {
        let agent = concat!("kube-probe/", api::kubernetes_minor!());
        handlers::http_get(&target.container, action, &target.pod_ip, agent, timeout).await
    } else if let Some(action) = &probe.tcp_socket {
        handlers::tcp(&target.container, action, &target.pod_ip, timeout).await
    } else if let Some(action) = &probe.grpc {
        handlers::grpc(action, &target.pod_ip, timeout).await
    } else {
        Outcome::Unknown(format!("missing probe handler for {}", target.container.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_need_their_number_of_results_in_a_row() {
        let mut t = Threshold::new(&Probe {
            failure_threshold: Some(2),
            success_threshold: Some(2),
            ..Default::default()
        });
        let seen: Vec<_> = [false, true, false, false, true, true]
            .into_iter()
            .map(|r| t.count(r))
            .collect();
        assert_eq!(seen, [None, None, None, Some(false), None, Some(true)]);
    }
}
