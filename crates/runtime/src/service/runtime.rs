//! The runtime: what it knows of sandboxes and containers, and how it comes to know it again after a restart.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cri::v1;
use tokio::sync::mpsc;

use super::connection::Event;
use super::container::Container;
use super::error::{Result, RuntimeError, at};
use super::sandbox::Sandbox;
use super::streams::{self, Streams};
use super::{restore, status};
use crate::cgroup::Hierarchy;
use crate::image::archive;
use crate::image::store::{Image, ImageStore};
use crate::registry::{Puller, Registries, Resolve};
use crate::sealed_program::SealedProgram;
use crate::spec::Exit;
use crate::sys;

/// Where a runtime keeps its things and what it uses.
#[derive(Clone)]
pub struct RuntimeConfig {
    /// Images, records, writable layers. On a disk.
    pub root: PathBuf,
    /// Sockets and namespaces of shims; gone after a reboot. A short path: a socket's has at most 107 bytes.
    pub state: PathBuf,
    /// Of containers whose sandbox names none.
    pub cgroup_parent: String,
    /// The program and its arguments that run a shim; the sandbox's directory is added.
    pub shim: Vec<String>,
    /// The pod network. Without one only pods in the node's network can be ready for use.
    pub cni: Option<Arc<cni::Cni>>,
    /// Names of RuntimeClass handlers that mean this runtime, besides the empty one.
    pub handlers: Vec<String>,
    /// Mirrors, credentials and proxies of registries.
    pub registries: Registries,
    /// Finds the addresses of registries.
    pub resolve: Resolve,
    /// Archives that are imported when the runtime is opened.
    pub image_dir: Option<PathBuf>,
}

/// Events that may wait for a listener.
const MOST_EVENTS: usize = 4096;

#[derive(Default)]
struct Known {
    sandboxes: HashMap<String, Arc<Sandbox>>,
    containers: HashMap<String, Arc<Container>>,
}

/// A container runtime. Its services are what CRI asks of it.
pub struct Runtime {
    pub(super) config: RuntimeConfig,
    pub(super) images: Arc<ImageStore>,
    pub(super) puller: Puller,
    pub(super) hierarchy: Hierarchy,
    pub(super) streams: Streams,
    /// What shims are made of.
    pub(super) program: SealedProgram,
    known: Mutex<Known>,
    subscribers: Mutex<Vec<mpsc::Sender<v1::ContainerEventResponse>>>,
    me: Weak<Runtime>,
    /// Held as long as the runtime lives: two on one directory would undo each other's work.
    _lock: File,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("root", &self.config.root)
            .finish_non_exhaustive()
    }
}

fn take_lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let file = File::create(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let text = format!("{}: another runtime uses the directory", root.display());
            Err(RuntimeError::State(text))
        }
        Err(TryLockError::Error(error)) => Err(at(&path)(error)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn by_id<T>(map: &HashMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(found) = map.get(id) {
        return Some(found.clone());
    }
    let mut begins = map.iter().filter(|(k, _)| !id.is_empty() && k.starts_with(id));
    match (begins.next(), begins.next()) {
        (Some((_, found)), None) => Some(found.clone()),
        _ => None,
    }
}

impl Runtime {
    /// Opens what is at `root`, goes on with the pods whose shims still run, and clears away what is half-made.
    pub async fn open(config: RuntimeConfig) -> Result<Arc<Self>> {
        for dir in [
            config.state.clone(),
            config.root.join("sandboxes"),
            config.root.join("containers"),
        ] {
            std::fs::create_dir_all(&dir).map_err(at(&dir))?;
        }
        // Images hold programs that are root for whoever runs them, and pods' shared memory is everybody's to write.
        use std::os::unix::fs::PermissionsExt;
        for dir in [&config.root, &config.state] {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(at(dir))?;
        }
        let lock = take_lock(&config.root)?;
        let images = Arc::new(ImageStore::open(&config.root.join("images"))?);
        let puller = Puller::new(config.registries.clone(), config.resolve.clone());
        let hierarchy = Hierarchy::detect().map_err(at(Path::new("/proc/self/mountinfo")))?;
        let program = Path::new(config.shim.first().map_or("", String::as_str));
        let program = SealedProgram::new(program, &config.root).map_err(at(program))?;
        let loopback = Path::new("the loopback interface");
        let (streams, listener) = Streams::listen().await.map_err(at(loopback))?;
        let runtime = Arc::new_cyclic(|me| Self {
            images,
            puller,
            hierarchy,
            streams,
            program,
            known: Mutex::default(),
            subscribers: Mutex::default(),
            me: me.clone(),
            _lock: lock,
            config,
        });
        tokio::spawn(streams::serve(runtime.weak(), listener));
        restore::restore(&runtime).await?;
        if let Some(dir) = runtime.config.image_dir.clone() {
            let importer = runtime.clone();
            let imported = tokio::task::spawn_blocking(move || archive::import_all(&importer.images, &dir)).await;
            for (path, result) in imported.unwrap_or_default() {
                match result {
                    Ok(images) => tracing::info!(path = %path.display(), count = images.len(), "imported images"),
                    Err(error) => tracing::error!(path = %path.display(), %error, "import of images failed"),
                }
            }
        }
        Ok(runtime)
    }

    /// Imports every image of an archive that fits this machine.
    pub async fn import(&self, path: &Path) -> Result<Vec<Image>> {
        let (runtime, path) = (self.strong()?, path.to_owned());
        tokio::task::spawn_blocking(move || archive::import(&runtime.images, &path))
            .await
            .map_err(|e| RuntimeError::Shim(format!("import: {e}")))?
            .map_err(RuntimeError::from)
    }

    pub(super) fn strong(&self) -> Result<Arc<Self>> {
        self.me
            .upgrade()
            .ok_or_else(|| RuntimeError::State("the runtime is going away".to_owned()))
    }

    pub(super) fn weak(&self) -> Weak<Self> {
        self.me.clone()
    }

    pub(super) fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.config.root.join("sandboxes").join(id)
    }

    pub(super) fn container_dir(&self, id: &str) -> PathBuf {
        self.config.root.join("containers").join(id)
    }

    /// Short, for the socket in it.
    pub(super) fn shim_dir(&self, id: &str) -> PathBuf {
        self.config.state.join(id.get(..16).unwrap_or(id))
    }

    pub(super) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        by_id(&lock(&self.known).sandboxes, id).ok_or_else(|| RuntimeError::sandbox(id))
    }

    pub(super) fn container(&self, id: &str) -> Result<Arc<Container>> {
        by_id(&lock(&self.known).containers, id).ok_or_else(|| RuntimeError::container(id))
    }

    pub(super) fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        lock(&self.known).sandboxes.values().cloned().collect()
    }

    pub(super) fn containers(&self) -> Vec<Arc<Container>> {
        lock(&self.known).containers.values().cloned().collect()
    }

    pub(super) fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        let known = lock(&self.known);
        let own = known.containers.values().filter(|c| c.sandbox_id == sandbox);
        own.cloned().collect()
    }

    /// Refuses a second one for the same attempt of the same pod.
    pub(super) fn add_sandbox(&self, sandbox: &Arc<Sandbox>, config: &v1::PodSandboxConfig) -> Result<()> {
        let mut known = lock(&self.known);
        if let Some(other) = known
            .sandboxes
            .values()
            .find(|s| s.config().metadata == config.metadata)
            && config.metadata.is_some()
        {
            let name = config.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default();
            return Err(RuntimeError::Exists(format!(
                "failed to reserve sandbox name {name:?}: it is reserved for {:?}",
                other.id
            )));
        }
        known.sandboxes.insert(sandbox.id.clone(), sandbox.clone());
        Ok(())
    }

    /// Refuses a second one for the same attempt in the same sandbox.
    pub(super) fn add_container(&self, container: &Arc<Container>) -> Result<()> {
        let metadata = |c: &Container| c.with(|r| r.config.as_ref().and_then(|c| c.metadata.clone()));
        let mut known = lock(&self.known);
        let wanted = metadata(container);
        let same = |c: &&Arc<Container>| c.sandbox_id == container.sandbox_id && metadata(c) == wanted;
        if let Some(other) = known.containers.values().find(same)
            && wanted.is_some()
        {
            return Err(RuntimeError::Exists(format!(
                "failed to reserve container name {:?}: it is reserved for {:?}",
                wanted.map(|m| m.name).unwrap_or_default(),
                other.id
            )));
        }
        known.containers.insert(container.id.clone(), container.clone());
        Ok(())
    }

    pub(super) fn drop_sandbox(&self, id: &str) {
        lock(&self.known).sandboxes.remove(id);
    }

    pub(super) fn drop_container(&self, id: &str) {
        lock(&self.known).containers.remove(id);
    }

    pub(super) fn restore_sandbox(&self, sandbox: &Arc<Sandbox>) {
        lock(&self.known).sandboxes.insert(sandbox.id.clone(), sandbox.clone());
    }

    pub(super) fn restore_container(&self, container: &Arc<Container>) {
        lock(&self.known)
            .containers
            .insert(container.id.clone(), container.clone());
    }

    pub(super) fn has_network(&self) -> bool {
        self.config.cni.is_some()
    }

    /// Layers that a container stands on.
    pub(super) fn used_layers(&self) -> BTreeSet<String> {
        let containers = self.containers();
        containers.iter().flat_map(|c| c.with(|r| r.layers.clone())).collect()
    }

    /// What a shim said.
    pub(super) fn heard(&self, sandbox_id: &str, event: Event) {
        match event {
            Event::Exited { id, exit } => {
                if let Ok(container) = self.container(&id) {
                    self.container_exited(&container, &exit);
                }
            }
            Event::Lost => {
                // One that was told to leave was taken out before.
                if let Ok(sandbox) = self.sandbox(sandbox_id)
                    && sandbox.shim().is_ok()
                {
                    sandbox.set_shim(None);
                    tracing::warn!(sandbox = sandbox_id, "the sandbox's shim ended unexpectedly");
                    self.sandbox_lost(&sandbox);
                }
            }
        }
    }

    pub(super) fn container_exited(&self, container: &Container, exit: &Exit) {
        match container.exited(exit) {
            Ok(true) => self.publish(
                &container.sandbox_id,
                &container.id,
                v1::ContainerEventType::ContainerStoppedEvent,
            ),
            Ok(false) => {}
            Err(error) => tracing::error!(container = container.id, %error, "end of the container is not on disk"),
        }
    }

    /// The shim is gone: what it left on disk is believed, what still runs is killed and has ended.
    pub(super) fn sandbox_lost(&self, sandbox: &Sandbox) {
        for container in self.containers_of(&sandbox.id) {
            if !container.is_running() {
                continue;
            }
            let path = crate::shim::exit_file(&sandbox.shim_dir, &container.id);
            let kept = std::fs::read(path).ok();
            if let Some(exit) = kept.and_then(|text| serde_json::from_slice::<Exit>(&text).ok()) {
                self.container_exited(&container, &exit);
                continue;
            }
            let group = container.with(|r| r.cgroup.clone());
            for pid in self.hierarchy.processes(&group) {
                sys::kill(pid);
            }
            if let Err(error) = container.lost("the process that held the container ended") {
                tracing::error!(container = container.id, %error, "end of the container is not on disk");
            }
            self.publish(
                &sandbox.id,
                &container.id,
                v1::ContainerEventType::ContainerStoppedEvent,
            );
        }
        if sandbox.is_ready() {
            if let Err(error) = sandbox.update(|r| r.ready = false) {
                tracing::error!(sandbox = sandbox.id, %error, "end of the sandbox is not on disk");
            }
            self.publish(&sandbox.id, &sandbox.id, v1::ContainerEventType::ContainerStoppedEvent);
        }
    }

    /// Removes a group whose processes were killed.
    pub(super) fn remove_cgroup(&self, group: &str) -> Result<()> {
        for _ in 0..20 {
            match self.hierarchy.remove(group) {
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                    sys::wait_for_exit(&self.hierarchy.processes(group)).map_err(at(Path::new(group)))?;
                }
                other => return other.map_err(at(Path::new(group))),
            }
        }
        self.hierarchy.remove(group).map_err(at(Path::new(group)))
    }

    /// Tells every listener. One that went away, or does not read, is forgotten: its stream ends, and it asks anew.
    pub(super) fn publish(&self, sandbox_id: &str, id: &str, kind: v1::ContainerEventType) {
        let mut subscribers = lock(&self.subscribers);
        if subscribers.is_empty() {
            return;
        }
        let sandbox = self.sandbox(sandbox_id).ok();
        let statuses = self
            .containers_of(sandbox_id)
            .iter()
            .map(|c| c.with(status::container_status))
            .collect();
        let event = v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind as i32,
            created_at: sys::now(),
            pod_sandbox_status: sandbox.map(|s| status::sandbox_status(&s.record())),
            containers_statuses: statuses,
        };
        subscribers.retain(|s| s.try_send(event.clone()).is_ok());
    }

    pub(super) fn subscribe(&self) -> mpsc::Receiver<v1::ContainerEventResponse> {
        let (send, receive) = mpsc::channel(MOST_EVENTS);
        lock(&self.subscribers).push(send);
        receive
    }
}
