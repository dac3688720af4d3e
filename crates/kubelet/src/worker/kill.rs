//! Stopping containers and pods: hooks, grace, order, and what follows.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::{Stage, SyncError, Worker};
use crate::handlers;
use crate::lifecycle::{Reset, Stop, StopCause};
use crate::node_context::NodeContext;
use crate::pod::{Kind, PodExt, is_sidecar};
use crate::probes::ProbeKind;
use crate::runtime::RuntimeError;
use crate::runtime_pod::{RuntimeContainer, RuntimePod, State};
use crate::status::{REMOVED_TO_RESTART, RESTARTING_ALL};

/// A container has this many seconds to end by itself, whatever was asked for and hooks have used up. Upstream:
/// `minimumGracePeriodInSeconds`.
const LEAST_GRACE: i64 = 2;

/// After this time what the API did not take of a pod that ends is told again.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// What stopping a container takes, apart from the worker: it goes on following the pod meanwhile.
struct Killer {
    node: Arc<NodeContext>,
    pod: Pod,
    pod_ip: String,
}

impl Killer {
    async fn kill_container(
        &self,
        kind: Kind,
        status: &RuntimeContainer,
        grace: i64,
        message: &str,
    ) -> Result<(), RuntimeError> {
        let left = self.run_pre_stop(kind, status, grace, message).await;
        self.node
            .runtime
            .stop_container(&status.id, left.max(LEAST_GRACE))
            .await
    }

    /// Tells that a container is stopped and runs its preStop hook. How many seconds of the grace are left.
    async fn run_pre_stop(&self, kind: Kind, status: &RuntimeContainer, grace: i64, message: &str) -> i64 {
        let about = self.pod.container_reference(kind, &status.name);
        self.node.recorder.normal(&about, "Killing", message);
        let started = Instant::now();
        let spec = self
            .pod
            .every_container()
            .into_iter()
            .find(|(_, c)| c.name == status.name)
            .map(|(_, c)| c);
        let hook = spec
            .as_ref()
            .and_then(|c| c.lifecycle.as_ref())
            .and_then(|l| l.pre_stop.as_ref());
        if let (Some(container), Some(hook)) = (&spec, hook)
            && grace > 0
            && status.state == State::Running
        {
            let run = handlers::hook(&self.node.runtime, container, &status.id, hook, &self.pod_ip);
            match tokio::time::timeout(Duration::from_secs(grace.unsigned_abs()), run).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(
                        pod = self.pod.describe(),
                        container = status.name,
                        %error,
                        "preStop hook failed"
                    );
                    self.node
                        .recorder
                        .warning(&about, "FailedPreStopHook", "PreStopHook failed");
                }
                Err(_) => tracing::debug!(
                    pod = self.pod.describe(),
                    container = status.name,
                    "preStop hook not done in time"
                ),
            }
        }
        let used = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
        grace - used
    }

    /// Stops regular containers together, then sidecars from the last to the first, then the sandboxes. The hooks of all of
    /// them begin at once.
    async fn kill_all(self, runtime: RuntimePod, grace: i64) -> Result<(), RuntimeError> {
        let started = Instant::now();
        let sidecars: Vec<String> = self
            .pod
            .init_containers()
            .iter()
            .filter(|c| is_sidecar(c))
            .map(|c| c.name.clone())
            .collect();
        let kinds: std::collections::HashMap<String, Kind> = self
            .pod
            .every_container()
            .into_iter()
            .map(|(k, c)| (c.name, k))
            .collect();
        let kind = |name: &str| kinds.get(name).copied().unwrap_or(Kind::Regular);
        let running: Vec<&RuntimeContainer> = runtime.running().collect();
        let this = &self;
        let kind = &kind;
        let first = running.iter().filter(|c| !sidecars.contains(&c.name));
        let message = |c: &RuntimeContainer| format!("Stopping container {}", c.name);
        let stops = first.map(|c| {
            let text = message(c);
            async move { this.kill_container(kind(&c.name), c, grace, &text).await }
        });
        let hooks = running.iter().filter(|c| sidecars.contains(&c.name)).map(|c| {
            let text = message(c);
            async move { this.run_pre_stop(Kind::Init, c, grace, &text).await }
        });
        let (outcomes, _) = tokio::join!(join_all(stops), join_all(hooks));
        for outcome in outcomes {
            outcome?;
        }
        for name in sidecars.iter().rev() {
            for container in running.iter().filter(|c| c.name == *name) {
                let used = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
                let left = (grace - used).max(LEAST_GRACE);
                self.node.runtime.stop_container(&container.id, left).await?;
            }
        }
        for sandbox in &runtime.sandboxes {
            if sandbox.ready {
                self.node.runtime.stop_sandbox(&sandbox.id).await?;
            }
        }
        Ok(())
    }
}

impl Worker {
    fn killer(&self) -> Killer {
        Killer {
            node: self.node.clone(),
            pod: self.pod.clone(),
            pod_ip: self.pod_ip(),
        }
    }

    /// Stops one container because of what a plan says.
    pub(super) async fn stop_one(&self, stop: &Stop) -> Result<(), RuntimeError> {
        let Some(status) = self.runtime.containers.iter().find(|c| c.id == stop.id) else {
            return Ok(());
        };
        let spec = self
            .pod
            .every_container()
            .into_iter()
            .find(|(_, c)| c.name == stop.name)
            .map(|(_, c)| c);
        let probe = spec.as_ref().and_then(|c| match stop.cause {
            StopCause::Liveness => c.liveness_probe.as_ref(),
            StopCause::Startup => c.startup_probe.as_ref(),
            _ => None,
        });
        let grace = probe
            .and_then(|p| p.termination_grace_period_seconds)
            .unwrap_or(self.pod.grace_period());
        self.killer()
            .kill_container(stop.kind, status, grace, &stop.message)
            .await
    }

    /// Removes containers so that all of the pod start anew; those that run have no grace. Whether there were any.
    pub(super) async fn reset(&mut self, containers: &[Reset]) -> Result<bool, RuntimeError> {
        for reset in containers {
            let Some(status) = self.runtime.containers.iter().find(|c| c.id == reset.id) else {
                continue;
            };
            if reset.runs {
                self.killer().kill_container(reset.kind, status, 0, "killing").await?;
            }
            // Its log stays until the pod goes.
            self.node.runtime.remove_container(&reset.id).await?;
            let why = (RESTARTING_ALL.to_owned(), REMOVED_TO_RESTART.to_owned());
            self.waiting.insert(reset.name.clone(), why);
        }
        Ok(!containers.is_empty())
    }

    /// Stops all containers and the sandboxes. Who asks learns meanwhile what their readiness probes find: a server that drains its
    /// connections says so by them. They are not judged by the other probes any more.
    pub(super) async fn kill_all(&mut self, grace: i64) -> Result<(), SyncError> {
        self.probes.retain(|(_, kind), _| *kind == ProbeKind::Readiness);
        let mut work = pin!(self.killer().kill_all(self.runtime.clone(), grace));
        let mut untold = false;
        let outcome = loop {
            let again = async {
                match untold {
                    true => tokio::time::sleep(TELL_AGAIN).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                outcome = &mut work => break outcome,
                Some(result) = self.results.recv() => {
                    self.note_probe(&result);
                    untold |= result.kind == ProbeKind::Readiness;
                }
                () = again => {}
            }
            if !untold {
                continue;
            }
            tokio::select! {
                outcome = &mut work => break outcome,
                told = self.report(false) => match told {
                    Ok(_) => untold = false,
                    Err(error) => tracing::debug!(pod = self.pod.describe(), %error, "its readiness is not told"),
                },
            }
        };
        self.probes.clear();
        Ok(outcome?)
    }

    /// Ends the pod: containers, status, resources; and the worker's work if the pod is deleted.
    pub(super) async fn terminate(&mut self) -> Result<bool, SyncError> {
        let Stage::Terminating { grace } = self.stage else {
            return self.finish().await;
        };
        if !self.gone {
            self.report(false).await?;
        }
        if !self.runtime.stopped() {
            self.kill_all(grace).await?;
            self.refresh().await?;
            if !self.runtime.stopped() {
                // The runtime has yet to notice; its event wakes this worker, and so does the clock.
                self.wake_at(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1));
                return Ok(false);
            }
        }
        self.waiting.clear();
        self.report(true).await?;
        self.release().await?;
        self.stage = Stage::Terminated;
        self.finish().await
    }
}
