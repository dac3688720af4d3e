//! Making sandboxes and containers: everything they need first, then the calls, then the hooks.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use tokio_util::task::AbortOnDropHandle;

use super::{SyncError, Worker};
use crate::cri_config::{self, Prepared};
use crate::env::{self, EnvError, Sources};
use crate::handlers;
use crate::images::{NotReady, Ready};
use crate::lifecycle::{Plan, Start, crash_key, timestamp};
use crate::objects::Held;
use crate::pod::{Kind, PodExt, ephemeral_target, is_sidecar};
use crate::runtime_pod::State;
use crate::security::{self, SecurityError};
use crate::volumes;

/// What was prepared for the whole pod.
pub(super) struct Ground {
    sources: Sources,
    volumes: BTreeMap<String, PathBuf>,
    pull_secrets: Vec<Secret>,
    cgroup: String,
}

/// Why a container's configuration cannot be made (`CreateContainerConfigError`).
#[derive(Debug, thiserror::Error)]
enum ConfigError {
    #[error(transparent)]
    Env(#[from] EnvError),
    #[error(transparent)]
    Mount(#[from] volumes::MountError),
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// Why one container does not start now: the reason and message of its waiting state.
struct Refused {
    reason: &'static str,
    message: String,
    retry_at: Option<Timestamp>,
}

fn refused(reason: &'static str, message: impl Into<String>) -> Refused {
    Refused {
        reason,
        message: message.into(),
        retry_at: Some(Timestamp::now() + jiff::SignedDuration::from_secs(10)),
    }
}

impl Worker {
    /// Directories, cgroup, objects, tokens and volumes.
    pub(super) async fn prepare(&mut self) -> Result<Ground, SyncError> {
        let namespace = self.pod.namespace().to_owned();
        self.hold_references(&namespace);
        let mut sources = self.sources(&namespace).await?;
        let tokens = match self.service_account_tokens().await {
            Ok(tokens) => tokens,
            Err(error) => {
                let text =
                    format!("MountVolume.SetUp failed for volume \"kube-api-access\" : failed to fetch token: {error}");
                self.node.recorder.warning(&self.pod.reference(), "FailedMount", text);
                return Err(error);
            }
        };
        let projected = self.projected().await;
        self.resolve_claims().await?;
        self.node.services.synced().await;
        sources.services = self.node.services_of(&namespace);
        let (node, pod) = (self.node.clone(), self.pod.clone());
        let running = self.runtime.running().next().is_some();
        let claims = self.claims.clone();
        let prepared = tokio::task::spawn_blocking(move || {
            let pod_dir = node.pod_dir(pod.uid());
            for dir in ["volumes", "plugins", "containers"] {
                fs::create_dir_all(pod_dir.join(dir))?;
            }
            fs::set_permissions(&pod_dir, fs::Permissions::from_mode(0o750))?;
            let cgroup = node.cgroups.make_pod(&pod, node.pod_pids_limit, running)?;
            let setup = volumes::Setup {
                pod: &pod,
                pod_dir: &pod_dir,
                sources: &sources,
                tokens: &tokens,
                projected: &projected,
                claims: &claims,
                in_memory: node.settings.memory_volumes,
                now: Timestamp::now(),
            };
            let volumes = setup.run();
            Ok::<_, SyncError>((sources, cgroup, volumes))
        })
        .await??;
        let (sources, cgroup, volumes) = prepared;
        for (plugin, well, took) in &volumes.took {
            self.node.figures.volumes.took(plugin, "volume_mount", *well, *took);
        }
        let errors: Vec<String> = volumes.errors.iter().map(ToString::to_string).collect();
        for error in &errors {
            self.node.recorder.warning(&self.pod.reference(), "FailedMount", error);
        }
        let Some(volumes) = volumes.paths else {
            return Err(SyncError::Volumes(errors.join("; ")));
        };
        let pull_secrets = self.pull_secrets(&sources);
        Ok(Ground {
            sources,
            volumes,
            pull_secrets,
            cgroup,
        })
    }

    /// Follows the ConfigMaps and Secrets that the pod names, and no others any more.
    fn hold_references(&mut self, namespace: &str) {
        let (mut maps, mut secrets) = volumes::references(&self.pod);
        for (_, container) in self.pod.every_container() {
            let more = env::references(&container);
            maps.extend(more.0);
            secrets.extend(more.1);
        }
        let mut keep = HashMap::new();
        for (prefix, names) in [("c/", &maps), ("s/", &secrets)] {
            for name in names {
                let id = format!("{prefix}{name}");
                let held = match self.held.remove(&id).or_else(|| keep.remove(&id)) {
                    Some(held) => held,
                    None if prefix == "c/" => self.follow(self.node.objects.config_map(namespace, name)),
                    None => self.follow(self.node.objects.secret(namespace, name)),
                };
                keep.insert(id, held);
            }
        }
        self.held = keep;
    }

    /// What environments and volumes are made of, as far as it is known now.
    async fn sources(&self, namespace: &str) -> Result<Sources, SyncError> {
        let mut sources = Sources {
            services: self.node.services_of(namespace),
            pod_ips: if self.pod.host_network() {
                self.node.host_ips.clone()
            } else {
                Vec::new()
            },
            host_ips: self.node.host_ips.clone(),
            allocatable: self.node.allocatable.clone(),
            ..Sources::default()
        };
        if sources.pod_ips.is_empty() {
            sources.pod_ips = self.runtime.sandbox().map(|s| s.ips.clone()).unwrap_or_default();
        }
        for (id, (held, _)) in &self.held {
            match id.split_once('/') {
                Some(("c", name)) => drop(
                    sources
                        .config_maps
                        .insert(name.to_owned(), held.get::<ConfigMap>().await?),
                ),
                Some((_, name)) => drop(sources.secrets.insert(name.to_owned(), held.get::<Secret>().await?)),
                None => {}
            }
        }
        Ok(sources)
    }

    /// Learns the persistent volumes of the pod's claims.
    async fn resolve_claims(&mut self) -> Result<(), SyncError> {
        let mut claims = std::mem::take(&mut self.claims);
        let resolved = volumes::resolve(&self.node.client, &self.pod, &mut claims).await;
        self.claims = claims;
        resolved.inspect_err(|error| {
            let about = self.pod.reference();
            self.node.recorder.warning(
                &about,
                "FailedMount",
                format!("Unable to attach or mount volumes: {error}"),
            );
        })?;
        Ok(())
    }

    /// The pull secrets that there are. An event tells of the others.
    fn pull_secrets(&self, sources: &Sources) -> Vec<Secret> {
        let names = self
            .pod
            .spec
            .iter()
            .flat_map(|s| s.image_pull_secrets.iter().flatten())
            .map(|s| s.name.clone());
        let (mut pull_secrets, mut missing) = (Vec::new(), Vec::new());
        for name in names.filter(|n| !n.is_empty()) {
            match sources.secrets.get(&name).cloned().flatten() {
                Some(secret) => pull_secrets.push(secret),
                None => missing.push(name),
            }
        }
        if !missing.is_empty() {
            let text = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            let about = self.pod.reference();
            self.node
                .recorder
                .warning(&about, "FailedToRetrieveImagePullSecret", text);
        }
        pull_secrets
    }

    /// Wakes the worker when the object changes.
    fn follow(&self, held: Arc<Held>) -> (Arc<Held>, AbortOnDropHandle<()>) {
        let mut changes = held.subscribe();
        let wake = self.object_changes.clone();
        let task = tokio::spawn(async move {
            while changes.recv().await.is_some() {
                if wake.send(()).is_err() {
                    return;
                }
            }
        });
        (held, AbortOnDropHandle::new(task))
    }

    /// Performs a plan. Whether anything moved.
    pub(super) async fn perform(&mut self, plan: Plan, ground: &Ground) -> Result<bool, SyncError> {
        let mut moved = false;
        if plan.kill_pod {
            if plan.create_sandbox.is_some() {
                let text = "Pod sandbox changed, it will be killed and re-created.";
                self.node.recorder.normal(&self.pod.reference(), "SandboxChanged", text);
            }
            self.kill_all(self.pod.grace_period()).await?;
            self.refresh().await?;
        }
        let stops = plan.stop.iter().map(|stop| self.stop_one(stop));
        for outcome in futures::future::join_all(stops).await {
            outcome?;
            moved = true;
        }
        let again = plan.stop.iter().filter(|s| s.restart).map(|s| s.id.clone());
        self.probed.to_restart.extend(again);
        moved |= self.reset(&plan.reset).await?;
        if let Some(attempt) = plan.create_sandbox {
            self.create_sandbox(attempt, ground).await?;
            self.refresh().await?;
            // Addresses are known now: the plan is made again with them.
            return Ok(true);
        }
        let resized = self.resize(&plan).await?;
        moved |= resized && plan.resize_pod;
        for start in plan.start {
            let Some((_, container)) = self
                .pod
                .every_container()
                .into_iter()
                .find(|(k, c)| *k == start.kind && c.name == start.name)
            else {
                continue;
            };
            match self.start(&start, &container, ground).await {
                Ok(()) => {
                    moved = true;
                    self.waiting.remove(&start.name);
                }
                Err(refused) => {
                    if let Some(at) = refused.retry_at {
                        self.wake_at(at);
                    }
                    self.waiting
                        .insert(start.name.clone(), (refused.reason.to_owned(), refused.message));
                }
            }
        }
        Ok(moved)
    }

    async fn create_sandbox(&mut self, attempt: u32, ground: &Ground) -> Result<(), SyncError> {
        if self.pod.spec.as_ref().and_then(|s| s.host_users) == Some(false) && !self.node.user_namespaces(&self.pod) {
            let error = "can't set `spec.hostUsers: false`, runtime does not support user namespaces";
            self.not_made(&error);
            return Err(SyncError::Unsupported(error));
        }
        let claims = self.pod.spec.as_ref().and_then(|s| s.resource_claims.as_ref());
        if claims.is_some_and(|c| !c.is_empty()) {
            let error = "dynamic resources are not supported by this node";
            let text = format!("Failed to prepare dynamic resources: {error}");
            let about = self.pod.reference();
            self.node
                .recorder
                .warning(&about, "FailedPrepareDynamicResources", text);
            return Err(SyncError::Unsupported(error));
        }
        for text in cri_config::dns_over_limits(&self.pod, &self.node.settings) {
            self.node
                .recorder
                .warning(&self.pod.reference(), "DNSConfigForming", text);
        }
        let config = cri_config::sandbox(&self.pod, attempt, &ground.cgroup, &self.node.settings);
        fs::create_dir_all(&config.log_directory)?;
        let class = self.pod.spec.as_ref().and_then(|s| s.runtime_class_name.clone());
        let handler = match class {
            Some(name) => match self.node.client.get::<RuntimeClass>("", &name).await {
                Ok(class) => class.handler,
                Err(error) => {
                    self.not_made(&error);
                    return Err(error.into());
                }
            },
            None => String::new(),
        };
        let (runtime, asked) = (self.node.runtime.clone(), config.clone());
        self.making = Some(tokio::spawn(async move { runtime.run_sandbox(asked, &handler).await }));
        let made = self.sandbox_made().await;
        made.inspect_err(|error| self.not_made(error))?;
        self.sandbox_config = Some(config);
        Ok(())
    }

    fn not_made(&self, error: &dyn std::fmt::Display) {
        let text = format!("Failed to create pod sandbox: {error}");
        let about = self.pod.reference();
        self.node.recorder.warning(&about, "FailedCreatePodSandBox", text);
    }

    /// Waits for the sandbox that is being made, if one is.
    pub(super) async fn sandbox_made(&mut self) -> Result<(), SyncError> {
        let Some(making) = &mut self.making else { return Ok(()) };
        let made = making.await;
        self.making = None;
        made??;
        Ok(())
    }

    async fn start(&mut self, start: &Start, container: &Container, ground: &Ground) -> Result<(), Refused> {
        let mut start = start.clone();
        if self.runtime.newest(&start.name).is_none() {
            // The runtime knows of none any more; their logs tell how many there were.
            start.attempt = self.attempts_by_logs(&start.name);
        }
        let start = &start;
        let about = self.pod.container_reference(start.kind, &start.name);
        let node = self.node.clone();
        let Some(sandbox) = self.runtime.sandbox().cloned() else {
            return Err(refused("ContainerCreating", ""));
        };
        // The one that runs, if one does, was stopped just now.
        let mut before = self.runtime.containers.iter().filter(|c| c.name == start.name);
        if let Some(last) = before.find(|c| c.state == State::Exited) {
            let ended = timestamp(last.finished_at);
            self.backoffs.next(&crash_key(container), ended, ());
        }
        let sandbox_config = match &self.sandbox_config {
            Some(config) => config.clone(),
            None => cri_config::sandbox(&self.pod, sandbox.attempt, &ground.cgroup, &node.settings),
        };
        let image = node
            .images
            .ensure(&self.pod, container, &about, &ground.pull_secrets, &sandbox_config)
            .await;
        let image = image.map_err(|e| Refused {
            reason: e.reason,
            message: e.message,
            retry_at: e.retry_at,
        })?;
        let image_volumes = self
            .image_volumes(container, ground, &sandbox_config)
            .await
            .map_err(|e| Refused {
                reason: e.reason,
                message: e.message,
                retry_at: e.retry_at,
            })?;
        let fail = |reason: &'static str, error: String| {
            node.recorder.warning(&about, "Failed", format!("Error: {error}"));
            refused(reason, error)
        };
        // A subPath may be on a file system that does not answer: this thread's other tasks go on elsewhere.
        let mut config = tokio::task::block_in_place(|| self.container_config(start, container, &image, ground))
            .map_err(|error| fail("CreateContainerConfigError", error.to_string()))?;
        for mount in &mut config.mounts {
            if let Some(spec) = &mut mount.image
                && let Some(id) = image_volumes.get(&spec.image)
            {
                spec.user_specified_image = std::mem::replace(&mut spec.image, id.clone());
            }
        }
        if self.networked.as_deref() != Some(&*sandbox.id) {
            node.network_gate.pass(&self.pod, &sandbox.ips).await;
            self.networked = Some(sandbox.id.clone());
        }
        let created = node.runtime.create_container(&sandbox.id, config, sandbox_config).await;
        let failed = created.as_ref().err();
        let not_mounted = failed.is_some_and(|e| e.message.starts_with("ImageVolumeMountFailed"));
        node.figures
            .image_volumes
            .asked(image_volumes.len() as u64, not_mounted);
        let id = created.map_err(|e| fail("CreateContainerError", e.message))?;
        self.made_with(container)
            .map_err(|e| fail("CreateContainerError", e.to_string()))?;
        node.recorder.normal(&about, "Created", "Container created");
        if let Err(error) = node.runtime.start_container(&id).await {
            return Err(fail("RunContainerError", error.message));
        }
        node.recorder.normal(&about, "Started", "Container started");
        self.link_log(&start.name, start.attempt, &id);
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        if let Some(hook) = hook
            && let Err(error) = handlers::hook(&node.runtime, container, &id, hook, &self.pod_ip()).await
        {
            tracing::debug!(
                pod = self.pod.describe(),
                container = start.name,
                %error,
                "postStart hook failed"
            );
            node.recorder
                .warning(&about, "FailedPostStartHook", "PostStartHook failed");
            node.recorder.normal(&about, "Killing", "FailedPostStartHook");
            let stopped = node.runtime.stop_container(&id, self.pod.grace_period()).await;
            stopped.map_err(|e| refused("PostStartHookError", e.message))?;
            return Err(refused("PostStartHookError", error.to_string()));
        }
        let counts = start.kind != Kind::Init || is_sidecar(container);
        if container.startup_probe.is_none() && counts {
            self.probed.started.insert(id);
        }
        Ok(())
    }

    /// Gets the images that the container mounts, by their names their ids. Upstream: `getImageVolumes`.
    async fn image_volumes(
        &self,
        container: &Container,
        ground: &Ground,
        sandbox: &cri::v1::PodSandboxConfig,
    ) -> Result<HashMap<String, String>, NotReady> {
        let mut found = HashMap::new();
        let mounted = |name: &str| container.volume_mounts.iter().flatten().any(|m| m.name == name);
        let volumes = self.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        for volume in volumes.filter(|v| mounted(&v.name)) {
            let Some(source) = &volume.image else { continue };
            let reference = source.reference.clone().unwrap_or_default();
            let wanted = Container {
                image: Some(reference.clone()),
                image_pull_policy: source.pull_policy.clone(),
                ..Container::default()
            };
            let images = &self.node.images;
            // a volume is the pod's, not the container's
            let about = self.pod.reference();
            let ready = images
                .ensure(&self.pod, &wanted, &about, &ground.pull_secrets, sandbox)
                .await?;
            found.insert(reference, ready.image_ref);
        }
        Ok(found)
    }

    fn container_config(
        &self,
        start: &Start,
        container: &Container,
        image: &Ready,
        ground: &Ground,
    ) -> Result<cri::v1::ContainerConfig, ConfigError> {
        let settings = &self.node.settings;
        let mut sources = Sources {
            pod_ips: self.runtime.sandbox().map(|s| s.ips.clone()).unwrap_or_default(),
            ..Sources::default()
        };
        if self.pod.host_network() {
            sources.pod_ips = self.node.host_ips.clone();
        }
        let sources = Sources {
            config_maps: ground.sources.config_maps.clone(),
            secrets: ground.sources.secrets.clone(),
            services: ground.sources.services.clone(),
            host_ips: self.node.host_ips.clone(),
            allocatable: self.node.allocatable.clone(),
            ..sources
        };
        let env = env::environment(&self.pod, container, &sources)?;
        let pod_dir = self.node.pod_dir(self.pod.uid());
        let recursive = self.node.recursive_read_only(&self.pod);
        let mut mounts = volumes::container_mounts(&self.pod, container, &ground.volumes, &env, &pod_dir, recursive)?;
        if !mounts.iter().any(|m| m.container_path == "/etc/hosts") {
            let path = pod_dir.join("etc-hosts");
            let node_hosts = if self.pod.host_network() {
                fs::read_to_string("/etc/hosts").unwrap_or_default()
            } else {
                String::new()
            };
            let text = cri_config::hosts_file(&self.pod, settings, &sources.pod_ips, &node_hosts);
            fs::write(&path, text).map_err(|source| ConfigError::Io {
                path: path.clone(),
                source,
            })?;
            mounts.push(cri::v1::Mount {
                container_path: "/etc/hosts".to_owned(),
                host_path: path.to_string_lossy().into_owned(),
                ..Default::default()
            });
        }
        let target = ephemeral_target(&self.pod, &container.name)
            .and_then(|name| self.runtime.newest(name))
            .map(|c| c.id.clone());
        let security = security::container(
            &self.pod,
            start.kind,
            container,
            &image.user,
            &settings.seccomp_root,
            settings.seccomp_default,
            target.as_deref(),
        )?;
        let termination_log = self.termination_log(&container.name, start.attempt);
        let made = || -> std::io::Result<()> {
            if let Some(dir) = termination_log.parent() {
                fs::create_dir_all(dir)?;
            }
            // Whatever user the container runs as may write it.
            fs::write(&termination_log, "")?;
            fs::set_permissions(&termination_log, fs::Permissions::from_mode(0o666))
        };
        made().map_err(|source| ConfigError::Io {
            path: termination_log.clone(),
            source,
        })?;
        let prepared = Prepared {
            attempt: start.attempt,
            env,
            mounts,
            image_ref: image.image_ref.clone(),
            security,
            termination_log: &termination_log,
        };
        Ok(cri_config::container(&self.pod, container, prepared, settings))
    }
}
