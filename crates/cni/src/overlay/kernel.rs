//! The node's side of the overlay in the kernel: device, routes, neighbours. Takes over what it finds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use client::WatchEvent;

use super::backend::Backend;
use super::masquerade;
use super::peer::{NodeFacts, VNI, mac_of};
use super::plan::{Change, Entry, Plan, entries};
use crate::default_network::DefaultNetwork;
use crate::ethtool::tx_checksum_off;
use crate::link::{Link, Links, Net};
use crate::netlink;
use crate::route::OwnedRoute;
use crate::vxlan::Vxlan;

/// UDP port, Linux' own and flannel's default.
const PORT: u16 = 8472;
/// By this number the routes are known as ours.
const PROTOCOL: u8 = 83;
const ALIAS: &str = "skiff overlay";
/// Where no link has the node's address, as behind a provider's NAT.
const USUAL_MTU: u32 = 1500;
const LARGEST_MTU: u32 = 65535;

/// What the overlay of a node is made with.
#[derive(Debug, Clone)]
pub struct OverlayConfig {
    /// This node's name.
    pub node: String,
    /// Where the other nodes reach this one, the first of each family.
    pub node_ips: Vec<IpAddr>,
    /// How packets travel between the nodes.
    pub backend: Backend,
    /// The pod networks of all nodes together.
    pub cluster_cidrs: Vec<Net>,
    /// The bridge of this node's pods, 15 bytes at most.
    pub bridge: String,
    /// Where the addresses given to pods are kept.
    pub addresses: PathBuf,
    /// Where the CNI configuration is written.
    pub conf_dir: PathBuf,
}

/// Why the overlay cannot be made or taken down.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The kernel refused a link, a route or a neighbour.
    #[error("{what}: {source}")]
    Link {
        /// What was to be done.
        what: String,
        /// What the kernel said.
        source: netlink::Error,
    },
    /// The CNI configuration cannot be written or removed.
    #[error("{path}: {source}")]
    File {
        /// The file or its folder.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The kernel refused the rules that masquerade.
    #[error(transparent)]
    Nftables(#[from] crate::nft::Error),
    /// A device that was made a moment ago is not there.
    #[error("{0}: it went away while it was set up")]
    Vanished(&'static str),
    /// The thread that spoke to the kernel ended without an answer.
    #[error("the work on the overlay ended early: {0}")]
    Task(String),
}

fn at(what: impl Into<String>) -> impl FnOnce(netlink::Error) -> OverlayError {
    let what = what.into();
    move |source| OverlayError::Link { what, source }
}

/// The kernel's name of the device, flannel's.
fn device_name(v6: bool) -> &'static str {
    if v6 { "flannel-v6.1" } else { "flannel.1" }
}

/// One address family.
struct Side {
    v6: bool,
    own: IpAddr,
    plan: Plan,
    /// The VXLAN device, once there is another node.
    device: Option<i32>,
    /// The link that has the node's address.
    outer: Option<Link>,
}

impl Side {
    fn mtu(&self, backend: Backend) -> u32 {
        let outer = self.outer.as_ref().map_or(USUAL_MTU, |l| l.mtu.min(LARGEST_MTU));
        outer.saturating_sub(backend.overhead(self.v6))
    }

    /// The link that ways to other nodes lead through; zero is for the kernel to find.
    fn link(&self, backend: Backend) -> Option<i32> {
        match backend {
            Backend::Vxlan => self.device,
            Backend::HostGw | Backend::None => Some(self.outer_index()),
        }
    }

    fn outer_index(&self) -> i32 {
        self.outer.as_ref().map_or(0, |l| l.index)
    }
}

/// What is to be done in the kernel after an event.
#[derive(Debug, Default)]
pub struct Work {
    /// By side.
    changes: Vec<(usize, Vec<Change>)>,
    /// The kernel's entries are to be read and compared.
    sync: bool,
    /// The node's own networks came or changed.
    network: bool,
    /// Annotations that this node lacks.
    pub announce: BTreeMap<String, String>,
}

impl Work {
    /// Whether the kernel has to be asked for anything.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.sync && !self.network
    }

    /// Whether everything is compared, and not only what changed.
    pub fn is_whole(&self) -> bool {
        self.sync
    }

    /// All of it again, after a failure.
    pub fn again() -> Work {
        Work {
            sync: true,
            network: true,
            ..Work::default()
        }
    }
}

/// The overlay of this node, in the network namespace of the thread that opened it.
pub struct Overlay {
    config: OverlayConfig,
    links: Links,
    sides: Vec<Side>,
    own: Vec<Net>,
}

impl Overlay {
    /// Finds the links that have the node's addresses. Changes nothing yet.
    ///
    /// # Errors
    /// When the links cannot be read.
    pub fn open(config: OverlayConfig) -> Result<Overlay, OverlayError> {
        let mut links = Links::open().map_err(at("links"))?;
        let mut sides: Vec<Side> = Vec::new();
        for ip in &config.node_ips {
            if sides.iter().any(|s| s.v6 == ip.is_ipv6()) {
                continue;
            }
            let outer = links.with_address(*ip).map_err(at(format!("the link of {ip}")))?;
            sides.push(Side {
                v6: ip.is_ipv6(),
                own: *ip,
                plan: Plan::default(),
                device: None,
                outer,
            });
        }
        Ok(Overlay {
            config,
            links,
            sides,
            own: Vec::new(),
        })
    }

    /// The largest packet that pods may send.
    pub fn mtu(&self) -> u32 {
        let mtus = self.sides.iter().map(|s| s.mtu(self.config.backend));
        mtus.min().unwrap_or(USUAL_MTU)
    }

    /// What follows from an event of the Nodes. Asks the kernel for nothing.
    pub fn decide(&mut self, event: &WatchEvent) -> Work {
        let mut work = Work::default();
        match event {
            WatchEvent::Restarted(nodes) => {
                work.sync = true;
                for side in &mut self.sides {
                    for name in side.plan.node_names() {
                        if !nodes.iter().any(|n| *n.meta.name == *name) {
                            side.plan.set(&name, Vec::new());
                        }
                    }
                }
                for node in nodes {
                    self.node(node, &mut work);
                }
                // the comparison says the same and more
                work.changes.clear();
            }
            WatchEvent::Applied(node) => self.node(node, &mut work),
            WatchEvent::Deleted(node) => {
                for (at, side) in self.sides.iter_mut().enumerate() {
                    let changes = side.plan.set(&node.meta.name, Vec::new());
                    if !changes.is_empty() {
                        work.changes.push((at, changes));
                    }
                }
            }
            WatchEvent::Bookmark(_) => {}
        }
        work
    }

    fn node(&mut self, object: &api::object::Object, work: &mut Work) {
        let facts: NodeFacts = match object.decode() {
            Ok(facts) => facts,
            Err(error) => {
                tracing::error!(node = %object.meta.name, %error, "a node cannot be read");
                return;
            }
        };
        if facts.metadata.name == self.config.node {
            let own = facts.pod_cidrs();
            work.network |= own != self.own && !own.is_empty();
            if !own.is_empty() {
                self.own = own;
            }
            let sides: Vec<_> = self
                .sides
                .iter()
                .map(|s| (s.own, mac_of(&self.config.node, s.v6)))
                .collect();
            work.announce = facts.missing(self.config.backend, &sides);
            return;
        }
        for (at, side) in self.sides.iter_mut().enumerate() {
            let peer = facts.peer(self.config.backend, side.v6);
            let changes = side
                .plan
                .set(&facts.metadata.name, peer.as_ref().map(entries).unwrap_or_default());
            if !changes.is_empty() {
                work.changes.push((at, changes));
            }
        }
    }

    /// Brings the kernel to what was decided. What fails for one node does not keep the others from theirs; the first failure
    /// is returned.
    pub fn perform(&mut self, work: &Work) -> Result<(), OverlayError> {
        let mut result = Ok(());
        if work.network {
            result = self.configure();
        }
        for at in 0..self.sides.len() {
            let done = if work.sync || work.network {
                self.sync(at)
            } else {
                let mine = work.changes.iter().filter(|(side, _)| *side == at);
                let changes: Vec<Change> = mine.flat_map(|(_, changes)| changes.iter().copied()).collect();
                self.apply(at, &changes)
            };
            result = result.and(done);
        }
        result
    }

    /// The node's own part: masquerading, forwarding, and the network that pods are attached to.
    fn configure(&mut self) -> Result<(), OverlayError> {
        if self.own.is_empty() {
            return Ok(());
        }
        for v6 in [false, true] {
            if self.own.iter().any(|net| net.ip.is_ipv6() == v6) {
                let path = if v6 {
                    "/proc/sys/net/ipv6/conf/all/forwarding"
                } else {
                    "/proc/sys/net/ipv4/ip_forward"
                };
                sysctl(path, "1")?;
                masquerade::batch(&self.config.bridge, v6, &self.config.cluster_cidrs, &self.own).commit()?;
            }
        }
        let network = DefaultNetwork {
            bridge: self.config.bridge.clone(),
            pod_cidrs: self.own.clone(),
            data_dir: self.config.addresses.clone(),
            mtu: self.mtu(),
            masquerade: false,
        };
        let conf_dir = &self.config.conf_dir;
        let changed = network.install(conf_dir).map_err(|source| OverlayError::File {
            path: conf_dir.display().to_string(),
            source,
        })?;
        if changed {
            let cidrs: Vec<String> = self.own.iter().map(Net::to_string).collect();
            tracing::info!(
                cidrs = cidrs.join(","),
                mtu = network.mtu,
                "the pod network is configured"
            );
        }
        Ok(())
    }

    /// Compares what the kernel has with what it should have.
    fn sync(&mut self, at: usize) -> Result<(), OverlayError> {
        let Some(side) = self.sides.get_mut(at) else {
            return Ok(());
        };
        let name = device_name(side.v6);
        let there = self.links.vxlan(name).map_err(self::at(name))?;
        let mut entries: Vec<Entry> = Vec::new();
        if self.config.backend == Backend::Vxlan && !side.plan.is_empty() {
            self.ensure_device(at)?;
        } else if let Some((link, _, alias)) = there
            && alias == ALIAS
        {
            self.links.del(link.index).map_err(self::at(name))?;
        }
        let Some(side) = self.sides.get(at) else {
            return Ok(());
        };
        let link = side.link(self.config.backend).filter(|link| *link > 0);
        let mut routes = self.links.routes(PROTOCOL, side.v6).map_err(self::at("routes"))?;
        // what leads through another link is put right by adding it again
        routes.retain(|r| link.is_none_or(|link| link == r.link) || !side.plan.leads_to(r.to));
        entries.extend(routes.iter().map(|r| Entry::Route { to: r.to, via: r.via }));
        if let Some(device) = side.device {
            let neighbours = self.links.neighbours(device, side.v6).map_err(self::at(name))?;
            entries.extend(neighbours.into_iter().map(Entry::Neighbour));
            let forwardings = self.links.forwardings(device).map_err(self::at(name))?;
            entries.extend(forwardings.into_iter().map(Entry::Forwarding));
        }
        let changes = side.plan.difference(&entries);
        self.apply(at, &changes)
    }

    fn apply(&mut self, at: usize, changes: &[Change]) -> Result<(), OverlayError> {
        if changes.is_empty() {
            return Ok(());
        }
        let backend = self.config.backend;
        if backend == Backend::Vxlan
            && self
                .sides
                .get(at)
                .is_some_and(|s| s.device.is_none() && !s.plan.is_empty())
        {
            self.ensure_device(at)?;
        }
        let Some(side) = self.sides.get(at) else {
            return Ok(());
        };
        // Without a device the node's own network is not known yet: then all is made when it comes.
        let Some(link) = side.link(backend) else {
            return Ok(());
        };
        let mut result = Ok(());
        for change in changes {
            let done = match *change {
                Change::Add(Entry::Forwarding(entry)) => self.links.set_forwarding(link, entry),
                Change::Add(Entry::Neighbour(entry)) => self.links.set_neighbour(link, entry),
                Change::Add(Entry::Route { to, via }) => {
                    let route = OwnedRoute { to, via, link };
                    self.links.set_route(PROTOCOL, route, backend == Backend::Vxlan)
                }
                Change::Remove(Entry::Forwarding(entry)) => self.links.del_forwarding(link, entry),
                Change::Remove(Entry::Neighbour(entry)) => self.links.del_neighbour(link, entry),
                Change::Remove(Entry::Route { to, via }) => {
                    self.links.del_route(PROTOCOL, OwnedRoute { to, via, link: 0 })
                }
            };
            result = result.and(done.map_err(self::at(format!("{change:?}"))));
        }
        result
    }

    /// The VXLAN device as it should be: taken over, made, or made anew where it differs in what cannot be changed.
    fn ensure_device(&mut self, at: usize) -> Result<(), OverlayError> {
        let mtu = self.mtu();
        let Some(side) = self.sides.get_mut(at) else {
            return Ok(());
        };
        let Some(own) = self.own.iter().find(|net| net.ip.is_ipv6() == side.v6) else {
            return Ok(());
        };
        let name = device_name(side.v6);
        let failed = || self::at(name);
        let vxlan = Vxlan {
            id: VNI,
            link: side.outer_index(),
            local: side.own,
            port: PORT,
        };
        let mac = mac_of(&self.config.node, side.v6);
        let mut there = self.links.vxlan(name).map_err(failed())?;
        if let Some((link, is, _)) = &there
            && is.as_ref() != Some(&vxlan)
        {
            self.links.del(link.index).map_err(failed())?;
            there = None;
        }
        if there.is_none() {
            self.links.add_vxlan(name, &vxlan, mac, mtu).map_err(failed())?;
            there = self.links.vxlan(name).map_err(failed())?;
        }
        let (link, _, alias) = there.ok_or(OverlayError::Vanished(name))?;
        if alias != ALIAS {
            self.links.set_alias(link.index, ALIAS).map_err(failed())?;
        }
        if link.mac != mac {
            self.links.set_mac(link.index, mac).map_err(failed())?;
        }
        if link.mtu != mtu {
            self.links.set_mtu(link.index, mtu).map_err(failed())?;
        }
        // Some network cards send wrong checksums of what is inside VXLAN packets (k3s-io/k3s#2935): the kernel makes them.
        if let Err(source) = tx_checksum_off(name) {
            tracing::warn!("{name}: checksum offload cannot be switched off: {source}");
        }
        let address = Net {
            ip: own.network(),
            prefix: Net::width(own.ip),
        };
        for other in self.links.addresses(link.index).map_err(failed())? {
            let link_local = matches!(other.ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if other != address && !link_local {
                self.links.del_address(link.index, other).map_err(failed())?;
            }
        }
        if side.v6 {
            sysctl(&format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0")?;
        }
        self.links.add_address(link.index, address).map_err(failed())?;
        if !link.up {
            self.links.set_up(link.index).map_err(failed())?;
        }
        side.device = Some(link.index);
        Ok(())
    }
}

fn sysctl(path: &str, value: &str) -> Result<(), OverlayError> {
    crate::sysctl::set(path, value).map_err(|source| OverlayError::File {
        path: path.to_owned(),
        source,
    })
}

/// Takes down what the overlay of a node made: device, routes, masquerading.
pub fn cleanup(bridge: &str) -> Result<(), OverlayError> {
    let mut links = Links::open().map_err(at("links"))?;
    for v6 in [false, true] {
        let name = device_name(v6);
        if let Some((link, _, alias)) = links.vxlan(name).map_err(at(name))?
            && alias == ALIAS
        {
            links.del(link.index).map_err(at(name))?;
        }
        for route in links.routes(PROTOCOL, v6).map_err(at("routes"))? {
            links.del_route(PROTOCOL, route).map_err(at("routes"))?;
        }
    }
    Ok(masquerade::cleanup(bridge)?)
}
