//! Which kernel entries there must be so that other nodes' pods are reached, and the smallest change to them. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::peer::Peer;
use crate::link::Net;
use crate::neighbour::Neighbour;

/// An entry of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Entry {
    /// The outer address behind which a MAC of the overlay is.
    Forwarding(Neighbour),
    /// The MAC of a gateway on the overlay.
    Neighbour(Neighbour),
    /// The way to a node's pods.
    Route { to: Net, via: IpAddr },
}

/// What the kernel tells entries apart by: there is one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Forwarding([u8; 6]),
    Neighbour(IpAddr),
    Route(Net),
}

impl Entry {
    fn key(&self) -> Key {
        match self {
            Entry::Forwarding(entry) => Key::Forwarding(entry.mac),
            Entry::Neighbour(entry) => Key::Neighbour(entry.ip),
            Entry::Route { to, .. } => Key::Route(*to),
        }
    }
}

/// A step. Adding replaces what has the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Add(Entry),
    Remove(Entry),
}

/// What a peer needs.
pub(crate) fn entries(peer: &Peer) -> Vec<Entry> {
    let to = Net {
        ip: peer.pods.network(),
        prefix: peer.pods.prefix,
    };
    match peer.mac {
        // flannel's way: the network's own address stands for the node's device
        Some(mac) => vec![
            Entry::Forwarding(Neighbour { ip: peer.at, mac }),
            Entry::Neighbour(Neighbour { ip: to.ip, mac }),
            Entry::Route { to, via: to.ip },
        ],
        None => vec![Entry::Route { to, via: peer.at }],
    }
}

/// The entries of all nodes, of one family.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    nodes: HashMap<String, Vec<Entry>>,
    /// Who wants an entry. Two nodes may want the same for a while, as one that comes back under another name: the first by name
    /// has it, and the other one when that goes.
    owners: HashMap<Key, BTreeMap<String, Entry>>,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(crate) fn node_names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// Whether there is a way to this network.
    pub(crate) fn leads_to(&self, to: Net) -> bool {
        self.owners.contains_key(&Key::Route(to))
    }

    fn now(&self, key: &Key) -> Option<Entry> {
        self.owners.get(key)?.values().next().copied()
    }

    /// Gives a node these entries, or with none forgets it.
    pub(crate) fn set(&mut self, node: &str, entries: Vec<Entry>) -> Vec<Change> {
        let old = self.nodes.remove(node).unwrap_or_default();
        if old == entries {
            if !entries.is_empty() {
                self.nodes.insert(node.to_owned(), entries);
            }
            return Vec::new();
        }
        let touched: BTreeMap<Key, Option<Entry>> = old
            .iter()
            .chain(&entries)
            .map(|e| (e.key(), self.now(&e.key())))
            .collect();
        for entry in &old {
            if let Some(owners) = self.owners.get_mut(&entry.key()) {
                owners.remove(node);
                if owners.is_empty() {
                    self.owners.remove(&entry.key());
                }
            }
        }
        for entry in &entries {
            let owners = self.owners.entry(entry.key()).or_default();
            owners.insert(node.to_owned(), *entry);
        }
        if !entries.is_empty() {
            self.nodes.insert(node.to_owned(), entries);
        }
        let steps = touched.iter().map(|(key, before)| (*before, self.now(key)));
        ordered(steps)
    }

    /// What makes this plan of what there is.
    pub(crate) fn difference(&self, there: &[Entry]) -> Vec<Change> {
        let there: BTreeMap<Key, Entry> = there.iter().map(|e| (e.key(), *e)).collect();
        let gone = there.iter().filter(|(k, _)| !self.owners.contains_key(*k));
        let gone = gone.map(|(_, e)| (Some(*e), None));
        let wanted = self.owners.keys().map(|k| (there.get(k).copied(), self.now(k)));
        ordered(gone.chain(wanted))
    }
}

/// Ways are taken away before what they lead over, and made after it.
fn ordered(steps: impl Iterator<Item = (Option<Entry>, Option<Entry>)>) -> Vec<Change> {
    let mut removed = Vec::new();
    let mut added = Vec::new();
    for step in steps {
        match step {
            (before, Some(now)) if before != Some(now) => added.push(now),
            (Some(before), None) => removed.push(before),
            _ => {}
        }
    }
    removed.sort();
    added.sort();
    let removed = removed.into_iter().rev().map(Change::Remove);
    removed.chain(added.into_iter().map(Change::Add)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8, at: &str, mac: Option<u8>) -> Peer {
        Peer {
            pods: format!("10.42.{n}.0/24").parse().unwrap(),
            at: at.parse().unwrap(),
            mac: mac.map(|m| [2, 0, 0, 0, 0, m]),
        }
    }

    fn vxlan(n: u8, at: &str) -> Vec<Entry> {
        entries(&peer(n, at, Some(n)))
    }

    #[test]
    fn a_node_costs_three_entries_with_vxlan_and_one_route_without() {
        let mut plan = Plan::default();
        let added = plan.set("b", vxlan(1, "192.0.2.1"));
        let mac = [2, 0, 0, 0, 0, 1];
        let [at, gateway] = ["192.0.2.1", "10.42.1.0"].map(|ip| Neighbour {
            ip: ip.parse().unwrap(),
            mac,
        });
        let route = Entry::Route {
            to: "10.42.1.0/24".parse().unwrap(),
            via: gateway.ip,
        };
        let wanted = [Entry::Forwarding(at), Entry::Neighbour(gateway), route];
        assert_eq!(added, wanted.map(Change::Add));
        assert_eq!(plan.set("b", vxlan(1, "192.0.2.1")), []);
        let [first, second, third] = wanted;
        let gone = plan.set("b", Vec::new());
        assert_eq!(gone, [third, second, first].map(Change::Remove));
        assert!(plan.is_empty() && plan.owners.is_empty());
        assert_eq!(plan.set("c", entries(&peer(2, "192.0.2.2", None))).len(), 1);
    }

    #[test]
    fn a_node_with_a_new_address_changes_one_entry() {
        let mut plan = Plan::default();
        plan.set("b", vxlan(1, "192.0.2.1"));
        let changes = plan.set("b", vxlan(1, "192.0.2.9"));
        assert!(
            matches!(changes[..], [Change::Add(Entry::Forwarding(n))] if n.ip.to_string() == "192.0.2.9"),
            "{changes:?}"
        );
    }

    #[test]
    fn a_node_that_comes_back_under_another_name_keeps_its_way_when_the_old_one_goes() {
        let mut plan = Plan::default();
        plan.set("old", vxlan(1, "192.0.2.1"));
        assert_eq!(plan.set("young", vxlan(1, "192.0.2.2")), [], "the first by name has it");
        let changes = plan.set("old", Vec::new());
        assert!(
            matches!(changes[..], [Change::Add(Entry::Forwarding(_))]),
            "{changes:?}"
        );
        assert_eq!(plan.set("young", Vec::new()).len(), 3);
    }

    #[test]
    fn after_a_restart_only_what_differs_is_changed() {
        let mut plan = Plan::default();
        plan.set("b", vxlan(1, "192.0.2.1"));
        plan.set("c", vxlan(2, "192.0.2.2"));
        let all: Vec<Entry> = plan.owners.keys().filter_map(|k| plan.now(k)).collect();
        assert_eq!(plan.difference(&all), []);
        let mut there = [vxlan(1, "192.0.2.1"), vxlan(3, "192.0.2.3")].concat();
        assert_eq!(plan.difference(&there).len(), 6, "three too many, three missing");
        there.truncate(3);
        assert_eq!(plan.difference(&there).len(), 3);
        assert_eq!(Plan::default().difference(&all).len(), 6);
    }
}
