//! Which elements a selector stands for, and how they change with a pod. Pure.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use cni::nft::Key;

use crate::pod::{Labels, Pod, label};
use crate::policy::{Namespaces, Selection};
use crate::table::Kind;

/// What is looked up of the selected pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Addresses,
    /// The addresses with the numbers of their ports of this name.
    Port {
        protocol: u8,
        name: String,
    },
}

/// Says what a set is for; sets of the same text are one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    pub selection: Selection,
    pub wanted: Wanted,
    /// Pods of other nodes are of no interest.
    pub local: bool,
}

impl Source {
    pub(crate) fn text(&self) -> String {
        format!("{:?} {} {}", self.wanted, self.local, self.selection.text)
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.wanted {
            Wanted::Addresses => Kind::Addresses,
            Wanted::Port { .. } => Kind::Services,
        }
    }

    pub(crate) fn is_in_namespace(&self, name: &str, labels: Option<&Labels>) -> bool {
        match &self.selection.namespaces {
            Namespaces::One(one) => one == name,
            // a namespace that is not known has no labels that could be right
            Namespaces::Labelled(selector) => labels.is_some_and(|labels| selector.matches(|key| label(labels, key))),
        }
    }

    /// The elements of a pod whose namespace is selected.
    fn elements(&self, pod: &Pod, node: &str) -> Vec<Element> {
        let here = !self.local || pod.node == node;
        if !here || !self.selection.pods.matches(|key| label(&pod.labels, key)) {
            return Vec::new();
        }
        let mut elements: Vec<Element> = match &self.wanted {
            Wanted::Addresses => pod.ips.iter().map(|ip| Element { ip: *ip, port: None }).collect(),
            Wanted::Port { protocol, name } => {
                let ports = pod.ports.iter().filter(|(p, n, _)| p == protocol && n == name);
                let numbers: Vec<u16> = ports.map(|(_, _, number)| *number).collect();
                let of_ip = |ip: &IpAddr| {
                    let ip = *ip;
                    numbers.iter().map(move |number| Element {
                        ip,
                        port: Some((*protocol, *number)),
                    })
                };
                pod.ips.iter().flat_map(of_ip).collect()
            }
        };
        elements.sort_unstable();
        elements.dedup();
        elements
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    pub ip: IpAddr,
    pub port: Option<(u8, u16)>,
}

impl Element {
    pub(crate) fn key(&self) -> Key {
        match self.port {
            None => Key::ip(self.ip),
            Some((protocol, port)) => Key::service(self.ip, protocol, port),
        }
    }
}

/// A set in use.
#[derive(Debug)]
pub(crate) struct Members {
    pub source: Source,
    pub users: usize,
    /// Namespaces whose labels are selected.
    pub namespaces: HashSet<String>,
    /// How many pods an element is of: for a moment two pods may have one address.
    counts: HashMap<Element, usize>,
}

/// An element that came or went.
pub(crate) type Step = (Element, bool);

impl Members {
    pub(crate) fn new(source: Source) -> Members {
        Members {
            source,
            users: 0,
            namespaces: HashSet::new(),
            counts: HashMap::new(),
        }
    }

    pub(crate) fn elements(&self) -> impl Iterator<Item = Element> {
        self.counts.keys().copied()
    }

    /// A pod of a selected namespace came, changed or went.
    pub(crate) fn change(&mut self, old: Option<&Pod>, new: Option<&Pod>, node: &str) -> Vec<Step> {
        let of = |pod: Option<&Pod>| pod.map(|p| self.source.elements(p, node)).unwrap_or_default();
        let (old, new) = (of(old), of(new));
        let mut steps = Vec::new();
        for element in new.iter().filter(|e| !old.contains(e)) {
            let count = self.counts.entry(*element).or_default();
            *count += 1;
            if *count == 1 {
                steps.push((*element, true));
            }
        }
        for element in old.iter().filter(|e| !new.contains(e)) {
            if let Some(count) = self.counts.get_mut(element) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(element);
                    steps.push((*element, false));
                }
            }
        }
        steps
    }
}
