//! Follows Services, EndpointSlices and Namespaces into the index, and serves.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use api::object::Object;
use client::{Cache, Change, Client, Informer};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::DnsConfig;
use crate::forward::Forwarder;
use crate::index::{Entry, Index, Slice};
use crate::metrics::DnsMetrics;
use crate::server::Server;
use crate::upstreams::Servers;
use crate::zone::Zone;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A UDP or TCP socket cannot be had.
    #[error("listening on {address} for DNS: {source}")]
    Listen {
        /// Where it should listen.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The cluster's domain is not a name that DNS can carry.
    #[error("cluster domain {domain:?}: {source}")]
    Domain {
        /// The domain, as [`DnsConfig`] has it.
        domain: String,
        /// What is wrong with it.
        source: hickory_proto::ProtoError,
    },
}

/// What is followed.
pub(crate) struct Sources {
    pub services: Cache,
    pub slices: Cache,
    pub namespaces: Cache,
}

/// Runs until `shutdown`.
pub async fn run(config: DnsConfig, client: Client, shutdown: CancellationToken) -> Result<(), DnsError> {
    let start = |request, indexers| Informer::start(&client, request, indexers);
    let sources = Sources {
        services: start(Client::collection::<Service>(""), Vec::new()),
        slices: start(Client::collection::<EndpointSlice>(""), Vec::new()),
        namespaces: start(Client::collection::<Namespace>(""), Vec::new()),
    };
    follow(config, sources, shutdown).await
}

pub(crate) async fn follow(config: DnsConfig, sources: Sources, shutdown: CancellationToken) -> Result<(), DnsError> {
    let domain = |source| DnsError::Domain {
        domain: config.cluster_domain.clone(),
        source,
    };
    let zone = Zone::new(&config.cluster_domain, config.ttl, config.local_addresses()).map_err(domain)?;
    let mut sockets = Vec::new();
    for address in &config.listen {
        let failed = |source| DnsError::Listen {
            address: *address,
            source,
        };
        let udp = UdpSocket::bind(address).await.map_err(failed)?;
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        sockets.push((udp, tcp));
    }
    let ready = async {
        sources.services.synced().await;
        sources.slices.synced().await;
        sources.namespaces.synced().await;
    };
    tokio::select! {
        () = ready => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let mut services = sources.services.subscribe();
    let mut slices = sources.slices.subscribe();
    let mut namespaces = sources.namespaces.subscribe();
    let index = Arc::new(RwLock::new(Index::default()));
    sources
        .services
        .list()
        .iter()
        .for_each(|object| set_service(&index, &object.key(), Some(object)));
    sources
        .slices
        .list()
        .iter()
        .for_each(|object| set_slice(&index, &object.key(), Some(object)));
    for namespace in sources.namespaces.list() {
        write(&index).set_namespace(&namespace.meta.name, true);
    }
    let port = config.listen.first().map_or(53, SocketAddr::port);
    let counted = Arc::new(DnsMetrics::new(port));
    config.metrics.add(counted.clone());
    let forwarder = Forwarder::new(Servers::new(&config));
    let server = Arc::new(Server::new(zone, index.clone(), forwarder, counted));
    let mut serving = Vec::new();
    for (udp, tcp) in sockets {
        serving.push(AbortOnDropHandle::new(tokio::spawn(server.clone().serve_udp(udp))));
        serving.push(AbortOnDropHandle::new(tokio::spawn(server.clone().serve_tcp(tcp))));
    }
    let key = |change: &Change| change.object().map(|object| object.key());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(change) = services.recv() => if let Some(key) = key(&change) {
                set_service(&index, &key, change.new.as_deref());
            },
            Some(change) = slices.recv() => if let Some(key) = key(&change) {
                set_slice(&index, &key, change.new.as_deref());
            },
            Some(change) = namespaces.recv() => if let Some(object) = change.object() {
                write(&index).set_namespace(&object.meta.name, change.new.is_some());
            },
        }
    }
}

fn write(index: &RwLock<Index>) -> std::sync::RwLockWriteGuard<'_, Index> {
    let mut index = index.write().unwrap_or_else(PoisonError::into_inner);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    index.modified = u32::try_from(now).unwrap_or(u32::MAX);
    index
}

/// Puts in, changes or removes a Service. What cannot be read stays as it was known.
fn set_service(index: &RwLock<Index>, key: &str, object: Option<&Object>) {
    match object.map(Object::decode::<Service>).transpose() {
        Ok(service) => {
            let entry = service.as_ref().and_then(Entry::of);
            write(index).set_service(key, entry);
        }
        Err(e) => tracing::warn!("service {key}: {e}"),
    }
}

/// Puts in, changes or removes a slice.
fn set_slice(index: &RwLock<Index>, key: &str, object: Option<&Object>) {
    match object.map(Object::decode::<EndpointSlice>).transpose() {
        Ok(slice) => {
            let slice = slice.as_ref().and_then(Slice::of);
            write(index).set_slice(key, slice);
        }
        Err(e) => tracing::warn!("endpoint slice {key}: {e}"),
    }
}
