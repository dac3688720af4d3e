//! `skiff agent`: a node that joins the cluster of a server.

pub mod args;
mod certificates;
pub mod cluster;
mod load_balancer;
mod servers;
mod tunnel;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use client::{Client, RotatingTransport};
use futures::TryStreamExt;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::join::{JoinToken, TokenError};
use crate::node::hollow::Hollow;
use crate::node::identity::password;
use crate::node::{Clients, ClusterSettings, KubeletIdentity, NodeError, NodeIdentity, Start, ready};
use crate::node_paths::NodePaths;
use crate::server::{self, ServerError};
use args::AgentArgs;
use certificates::{Certificates, Files, Renewal};
use cluster::{Cluster, ClusterError, Named};
use load_balancer::LoadBalancer;
use pki::renewal::{self, chance};
use servers::Servers;
use tunnel::{Reach, Tunnel};

/// Between attempts to join while no server answers; doubles, and no two nodes wait as long.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// How many hollow nodes join at a time.
const JOINING: usize = 8;
/// How long components may go on with what they do after a stop.
const LAST_WORK: Duration = Duration::from_millis(400);

/// Why an agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("--server is required")]
    NoServer,
    #[error("--server {url:?}: {why}")]
    Server { url: String, why: String },
    #[error("--token: {0}")]
    Token(#[from] TokenError),
    #[error("--token-file: {0}")]
    TokenFile(std::io::Error),
    #[error("--lb-server-port: cannot listen on 127.0.0.1:{port}: {source}")]
    Listen { port: u16, source: std::io::Error },
    #[error("signals: {0}")]
    Signals(std::io::Error),
    #[error(transparent)]
    Locked(#[from] ServerError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    #[error(transparent)]
    Certificate(#[from] serving::CertificateError),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: AgentArgs) -> Result<(), AgentError> {
    let url = args.server.as_deref().ok_or(AgentError::NoServer)?;
    let first = address(url)?;
    let token = server::token::given(args.token.as_ref(), args.token_file.as_ref()).map_err(AgentError::TokenFile)?;
    let token: Option<JoinToken> = token.map(|text| text.parse()).transpose()?;
    let paths = NodePaths::of(&args.data_dir);
    let identity = NodeIdentity::of(&args.node, &paths)?;
    let files = Files(paths.agent.clone());
    if token.is_none() && files.kubelet(OffsetDateTime::now_utc()).is_none() {
        return Err(ClusterError::NoToken.into());
    }
    let _lock = server::lock(&args.data_dir)?;
    let signalled = crate::stop::at_signal().map_err(AgentError::Signals)?;
    let (stop, components) = (CancellationToken::new(), TaskTracker::new());
    let file = paths.agent.join("etc/skiff-agent-load-balancer.json");
    let known = Servers::load(&file, &first);
    let balancer = LoadBalancer::start(known, file, args.lb_server_port, &components, stop.clone());
    let balancer = balancer.await.map_err(|source| AgentError::Listen {
        port: args.lb_server_port,
        source,
    })?;
    let members: Vec<Option<Hollow>> = match args.hollow {
        None => vec![None],
        Some(nodes) => (1..=nodes).map(|number| Some(Hollow { number })).collect(),
    };
    let joining = members.into_iter().map(|hollow| {
        let (identity, paths) = match hollow {
            None => (identity.clone(), paths.clone()),
            Some(hollow) => hollow.of(&identity, &paths),
        };
        let member = Member {
            joining: Joining {
                url: format!("https://{}", balancer.local),
                password: password(&paths)?,
                token: token.clone(),
                identity,
                files: Files(paths.agent.clone()),
            },
            paths,
            hollow,
        };
        Ok::<_, AgentError>(member)
    });
    let args = &args;
    let start = futures::stream::iter(joining).try_for_each_concurrent(JOINING, |member| {
        let (balancer, first, components, stop) = (balancer.clone(), &first, &components, &stop);
        async move {
            let joined = member.joining.until_joined().await?;
            tracing::info!(
                server = first,
                node = member.joining.identity.name,
                "joined the cluster"
            );
            balancer.update(&joined.servers);
            start(args, member, joined, balancer, components, stop).await
        }
    });
    tokio::select! {
        () = signalled.cancelled() => {}
        started = start => started?,
    }
    signalled.cancelled().await;
    stop.cancel();
    components.close();
    if tokio::time::timeout(LAST_WORK, components.wait()).await.is_err() {
        tracing::info!("components were still at work when they were ended");
    }
    Ok(())
}

/// The host and port of a server's URL.
fn address(url: &str) -> Result<String, AgentError> {
    let refused = |why: &str| AgentError::Server {
        url: url.to_owned(),
        why: why.to_owned(),
    };
    let uri: http::Uri = url.parse().map_err(|e| refused(&format!("{e}")))?;
    match uri.scheme_str() {
        Some("https") => {}
        _ => return Err(refused("only https:// URLs are supported")),
    }
    if !uri.path().trim_matches('/').is_empty() || uri.query().is_some() {
        return Err(refused("has a path"));
    }
    let host = uri
        .host()
        .filter(|h| !h.is_empty())
        .ok_or_else(|| refused("has no host"))?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(443)))
}

/// A node of this process.
struct Member {
    joining: Joining,
    paths: NodePaths,
    hollow: Option<Hollow>,
}

/// A node that wants to join.
struct Joining {
    /// Where the servers are reached from here.
    url: String,
    token: Option<JoinToken>,
    identity: NodeIdentity,
    password: String,
    files: Files,
}

/// What a node has once it has joined.
struct Joined {
    cluster: Cluster,
    settings: ClusterSettings,
    client_authority: String,
    servers: Vec<String>,
    certificates: Certificates,
}

impl Joining {
    /// Tries until a server takes the node.
    ///
    /// # Errors
    /// When it will not: waiting does not help then.
    async fn until_joined(&self) -> Result<Joined, ClusterError> {
        let mut delay = FIRST_RETRY;
        loop {
            match self.join().await {
                Err(error) if !error.is_final() => {
                    tracing::warn!(%error, "waiting for a server");
                    tokio::time::sleep(delay.mul_f64(1.0 + chance())).await;
                    delay = (delay * 2).min(LONGEST_RETRY);
                }
                done => return done,
            }
        }
    }

    async fn join(&self) -> Result<Joined, ClusterError> {
        let joined_with = self.files.server_authority();
        let cluster = Cluster::find(&self.url, self.token.clone(), joined_with.as_deref()).await?;
        let known_as = self.files.kubelet(OffsetDateTime::now_utc());
        let known_as = known_as.as_ref();
        let settings = cluster.settings(known_as).await?;
        let client_authority = cluster.client_authority(known_as).await?;
        let servers = cluster.servers(known_as).await?;
        let named = Named {
            identity: &self.identity,
            password: &self.password,
        };
        let certificates = certificates::ask(&cluster, known_as, &named).await?;
        self.files
            .write(&certificates, &cluster, &client_authority, &self.url)?;
        Ok(Joined {
            cluster,
            settings,
            client_authority,
            servers,
            certificates,
        })
    }
}

async fn start(
    args: &AgentArgs,
    member: Member,
    joined: Joined,
    balancer: LoadBalancer,
    components: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), AgentError> {
    let Member { joining, paths, hollow } = member;
    let (cluster, certificates) = (joined.cluster, joined.certificates);
    let kubelet = RotatingTransport::new(&cluster.config(Some(&certificates.kubelet)))?;
    let kube_proxy = RotatingTransport::new(&cluster.config(Some(&certificates.kube_proxy)))?;
    let controller = RotatingTransport::new(&cluster.config(Some(&certificates.controller)))?;
    let serving = serving::Certificate::new(&certificates.serving.certificate, &certificates.serving.key)?;
    let clients = Clients {
        kubelet: Client::new(Arc::new(kubelet.clone()), "kubelet"),
        kube_proxy: Client::new(Arc::new(kube_proxy.clone()), "kube-proxy"),
        controller: Client::new(Arc::new(controller.clone()), "skiff-controller"),
    };
    // kubelets may not see endpoints, kube-proxy may; one node looks for all of a process
    if hollow.is_none_or(|hollow| hollow.number == 1) {
        components.spawn(balancer.follow(clients.kube_proxy.clone(), stop.clone()));
    }
    components.spawn(ready::announce_node(
        clients.kubelet.clone(),
        joining.identity.name.clone(),
        stop.clone(),
    ));
    let networks = joined.settings.networks()?;
    let identity = joining.identity.clone().in_cluster(&args.node, &networks)?;
    // nothing is asked of hollow nodes' pods
    if hollow.is_none() {
        let tunnel = Tunnel {
            transport: kubelet.clone(),
            reach: Reach {
                node: identity.name.clone(),
                addresses: identity.ips.clone(),
                client: clients.kubelet.clone(),
                pods: OnceLock::new(),
            },
        };
        components.spawn(tunnel.run(stop.clone()));
    }
    let start = Start {
        args: &args.node,
        paths,
        identity,
        cluster: joined.settings,
        clients,
        shown: KubeletIdentity {
            serving: serving.clone(),
            client_authority: joined.client_authority.clone(),
        },
    };
    match hollow {
        Some(hollow) => hollow.start(start, components, stop)?,
        None => drop::<PathBuf>(start.start(components, stop).await?),
    }
    let renewal = Renewal {
        cluster,
        files: joining.files,
        identity: joining.identity,
        password: joining.password,
        client_authority: joined.client_authority,
        server: joining.url,
        current: certificates,
        kubelet,
        kube_proxy,
        controller,
        serving,
    };
    components.spawn(renewal::keep(renewal, stop.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_url_of_https() {
        for (url, found) in [
            ("https://a:6443", Some("a:6443")),
            ("https://a/", Some("a:443")),
            ("https://[2001:db8::1]:6443", Some("[2001:db8::1]:6443")),
            ("http://a:6443", None),
            ("a:6443", None),
            ("https://a:6443/path", None),
            ("https://", None),
        ] {
            assert_eq!(address(url).ok().as_deref(), found, "{url}");
        }
    }
}
