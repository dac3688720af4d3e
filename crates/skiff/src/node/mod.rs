//! A node: runtime, kubelet, kube-proxy and pod network in this process. `skiff server` has one, `skiff agent` is one, or many that are
//! hollow.

pub mod args;
pub mod container_runtime;
pub mod hollow;
pub mod identity;
mod image_folder;
mod kubelet_settings;
pub mod network;
pub mod ready;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use client::Client;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::networks;
use crate::node_paths::NodePaths;
use args::NodeArgs;
pub use identity::NodeIdentity;

/// Why there can be no node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("a node needs root: run skiff as root, or a server without a node by --disable-agent")]
    NotRoot,
    #[error("the node has no address: give --node-ip")]
    NoAddress,
    #[error("the host has no name: give --node-name")]
    NoName,
    #[error("no node can be called {name:?}: {why}")]
    Name { name: String, why: String },
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
    #[error("the cluster's pod network: {0}")]
    ClusterCidr(networks::NetworksError),
    #[error(transparent)]
    Backend(#[from] cni::overlay::BackendError),
    #[error(transparent)]
    Certificate(#[from] serving::CertificateError),
}

/// What a cluster says to all its nodes: agents ask their server for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSettings {
    /// The network of all pods, or one of each family between commas.
    pub cluster_cidr: String,
    pub service_cidr: String,
    /// The address of the Service that answers names.
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub disable_kube_proxy: bool,
    #[serde(default)]
    pub disable_network_policy: bool,
    /// How pods on different nodes reach each other.
    pub flannel_backend: String,
}

impl ClusterSettings {
    /// The networks of all pods.
    ///
    /// # Errors
    /// For a text that names none.
    pub fn networks(&self) -> Result<Vec<cni::link::Net>, NodeError> {
        networks::parse(&self.cluster_cidr, &networks::PODS).map_err(NodeError::ClusterCidr)
    }
}

/// What the node's parts talk to the API through, each as the user that it is.
#[derive(Debug, Clone)]
pub struct Clients {
    pub kubelet: Client,
    pub kube_proxy: Client,
    /// Sees the pods, namespaces and network policies of the whole cluster.
    pub controller: Client,
}

/// What the kubelet's server shows, and whom it believes.
#[derive(Debug, Clone)]
pub struct KubeletIdentity {
    pub serving: Arc<serving::Certificate>,
    /// PEM of the authority of its clients' certificates.
    pub client_authority: String,
}

/// Everything a node starts from.
pub struct Start<'a> {
    pub args: &'a NodeArgs,
    pub paths: NodePaths,
    pub identity: NodeIdentity,
    pub cluster: ClusterSettings,
    pub clients: Clients,
    pub shown: KubeletIdentity,
}

impl Start<'_> {
    /// Starts the node; its parts end with `stop`, its pods do not. The `resolv.conf` that it goes by.
    ///
    /// # Errors
    /// When a part cannot start.
    pub async fn start(self, components: &TaskTracker, stop: &CancellationToken) -> Result<PathBuf, NodeError> {
        let Start {
            args,
            paths,
            identity: node,
            cluster,
            clients,
            shown,
        } = self;
        for dir in [paths.cni_conf(), paths.manifests(), paths.images()] {
            std::fs::create_dir_all(&dir).map_err(|source| NodeError::File { path: dir, source })?;
        }
        let mut config = kubelet_settings::config(args, &cluster, &node, &paths, &shown)?;
        let resolv_conf = config.resolv_conf.clone();
        if !cluster.disable_network_policy {
            config.network_gate = network::policies(&node, &paths, clients.controller, components, stop);
        }
        let cluster_cidrs = cluster.networks()?;
        let overlay = network::overlay(&cluster, cluster_cidrs.clone(), &node, &paths)?;
        let cri = match &args.container_runtime_endpoint {
            Some(endpoint) => cri::connect(endpoint)?,
            None => {
                let registries = container_runtime::registries(&args.private_registry)?;
                let runtime = container_runtime::open(&paths, registries, Some(paths.images())).await?;
                let socket = paths.socket();
                let (served, stopped) = (runtime.clone(), stop.clone());
                components.spawn(async move {
                    let ended = async move { stopped.cancelled().await };
                    if let Err(error) = runtime::serve(served, &socket, ended).await {
                        tracing::error!(%error, "the runtime's socket is not served");
                    }
                });
                components.spawn(image_folder::follow(runtime.clone(), paths.images(), stop.clone()));
                // kube-proxy may see all nodes, the kubelet may change its own
                let (nodes, own, stopped) = (clients.kube_proxy.clone(), clients.kubelet.clone(), stop.clone());
                components.spawn(async move {
                    if let Err(error) = cni::overlay::run(overlay, nodes, own, stopped).await {
                        tracing::error!(%error, "the pod network ended");
                    }
                });
                runtime.clients()
            }
        };
        if !cluster.disable_kube_proxy {
            let proxy = proxy::ProxyConfig {
                cluster_cidrs,
                healthz_bind_address: Some(([0, 0, 0, 0], 10256).into()),
                metrics_bind_address: Some(([127, 0, 0, 1], 10249).into()),
                ..proxy::ProxyConfig::new(&node.name, node.ips)
            };
            let (client, stopped) = (clients.kube_proxy, stop.clone());
            components.spawn(async move {
                if let Err(error) = proxy::run(proxy, client, stopped).await {
                    tracing::error!(%error, "kube-proxy ended");
                }
            });
        }
        let (client, stopped) = (clients.kubelet, stop.clone());
        components.spawn(async move {
            if let Err(error) = kubelet::run(config, client, cri, stopped).await {
                tracing::error!(%error, "the kubelet ended");
            }
        });
        Ok(resolv_conf)
    }
}
