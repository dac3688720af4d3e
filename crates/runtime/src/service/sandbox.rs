//! Pod sandboxes: a shim with the pod's namespaces, its place in the network, and the files its containers share.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use cri::v1;
use tokio::sync::watch;

use super::connection::Connection;
use super::error::{Result, RuntimeError, at};
use super::record::{self, SandboxRecord};
use super::stats::Meter;
use super::{Runtime, container, network};
use crate::shim::{self, message::Call};
use crate::spec::SandboxSpec;
use crate::sys;

/// Of the sandbox's directory below `sandboxes`.
const RECORD: &str = "record";
/// Of the shim's directory: locked while it is started.
const STARTING: &str = "starting";

#[derive(Debug)]
pub(crate) struct Sandbox {
    pub id: String,
    /// On disk: record, hosts, hostname, resolv.conf.
    pub dir: PathBuf,
    /// Of the shim: its socket, the namespaces, shared memory.
    pub shim_dir: PathBuf,
    record: watch::Sender<SandboxRecord>,
    shim: Mutex<Option<Arc<Connection>>>,
    pub meter: Meter,
    /// One of run, stop and remove at a time.
    pub changing: tokio::sync::Mutex<()>,
}

impl Sandbox {
    pub(crate) fn new(runtime: &Runtime, record: SandboxRecord) -> Self {
        Self {
            dir: runtime.sandbox_dir(&record.id),
            shim_dir: runtime.shim_dir(&record.id),
            id: record.id.clone(),
            record: watch::Sender::new(record),
            shim: Mutex::new(None),
            meter: Meter::default(),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn record(&self) -> SandboxRecord {
        self.record.borrow().clone()
    }

    pub(crate) fn config(&self) -> v1::PodSandboxConfig {
        self.record.borrow().config.clone().unwrap_or_default()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.record.borrow().ready
    }

    /// Changes the record in memory and on disk.
    pub fn update(&self, change: impl FnOnce(&mut SandboxRecord)) -> Result<()> {
        self.record.send_modify(change);
        record::save(&self.dir.join(RECORD), &self.record())
    }

    pub(crate) fn shim(&self) -> Result<Arc<Connection>> {
        let shim = self.shim.lock().unwrap_or_else(PoisonError::into_inner);
        shim.clone()
            .ok_or_else(|| RuntimeError::State(format!("sandbox {} is not running", self.id)))
    }

    pub(crate) fn set_shim(&self, shim: Option<Arc<Connection>>) {
        *self.shim.lock().unwrap_or_else(PoisonError::into_inner) = shim;
    }

    pub(crate) fn hostname(&self) -> String {
        let hostname = self.config().hostname;
        if hostname.is_empty() { node_name() } else { hostname }
    }

    pub(crate) fn load(dir: &Path) -> Option<SandboxRecord> {
        record::load(&dir.join(RECORD))
    }
}

fn node_name() -> String {
    nix::unistd::gethostname()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

pub(crate) fn namespaces(config: &v1::PodSandboxConfig) -> v1::NamespaceOption {
    config
        .linux
        .as_ref()
        .and_then(|l| l.security_context.as_ref())
        .and_then(|s| s.namespace_options.clone())
        .unwrap_or_default()
}

pub(crate) fn has_own_network(config: &v1::PodSandboxConfig) -> bool {
    namespaces(config).network() != v1::NamespaceMode::Node
}

/// resolv.conf(5) of the pod; without settings it is the node's.
pub(crate) fn resolv_conf(config: Option<&v1::DnsConfig>, node: &str) -> String {
    let Some(dns) = config.filter(|d| !d.servers.is_empty() || !d.searches.is_empty() || !d.options.is_empty()) else {
        return node.to_owned();
    };
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

pub(crate) fn shim_spec(id: &str, config: &v1::PodSandboxConfig) -> Result<SandboxSpec> {
    let options = namespaces(config);
    if options
        .userns_options
        .as_ref()
        .is_some_and(|u| u.mode() == v1::NamespaceMode::Pod)
    {
        return Err(RuntimeError::Unsupported(
            "user namespaces are not supported by the runtime".to_owned(),
        ));
    }
    let node = v1::NamespaceMode::Node;
    let linux = config.linux.clone().unwrap_or_default();
    let mut sysctls: Vec<(String, String)> = linux.sysctls.into_iter().collect();
    sysctls.sort();
    Ok(SandboxSpec {
        id: id.to_owned(),
        hostname: config.hostname.clone(),
        private_network: options.network() != node,
        private_ipc: options.ipc() != node,
        shared_pid: options.pid() == v1::NamespaceMode::Pod,
        sysctls,
    })
}

/// Makes the shim of a sandbox whose directories are there, and waits until it answers.
async fn start_shim(runtime: &Runtime, sandbox: &Sandbox, spec: &SandboxSpec) -> Result<()> {
    let dir = &sandbox.shim_dir;
    let containers = dir.join("containers");
    std::fs::create_dir_all(&containers).map_err(at(&containers))?;
    let path = dir.join(shim::SPEC);
    let text = serde_json::to_vec(spec).map_err(|e| RuntimeError::Shim(e.to_string()))?;
    std::fs::write(&path, text).map_err(at(&path))?;
    let starting = File::create(dir.join(STARTING)).map_err(at(dir))?;
    starting.lock().map_err(at(dir))?;
    let [program, args @ ..] = runtime.config.shim.as_slice() else {
        return Err(RuntimeError::Shim("no command for the shim is configured".to_owned()));
    };
    let out = tokio::process::Command::new(runtime.program.path())
        .arg0(program)
        .args(args)
        .arg(dir)
        // The lock is the program's from here on: it ends with it, whatever becomes of this process.
        .stdin(Stdio::from(starting))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .output()
        .await
        .map_err(|e| RuntimeError::Shim(format!("run {program}: {e}")))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stdout);
        let said = said.trim().trim_start_matches("error: ");
        return Err(RuntimeError::Shim(format!(
            "failed to start the shim of sandbox {}: {said}",
            sandbox.id
        )));
    }
    connect(runtime, sandbox)
}

/// Waits until whoever was starting a shim in this directory has come to an end of it.
pub async fn started(dir: &Path) -> Result<()> {
    let path = dir.join(STARTING);
    let file = match File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(at(&path))?,
    };
    let waited = tokio::task::spawn_blocking(move || file.lock()).await;
    waited
        .map_err(|e| RuntimeError::Shim(format!("wait for {}: {e}", path.display())))?
        .map_err(at(&path))
}

/// Connects to the sandbox's shim and hears of what happens there.
pub fn connect(runtime: &Runtime, sandbox: &Sandbox) -> Result<()> {
    let (weak, id) = (runtime.weak(), sandbox.id.clone());
    let connection = Connection::open(&sandbox.shim_dir, move |event| {
        if let Some(runtime) = weak.upgrade() {
            runtime.heard(&id, event);
        }
    })
    .map_err(at(&sandbox.shim_dir.join(shim::SOCKET)))?;
    sandbox.set_shim(Some(connection));
    Ok(())
}

fn write_files(sandbox: &Sandbox, config: &v1::PodSandboxConfig) -> Result<()> {
    let node = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let files = [
        (
            "resolv.conf",
            resolv_conf(config.dns_config.as_ref(), &node("/etc/resolv.conf")),
        ),
        ("hosts", node("/etc/hosts")),
        ("hostname", format!("{}\n", sandbox.hostname())),
    ];
    for (name, text) in files {
        let path = sandbox.dir.join(name);
        std::fs::write(&path, text).map_err(at(&path))?;
    }
    Ok(())
}

/// RunPodSandbox. What was begun is undone when a step fails.
pub async fn run(runtime: &Runtime, config: v1::PodSandboxConfig, handler: String) -> Result<String> {
    if !handler.is_empty() && !runtime.config.handlers.contains(&handler) {
        return Err(RuntimeError::Invalid(format!(
            "no runtime for {handler:?} is configured"
        )));
    }
    let id = super::new_id()?;
    let spec = shim_spec(&id, &config)?;
    let record = SandboxRecord {
        id: id.clone(),
        config: Some(config.clone()),
        created_at: sys::now(),
        networked: spec.private_network && runtime.has_network(),
        runtime_handler: handler,
        ..SandboxRecord::default()
    };
    let sandbox = Arc::new(Sandbox::new(runtime, record));
    runtime.add_sandbox(&sandbox, &config)?;
    let _changing = sandbox.changing.lock().await;
    let made = make(runtime, &sandbox, &config, &spec).await;
    match made {
        Ok(()) => {
            runtime.publish(&id, &id, v1::ContainerEventType::ContainerCreatedEvent);
            runtime.publish(&id, &id, v1::ContainerEventType::ContainerStartedEvent);
            Ok(id)
        }
        Err(error) => {
            clear(runtime, &sandbox).await;
            Err(error)
        }
    }
}

async fn make(runtime: &Runtime, sandbox: &Sandbox, config: &v1::PodSandboxConfig, spec: &SandboxSpec) -> Result<()> {
    std::fs::create_dir_all(&sandbox.dir).map_err(at(&sandbox.dir))?;
    // First on disk, so that whatever follows is found again.
    sandbox.update(|_| {})?;
    write_files(sandbox, config)?;
    if !config.log_directory.is_empty() {
        let dir = Path::new(&config.log_directory);
        std::fs::create_dir_all(dir).map_err(at(dir))?;
    }
    start_shim(runtime, sandbox, spec).await?;
    let ips = if sandbox.record().networked {
        network::add(runtime, sandbox).await?
    } else {
        Vec::new()
    };
    sandbox.update(|r| {
        r.ips = ips;
        r.ready = true;
        r.made = true;
    })
}

/// Ends the shim and all in it, and gives up the network. What is gone already is gone.
pub async fn dismantle(runtime: &Runtime, sandbox: &Sandbox) -> Result<()> {
    for container in runtime.containers_of(&sandbox.id) {
        container::kill(runtime, &container).await?;
    }
    if sandbox.record().networked {
        network::delete(runtime, sandbox).await?;
        sandbox.update(|r| r.networked = false)?;
    }
    if let Ok(shim) = sandbox.shim() {
        // Taken out first: an end of its connection is no loss from here on.
        sandbox.set_shim(None);
        if let Err(error) = shim.call(Call::Shutdown, &[]).await {
            tracing::debug!(sandbox = sandbox.id, %error, "shutdown of the shim");
        }
        shim.closed().await;
    }
    shim::destroy(&sandbox.shim_dir);
    files::remove_tree(&sandbox.shim_dir).map_err(at(&sandbox.shim_dir))
}

/// Of one that was never finished: nothing of it stays. Where that fails it is shown as one that is not ready, so that
/// the kubelet has it removed when that can be done.
pub async fn clear(runtime: &Runtime, sandbox: &Sandbox) {
    let cleared = match dismantle(runtime, sandbox).await {
        Ok(()) => forget(runtime, sandbox),
        failed => failed,
    };
    if let Err(error) = cleared {
        tracing::warn!(sandbox = sandbox.id, %error, "sandbox that could not be made is not wholly gone");
        if let Err(error) = sandbox.update(|r| r.made = true) {
            tracing::warn!(sandbox = sandbox.id, %error, "and that is not on disk");
        }
    }
}

/// StopPodSandbox.
pub async fn stop(runtime: &Runtime, id: &str) -> Result<()> {
    let sandbox = runtime.sandbox(id)?;
    let _changing = sandbox.changing.lock().await;
    stop_locked(runtime, &sandbox).await
}

async fn stop_locked(runtime: &Runtime, sandbox: &Sandbox) -> Result<()> {
    let was_ready = sandbox.is_ready();
    dismantle(runtime, sandbox).await?;
    if was_ready {
        sandbox.update(|r| r.ready = false)?;
        runtime.publish(&sandbox.id, &sandbox.id, v1::ContainerEventType::ContainerStoppedEvent);
    }
    Ok(())
}

/// RemovePodSandbox: with all its containers.
pub async fn remove(runtime: &Runtime, id: &str) -> Result<()> {
    let sandbox = match runtime.sandbox(id) {
        Err(RuntimeError::NotFound { .. }) => return Ok(()),
        other => other?,
    };
    let _changing = sandbox.changing.lock().await;
    stop_locked(runtime, &sandbox).await?;
    for container in runtime.containers_of(&sandbox.id) {
        container::remove(runtime, &container.id).await?;
    }
    runtime.publish(&sandbox.id, &sandbox.id, v1::ContainerEventType::ContainerDeletedEvent);
    forget(runtime, &sandbox)
}

/// Takes a sandbox without containers out of memory and off the disk.
fn forget(runtime: &Runtime, sandbox: &Sandbox) -> Result<()> {
    files::remove_tree(&sandbox.dir).map_err(at(&sandbox.dir))?;
    runtime.drop_sandbox(&sandbox.id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_settings_become_resolv_conf() {
        let dns = v1::DnsConfig {
            servers: vec!["10.0.0.10".into()],
            searches: vec!["a".into(), "b".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolv_conf(Some(&dns), "x"),
            "search a b\nnameserver 10.0.0.10\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(Some(&v1::DnsConfig::default()), "x\n"), "x\n");
        assert_eq!(resolv_conf(None, "x\n"), "x\n");
    }
}
