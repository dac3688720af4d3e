//! Follows Services, EndpointSlices and the own Node, and commits the changes. Rules stay when this ends: Services
//! go on answering.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use api::object::Object;
use client::{Cache, Change, Client, Indexer, Informer};
use cni::link::{Links, Net};
use cni::nft::{Batch, Family};
use k8s_openapi::api::core::v1::{Node as NodeObject, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base;
use crate::config::ProxyConfig;
use crate::conntrack::Expected;
use crate::health::{HealthChecks, State, serve_healthz, serve_metrics};
use crate::model::{Endpoint, ServicePort, health_check_of, ports_of};
use crate::rules::{Node, fragment};
use crate::table::Table;
use crate::topology::Place;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const ZONE: &str = "topology.kubernetes.io/zone";
const BY_SERVICE: &str = "service";
/// Empty chains are removed this much later: see `table::Table::sweep`.
const SWEEP_AFTER: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("the node has no address: rules have no family")]
    NoAddress,
    #[error("listening on {address}: {source}")]
    Listen {
        address: std::net::SocketAddr,
        source: std::io::Error,
    },
    #[error("addresses of this node: {0}")]
    Links(#[from] cni::netlink::Error),
    #[error(transparent)]
    Nftables(#[from] cni::nft::Error),
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
    bridge_traffic();
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

/// Packets between pods on one bridge must pass the same rules as routed ones, or the answer of an endpoint on the
/// client's own bridge would bypass NAT. Where the kernel has no such switch nothing is bridged past it.
fn bridge_traffic() {
    for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        let path = format!("/proc/sys/net/bridge/{name}");
        match std::fs::read_to_string(&path) {
            Ok(value) if value.trim() == "1" => {}
            Ok(_) => {
                if let Err(e) = std::fs::write(&path, "1") {
                    tracing::warn!("{path}: {e}: Services may not reach endpoints on the client's own bridge");
                }
            }
            Err(e) => tracing::debug!("{path}: {e}"),
        }
    }
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

struct Proxy {
    config: ProxyConfig,
    sources: Sources,
    node_ips: Vec<IpAddr>,
    tables: Vec<Table>,
    place: Place,
    service_cidrs: Vec<Net>,
    state: watch::Sender<State>,
    checks: HealthChecks,
    /// When there is something to do without a change: a retry or a sweep.
    deadline: Option<Instant>,
    /// After a failure nothing is known about the kernel: the next attempt writes everything.
    failing: Option<Duration>,
}

/// A service's ports of one family.
type Ports = Vec<(ServicePort, Vec<Endpoint>)>;

impl Proxy {
    fn new(
        config: ProxyConfig,
        sources: Sources,
        node_ips: Vec<IpAddr>,
        state: watch::Sender<State>,
        checks: HealthChecks,
    ) -> Result<Proxy, ProxyError> {
        let mut families: Vec<Family> = config.node_ips.iter().copied().map(base::family_of).collect();
        families.sort();
        families.dedup();
        if families.is_empty() {
            return Err(ProxyError::NoAddress);
        }
        let mut proxy = Proxy {
            config,
            sources,
            node_ips,
            tables: Vec::new(),
            place: Place::default(),
            service_cidrs: Vec::new(),
            state,
            checks,
            deadline: None,
            failing: None,
        };
        proxy.update_node();
        proxy.tables = families.into_iter().map(|f| Table::new(proxy.node(f))).collect();
        Ok(proxy)
    }

    fn node(&self, family: Family) -> Node {
        let of_family = |ip: &IpAddr| base::family_of(*ip) == family;
        Node {
            family,
            place: self.place.clone(),
            node_ips: self.node_ips.iter().copied().filter(of_family).collect(),
            cluster_cidrs: self
                .config
                .cluster_cidrs
                .iter()
                .copied()
                .filter(|n| of_family(&n.ip))
                .collect(),
            service_cidrs: self
                .service_cidrs
                .iter()
                .copied()
                .filter(|n| of_family(&n.ip))
                .collect(),
            masquerade_all: self.config.masquerade_all,
            mark: 1 << self.config.masquerade_bit.min(31),
        }
    }

    /// Reads the Node and the ServiceCIDRs; says whether what all rules depend on has changed.
    fn update_node(&mut self) -> bool {
        let object = self.sources.nodes.get(&self.config.node_name);
        let zone = object
            .as_ref()
            .and_then(|o| o.meta.label(ZONE))
            .unwrap_or_default()
            .to_owned();
        let node = object.as_ref().and_then(|o| o.decode::<NodeObject>().ok());
        let taints = node.and_then(|n| n.spec?.taints).unwrap_or_default();
        let leaving =
            object.is_some_and(|o| o.meta.deleting) || taints.iter().any(|t| t.key == "ToBeDeletedByClusterAutoscaler");
        self.state
            .send_if_modified(|s| std::mem::replace(&mut s.node_eligible, !leaving) == leaving);
        let place = Place {
            node: self.config.node_name.clone(),
            zone,
        };
        let service_cidrs = self.read_service_cidrs();
        let moved = place != self.place || service_cidrs != self.service_cidrs;
        self.place = place;
        self.service_cidrs = service_cidrs;
        moved
    }

    fn read_service_cidrs(&self) -> Vec<Net> {
        let mut all = Vec::new();
        for object in self.sources.service_cidrs.list() {
            match object.decode::<ServiceCIDR>() {
                Ok(cidr) => all.extend(cidr.spec.and_then(|s| s.cidrs).into_iter().flatten()),
                Err(e) => tracing::warn!("service CIDR {}: {e}", object.key()),
            }
        }
        let mut nets: Vec<Net> = all.iter().filter_map(|c| c.parse().ok()).collect();
        nets.sort();
        nets.dedup();
        nets
    }

    /// A service's ports in each family's table, and its health check.
    async fn read(&mut self, key: &str) -> Vec<Ports> {
        let service = match self.sources.services.decode::<Service>(key) {
            Ok(service) => service.unwrap_or_default(),
            Err(e) => {
                tracing::warn!("service {key}: {e}");
                Service::default()
            }
        };
        let slices = self.sources.slices.by_index(BY_SERVICE, key);
        let slices: Vec<EndpointSlice> = slices
            .iter()
            .filter_map(|o| {
                o.decode()
                    .map_err(|e| tracing::warn!("endpoint slice {}: {e}", o.key()))
                    .ok()
            })
            .collect();
        let node = &self.config.node_name;
        self.checks.set(key, health_check_of(&service, &slices, node)).await;
        let of = |t: &Table| ports_of(&service, &slices, t.node().family == Family::Ipv6, node);
        self.tables.iter().map(of).collect()
    }

    /// Brings these services up to date.
    async fn sync(&mut self, dirty: BTreeSet<String>) {
        if dirty.is_empty() {
            return;
        }
        if self.failing.is_some() {
            // The retry reads all services anyway.
            return;
        }
        let (changes, expected) = self.changes(dirty).await;
        let mut batches = Vec::new();
        for (table, changes) in self.tables.iter_mut().zip(changes) {
            batches.push(table.apply(changes));
        }
        self.commit(batches, expected, false).await;
    }

    /// Writes everything anew, in one transaction a family.
    async fn resync(&mut self) {
        let families: Vec<Family> = self.tables.iter().map(|t| t.node().family).collect();
        for (at, family) in families.into_iter().enumerate() {
            let node = self.node(family);
            if let Some(table) = self.tables.get_mut(at) {
                table.reset(node);
            }
        }
        let all = self.sources.services.list().iter().map(|o| o.key()).collect();
        let (changes, expected) = self.changes(all).await;
        let mut batches = Vec::new();
        for (table, changes) in self.tables.iter_mut().zip(changes) {
            table.apply(changes);
            batches.push(table.full());
        }
        self.commit(batches, expected, true).await;
    }

    async fn changes(
        &mut self,
        services: BTreeSet<String>,
    ) -> (Vec<Vec<(String, crate::rules::Fragment)>>, Vec<Expected>) {
        let mut changes: Vec<Vec<_>> = self.tables.iter().map(|_| Vec::new()).collect();
        let mut expected: Vec<Expected> = self.tables.iter().map(|_| Expected::default()).collect();
        for key in services {
            let ports = self.read(&key).await;
            let of_tables = self.tables.iter().zip(changes.iter_mut()).zip(expected.iter_mut());
            for (((table, changes), expected), ports) in of_tables.zip(ports) {
                for (port, endpoints) in &ports {
                    expected.add(port, endpoints);
                }
                changes.push((key.clone(), fragment(&ports, table.node())));
            }
        }
        (changes, expected)
    }

    async fn commit(&mut self, batches: Vec<Batch>, expected: Vec<Expected>, full: bool) {
        let commands: usize = batches.iter().map(Batch::len).sum();
        let v6: Vec<bool> = self.tables.iter().map(|t| t.node().family == Family::Ipv6).collect();
        let work = move || -> Result<(), ProxyError> {
            for batch in batches {
                batch.commit()?;
            }
            for (expected, v6) in expected.iter().zip(v6).filter(|(e, _)| !e.is_empty()) {
                // The rules are in force; an old entry costs one client's packets.
                match expected.clean(v6) {
                    Ok(0) => {}
                    Ok(count) => tracing::debug!("removed {count} connections to endpoints that are gone"),
                    Err(e) => tracing::warn!("removing connections to endpoints that are gone: {e}"),
                }
            }
            Ok(())
        };
        let done = blocking(work).await;
        match done {
            Ok(()) => {
                if commands > 0 {
                    tracing::debug!(commands, full, "rules changed");
                }
                self.failing = None;
                self.deadline = Some(Instant::now() + SWEEP_AFTER);
                self.state.send_modify(|s| {
                    s.committed = true;
                    s.last_updated = jiff::Timestamp::now();
                });
            }
            Err(e) => {
                let wait = self.failing.map_or(RETRY_FIRST, |w| (w * 2).min(RETRY_MOST));
                tracing::warn!("service rules: {e}; trying again in {wait:?}");
                self.failing = Some(wait);
                self.deadline = Some(Instant::now() + wait);
                self.state.send_modify(|s| {
                    s.committed = false;
                    s.failures += 1;
                });
            }
        }
    }

    /// The deadline has come: tries again, or removes chains that are no longer used.
    async fn due(&mut self) {
        self.deadline = None;
        if self.failing.is_some() {
            self.resync().await;
            return;
        }
        for batch in self.tables.iter_mut().filter_map(Table::sweep).collect::<Vec<_>>() {
            if let Err(e) = blocking(move || Ok(batch.commit()?)).await {
                tracing::warn!("removing unused chains: {e}");
                self.failing = Some(RETRY_FIRST);
                self.deadline = Some(Instant::now() + RETRY_FIRST);
            }
        }
    }
}

async fn blocking(work: impl FnOnce() -> Result<(), ProxyError> + Send + 'static) -> Result<(), ProxyError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| ProxyError::Task(e.to_string()))?
}
