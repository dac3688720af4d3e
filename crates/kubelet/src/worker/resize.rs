//! Giving running containers other resources, in an order in which the pod's limits are never below its containers'.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use serde_json::json;

use super::{SyncError, Worker};
use crate::allocation::{ACTUATED, PodResources, Wish};
use crate::cgroups::PodLimits;
use crate::cri_config;
use crate::lifecycle::{self, Plan, Resize};
use crate::pod::PodExt;
use crate::resources;
use crate::runtime::RuntimeError;

/// A resize that could not be done is tried again after this many seconds.
const RETRY: i64 = 10;

/// Why a resize could not be done.
#[derive(Debug, thiserror::Error)]
enum ResizeError {
    /// A memory limit would be below what is used, as upstream writes several errors as one.
    #[error("cannot decrease memory limits: {}", one_of(.0))]
    Memory(Vec<String>),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Cgroup(#[from] std::io::Error),
}

fn one_of(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

/// The resources a resize is about. Memory comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    Cpu,
}

impl Worker {
    /// What the node said to the resources the pod asks for.
    pub(super) fn note_wish(&mut self, wish: Wish) {
        let (generation, now) = (self.pod.metadata.generation, Timestamp::now());
        match wish {
            Wish::Met => self.resize.clear_pending(),
            Wish::Granted => {
                self.resize.clear_pending();
                self.resize.start(generation, now);
                let text = self.resize_event("Pod resize started", &PodResources::of(&self.pod), generation, "");
                self.node.recorder.normal(&self.pod.reference(), "ResizeStarted", text);
            }
            Wish::Refused { verdict, asked } => {
                if self.resize.set_pending(&verdict, generation, now) {
                    let prefix = format!("Pod resize {}", verdict.reason);
                    let text = self.resize_event(&prefix, &asked, generation, &verdict.message);
                    let reason = format!("Resize{}", verdict.reason);
                    self.node.recorder.warning(&self.pod.reference(), &reason, text);
                }
            }
        }
    }

    /// Says whether containers have yet to get what the pod was given.
    pub(super) fn note_resize(&mut self) {
        if lifecycle::in_progress(&self.pod, &self.runtime, &self.actuated) {
            self.resize.go_on(self.pod.metadata.generation, Timestamp::now());
        } else if let Some(generation) = self.resize.complete() {
            let text = self.resize_event(
                "Pod resize completed",
                &PodResources::of(&self.pod),
                Some(generation),
                "",
            );
            self.node
                .recorder
                .normal(&self.pod.reference(), "ResizeCompleted", text);
        }
    }

    /// Upstream: `podResizeMessage`.
    fn resize_event(&self, prefix: &str, told: &PodResources, generation: Option<i64>, error: &str) -> String {
        let all = |list: &[Container]| {
            let one = |c: &Container| json!({"name": c.name, "resources": told.containers.get(&c.name)});
            serde_json::Value::from(list.iter().map(one).collect::<Vec<_>>())
        };
        // in upstream's order
        let mut members = Vec::new();
        if !self.pod.init_containers().is_empty() {
            members.push(format!("\"initContainers\":{}", all(self.pod.init_containers())));
        }
        members.push(format!("\"containers\":{}", all(self.pod.containers())));
        members.push(format!("\"generation\":{}", json!(generation)));
        if !error.is_empty() {
            members.push(format!("\"error\":{}", json!(error)));
        }
        format!("{prefix}: {{{}}}", members.join(","))
    }

    /// A container was made with the resources it was given.
    pub(super) fn made_with(&mut self, container: &Container) -> Result<(), SyncError> {
        let given = container.resources.clone().unwrap_or_default();
        let of_pod = self.pod.spec.as_ref().and_then(|s| s.resources.clone());
        if self.actuated.containers.get(&container.name) == Some(&given) && self.actuated.pod == of_pod {
            return Ok(());
        }
        if self.actuated.containers.is_empty() {
            self.actuated.pod = of_pod;
        }
        self.actuated.containers.insert(container.name.clone(), given);
        self.save_actuated()
    }

    fn save_actuated(&self) -> Result<(), SyncError> {
        let path = self.node.pod_dir(self.pod.uid()).join(ACTUATED);
        Ok(self.actuated.save(&path)?)
    }

    /// Takes over what an earlier kubelet did. What it did not write down was as the pod was given it.
    pub(super) fn load_actuated(&mut self) {
        let path = self.node.pod_dir(self.pod.uid()).join(ACTUATED);
        self.actuated = PodResources::load(&path).unwrap_or_else(|| PodResources::of(&self.pod));
    }

    /// Performs the plan's resizes. Whether they are done.
    pub(super) async fn resize(&mut self, plan: &Plan) -> Result<bool, SyncError> {
        if !plan.resize_pod {
            return Ok(true);
        }
        let outcome = match self.validate(plan).await {
            Ok(()) => self.resize_in_order(plan).await,
            Err(error) => Err(error),
        };
        self.save_actuated()?;
        let Err(error) = outcome else { return Ok(true) };
        let message = error.to_string();
        let generation = self.pod.metadata.generation;
        if self.resize.fail(&message, generation, Timestamp::now()) {
            let text = self.resize_event("Pod resize error", &PodResources::of(&self.pod), generation, &message);
            self.node.recorder.warning(&self.pod.reference(), "ResizeError", text);
        }
        self.wake_at(Timestamp::now() + SignedDuration::from_secs(RETRY));
        Ok(false)
    }

    /// A memory limit below what is used would end processes, or be refused half-way.
    async fn validate(&self, plan: &Plan) -> Result<(), ResizeError> {
        let path = self.node.cgroups.pod_path(&self.pod);
        let wanted = PodLimits::of(&self.pod).memory;
        let mut problems = Vec::new();
        if let Some(limit) = wanted.filter(|w| self.node.cgroups.memory_limit(&path).is_none_or(|now| *w < now)) {
            match self.node.cgroups.memory_usage(&path) {
                Some(usage) if usage >= limit => problems.push(format!(
                    "attempting to set pod memory limit ({limit}) below current usage ({usage})"
                )),
                Some(_) => {}
                None => problems.push("missing pod memory usage".to_owned()),
            }
        }
        let lower = |r: &&Resize| {
            let (now, wanted) = (r.now.memory_limit, r.wanted.memory_limit);
            wanted != 0 && (now == 0 || wanted < now)
        };
        for resize in plan.resize.iter().filter(lower) {
            let limit = resize.wanted.memory_limit;
            let usage = self.node.runtime.memory_usage(&resize.id).await;
            match usage? {
                Some(usage) if usage >= limit => problems.push(format!(
                    "attempting to set container {:?} memory limit ({limit}) below current usage ({usage})",
                    resize.name
                )),
                Some(_) => {}
                None => problems.push(format!("missing container {:?} memory usage", resize.name)),
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(ResizeError::Memory(problems)),
        }
    }

    async fn resize_in_order(&mut self, plan: &Plan) -> Result<(), ResizeError> {
        let cgroups = self.node.cgroups.clone();
        let path = cgroups.pod_path(&self.pod);
        let wanted = PodLimits::of(&self.pod);
        // A limit that was never there is higher than any; one that is not asked for any more stays.
        let higher = |now: Option<i64>, wanted: Option<i64>| now.zip(wanted).is_some_and(|(now, wanted)| wanted > now);
        let lower = |now: Option<i64>, wanted: Option<i64>| wanted.is_some_and(|w| now.is_none_or(|now| w < now));
        let weight = if cgroups.is_v2() {
            resources::cpu_weight(wanted.shares)
        } else {
            wanted.shares
        };
        self.tell_sandbox(&wanted).await?;

        let memory = cgroups.memory_limit(&path);
        if let Some(bytes) = wanted.memory.filter(|w| higher(memory, Some(*w))) {
            cgroups.set_memory(&path, bytes)?;
        }
        self.resize_containers(plan, Kind::Memory).await?;
        if let Some(bytes) = wanted.memory.filter(|w| lower(memory, Some(*w))) {
            cgroups.set_memory(&path, bytes)?;
        }

        let (quota, weight_now) = (cgroups.quota(&path), cgroups.weight(&path));
        if let Some(quota) = wanted.quota.filter(|w| higher(quota, Some(*w))) {
            cgroups.set_quota(&path, quota)?;
        }
        if higher(weight_now, Some(weight)) {
            cgroups.set_shares(&path, wanted.shares)?;
        }
        self.resize_containers(plan, Kind::Cpu).await?;
        if lower(weight_now, Some(weight)) {
            cgroups.set_shares(&path, wanted.shares)?;
        }
        if let Some(quota) = wanted.quota.filter(|w| lower(quota, Some(*w))) {
            cgroups.set_quota(&path, quota)?;
        }
        self.actuated.pod = self.pod.spec.as_ref().and_then(|s| s.resources.clone());
        Ok(())
    }

    async fn tell_sandbox(&self, wanted: &PodLimits) -> Result<(), ResizeError> {
        let Some(sandbox) = self.runtime.sandbox() else {
            return Ok(());
        };
        let linux = cri::v1::LinuxContainerResources {
            cpu_period: resources::CPU_PERIOD,
            cpu_quota: wanted.quota.unwrap_or_default(),
            cpu_shares: wanted.shares,
            memory_limit_in_bytes: wanted.memory.unwrap_or_default(),
            ..Default::default()
        };
        Ok(self.node.runtime.update_sandbox(&sandbox.id, linux).await?)
    }

    /// Those that get less come before those that get more.
    async fn resize_containers(&mut self, plan: &Plan, kind: Kind) -> Result<(), ResizeError> {
        let more = |r: &Resize| match kind {
            Kind::Memory if r.now.memory_limit != r.wanted.memory_limit => r.wanted.memory_limit > r.now.memory_limit,
            Kind::Memory => r.wanted.memory_request > r.now.memory_request,
            Kind::Cpu if r.now.cpu_limit != r.wanted.cpu_limit => r.wanted.cpu_limit > r.now.cpu_limit,
            Kind::Cpu => r.wanted.cpu_request > r.now.cpu_request,
        };
        let concerned = |r: &&Resize| match kind {
            Kind::Memory => {
                (r.now.memory_request, r.now.memory_limit) != (r.wanted.memory_request, r.wanted.memory_limit)
            }
            Kind::Cpu => (r.now.cpu_request, r.now.cpu_limit) != (r.wanted.cpu_request, r.wanted.cpu_limit),
        };
        let mut all: Vec<&Resize> = plan.resize.iter().filter(concerned).collect();
        all.sort_by_key(|r| more(r));
        for resize in all {
            let found = self
                .pod
                .every_container()
                .into_iter()
                .find(|(_, c)| c.name == resize.name);
            let Some((_, container)) = found else { continue };
            let given = container.resources.clone().unwrap_or_default();
            let before = self.actuated.containers.get(&resize.name).cloned().unwrap_or_default();
            let resources = match kind {
                Kind::Memory => merged(before, &given, "memory"),
                Kind::Cpu => merged(before, &given, "cpu"),
            };
            let container = Container {
                resources: Some(resources.clone()),
                ..container
            };
            let linux = cri_config::container_resources(&self.pod, &container, &self.node.settings);
            self.node.runtime.update_container(&resize.id, linux).await?;
            self.actuated.containers.insert(resize.name.clone(), resources);
        }
        Ok(())
    }
}

/// What the container has, with what it was given of one resource.
fn merged(mut now: ResourceRequirements, given: &ResourceRequirements, name: &str) -> ResourceRequirements {
    for (list, from) in [(&mut now.requests, &given.requests), (&mut now.limits, &given.limits)] {
        match from.as_ref().and_then(|l| l.get(name)) {
            Some(amount) => {
                list.get_or_insert_default().insert(name.to_owned(), amount.clone());
            }
            None => {
                list.iter_mut().for_each(|l| drop(l.remove(name)));
            }
        }
    }
    now
}
