//! The server's own node: the same parts as an agent's, which talk to the API in this process.

use std::sync::Arc;

use apiserver::http::user::{MASTERS, User};
use client::{Client, Patch, WatchEvent};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use pki::Identity;
use serde_json::json;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ControlPlane;
use super::args::ServerArgs;
use crate::certificates::Certificates;
use crate::in_process;
use crate::node::{Clients, KubeletIdentity, NodeError, NodeIdentity, Start};
use crate::node_paths::NodePaths;
use pki::renewal::{self, Renewable};

/// The label by which `kubectl get nodes` tells servers, with k3s's value.
const ROLE: &str = "node-role.kubernetes.io/control-plane";

/// Starts the node, and the cluster's DNS beside it.
pub async fn start(
    args: &ServerArgs,
    plane: &ControlPlane,
    paths: NodePaths,
    node: NodeIdentity,
    components: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), NodeError> {
    let cluster = args.cluster_settings(plane.cluster_dns);
    let node = node.in_cluster(&args.node, &cluster.networks()?)?;
    let serving = Serving {
        certificates: plane.certificates.clone(),
        dir: paths.agent.clone(),
        node: node.clone(),
    };
    let (certificate, key) = serving.ensure()?;
    let shown = serving::Certificate::new(&certificate, &key)?;
    let renewal = Renewal {
        serving,
        shown: shown.clone(),
    };
    components.spawn(renewal::keep(renewal, stop.clone()));
    let user = User::new(format!("system:node:{}", node.name), &["system:nodes"]);
    let admin = in_process::client(&plane.api, User::new("system:skiff", &[MASTERS]), "skiff");
    let start = Start {
        args: &args.node,
        paths,
        identity: node.clone(),
        cluster,
        clients: Clients {
            kubelet: in_process::client(&plane.api, user, "kubelet"),
            kube_proxy: in_process::client(&plane.api, User::new("system:kube-proxy", &[]), "kube-proxy"),
            controller: admin.clone(),
        },
        shown: KubeletIdentity {
            serving: shown,
            client_authority: plane.certificates.client_authority.certificate().to_owned(),
        },
    };
    let resolv_conf = start.start(components, stop).await?;
    components.spawn(keep_role(admin.clone(), node.name.clone(), stop.clone()));
    if !args.disables("coredns") {
        let domain = args.cluster_domain.clone();
        components.spawn(super::dns::run(
            admin,
            domain,
            plane.cluster_dns,
            node.ips,
            resolv_conf,
            plane.api.others.clone(),
            stop.clone(),
        ));
    }
    Ok(())
}

/// The file of the certificate of the kubelet's server.
const SERVING: &str = "serving-kubelet";

/// The certificate of the kubelet's server.
struct Serving {
    certificates: Arc<Certificates>,
    dir: std::path::PathBuf,
    node: NodeIdentity,
}

impl Serving {
    fn ensure(&self) -> Result<(String, String), pki::PkiError> {
        let who = format!("system:node:{}", self.node.name);
        let identity = Identity {
            common_name: &who,
            organizations: &["system:nodes"],
        };
        let names = self.node.serving_names();
        self.certificates.ensure_serving(&self.dir, SERVING, &identity, names)
    }
}

/// Renews it while the server runs.
struct Renewal {
    serving: Serving,
    shown: Arc<serving::Certificate>,
}

impl Renewable for Renewal {
    type Error = NodeError;

    const WHOSE: &str = "kubelet";

    fn due(&self, chance: f64) -> OffsetDateTime {
        let pair = crate::certificates::pair(&self.serving.dir, SERVING);
        renewal::first([pair.and_then(|(pem, _)| pki::renewal_time(&pem, chance))])
    }

    async fn renew(&mut self) -> Result<bool, NodeError> {
        let (certificate, key) = self.serving.ensure()?;
        self.shown.replace(&certificate, &key)?;
        Ok(true)
    }
}

/// Labels the node as a server's: kubelets may not give themselves roles.
async fn keep_role(client: Client, name: String, stop: CancellationToken) {
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
        if node.meta.label(ROLE).is_some() {
            continue;
        }
        let patch = Patch::Merge(json!({ "metadata": { "labels": { ROLE: "true" } } }));
        if let Err(error) = client.patch::<Node>("", &name, &patch).await {
            tracing::warn!(%error, "the node cannot be labelled as a server's");
        }
    }
}
