//! Every node gets its part of the cluster CIDR (`spec.podCIDRs`).

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::Patch;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::meta::reference;

/// One cluster CIDR cut into equal parts.
#[derive(Debug)]
struct CidrSet {
    v6: bool,
    base: u128,
    bits: u8,
    node_bits: u8,
    used: BTreeSet<u128>,
    /// Where the next search starts: freed parts rest as long as possible.
    next: u128,
}

impl CidrSet {
    fn new(cidr: &str, v4_mask: u8, v6_mask: u8) -> Result<CidrSet, Error> {
        let bad = |why: &str| Error::Config(format!("cluster CIDR {cidr:?}: {why}"));
        let (address, length) = cidr.trim().split_once('/').ok_or_else(|| bad("no prefix length"))?;
        let address: IpAddr = address.parse().map_err(|_| bad("not an address"))?;
        let length: u8 = length.parse().map_err(|_| bad("not a prefix length"))?;
        let (v6, raw, width, mask) = match address {
            IpAddr::V4(a) => (false, u128::from(u32::from(a)), 32, v4_mask),
            IpAddr::V6(a) => (true, u128::from(a), 128, v6_mask),
        };
        if length > width || mask < length || mask > width {
            return Err(bad("the node's mask size must lie between it and the address size"));
        }
        if mask - length > 16 {
            return Err(bad("the node's mask size is more than 16 bits longer"));
        }
        let host = u32::from(width - length);
        let base = if host == 128 { 0 } else { raw >> host << host };
        Ok(CidrSet {
            v6,
            base,
            bits: mask - length,
            node_bits: mask,
            used: BTreeSet::new(),
            next: 0,
        })
    }

    fn width(&self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    fn text(&self, index: u128) -> String {
        let shift = u32::from(self.width() - self.node_bits);
        let raw = self.base + if shift == 128 { 0 } else { index << shift };
        let address = match self.v6 {
            true => IpAddr::V6(Ipv6Addr::from(raw)),
            false => IpAddr::V4(Ipv4Addr::from(raw as u32)),
        };
        format!("{address}/{}", self.node_bits)
    }

    fn index_of(&self, cidr: &str) -> Option<u128> {
        let address: IpAddr = cidr.split_once('/')?.0.parse().ok()?;
        let raw = match address {
            IpAddr::V4(a) if !self.v6 => u128::from(u32::from(a)),
            IpAddr::V6(a) if self.v6 => u128::from(a),
            _ => return None,
        };
        let index = raw.checked_sub(self.base)? >> u32::from(self.width() - self.node_bits);
        (index < 1 << self.bits).then_some(index)
    }

    fn allocate(&mut self) -> Option<u128> {
        let parts = 1u128 << self.bits;
        let index = (0..parts)
            .map(|i| (self.next + i) % parts)
            .find(|i| !self.used.contains(i))?;
        self.used.insert(index);
        self.next = (index + 1) % parts;
        Some(index)
    }
}

/// Who has what.
#[derive(Debug)]
struct Allocator {
    sets: Vec<CidrSet>,
    by_node: HashMap<String, Vec<String>>,
}

impl Allocator {
    fn occupy(&mut self, node: &str, cidrs: &[String]) {
        for cidr in cidrs {
            for set in &mut self.sets {
                if let Some(index) = set.index_of(cidr) {
                    set.used.insert(index);
                }
            }
        }
        self.by_node.insert(node.to_owned(), cidrs.to_vec());
    }

    /// One part of every cluster CIDR; the same again for a node that has one.
    fn allocate(&mut self, node: &str) -> Option<Vec<String>> {
        if let Some(cidrs) = self.by_node.get(node) {
            return Some(cidrs.clone());
        }
        let mut cidrs = Vec::new();
        for set in &mut self.sets {
            match set.allocate() {
                Some(index) => cidrs.push(set.text(index)),
                None => {
                    let partial = std::mem::take(&mut cidrs);
                    self.free(&partial);
                    return None;
                }
            }
        }
        self.by_node.insert(node.to_owned(), cidrs.clone());
        Some(cidrs)
    }

    fn free(&mut self, cidrs: &[String]) {
        for cidr in cidrs {
            for set in &mut self.sets {
                if let Some(index) = set.index_of(cidr) {
                    set.used.remove(&index);
                }
            }
        }
    }

    fn release(&mut self, node: &str) {
        if let Some(cidrs) = self.by_node.remove(node) {
            self.free(&cidrs);
        }
    }
}

fn cidrs_of(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.clone().unwrap_or_default();
    if all.is_empty() {
        spec.pod_cidr.clone().into_iter().filter(|c| !c.is_empty()).collect()
    } else {
        all
    }
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let Some(cluster) = ctx
        .config
        .cluster_cidr
        .clone()
        .filter(|_| ctx.config.allocate_node_cidrs)
    else {
        return Ok(());
    };
    let (v4, v6) = (ctx.config.node_cidr_mask_size, ctx.config.node_cidr_mask_size_ipv6);
    let sets = cluster
        .split(',')
        .map(|c| CidrSet::new(c, v4, v6))
        .collect::<Result<_, _>>()?;
    let nodes = ctx.informers.get::<Node>();
    if !ctx.synced(&[&nodes]).await {
        return Ok(());
    }
    let mut allocator = Allocator {
        sets,
        by_node: HashMap::new(),
    };
    for object in nodes.list() {
        let node: Node = decode(&object)?;
        let cidrs = cidrs_of(&node);
        if !cidrs.is_empty() {
            allocator.occupy(&object.meta.name, &cidrs);
        }
    }
    let allocator = Arc::new(Mutex::new(allocator));
    let queue = ctx.queue("node_ipam");
    ctx.each_change(&nodes, {
        let (queue, allocator) = (queue.clone(), allocator.clone());
        move |change| {
            if let (Some(gone), None) = (&change.old, &change.new) {
                allocator
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .release(&gone.meta.name);
            }
            if let (None, Some(new)) = (change.old, change.new) {
                queue.add(new.key());
            }
        }
    });
    let recorder = ctx.recorder("cidrAllocator");
    let client = ctx.client.clone();
    ctx.work(queue, 1, move |name| {
        let (client, recorder, nodes, allocator) = (client.clone(), recorder.clone(), nodes.clone(), allocator.clone());
        async move {
            let Some(node) = nodes.get(&name).filter(|n| !n.meta.deleting) else {
                return Ok::<Option<Duration>, Error>(None);
            };
            let node: Node = decode(&node)?;
            let have = cidrs_of(&node);
            let given = {
                let mut allocator = allocator.lock().unwrap_or_else(PoisonError::into_inner);
                if !have.is_empty() {
                    allocator.occupy(&name, &have);
                    return Ok(None);
                }
                allocator.allocate(&name)
            };
            let Some(cidrs) = given else {
                let message = format!("Node {name} status is now: CIDRNotAvailable");
                recorder.normal(&reference(&node), "CIDRNotAvailable", message);
                return Err(Error::State(format!(
                    "node {name}: no part of the cluster CIDR is left"
                )));
            };
            let patch = json!({"spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs}});
            match client.patch::<Node>("", &name, &Patch::Strategic(patch)).await {
                Err(error) if !error.is_not_found() => {
                    let message = format!("Node {name} status is now: CIDRAssignmentFailed");
                    recorder.normal(&reference(&node), "CIDRAssignmentFailed", message);
                    Err(error.into())
                }
                _ => Ok(None),
            }
        }
    })
    .await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocator(cidrs: &[&str]) -> Allocator {
        Allocator {
            sets: cidrs.iter().map(|c| CidrSet::new(c, 24, 64).unwrap()).collect(),
            by_node: HashMap::new(),
        }
    }

    #[test]
    fn nodes_get_parts_that_nobody_has() {
        let mut a = allocator(&["10.42.0.0/16", "fd00:42::/56"]);
        a.occupy("old", &["10.42.0.0/24".to_owned()]);
        assert_eq!(a.allocate("a").unwrap(), ["10.42.1.0/24", "fd00:42::/64"]);
        assert_eq!(a.allocate("b").unwrap(), ["10.42.2.0/24", "fd00:42:0:1::/64"]);
        assert_eq!(a.allocate("a").unwrap(), ["10.42.1.0/24", "fd00:42::/64"]);
        a.release("a");
        assert_eq!(a.allocate("c").unwrap()[0], "10.42.3.0/24", "freed parts rest");
    }

    #[test]
    fn a_full_range_gives_nothing() {
        let mut a = allocator(&["10.42.0.0/23"]);
        assert!(a.allocate("a").is_some() && a.allocate("b").is_some());
        assert!(a.allocate("c").is_none());
        a.release("a");
        assert_eq!(a.allocate("c").unwrap(), ["10.42.0.0/24"]);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for cidr in ["10.0.0.0/25", "x/8", "10.0.0.0", "10.0.0.0/4"] {
            assert!(CidrSet::new(cidr, 24, 64).is_err(), "{cidr}");
        }
    }
}
