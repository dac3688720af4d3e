//! The rules in force and how they get there: reads services from the caches, applies them to the tables, commits,
//! tries again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use cni::link::Net;
use cni::nft::{Batch, Family};
use k8s_openapi::api::core::v1::{Node as NodeObject, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::base;
use crate::config::ProxyConfig;
use crate::conntrack::Expected;
use crate::health::{HealthChecks, State};
use crate::model::{Endpoint, ServicePort, health_check_of, ports_of};
use crate::rules::{Node, fragment};
use crate::run::{BY_SERVICE, ProxyError, Sources};
use crate::table::Table;
use crate::topology::Place;

const ZONE: &str = "topology.kubernetes.io/zone";
/// Empty chains are removed this much later: see `table::Table::sweep`.
const SWEEP_AFTER: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);

pub(crate) struct Proxy {
    config: ProxyConfig,
    sources: Sources,
    node_ips: Vec<IpAddr>,
    tables: Vec<Table>,
    place: Place,
    service_cidrs: Vec<Net>,
    state: watch::Sender<State>,
    checks: HealthChecks,
    /// When there is something to do without a change: a retry or a sweep.
    pub deadline: Option<Instant>,
    /// After a failure nothing is known about the kernel: the next attempt writes everything.
    failing: Option<Duration>,
}

/// A service's ports of one family.
type Ports = Vec<(ServicePort, Vec<Endpoint>)>;

impl Proxy {
    pub(crate) fn new(
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
    pub(crate) fn update_node(&mut self) -> bool {
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
    pub(crate) async fn sync(&mut self, dirty: BTreeSet<String>) {
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
    pub(crate) async fn resync(&mut self) {
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
    pub(crate) async fn due(&mut self) {
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
