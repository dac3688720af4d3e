//! The kubelet itself: where pods come from, the workers they go to, and the runtime's events.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::{Change, Client, EventRecorder, Indexer, Informer};
use cri::v1;
use cri::{ImageClient, RuntimeClient};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::admission;
use crate::cgroups::Cgroups;
use crate::config::KubeletConfig;
use crate::cri_config::{NodeSettings, POD_UID};
use crate::images::Images;
use crate::machine::Machine;
use crate::node::{self, NodeReporter};
use crate::node_context::NodeContext;
use crate::objects::Objects;
use crate::pod::PodExt;
use crate::runtime::Runtime;
use crate::volumes;
use crate::worker::{self, Handle, Message};

/// Why the kubelet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("cgroups: {0}")]
    Cgroups(std::io::Error),
    #[error("server: {0}")]
    Server(#[from] crate::server::ServerError),
}

/// A full look at the runtime, in case an event was lost.
const SAFETY_NET: Duration = Duration::from_secs(300);
/// How often a runtime without events is asked.
const RELIST: Duration = Duration::from_secs(1);

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
    for dir in [
        config.root_dir.join("pods"),
        config.pod_log_dir.clone(),
        config.container_log_links.clone(),
    ] {
        std::fs::create_dir_all(&dir).map_err(|source| KubeletError::Io {
            path: dir.display().to_string(),
            source,
        })?;
    }
    let machine = Machine::detect(&config.root_dir);
    let runtime = Runtime::new(cri.0, cri.1);
    let version = wait_for(&runtime).await;
    let cgroups = Cgroups::new(&config.cgroup_root);
    cgroups.make_classes().map_err(KubeletError::Cgroups)?;
    let recorder = EventRecorder::new(client.clone(), "kubelet", &config.node_name);
    let by_namespace = Indexer::new("namespace", |o| vec![o.meta.namespace.to_string()]);
    let (_, allocatable) = node::capacity(&machine, &config);
    let context = Arc::new(NodeContext {
        runtime_name: version.runtime_name.clone(),
        images: Images::new(runtime.clone(), recorder.clone()),
        objects: Objects::new(client.clone()),
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
            least_oom_score_adj: config.least_oom_score_adj,
        },
        root_dir: config.root_dir.clone(),
        container_log_links: config.container_log_links.clone(),
        services: Informer::start(&client, Client::collection::<Service>(""), vec![by_namespace]),
        host_ips: config.node_ips.iter().map(ToString::to_string).collect(),
        allocatable,
        pod_pids_limit: config.pod_pids_limit,
        recorder,
        runtime,
        client: client.clone(),
    });
    let nudge = Arc::new(Notify::new());
    let reporter = NodeReporter {
        context: context.clone(),
        config: config.clone(),
        machine,
        runtime_version: format!("{}://{}", version.runtime_name, version.runtime_version),
        nudge: nudge.clone(),
    };
    let _reporter = AbortOnDropHandle::new(tokio::spawn(reporter.run()));
    let field = format!("spec.nodeName={}", config.node_name);
    let pods = Informer::start(&client, Client::collection::<Pod>("").fields(field), vec![]);
    let changes = pods.subscribe();
    let (manifests, _watcher) = crate::static_pods::follow(&config);
    let table = crate::server::PodTable::new(pods.clone());
    let _rotation = AbortOnDropHandle::new(tokio::spawn(crate::logs::rotate_forever(
        context.clone(),
        config.clone(),
    )));
    let server = crate::server::Server::bind(&config, context.clone(), table.clone()).await?;
    let _server = AbortOnDropHandle::new(tokio::spawn(server.run()));
    let (events, runtime_events) = mpsc::channel(256);
    let _events = AbortOnDropHandle::new(tokio::spawn(follow_runtime(context.runtime.clone(), events, nudge)));
    let kubelet = Kubelet {
        context,
        config,
        workers: HashMap::new(),
        static_pods: HashMap::new(),
        rejected: HashSet::new(),
        table,
        cleaned: false,
    };
    kubelet.dispatch(pods, changes, manifests, runtime_events).await;
    Ok(())
}

/// The runtime may start after the kubelet.
async fn wait_for(runtime: &Runtime) -> v1::VersionResponse {
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

/// Something happened in the runtime.
#[derive(Debug)]
enum RuntimeEvent {
    Pod(String),
    /// Anything may have happened.
    Anything,
}

/// Listens to the runtime's events; asks again and again where there are none.
async fn follow_runtime(runtime: Runtime, events: mpsc::Sender<RuntimeEvent>, nudge: Arc<Notify>) {
    loop {
        let mut client = runtime.runtime.clone();
        match client.get_container_events(v1::GetEventsRequest {}).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                if events.send(RuntimeEvent::Anything).await.is_err() {
                    return;
                }
                while let Ok(Some(event)) = stream.message().await {
                    let sandbox = event.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid);
                    let uid = sandbox.or_else(|| {
                        event
                            .containers_statuses
                            .iter()
                            .find_map(|c| c.labels.get(POD_UID).cloned())
                    });
                    let event = uid
                        .filter(|u| !u.is_empty())
                        .map_or(RuntimeEvent::Anything, RuntimeEvent::Pod);
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            }
            Err(status) if status.code() == tonic::Code::Unimplemented => return relist(runtime, events).await,
            Err(error) => tracing::debug!(%error, "no runtime events"),
        }
        nudge.notify_one();
        tokio::time::sleep(RELIST).await;
    }
}

/// For runtimes without events: compares what is listed with what was listed before.
async fn relist(runtime: Runtime, events: mpsc::Sender<RuntimeEvent>) {
    let mut before: HashMap<String, (String, i32)> = HashMap::new();
    loop {
        if let (Ok(sandboxes), Ok(containers)) =
            (runtime.list_sandboxes(None).await, runtime.list_containers(None).await)
        {
            let uid = |labels: &HashMap<String, String>| labels.get(POD_UID).cloned().unwrap_or_default();
            let sandboxes = sandboxes.into_iter().map(|s| (s.id.clone(), (uid(&s.labels), s.state)));
            let now: HashMap<String, (String, i32)> = sandboxes
                .chain(
                    containers
                        .into_iter()
                        .map(|c| (c.id.clone(), (uid(&c.labels), c.state))),
                )
                .collect();
            let changed = now
                .iter()
                .filter(|(id, v)| before.get(*id) != Some(*v))
                .chain(before.iter().filter(|(id, _)| !now.contains_key(*id)));
            let uids: HashSet<String> = changed.map(|(_, (uid, _))| uid.clone()).collect();
            for uid in uids {
                if events.send(RuntimeEvent::Pod(uid)).await.is_err() {
                    return;
                }
            }
            before = now;
        }
        tokio::time::sleep(RELIST).await;
    }
}

struct Kubelet {
    context: Arc<NodeContext>,
    config: KubeletConfig,
    /// By uid.
    workers: HashMap<String, Handle>,
    /// Static pods by `namespace/name`.
    static_pods: HashMap<String, Pod>,
    rejected: HashSet<String>,
    table: crate::server::PodTable,
    /// What earlier kubelets left has been cleaned away.
    cleaned: bool,
}

impl Kubelet {
    async fn dispatch(
        mut self,
        pods: client::Cache,
        mut changes: mpsc::UnboundedReceiver<Change>,
        mut manifests: mpsc::UnboundedReceiver<BTreeMap<String, Pod>>,
        mut events: mpsc::Receiver<RuntimeEvent>,
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
                        if let Some(worker) = self.workers.get(&uid) {
                            worker.send(Message::Runtime);
                        }
                    }
                    RuntimeEvent::Anything => self.wake_all(),
                },
                () = pods.synced(), if !self.cleaned && manifests_read => {
                    // Whoever is wanted must be known before anyone is taken for an orphan.
                    while let Ok(change) = changes.try_recv() {
                        self.pod_changed(&change).await;
                    }
                    self.cleaned = true;
                    self.clean_orphans().await;
                }
                _ = net.tick() => {
                    self.wake_all();
                    self.clean_orphans().await;
                }
            }
        }
    }

    fn wake_all(&mut self) {
        self.workers.retain(|_, worker| !worker.is_finished());
        for worker in self.workers.values() {
            worker.send(Message::Runtime);
        }
    }

    async fn pod_changed(&mut self, change: &Change) {
        let old_uid = change.old.as_ref().map(|o| o.meta.uid.to_string());
        let new_uid = change.new.as_ref().map(|o| o.meta.uid.to_string());
        if old_uid != new_uid
            && let Some(uid) = old_uid
        {
            self.rejected.remove(&uid);
            if let Some(worker) = self.workers.remove(&uid) {
                worker.send(Message::Gone);
            }
            let mirrored = change
                .old
                .as_ref()
                .and_then(|o| self.static_pods.get(&o.key()).cloned());
            if let Some(pod) = mirrored {
                self.make_mirror(&pod).await;
            }
        }
        let Some(object) = &change.new else { return };
        let pod: Pod = match object.decode() {
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
        if let Some(worker) = self.workers.get(&uid) {
            if !worker.is_finished() {
                worker.send(Message::Pod(Box::new(pod)));
            }
            return;
        }
        if self.rejected.contains(&uid) {
            return;
        }
        self.admit(pod).await;
    }

    async fn admit(&mut self, pod: Pod) {
        let phase = pod
            .status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .unwrap_or("Pending");
        if phase == "Pending" && !pod.deleting() {
            let others: Vec<Pod> = self
                .table
                .active()
                .into_iter()
                .filter(|p| self.workers.contains_key(p.uid()))
                .collect();
            let node = self
                .context
                .client
                .get::<k8s_openapi::api::core::v1::Node>("", &self.config.node_name)
                .await
                .ok();
            let labels = node.and_then(|n| n.metadata.labels).unwrap_or_default();
            if let Err(verdict) = admission::admit(&pod, &others, &self.context.allocatable, &labels) {
                self.context
                    .recorder
                    .warning(&pod.reference(), &verdict.reason, verdict.message.clone());
                self.rejected.insert(pod.uid().to_owned());
                let status = serde_json::json!({"status": {
                    "phase": "Failed", "reason": verdict.reason, "message": format!("Pod was rejected: {}", verdict.message),
                    "observedGeneration": pod.metadata.generation,
                    "startTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now()),
                }});
                let patch = client::Patch::Strategic(status);
                if let Err(error) = self
                    .context
                    .client
                    .patch_status::<Pod>(pod.namespace(), pod.name(), &patch)
                    .await
                {
                    tracing::warn!(pod = pod.describe(), %error, "rejection not recorded");
                }
                return;
            }
        }
        let uid = pod.uid().to_owned();
        self.workers.insert(uid, worker::spawn(self.context.clone(), pod));
    }

    /// Pods in the runtime or on disk that nobody wants: they are ended and removed.
    async fn clean_orphans(&mut self) {
        let sandboxes = match self.context.runtime.list_sandboxes(None).await {
            Ok(sandboxes) => sandboxes,
            Err(error) => {
                tracing::warn!(%error, "orphaned pods not looked for");
                return;
            }
        };
        let mut unknown: BTreeMap<String, ObjectMeta> = BTreeMap::new();
        for sandbox in sandboxes {
            // A sandbox without the label is not a kubelet's.
            let Some(uid) = sandbox.labels.get(POD_UID) else {
                continue;
            };
            let meta = sandbox.metadata.unwrap_or_default();
            unknown.insert(
                uid.clone(),
                ObjectMeta {
                    uid: Some(uid.clone()),
                    name: Some(meta.name),
                    namespace: Some(meta.namespace),
                    ..ObjectMeta::default()
                },
            );
        }
        unknown.retain(|uid, _| !self.workers.contains_key(uid));
        if let Ok(dirs) = std::fs::read_dir(self.context.root_dir.join("pods")) {
            for uid in dirs.flatten().filter_map(|d| d.file_name().into_string().ok()) {
                if !self.workers.contains_key(&uid) && !unknown.contains_key(&uid) {
                    let dir = self.context.pod_dir(&uid);
                    if let Err(error) = volumes::tear_down(&dir).and_then(|()| self.context.cgroups.remove_pod(&uid)) {
                        tracing::warn!(uid, %error, "directory of an orphaned pod not removed");
                    }
                }
            }
        }
        for (uid, metadata) in unknown {
            tracing::info!(
                pod = metadata.name,
                namespace = metadata.namespace,
                "ending an orphaned pod"
            );
            let worker = worker::spawn(
                self.context.clone(),
                Pod {
                    metadata,
                    ..Pod::default()
                },
            );
            worker.send(Message::Gone);
            self.workers.insert(uid, worker);
        }
    }

    async fn manifests_changed(&mut self, files: BTreeMap<String, Pod>) {
        let gone: Vec<String> = self
            .static_pods
            .keys()
            .filter(|k| {
                files.get(*k).map(|p| p.uid().to_owned()) != self.static_pods.get(*k).map(|p| p.uid().to_owned())
            })
            .cloned()
            .collect();
        for key in gone {
            if let Some(old) = self.static_pods.remove(&key)
                && let Some(worker) = self.workers.remove(old.uid())
            {
                worker.send(Message::Gone);
            }
            if !files.contains_key(&key)
                && let Some(mirror) = self.table.by_key(&key)
            {
                self.delete_mirror(&mirror).await;
            }
        }
        self.table.set_static(files.values().cloned().collect());
        for (key, pod) in files {
            if self.static_pods.contains_key(&key) {
                continue;
            }
            self.workers
                .insert(pod.uid().to_owned(), worker::spawn(self.context.clone(), pod.clone()));
            self.static_pods.insert(key.clone(), pod.clone());
            match self.table.by_key(&key) {
                Some(mirror) => self.mirror_changed(&key, mirror).await,
                None => self.make_mirror(&pod).await,
            }
        }
    }

    async fn mirror_changed(&mut self, key: &str, mirror: Pod) {
        match self.static_pods.get(key) {
            Some(pod)
                if mirror.annotation(crate::pod::MIRROR_ANNOTATION) == pod.annotation(crate::pod::HASH_ANNOTATION)
                    && !mirror.deleting() =>
            {
                if let Some(worker) = self.workers.get(pod.uid()) {
                    worker.send(Message::Mirror(Box::new(mirror)));
                }
            }
            // Of an older manifest, of none, or being deleted: a new one follows when it is gone.
            _ if self.cleaned || self.static_pods.contains_key(key) => self.delete_mirror(&mirror).await,
            _ => {}
        }
    }

    async fn make_mirror(&self, pod: &Pod) {
        let mut mirror = pod.clone();
        let hash = pod
            .annotation(crate::pod::HASH_ANNOTATION)
            .unwrap_or_default()
            .to_owned();
        mirror.metadata.uid = None;
        mirror
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(crate::pod::MIRROR_ANNOTATION.to_owned(), hash);
        mirror.status = None;
        if let Ok(node) = self
            .context
            .client
            .get::<k8s_openapi::api::core::v1::Node>("", &self.config.node_name)
            .await
        {
            mirror.metadata.owner_references =
                Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Node".to_owned(),
                    name: self.config.node_name.clone(),
                    uid: node.metadata.uid.unwrap_or_default(),
                    controller: Some(true),
                    block_owner_deletion: None,
                }]);
        }
        match self.context.client.create(&mirror).await {
            Err(error) if !error.is_already_exists() => {
                tracing::warn!(pod = pod.describe(), %error, "mirror pod not made");
            }
            _ => {}
        }
    }

    async fn delete_mirror(&self, mirror: &Pod) {
        let params = client::DeleteParams::now(mirror.uid());
        match self
            .context
            .client
            .delete::<Pod>(mirror.namespace(), mirror.name(), &params)
            .await
        {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                tracing::warn!(pod = mirror.describe(), %error, "mirror pod not deleted");
            }
            _ => {}
        }
    }
}

impl Drop for Kubelet {
    /// Containers go on; only their keepers stop.
    fn drop(&mut self) {
        for worker in self.workers.values() {
            worker.abandon();
        }
    }
}
