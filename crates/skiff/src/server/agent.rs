//! The node's side: runtime, kubelet, pod network, in this process.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::http::user::User;
use clap::Parser;
use client::{Client, WatchEvent};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kubelet::KubeletConfig;
use kubelet::thresholds::{Amount, Signal};
use pki::Identity;
use runtime::registry::{Proxies, Registries};
use runtime::{Runtime, RuntimeConfig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ControlPlane;
use super::args::{NodeArgs, ServerArgs};
use crate::in_process;
use crate::node_paths::NodePaths;

/// Why there can be no node.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("a node needs root: run skiff as root, or without a node by --disable-agent")]
    NotRoot,
    #[error("the node has no address: give --node-ip")]
    NoAddress,
    #[error("the host has no name: give --node-name")]
    NoName,
    #[error("--kubelet-arg: {0}")]
    KubeletArg(String),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("container runtime: {0}")]
    Runtime(#[from] runtime::RuntimeError),
    #[error("container runtime: {0}")]
    Endpoint(#[from] cri::ConnectError),
    #[error(transparent)]
    Kubelet(#[from] kubelet::command::CommandError),
    #[error(transparent)]
    Registries(#[from] runtime::registry::RegistriesError),
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
}

/// What a node is called and where it is.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    pub name: String,
    pub ip: IpAddr,
}

impl NodeIdentity {
    pub fn of(args: &NodeArgs) -> Result<NodeIdentity, AgentError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(AgentError::NotRoot);
        }
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = args.node_name.clone().unwrap_or_else(host).trim().to_lowercase();
        if name.is_empty() {
            return Err(AgentError::NoName);
        }
        let ip = args
            .node_ip
            .or_else(super::default_address)
            .ok_or(AgentError::NoAddress)?;
        Ok(NodeIdentity { name, ip })
    }
}

/// The registries' settings of a file and of the usual variables for proxies.
pub fn registries(file: &Path) -> Result<Registries, AgentError> {
    let mut registries = Registries::load(file)?;
    registries.proxies = Proxies::from_variables(|name| std::env::var(name).ok());
    Ok(registries)
}

/// The runtime of this node, opened; archives of images are imported from `images`.
pub async fn open_runtime(
    paths: &NodePaths,
    registries: Registries,
    images: Option<PathBuf>,
) -> Result<Arc<Runtime>, AgentError> {
    let cni = cni::Cni::new(cni::CniConfig {
        conf_dir: paths.cni_conf(),
        bin_dirs: vec![paths.agent.join("bin"), "/opt/cni/bin".into()],
        cache_dir: paths.agent.join("cni/cache"),
    });
    let config = RuntimeConfig {
        root: paths.agent.join("runtime"),
        state: paths.run.join("runtime"),
        cgroup_parent: paths.cgroup.clone(),
        shim: vec!["/proc/self/exe".into(), "shim".into()],
        cni: Some(Arc::new(cni)),
        handlers: Vec::new(),
        registries,
        resolve: Arc::new(|host| Box::pin(async move { client::resolve(&host).await.map_err(|e| e.to_string()) })),
        image_dir: images,
    };
    Ok(Runtime::open(config).await?)
}

/// Starts the node; its parts end with `stop`, its pods do not.
pub async fn start(
    args: &ServerArgs,
    plane: &ControlPlane,
    node: NodeIdentity,
    components: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), AgentError> {
    let paths = NodePaths::of(&args.data_dir);
    for dir in [paths.cni_conf(), paths.manifests(), paths.images()] {
        std::fs::create_dir_all(&dir).map_err(|source| AgentError::File { path: dir, source })?;
    }
    let config = kubelet_config(args, plane, &node, &paths)?;
    let user = User::new(format!("system:node:{}", node.name), &["system:nodes"]);
    let client = in_process::client(&plane.api, user, "kubelet");
    let cri = match &args.node.container_runtime_endpoint {
        Some(endpoint) => cri::connect(endpoint)?,
        None => {
            let registries = registries(&args.node.private_registry)?;
            let runtime = open_runtime(&paths, registries, Some(paths.images())).await?;
            let socket = paths.socket();
            let (served, stopped) = (runtime.clone(), stop.clone());
            components.spawn(async move {
                let ended = async move { stopped.cancelled().await };
                if let Err(error) = runtime::serve(served, &socket, ended).await {
                    tracing::error!(%error, "the runtime's socket is not served");
                }
            });
            components.spawn(super::image_folder::follow(
                runtime.clone(),
                paths.images(),
                stop.clone(),
            ));
            components.spawn(configure_network(
                client.clone(),
                node.name.clone(),
                paths,
                stop.clone(),
            ));
            runtime.clients()
        }
    };
    if !args.disable_kube_proxy {
        let client = in_process::client(&plane.api, User::new("system:kube-proxy", &[]), "kube-proxy");
        let proxy = proxy::ProxyConfig {
            cluster_cidrs: args.cluster_cidr.parse().into_iter().collect(),
            healthz_bind_address: Some(([0, 0, 0, 0], 10256).into()),
            ..proxy::ProxyConfig::new(&node.name, vec![node.ip])
        };
        let stopped = stop.clone();
        components.spawn(async move {
            if let Err(error) = proxy::run(proxy, client, stopped).await {
                tracing::error!(%error, "kube-proxy ended");
            }
        });
    }
    if !args.disable.iter().any(|d| d == "coredns") {
        let user = User::new("system:skiff", &[apiserver::http::user::MASTERS]);
        components.spawn(super::dns::run(
            in_process::client(&plane.api, user, "skiff"),
            args.cluster_domain.clone(),
            plane.cluster_dns,
            node.ip,
            config.resolv_conf.clone(),
            stop.clone(),
        ));
    }
    let stopped = stop.clone();
    components.spawn(async move {
        if let Err(error) = kubelet::run(config, client, cri, stopped).await {
            tracing::error!(%error, "the kubelet ended");
        }
    });
    Ok(())
}

fn kubelet_config(
    args: &ServerArgs,
    plane: &ControlPlane,
    node: &NodeIdentity,
    paths: &NodePaths,
) -> Result<KubeletConfig, AgentError> {
    let who = format!("system:node:{}", node.name);
    let identity = Identity {
        common_name: &who,
        organizations: &["system:nodes"],
    };
    let names = vec![node.name.clone(), node.ip.to_string(), "127.0.0.1".into()];
    let (certificate, key) = plane
        .certificates
        .ensure_serving(&paths.agent, "serving-kubelet", &identity, names)?;
    let mut config = KubeletConfig::new(&node.name);
    // Disks are shared with much that is no pod's: only when one is all but full do pods have to go for it. Who wants
    // upstream's tenth says so by --kubelet-arg=eviction-hard.
    for signal in [
        Signal::NodefsAvailable,
        Signal::NodefsInodesFree,
        Signal::ImagefsAvailable,
        Signal::ImagefsInodesFree,
    ] {
        config.eviction_hard.insert(signal, Amount::Percent(1.0));
    }
    config.node_ips = vec![node.ip];
    config.cluster_dns = vec![plane.cluster_dns.to_string()];
    config.cluster_domain = args.cluster_domain.clone();
    config.cgroup_root = paths.cgroup.clone();
    config.root_dir = paths.kubelet.clone();
    config.pod_log_dir = paths.pod_logs.clone();
    config.container_log_links = paths.container_logs.clone();
    config.static_pod_path = Some(paths.manifests());
    config.server_tls = kubelet::ServerTls::Pem {
        cert: certificate.into_bytes(),
        key: key.into_bytes(),
    };
    config.client_ca = Some(plane.certificates.client_authority.certificate().as_bytes().to_vec());
    if let Some(path) = &args.node.resolv_conf {
        config.resolv_conf = path.clone();
    }
    let flag = |name: &str, values: &[String]| values.iter().map(|v| format!("--{name}={v}")).collect::<Vec<_>>();
    let mut flags = flag("node-labels", &args.node.node_label);
    flags.extend(flag("register-with-taints", &args.node.node_taint));
    flags.extend(
        args.node
            .kubelet_arg
            .iter()
            .map(|a| format!("--{}", a.trim_start_matches("--"))),
    );
    let settings = kubelet::command::Settings::try_parse_from(flags)
        .map_err(|e| AgentError::KubeletArg(e.render().to_string().trim_start_matches("error: ").trim().to_owned()))?;
    let endpoint = settings.apply(&mut config)?;
    kubelet::check_kernel(&config).map_err(AgentError::KubeletArg)?;
    if endpoint.is_some() {
        return Err(AgentError::KubeletArg(
            "name the runtime by --container-runtime-endpoint of the server".into(),
        ));
    }
    Ok(config)
}

/// The network of pods whose addresses come from `net`.
pub fn default_network(paths: &NodePaths, net: cni::link::Net) -> cni::DefaultNetwork {
    cni::DefaultNetwork {
        bridge: paths.bridge.clone(),
        pod_cidrs: vec![net],
        data_dir: paths.agent.join("cni/networks"),
        mtu: 0,
    }
}

/// Writes the pod network's configuration once the node has its part of the cluster's network.
async fn configure_network(client: Client, name: String, paths: NodePaths, stop: CancellationToken) {
    let mut nodes = client.list_watch(Client::collection::<Node>("").fields(format!("metadata.name={name}")));
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = nodes.next() => event,
        };
        let node = match event {
            Some(WatchEvent::Applied(node)) => node,
            Some(WatchEvent::Restarted(list)) => match list.into_iter().next() {
                Some(node) => node,
                None => continue,
            },
            Some(_) => continue,
            None => return,
        };
        let cidr = node.decode::<Node>().ok().and_then(|n| n.spec?.pod_cidr);
        let Some(cidr) = cidr else { continue };
        let Ok(net) = cidr.parse() else {
            tracing::error!(cidr, "the node's pod network cannot be read");
            continue;
        };
        let network = default_network(&paths, net);
        match network.install(&paths.cni_conf()) {
            Ok(true) => tracing::info!(cidr, "the pod network is configured"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the pod network cannot be configured"),
        }
    }
}
