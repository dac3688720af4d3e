//! The tunnel by which a server reaches this node where it cannot connect to it: behind a router that hides it, or a firewall. The
//! server says whether it needs one.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use client::{Client, RotatingTransport};
use cni::link::Net;
use http::{Method, Request, header};
use k8s_openapi::api::core::v1::{Node, Pod};
use streaming::tunnel::{self, PROTOCOL};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::join;
use pki::renewal::chance;

/// Between attempts; doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// After which a server that reached the node without a tunnel is asked again: a firewall may stand between them by then.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// How long a pod may take to accept a connection.
const DIAL: Duration = Duration::from_secs(30);

/// What a node's tunnel needs.
pub struct Tunnel {
    /// The kubelet's way to the server.
    pub transport: RotatingTransport,
    pub reach: Reach,
}

/// What the server may connect to through the tunnel: this node and its pods.
pub struct Reach {
    pub node: String,
    pub addresses: Vec<IpAddr>,
    pub client: Client,
    /// The node's part of the network of pods; once given, it stays.
    pub pods: OnceLock<Vec<Net>>,
}

/// What a server answers that needs no tunnel.
const NO_CONTENT: u16 = 204;

/// How an attempt ended.
enum Attempt {
    /// The server connects directly.
    NotNeeded,
    /// There was a tunnel.
    Ended,
}

impl Tunnel {
    /// Keeps a tunnel open whenever the server wants one, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let reach = Arc::new(self.reach);
        let mut retry = FIRST_RETRY;
        loop {
            let attempt = tokio::select! {
                () = stop.cancelled() => return,
                attempt = attempt(&self.transport, &reach, &stop) => attempt,
            };
            let wait = match attempt {
                Ok(Attempt::NotNeeded) => ASK_AGAIN,
                Ok(Attempt::Ended) => {
                    retry = FIRST_RETRY;
                    FIRST_RETRY
                }
                Err(error) => {
                    tracing::debug!(%error, "the server was not asked for a tunnel");
                    let wait = retry;
                    retry = (retry * 2).min(LONGEST_RETRY);
                    wait
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait.mul_f64(1.0 + chance() / 4.0)) => {}
            }
        }
    }
}

async fn attempt(
    transport: &RotatingTransport,
    reach: &Arc<Reach>,
    stop: &CancellationToken,
) -> client::Result<Attempt> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(join::CONNECT)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, PROTOCOL)
        .body(Bytes::new())?;
    let connection = match transport.upgrade(request).await {
        Ok((_, connection)) => connection,
        Err(error) if error.code() == Some(NO_CONTENT) => return Ok(Attempt::NotNeeded),
        Err(error) => return Err(error),
    };
    tracing::info!("the server reaches this node through a tunnel");
    let reach = reach.clone();
    let dial = move |host: String, port: u16| {
        let reach = reach.clone();
        async move { reach.dial(&host, port).await }
    };
    match tunnel::answer(connection, dial, stop.cancelled()).await {
        Ok(()) => tracing::info!("the tunnel ended"),
        Err(error) => tracing::info!(%error, "the tunnel ended"),
    }
    Ok(Attempt::Ended)
}

impl Reach {
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let address: IpAddr = host.parse().map_err(|_| refused(host))?;
        if !self.has(address).await? {
            return Err(refused(host));
        }
        let connected = tokio::time::timeout(DIAL, TcpStream::connect((address, port))).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether an address is the node's or one of its pods'.
    async fn has(&self, address: IpAddr) -> io::Result<bool> {
        if self.addresses.contains(&address) {
            return Ok(true);
        }
        let network = match self.pods.get() {
            Some(network) => network,
            None => {
                let found = self.network().await.map_err(io::Error::other)?;
                match found.is_empty() {
                    true => &Vec::new(),
                    false => self.pods.get_or_init(|| found),
                }
            }
        };
        if network.iter().any(|net| net.contains(address)) {
            return Ok(true);
        }
        // another plugin than ours may give pods addresses from elsewhere
        self.has_pod(address).await.map_err(io::Error::other)
    }

    async fn network(&self) -> client::Result<Vec<Net>> {
        let node: Node = self.client.get("", &self.node).await?;
        let cidrs = node.spec.and_then(|spec| spec.pod_cidrs).unwrap_or_default();
        Ok(cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect())
    }

    async fn has_pod(&self, address: IpAddr) -> client::Result<bool> {
        let own = client::ListParams {
            field_selector: Some(format!("spec.nodeName={}", self.node)),
            ..client::ListParams::default()
        };
        let pods = self.client.list::<Pod>("", &own).await?.items;
        let mut ips = pods.into_iter().filter_map(|pod| pod.status?.pod_ips).flatten();
        Ok(ips.any(|own| own.ip.parse() == Ok(address)))
    }
}

fn refused(host: &str) -> io::Error {
    let why = format!("{host} is neither this node nor one of its pods");
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}
