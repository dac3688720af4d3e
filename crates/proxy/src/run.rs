//! Follows Services, EndpointSlices, ServiceCIDRs and the own Node, and has the changes made. Rules stay when this
//! ends: Services go on answering.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::object::Object;
use client::{Cache, Change, Client, Indexer, Informer};
use cni::link::Links;
use cni::nft::{Batch, Family};
use k8s_openapi::api::core::v1::{Node as NodeObject, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base;
use crate::config::ProxyConfig;
use crate::health::{HealthChecks, State, serve_healthz, serve_metrics};
use crate::syncer::Proxy;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const BY_SERVICE: &str = "service";

/// Why the proxy ends, or its rules cannot be taken down.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The configuration has no address of the node, so there is no family to make rules for.
    #[error("the node has no address: rules have no family")]
    NoAddress,
    /// The health server or the metrics server cannot listen.
    #[error("listening on {address}: {source}")]
    Listen {
        /// Where it should listen.
        address: std::net::SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The kernel does not tell the node's addresses.
    #[error("addresses of this node: {0}")]
    Links(#[from] cni::netlink::Error),
    /// The kernel refused a transaction.
    #[error(transparent)]
    Nftables(#[from] cni::nft::Error),
    /// The thread that spoke to the kernel ended without an answer.
    #[error("a commit ended early: {0}")]
    Task(String),
}

/// What is followed.
pub(crate) struct Sources {
    pub services: Cache,
    pub slices: Cache,
    pub nodes: Cache,
    /// Not waited for: an API server may not have them.
    pub service_cidrs: Cache,
}

/// The index of EndpointSlices by `namespace/name` of their Service.
pub(crate) fn by_service() -> Indexer {
    Indexer::new(BY_SERVICE, |o| service_of(o).into_iter().collect())
}

fn service_of(slice: &Object) -> Option<String> {
    let name = slice.meta.label(SERVICE_NAME).filter(|n| !n.is_empty())?;
    Some(format!("{}/{name}", slice.meta.namespace))
}

/// Runs until `shutdown`.
pub async fn run(config: ProxyConfig, client: Client, shutdown: CancellationToken) -> Result<(), ProxyError> {
    let others = "!service.kubernetes.io/service-proxy-name";
    let services = Client::collection::<Service>("").labels(others);
    let slices = Client::collection::<EndpointSlice>("").labels(format!("{others},!service.kubernetes.io/headless"));
    let nodes = Client::collection::<NodeObject>("").fields(format!("metadata.name={}", config.node_name));
    let sources = Sources {
        services: Informer::start(&client, services, Vec::new()),
        slices: Informer::start(&client, slices, vec![by_service()]),
        nodes: Informer::start(&client, nodes, Vec::new()),
        service_cidrs: Informer::start(&client, Client::collection::<ServiceCIDR>(""), Vec::new()),
    };
    follow(config, sources, shutdown).await
}

/// Removes the tables: Services no longer answer on this node.
pub fn cleanup() -> Result<(), ProxyError> {
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut batch = Batch::new(family, base::TABLE);
        batch.add_table();
        batch.del_table();
        batch.commit()?;
    }
    Ok(())
}

pub(crate) async fn follow(
    config: ProxyConfig,
    sources: Sources,
    shutdown: CancellationToken,
) -> Result<(), ProxyError> {
    let node_ips = nodeport_ips(&config)?;
    let (state, state_seen) = watch::channel(State {
        last_updated: jiff::Timestamp::now(),
        committed: false,
        node_eligible: true,
        failures: 0,
    });
    let mut servers = Vec::new();
    let failed = |address| move |source| ProxyError::Listen { address, source };
    if let Some(address) = config.healthz_bind_address {
        servers.push(
            serve_healthz(address, state_seen.clone())
                .await
                .map_err(failed(address))?,
        );
    }
    if let Some(address) = config.metrics_bind_address {
        servers.push(
            serve_metrics(address, state_seen.clone())
                .await
                .map_err(failed(address))?,
        );
    }
    cni::filter_bridged();
    config.conntrack.apply();
    let ready = async {
        sources.services.synced().await;
        sources.slices.synced().await;
        sources.nodes.synced().await;
    };
    tokio::select! {
        () = ready => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let mut services = sources.services.subscribe();
    let mut slices = sources.slices.subscribe();
    let mut nodes = sources.nodes.subscribe();
    let mut service_cidrs = sources.service_cidrs.subscribe();
    let checks = HealthChecks::new(node_ips.clone(), state_seen);
    let mut proxy = Proxy::new(config, sources, node_ips, state, checks)?;
    proxy.resync().await;
    loop {
        let mut dirty = BTreeSet::new();
        let mut moved = false;
        let deadline = proxy.deadline;
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(change) = services.recv() => dirty.extend(change.object().map(|o| o.key())),
            Some(change) = slices.recv() => dirty.extend(slice_services(&change)),
            Some(_) = nodes.recv() => moved = true,
            Some(_) = service_cidrs.recv() => moved = true,
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                proxy.due().await;
                continue;
            }
        }
        // All that came meanwhile goes into the same transaction.
        drain(&mut services, |c| dirty.extend(c.object().map(|o| o.key())));
        drain(&mut slices, |c| dirty.extend(slice_services(c)));
        drain(&mut nodes, |_| moved = true);
        drain(&mut service_cidrs, |_| moved = true);
        if moved && proxy.update_node() {
            proxy.resync().await;
        } else {
            proxy.sync(dirty).await;
        }
    }
    Ok(())
}

fn drain(changes: &mut mpsc::UnboundedReceiver<Change>, mut each: impl FnMut(&Change)) {
    while let Ok(change) = changes.try_recv() {
        each(&change);
    }
}

/// A slice's Service, before and after.
fn slice_services(change: &Change) -> impl Iterator<Item = String> {
    let sides = [&change.old, &change.new].map(|o| o.as_deref().and_then(service_of));
    sides.into_iter().flatten()
}

/// The node's addresses that accept NodePort traffic. Loopback cannot: the kernel drops what NAT sends out from there.
fn nodeport_ips(config: &ProxyConfig) -> Result<Vec<IpAddr>, ProxyError> {
    if config.nodeport_addresses.is_empty() {
        return Ok(config.node_ips.clone());
    }
    let mut links = Links::open()?;
    let mut ips = Vec::new();
    for link in links.all()? {
        let all = links.addresses(link.index)?.into_iter().map(|net| net.ip);
        let wanted = |ip: &IpAddr| !ip.is_loopback() && config.nodeport_addresses.iter().any(|net| net.contains(*ip));
        ips.extend(all.filter(wanted));
    }
    Ok(ips)
}
