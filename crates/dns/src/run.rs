//! Follows Services, EndpointSlices and Namespaces into the index, and serves.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use api::object::Object;
use client::{Cache, Change, Client, Indexer, Informer};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::DnsConfig;
use crate::forward::Forwarder;
use crate::index::{Index, entry_of};
use crate::server::Server;
use crate::upstreams::Servers;
use crate::zone::Zone;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const BY_SERVICE: &str = "service";

#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("listening on {address} for DNS: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("cluster domain {domain:?}: {source}")]
    Domain {
        domain: String,
        source: hickory_proto::ProtoError,
    },
}

/// What is followed.
pub(crate) struct Sources {
    pub services: Cache,
    pub slices: Cache,
    pub namespaces: Cache,
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
pub async fn run(config: DnsConfig, client: Client, shutdown: CancellationToken) -> Result<(), DnsError> {
    let start = |request, indexers| Informer::start(&client, request, indexers);
    let sources = Sources {
        services: start(Client::collection::<Service>(""), Vec::new()),
        slices: start(Client::collection::<EndpointSlice>(""), vec![by_service()]),
        namespaces: start(Client::collection::<Namespace>(""), Vec::new()),
    };
    follow(config, sources, shutdown).await
}

pub(crate) async fn follow(config: DnsConfig, sources: Sources, shutdown: CancellationToken) -> Result<(), DnsError> {
    let domain = |source| DnsError::Domain {
        domain: config.cluster_domain.clone(),
        source,
    };
    let zone = Zone::new(&config.cluster_domain, config.ttl).map_err(domain)?;
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
    let all: BTreeSet<String> = sources.services.list().iter().map(|o| o.key()).collect();
    update(&index, &sources, &all);
    for namespace in sources.namespaces.list() {
        write(&index).set_namespace(&namespace.meta.name, true);
    }
    let server = Arc::new(Server::new(zone, index.clone(), Forwarder::new(Servers::new(&config))));
    let mut serving = Vec::new();
    for (udp, tcp) in sockets {
        serving.push(AbortOnDropHandle::new(tokio::spawn(server.clone().serve_udp(udp))));
        serving.push(AbortOnDropHandle::new(tokio::spawn(server.clone().serve_tcp(tcp))));
    }
    loop {
        let mut dirty = BTreeSet::new();
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(change) = services.recv() => dirty.extend(change.object().map(|o| o.key())),
            Some(change) = slices.recv() => dirty.extend(slice_services(&change)),
            Some(change) = namespaces.recv() => {
                if let Some(object) = change.object() {
                    write(&index).set_namespace(&object.meta.name, change.new.is_some());
                }
            }
        }
        while let Ok(change) = services.try_recv() {
            dirty.extend(change.object().map(|o| o.key()));
        }
        while let Ok(change) = slices.try_recv() {
            dirty.extend(slice_services(&change));
        }
        update(&index, &sources, &dirty);
    }
}

fn write(index: &RwLock<Index>) -> std::sync::RwLockWriteGuard<'_, Index> {
    index.write().unwrap_or_else(PoisonError::into_inner)
}

/// A slice's Service, before and after.
fn slice_services(change: &Change) -> impl Iterator<Item = String> {
    let sides = [&change.old, &change.new].map(|o| o.as_deref().and_then(service_of));
    sides.into_iter().flatten()
}

fn update(index: &RwLock<Index>, sources: &Sources, services: &BTreeSet<String>) {
    for key in services {
        let service = match sources.services.decode::<Service>(key) {
            Ok(service) => service,
            Err(e) => {
                tracing::warn!("service {key}: {e}");
                continue;
            }
        };
        let mut slices = Vec::new();
        if service.is_some() {
            for object in sources.slices.by_index(BY_SERVICE, key) {
                match object.decode::<EndpointSlice>() {
                    Ok(slice) => slices.push(slice),
                    Err(e) => tracing::warn!("endpoint slice {}: {e}", object.key()),
                }
            }
        }
        let entry = service.and_then(|s| entry_of(&s, &slices));
        write(index).set_service(key, entry);
    }
}
