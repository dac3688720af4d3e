//! The probes of the pod's running containers.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

use super::Worker;
use crate::lifecycle::timestamp;
use crate::pod::{Kind, PodExt, is_sidecar};
use crate::probes::{self, ProbeKind, ProbeResult, Target};
use crate::runtime_pod::State;

impl Worker {
    pub(super) fn note_probe(&mut self, result: &ProbeResult) {
        let id = result.container_id.clone();
        match (result.kind, result.success) {
            (ProbeKind::Startup, true) => {
                self.probed.started.insert(id);
            }
            (ProbeKind::Startup, false) => {
                self.probed.startup_failed.insert(id);
            }
            (ProbeKind::Readiness, ready) => {
                self.probed.ready.insert(id, ready);
            }
            (ProbeKind::Liveness, false) => {
                self.probed.liveness_failed.insert(id);
            }
            (ProbeKind::Liveness, true) => {}
        }
    }

    pub(super) fn pod_ip(&self) -> String {
        let ips = if self.pod.host_network() {
            self.node.host_ips.first()
        } else {
            self.runtime.sandbox().and_then(|s| s.ips.first())
        };
        ips.cloned().unwrap_or_default()
    }

    /// Starts the probes that should run and stops those of containers that do not run any more.
    pub(super) fn ensure_probes(&mut self) {
        let running: Vec<_> = self
            .runtime
            .containers
            .iter()
            .filter(|c| c.state == State::Running)
            .cloned()
            .collect();
        let runs = |id: &str| running.iter().any(|c| c.id == id);
        self.probes.retain(|(id, _), _| runs(id));
        self.probed.started.retain(|id| runs(id));
        self.probed.startup_failed.retain(|id| runs(id));
        self.probed.liveness_failed.retain(|id| runs(id));
        self.probed.ready.retain(|id, _| runs(id));
        let known = &self.runtime.containers;
        // Until there is a newer one.
        let newest = |id: &String| known.iter().find(|c| c.id == *id).map(|c| &c.name);
        self.probed.to_restart.retain(|id| {
            newest(id).is_some_and(|name| known.iter().find(|c| c.name == *name).is_some_and(|c| c.id == *id))
        });
        let pod_ip = self.pod_ip();
        for (kind, container) in self.pod.every_container() {
            if kind == Kind::Ephemeral || kind == Kind::Init && !is_sidecar(&container) {
                continue;
            }
            let Some(status) = running.iter().find(|c| c.name == container.name) else {
                continue;
            };
            let id = &status.id;
            let told = self.told_of(&container.name, id);
            let hook = container.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some());
            let told_started = told.is_some_and(|(started, _)| started);
            if container.startup_probe.is_none() && !hook || told_started {
                self.probed.started.insert(id.clone());
            }
            if let Some((_, true)) = told
                && container.readiness_probe.is_some()
            {
                // Found ready by the kubelet before this one: it stays so until a probe says otherwise.
                self.probed.ready.entry(id.clone()).or_insert(true);
            }
            let started = self.probed.started.contains(id);
            let wanted = [
                (
                    ProbeKind::Startup,
                    container.startup_probe.as_ref().filter(|_| !started),
                ),
                (
                    ProbeKind::Readiness,
                    container.readiness_probe.as_ref().filter(|_| started),
                ),
                (
                    ProbeKind::Liveness,
                    container.liveness_probe.as_ref().filter(|_| started),
                ),
            ];
            for (probe_kind, probe) in wanted {
                let Some(probe) = probe else { continue };
                if self.probes.contains_key(&(id.clone(), probe_kind)) {
                    continue;
                }
                let age = Timestamp::now().duration_since(timestamp(status.started_at));
                let target = Target {
                    runtime: self.node.runtime.clone(),
                    recorder: self.node.recorder.clone(),
                    node: self.node.clone(),
                    about: self.pod.container_reference(kind, &container.name),
                    container: container.clone(),
                    container_id: id.clone(),
                    pod_ip: pod_ip.clone(),
                    age: Duration::try_from(age).unwrap_or_default(),
                };
                let task = tokio::spawn(probes::run(
                    target,
                    probe_kind,
                    probe.clone(),
                    self.probe_results.clone(),
                ));
                self.probes
                    .insert((id.clone(), probe_kind), AbortOnDropHandle::new(task));
            }
        }
    }

    /// What the API was told of this very container: started, ready.
    fn told_of(&self, name: &str, id: &str) -> Option<(bool, bool)> {
        let status = self.pod.status.as_ref()?;
        let all = status
            .container_statuses
            .iter()
            .flatten()
            .chain(status.init_container_statuses.iter().flatten());
        let told = all.into_iter().find(|c| c.name == name)?;
        let same = told.container_id.as_deref()?.ends_with(&format!("://{id}"));
        same.then_some((told.started == Some(true), told.ready))
    }
}
