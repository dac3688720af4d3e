//! Containers: made of an image and a configuration, started by the sandbox's shim, stopped, removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::v1;
use tokio::sync::watch;

use super::container_spec::{self, Places};
use super::error::{Result, RuntimeError, at};
use super::record::{self, ContainerRecord};
use super::stats::{Layer, Meter};
use super::{Runtime, signals};
use crate::shim::message::Call;
use crate::spec::{ContainerSpec, Exit, PidNamespace, Resources};
use crate::sys;

const RECORD: &str = "record";
const SPEC: &str = "spec.json";
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// How long a killed process may take to end: one in uninterruptible sleep may take longer than anybody waits.
const LAST_BREATH: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Container {
    pub id: String,
    pub sandbox_id: String,
    /// On disk: record, specification, the writable layer.
    pub dir: PathBuf,
    record: watch::Sender<ContainerRecord>,
    /// One of start, update and remove at a time.
    changing: tokio::sync::Mutex<()>,
    pub meter: Meter,
    pub layer: Layer,
}

impl Container {
    pub(crate) fn new(runtime: &Runtime, record: ContainerRecord) -> Self {
        Self {
            id: record.id.clone(),
            sandbox_id: record.sandbox_id.clone(),
            dir: runtime.container_dir(&record.id),
            record: watch::Sender::new(record),
            changing: tokio::sync::Mutex::new(()),
            meter: Meter::default(),
            layer: Layer::default(),
        }
    }

    pub(crate) fn record(&self) -> ContainerRecord {
        self.record.borrow().clone()
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&ContainerRecord) -> T) -> T {
        look(&self.record.borrow())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.with(ContainerRecord::running)
    }

    /// Changes the record in memory and on disk.
    pub fn update(&self, change: impl FnOnce(&mut ContainerRecord)) -> Result<()> {
        self.record.send_modify(change);
        record::save(&self.dir.join(RECORD), &self.record())
    }

    pub(crate) fn spec_path(&self) -> PathBuf {
        self.dir.join(SPEC)
    }

    pub(crate) fn spec(&self) -> Result<ContainerSpec> {
        let path = self.spec_path();
        let text = std::fs::read(&path).map_err(at(&path))?;
        serde_json::from_slice(&text).map_err(|e| at(&path)(e.into()))
    }

    /// Waits for the end of the container.
    pub async fn ended(&self) {
        let mut record = self.record.subscribe();
        // The sender lives as long as self.
        let _ = record
            .wait_for(|r| r.state() == v1::ContainerState::ContainerExited)
            .await;
    }

    /// What the shim said about the end; a second time changes nothing.
    pub fn exited(&self, exit: &Exit) -> Result<bool> {
        if self.with(|r| r.finished_at != 0) {
            return Ok(false);
        }
        self.update(|r| {
            // One that ended before its start was answered.
            if r.started_at == 0 {
                r.started_at = exit.finished_at;
            }
            r.finished_at = exit.finished_at.max(r.started_at);
            r.exit_code = exit.code;
            r.pid = 0;
            r.reason = match exit {
                Exit { oom_killed: true, .. } => "OOMKilled",
                Exit { code: 0, .. } => "Completed",
                _ => "Error",
            }
            .to_owned();
        })?;
        Ok(true)
    }

    /// It ended and nobody knows how.
    pub fn lost(&self, message: &str) -> Result<()> {
        self.update(|r| {
            r.finished_at = sys::now().max(r.started_at);
            r.exit_code = 255;
            r.pid = 0;
            r.reason = "Unknown".to_owned();
            message.clone_into(&mut r.message);
        })
    }

    pub(crate) fn load(dir: &Path) -> Option<ContainerRecord> {
        record::load(&dir.join(RECORD))
    }
}

/// CreateContainer.
pub fn create(runtime: &Runtime, request: v1::CreateContainerRequest) -> Result<String> {
    let sandbox = runtime.sandbox(&request.pod_sandbox_id)?;
    if !sandbox.is_ready() {
        return Err(RuntimeError::State(format!("sandbox {} is not running", sandbox.id)));
    }
    let config = request
        .config
        .ok_or_else(|| RuntimeError::Invalid("container config is not set".to_owned()))?;
    let wanted = config.image.as_ref().map(|i| i.image.as_str()).unwrap_or_default();
    let image = runtime.images.find(wanted).ok_or_else(|| RuntimeError::NotFound {
        kind: "image",
        id: wanted.to_owned(),
    })?;
    let stop_signal = match signals::from_cri(config.stop_signal()) {
        Some(signal) => signal,
        None if image.settings.stop_signal.is_empty() => SIGTERM,
        None => signals::number(&image.settings.stop_signal)
            .ok_or_else(|| RuntimeError::Invalid(format!("unknown stop signal {:?}", image.settings.stop_signal)))?,
    };
    let id = super::new_id()?;
    let sandbox_config = sandbox.config();
    let dir = runtime.container_dir(&id);
    let places = Places {
        store: &runtime.images,
        container: &dir,
        sandbox: &sandbox.dir,
        shim: &sandbox.shim_dir,
        cgroup_parent: &runtime.config.cgroup_parent,
    };
    let (spec, identity) = container_spec::build(&id, &config, &sandbox_config, &image, &sandbox.hostname(), &places)?;
    let volumes = spec.images.iter().flat_map(|i| i.layers.iter().cloned());
    let record = ContainerRecord {
        id: id.clone(),
        sandbox_id: sandbox.id.clone(),
        created_at: sys::now(),
        image_id: image.id.clone(),
        image_ref: image.digests.first().unwrap_or(&image.id).clone(),
        stop_signal,
        log_path: spec
            .log
            .as_ref()
            .map(|p| p.to_string_lossy().into_owned())
            .unwrap_or_default(),
        cgroup: spec.cgroup.clone(),
        user: Some(v1::LinuxContainerUser {
            uid: i64::from(identity.uid),
            gid: i64::from(identity.gid),
            supplemental_groups: identity.groups.iter().map(|g| i64::from(*g)).collect(),
        }),
        layers: image.layers.iter().cloned().chain(volumes).collect(),
        own_pid_namespace: spec.pid == PidNamespace::Own,
        config: Some(config),
        ..ContainerRecord::default()
    };
    let container = Arc::new(Container::new(runtime, record));
    runtime.add_container(&container)?;
    if let Err(error) = write(&container, &spec) {
        runtime.drop_container(&id);
        if let Err(undo) = files::remove_tree(&dir) {
            tracing::warn!(container = id, error = %undo, "container that could not be made left files");
        }
        return Err(error);
    }
    runtime.publish(&sandbox.id, &id, v1::ContainerEventType::ContainerCreatedEvent);
    Ok(id)
}

fn write(container: &Container, spec: &ContainerSpec) -> Result<()> {
    for part in [&spec.root.upper, &spec.root.work, &spec.root.mountpoint] {
        std::fs::create_dir_all(part).map_err(at(part))?;
    }
    // The root's own mode is that of the upper directory.
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&spec.root.upper, mode).map_err(at(&spec.root.upper))?;
    let path = container.spec_path();
    let text = serde_json::to_vec(spec).map_err(|e| at(&path)(e.into()))?;
    std::fs::write(&path, text).map_err(at(&path))?;
    container.update(|_| {})
}

/// StartContainer. One that cannot start has ended, and says why.
pub async fn start(runtime: &Runtime, id: &str) -> Result<()> {
    let container = runtime.container(id)?;
    let _changing = container.changing.lock().await;
    let state = container.with(ContainerRecord::state);
    if state != v1::ContainerState::ContainerCreated {
        return Err(RuntimeError::State(format!(
            "container {} is in {} state",
            container.id,
            state.as_str_name()
        )));
    }
    let shim = runtime.sandbox(&container.sandbox_id)?.shim()?;
    let call = Call::Start {
        spec: container.spec_path(),
    };
    match shim.call(call, &[]).await {
        Ok((answer, _)) => container.update(|r| {
            if r.finished_at == 0 {
                r.pid = answer.pid;
                r.started_at = sys::now();
            }
        })?,
        Err(error) => {
            let message = format!("failed to start container {:?}: {error}", container.id);
            container.update(|r| {
                r.finished_at = sys::now();
                r.exit_code = 128;
                r.reason = "StartError".to_owned();
                r.message.clone_from(&message);
            })?;
            return Err(RuntimeError::Shim(message));
        }
    }
    runtime.publish(
        &container.sandbox_id,
        &container.id,
        v1::ContainerEventType::ContainerStartedEvent,
    );
    Ok(())
}

async fn signal(runtime: &Runtime, container: &Container, signal: i32, all: bool) -> Result<()> {
    let shim = runtime.sandbox(&container.sandbox_id)?.shim()?;
    let call = Call::Signal {
        id: container.id.clone(),
        signal,
        all,
    };
    match shim.call(call, &[]).await {
        // It ended, or the shim with it, while it was asked.
        Err(_) if !container.is_running() => Ok(()),
        other => other.map(drop),
    }
}

/// Ends a running container at once.
pub async fn kill(runtime: &Runtime, container: &Container) -> Result<()> {
    if !container.is_running() {
        return Ok(());
    }
    let all = !container.with(|r| r.own_pid_namespace);
    signal(runtime, container, SIGKILL, all).await?;
    tokio::time::timeout(LAST_BREATH, container.ended()).await.map_err(|_| {
        RuntimeError::Deadline(format!(
            "an error occurs during waiting for container {:?} to be killed",
            container.id
        ))
    })
}

/// StopContainer: politely first, where there are seconds for it.
pub async fn stop(runtime: &Runtime, id: &str, seconds: i64) -> Result<()> {
    let container = match runtime.container(id) {
        Err(RuntimeError::NotFound { .. }) => return Ok(()),
        other => other?,
    };
    if !container.is_running() {
        return Ok(());
    }
    if let Some(grace) = u64::try_from(seconds).ok().filter(|s| *s > 0) {
        signal(runtime, &container, container.with(|r| r.stop_signal), false).await?;
        let grace = Duration::from_secs(grace);
        if tokio::time::timeout(grace, container.ended()).await.is_ok() {
            return Ok(());
        }
    }
    kill(runtime, &container).await
}

/// RemoveContainer, also a running one.
pub async fn remove(runtime: &Runtime, id: &str) -> Result<()> {
    let container = match runtime.container(id) {
        Err(RuntimeError::NotFound { .. }) => return Ok(()),
        other => other?,
    };
    let _changing = container.changing.lock().await;
    kill(runtime, &container).await?;
    match runtime.sandbox(&container.sandbox_id).and_then(|s| s.shim()) {
        Ok(shim) => {
            let call = Call::Remove {
                id: container.id.clone(),
            };
            shim.call(call, &[]).await?;
        }
        // Without its shim the group is all that is left of it.
        Err(_) => runtime.remove_cgroup(&container.with(|r| r.cgroup.clone()))?,
    }
    let dir = container.dir.clone();
    let removed = tokio::task::spawn_blocking(move || files::remove_tree(&dir)).await;
    match removed {
        Ok(Err(e)) => return Err(at(&container.dir)(e)),
        Err(e) => return Err(RuntimeError::Shim(format!("remove {}: {e}", container.dir.display()))),
        Ok(Ok(())) => {}
    }
    runtime.drop_container(&container.id);
    let image = container.with(|r| r.image_id.clone());
    if runtime.images.find(&image).is_none() {
        // The image was removed while the container stood on it.
        let (images, used) = (runtime.images.clone(), runtime.used_layers());
        let collected = tokio::task::spawn_blocking(move || images.collect(&used)).await;
        if let Ok(Err(error)) = collected {
            tracing::warn!(%error, "layers of a removed image");
        }
    }
    runtime.publish(
        &container.sandbox_id,
        &container.id,
        v1::ContainerEventType::ContainerDeletedEvent,
    );
    Ok(())
}

/// UpdateContainerResources: what is 0 or empty stays as it is.
pub async fn update_resources(runtime: &Runtime, request: v1::UpdateContainerResourcesRequest) -> Result<()> {
    let container = runtime.container(&request.container_id)?;
    let _changing = container.changing.lock().await;
    let new = request.linux.unwrap_or_default();
    let state = container.with(ContainerRecord::state);
    if state == v1::ContainerState::ContainerExited {
        return Err(RuntimeError::State(format!(
            "container {} is not running",
            container.id
        )));
    }
    if state == v1::ContainerState::ContainerRunning {
        let group = container.with(|r| r.cgroup.clone());
        runtime
            .hierarchy
            .apply(&group, &container_spec::resources(&new))
            .map_err(|e| RuntimeError::Shim(format!("failed to update container resources: {e}")))?;
    }
    let mut merged = container
        .with(ContainerRecord::config)
        .linux
        .and_then(|l| l.resources)
        .unwrap_or_default();
    merge(&mut merged, new);
    let mut spec = container.spec()?;
    spec.resources = Resources {
        pids: spec.resources.pids,
        ..container_spec::resources(&merged)
    };
    let path = container.spec_path();
    let text = serde_json::to_vec(&spec).map_err(|e| at(&path)(e.into()))?;
    crate::image::store::write_atomically(&path, &text).map_err(at(&path))?;
    container.update(|r| {
        let config = r.config.get_or_insert_default();
        config.annotations.extend(request.annotations);
        config.linux.get_or_insert_default().resources = Some(merged);
    })
}

fn merge(have: &mut v1::LinuxContainerResources, new: v1::LinuxContainerResources) {
    for (to, from) in [
        (&mut have.cpu_period, new.cpu_period),
        (&mut have.cpu_quota, new.cpu_quota),
        (&mut have.cpu_shares, new.cpu_shares),
        (&mut have.memory_limit_in_bytes, new.memory_limit_in_bytes),
        (&mut have.oom_score_adj, new.oom_score_adj),
        (&mut have.memory_swap_limit_in_bytes, new.memory_swap_limit_in_bytes),
    ] {
        if from != 0 {
            *to = from;
        }
    }
    for (to, from) in [
        (&mut have.cpuset_cpus, new.cpuset_cpus),
        (&mut have.cpuset_mems, new.cpuset_mems),
    ] {
        if !from.is_empty() {
            *to = from;
        }
    }
    have.unified.extend(new.unified);
}

/// ReopenContainerLog, after the file was renamed.
pub async fn reopen_log(runtime: &Runtime, id: &str) -> Result<()> {
    let container = runtime.container(id)?;
    if !container.is_running() {
        return Err(RuntimeError::State(format!(
            "container {} is not running",
            container.id
        )));
    }
    let shim = runtime.sandbox(&container.sandbox_id)?.shim()?;
    let call = Call::ReopenLog {
        id: container.id.clone(),
    };
    shim.call(call, &[]).await.map(drop)
}
