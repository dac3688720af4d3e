//! The kubelet itself: where pods come from, the workers they go to, and the runtime's events.

mod admit;
mod events;
mod mirror;
mod orphans;
mod resize;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use client::{Change, Client, EventRecorder, Indexer, Informer};
use cri::{ImageClient, RuntimeClient};
use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use k8s_openapi::api::core::v1::{Pod, Service};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::events::{RuntimeEvent, follow_runtime};
use self::resize::Allocations;
use crate::cgroups::Cgroups;
use crate::config::KubeletConfig;
use crate::cri_config::NodeSettings;
use crate::eviction::{self, Eviction, Pressures};
use crate::figures::Figures;
use crate::image_gc::ImageCollector;
use crate::images::Images;
use crate::machine::{self, Machine};
use crate::node::{self, NodeReporter};
use crate::node_context::NodeContext;
use crate::objects::Objects;
use crate::pod::PodExt;
use crate::pull_records::PullRecords;
use crate::runtime::Runtime;
use crate::shared_watch::SharedWatch;
use crate::sysctl::{Allowlist, SysctlError};
use crate::trust_bundles::TrustBundles;
use crate::worker::{Handle, Message};

/// Why the kubelet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// A file of the kubelet cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The kernel's settings are others than wanted.
    #[error(transparent)]
    Kernel(#[from] crate::KernelError),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// The cgroups of pods cannot be made.
    #[error("cgroups: {0}")]
    Cgroups(std::io::Error),
    /// The kernel settings that pods may have name none.
    #[error("allowed unsafe sysctls: {0}")]
    Sysctls(#[from] SysctlError),
    /// The thresholds of evictions cannot be used.
    #[error("eviction: {0}")]
    Eviction(#[from] crate::thresholds::ThresholdError),
    /// The server cannot listen.
    #[error("server: {0}")]
    Server(#[from] crate::server::ServerError),
}

/// A full look at the runtime, in case an event was lost.
const SAFETY_NET: Duration = Duration::from_secs(300);

/// Runs the kubelet until `shutdown`. Containers stay when it ends.
pub async fn run(
    config: KubeletConfig,
    client: Client,
    cri: (RuntimeClient, ImageClient),
    shutdown: CancellationToken,
) -> Result<(), KubeletError> {
    tokio::select! {
        outcome = start(config, client, cri) => outcome,
        () = shutdown.cancelled() => Ok(()),
    }
}

async fn start(config: KubeletConfig, client: Client, cri: (RuntimeClient, ImageClient)) -> Result<(), KubeletError> {
    directories(&config)?;
    crate::check_kernel(&config)?;
    let machine = config.machine.clone();
    let machine = machine.unwrap_or_else(|| Machine::detect(&config.root_dir));
    let runtime = Runtime::new(cri.0, cri.1);
    let version = wait_for(&runtime).await;
    let of_node = format!("spec.nodeName={}", config.node_name);
    let context = Arc::new(node_context(&config, &machine, &client, (runtime, &version))?);
    match context.runtime.status().await {
        Ok(status) => context.learn_handlers(&status),
        // The node's reporter asks again.
        Err(error) => tracing::warn!(%error, "status of the container runtime"),
    }
    context.images.take_over().await;
    let nudge = Arc::new(Notify::new());
    let reporter = NodeReporter {
        context: context.clone(),
        config: config.clone(),
        machine,
        runtime_version: format!("{}://{}", version.runtime_name, version.runtime_version),
        nudge: nudge.clone(),
    };
    let _reporter = AbortOnDropHandle::new(tokio::spawn(reporter.run()));
    let pods = Informer::start(&client, Client::collection::<Pod>("").fields(of_node), vec![]);
    let changes = pods.subscribe();
    let (manifests, _watcher) = crate::static_pods::follow(&config);
    let table = crate::server::PodTable::new(pods.clone());
    let _rotation = AbortOnDropHandle::new(tokio::spawn(crate::logs::rotate_forever(
        context.clone(),
        config.clone(),
    )));
    let server = crate::server::Server::bind(&config, context.clone(), table.clone()).await?;
    let _server = AbortOnDropHandle::new(tokio::spawn(server.run()));
    let images = Arc::new(ImageCollector::new(context.clone(), config.image_gc.clone()));
    let _images = AbortOnDropHandle::new(tokio::spawn(images.clone().run()));
    let (evictions, evicted) = mpsc::unbounded_channel();
    let manager = eviction::Manager {
        node: context.clone(),
        table: table.clone(),
        thresholds: config.eviction.thresholds()?,
        policy: config.eviction.clone(),
        images: images.clone(),
        evictions,
        nudge: nudge.clone(),
    };
    let _evictions = AbortOnDropHandle::new(tokio::spawn(manager.run()));
    let (events, runtime_events) = mpsc::channel(256);
    let _events = AbortOnDropHandle::new(tokio::spawn(follow_runtime(context.runtime.clone(), events, nudge)));
    let kubelet = Kubelet {
        context,
        config,
        workers: HashMap::new(),
        ending: HashMap::new(),
        static_pods: HashMap::new(),
        rejected: HashSet::new(),
        allocations: Allocations::default(),
        table,
        cleaned: false,
    };
    let sources = Sources {
        changes,
        manifests,
        events: runtime_events,
        evicted,
    };
    kubelet.dispatch(pods, sources).await;
    Ok(())
}

/// Makes the directories that the kubelet writes into.
fn directories(config: &KubeletConfig) -> Result<(), KubeletError> {
    use std::os::unix::fs::DirBuilderExt;
    let private = config.root_dir.join("pods");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(&private)
        .map_err(|source| KubeletError::Io {
            path: private.display().to_string(),
            source,
        })?;
    for dir in [config.pod_log_dir.clone(), config.container_log_links.clone()] {
        std::fs::create_dir_all(&dir).map_err(|source| KubeletError::Io {
            path: dir.display().to_string(),
            source,
        })?;
    }
    Ok(())
}

/// What everything on the node works with.
fn node_context(
    config: &KubeletConfig,
    machine: &Machine,
    client: &Client,
    (runtime, version): (Runtime, &cri::v1::VersionResponse),
) -> Result<NodeContext, KubeletError> {
    let of_node = format!("spec.nodeName={}", config.node_name);
    let cgroups = match config.pod_cgroups {
        true => Cgroups::new(&config.cgroup_root),
        false => Cgroups::none(),
    };
    cgroups.make_classes().map_err(KubeletError::Cgroups)?;
    let recorder = EventRecorder::limited(
        client.clone(),
        "kubelet",
        &config.node_name,
        Some((config.event_qps, config.event_burst)),
    );
    let by_namespace = Indexer::new("namespace", |o| vec![o.meta.namespace.to_string()]);
    let (_, allocatable) = node::capacity(machine, config);
    let sysctls = Allowlist::new(&machine.kernel, &config.allowed_unsafe_sysctls)?;
    let records = PullRecords::open(&config.root_dir, config.image_verification.clone());
    let records = records.map_err(|source| KubeletError::Io {
        path: config.root_dir.join("image_manager").display().to_string(),
        source,
    })?;
    let mut seed = [0; 16];
    getrandom::fill(&mut seed).map_err(KubeletError::Random)?;
    Ok(NodeContext {
        runtime_name: version.runtime_name.clone(),
        images: Images::new(runtime.clone(), recorder.clone(), records),
        sysctls,
        objects: Objects::new(client.clone()),
        trust_bundles: TrustBundles::new(client.clone(), seed),
        certificate_requests: SharedWatch::new(
            client.clone(),
            Client::collection::<PodCertificateRequest>("").fields(of_node),
            Vec::new,
        ),
        cgroups,
        settings: NodeSettings {
            node_name: config.node_name.clone(),
            pod_log_dir: config.pod_log_dir.to_string_lossy().into_owned(),
            seccomp_root: config.root_dir.join("seccomp").to_string_lossy().into_owned(),
            seccomp_default: config.seccomp_default,
            cluster_dns: config.cluster_dns.clone(),
            cluster_domain: config.cluster_domain.clone(),
            resolv_conf: std::fs::read_to_string(&config.resolv_conf).unwrap_or_default(),
            memory: machine.memory,
            memory_volumes: config.memory_volumes,
            hugepages: machine.hugepages.iter().map(|(name, _)| name.clone()).collect(),
            least_oom_score_adj: config.least_oom_score_adj,
        },
        root_dir: config.root_dir.clone(),
        container_log_links: config.container_log_links.clone(),
        services: Informer::start(client, Client::collection::<Service>(""), vec![by_namespace]),
        host_ips: config.node_ips.iter().map(ToString::to_string).collect(),
        allocatable,
        pod_pids_limit: config.pod_pids_limit,
        handlers: RwLock::default(),
        apparmor: machine::has_apparmor(),
        pressures: Pressures::default(),
        network_gate: config.network_gate.clone(),
        figures: Figures::default(),
        recorder,
        runtime,
        client: client.clone(),
    })
}

/// The runtime may start after the kubelet.
async fn wait_for(runtime: &Runtime) -> cri::v1::VersionResponse {
    let mut delay = Duration::from_millis(50);
    loop {
        match runtime.version().await {
            Ok(version) => return version,
            Err(error) => {
                tracing::info!(%error, "waiting for the container runtime");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(2));
            }
        }
    }
}

/// From where the kubelet hears what there is to do.
struct Sources {
    changes: mpsc::UnboundedReceiver<Change>,
    manifests: mpsc::UnboundedReceiver<BTreeMap<String, Pod>>,
    events: mpsc::Receiver<RuntimeEvent>,
    evicted: mpsc::UnboundedReceiver<Eviction>,
}

struct Kubelet {
    context: Arc<NodeContext>,
    config: KubeletConfig,
    /// By uid.
    workers: HashMap<String, Handle>,
    /// Those of pods that nobody wants any more, until they have ended.
    ending: HashMap<String, Handle>,
    /// Static pods by `namespace/name`.
    static_pods: HashMap<String, Pod>,
    rejected: HashSet<String>,
    allocations: Allocations,
    table: crate::server::PodTable,
    /// What earlier kubelets left has been cleaned away.
    cleaned: bool,
}

impl Kubelet {
    async fn dispatch(
        mut self,
        pods: client::Cache,
        Sources {
            mut changes,
            mut manifests,
            mut events,
            mut evicted,
        }: Sources,
    ) {
        let mut net = tokio::time::interval(SAFETY_NET);
        net.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        net.tick().await;
        let mut manifests_read = self.config.static_pod_path.is_none();
        loop {
            tokio::select! {
                Some(change) = changes.recv() => self.pod_changed(&change).await,
                Some(files) = manifests.recv() => {
                    manifests_read = true;
                    self.manifests_changed(files).await;
                }
                Some(event) = events.recv() => match event {
                    RuntimeEvent::Pod(uid) => {
                        for worker in self.workers.get(&uid).into_iter().chain(self.ending.get(&uid)) {
                            worker.send(Message::Runtime);
                        }
                    }
                    RuntimeEvent::Anything => self.wake_all(),
                },
                Some(eviction) = evicted.recv() => {
                    if let Some(worker) = self.workers.get(&eviction.uid) {
                        worker.send(Message::Evict(Box::new(eviction)));
                    }
                }
                () = pods.synced(), if !self.cleaned && manifests_read => {
                    // Whoever is wanted must be known before anyone is taken for an orphan.
                    while let Ok(change) = changes.try_recv() {
                        self.pod_changed(&change).await;
                    }
                    self.cleaned = true;
                    self.clean_orphans().await;
                    self.retry_resizes();
                }
                _ = net.tick() => {
                    self.wake_all();
                    self.clean_orphans().await;
                    self.context.images.prune().await;
                    self.retry_resizes();
                }
            }
        }
    }

    fn wake_all(&mut self) {
        self.workers.retain(|_, worker| !worker.is_finished());
        self.ending.retain(|_, worker| !worker.is_finished());
        for worker in self.workers.values().chain(self.ending.values()) {
            worker.send(Message::Runtime);
        }
    }

    /// Tells a pod's worker that nobody wants the pod any more.
    fn end(&mut self, uid: &str) {
        self.ending.retain(|_, worker| !worker.is_finished());
        if let Some(worker) = self.workers.remove(uid) {
            worker.send(Message::Gone);
            self.ending.insert(uid.to_owned(), worker);
        }
    }

    async fn pod_changed(&mut self, change: &Change) {
        self.take_change(change).await;
        // Another pod may have gone, ended or shrunk.
        self.retry_resizes();
    }

    async fn take_change(&mut self, change: &Change) {
        let old_uid = change.old.as_ref().map(|o| o.meta.uid.to_string());
        let new_uid = change.new.as_ref().map(|o| o.meta.uid.to_string());
        if old_uid != new_uid
            && let Some(uid) = old_uid
        {
            self.rejected.remove(&uid);
            self.allocations.forget(&uid);
            self.end(&uid);
            let mirrored = change
                .old
                .as_ref()
                .and_then(|o| self.static_pods.get(&o.key()).cloned());
            if let Some(pod) = mirrored {
                self.make_mirror(&pod).await;
            }
        }
        let Some(object) = &change.new else { return };
        let mut pod: Pod = match object.decode() {
            Ok(pod) => pod,
            Err(error) => {
                tracing::error!(pod = object.key(), %error, "pod cannot be read");
                return;
            }
        };
        if pod.is_mirror() {
            self.mirror_changed(&object.key(), pod).await;
            return;
        }
        let uid = pod.uid().to_owned();
        if let Some(finished) = self.workers.get(&uid).map(Handle::is_finished) {
            if !finished {
                let wish = self.resize(&mut pod);
                self.workers[&uid].send(Message::Pod(Box::new(pod), wish));
            }
            return;
        }
        if self.rejected.contains(&uid) {
            return;
        }
        self.admit(pod).await;
    }
}

impl Drop for Kubelet {
    /// Containers go on; only their keepers stop.
    fn drop(&mut self) {
        for worker in self.workers.values().chain(self.ending.values()) {
            worker.abandon();
        }
    }
}
