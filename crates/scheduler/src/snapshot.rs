//! The cluster as scheduling decisions see it: nodes with the pods on them, changed by deltas.

use std::collections::HashMap;
use std::sync::Arc;

use api::object::Object;
use api::selectors::LabelSelector;

use crate::node::{NodeFacts, NodeInfo};
use crate::pod::PodInfo;
use crate::storage::Storage;

/// A PodDisruptionBudget.
#[derive(Debug, Clone)]
pub struct Budget {
    pub namespace: Box<str>,
    pub selector: LabelSelector,
    pub disruptions_allowed: i64,
}

/// Everything a scheduling cycle reads.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub nodes: Vec<NodeInfo>,
    index: HashMap<Arc<str>, usize>,
    /// The node each pod counts on, by uid.
    places: HashMap<Box<str>, Arc<str>>,
    /// Pods of nodes that are not known (yet, or any more), by node.
    homeless: HashMap<Arc<str>, Vec<Arc<PodInfo>>>,
    /// Pods that wait for the victims of a preemption to go, by node.
    nominated: HashMap<Box<str>, Vec<Arc<PodInfo>>>,
    /// How many pods on nodes have affinity terms of their own: others' answers depend on them.
    with_affinity: usize,
    /// How many nodes have an image.
    pub image_nodes: HashMap<Box<str>, usize>,
    /// Labels of namespaces, for `namespaceSelector`.
    pub namespaces: HashMap<Box<str>, Arc<Object>>,
    pub storage: Storage,
    pub budgets: HashMap<Box<str>, Budget>,
    generation: u64,
}

impl Snapshot {
    /// The node of a name.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index.get(name).map(|at| &self.nodes[*at])
    }

    /// Whether some pod on a node has affinity terms.
    pub fn has_affinity(&self) -> bool {
        self.with_affinity > 0
    }

    /// Pods that are to run on a node once others have gone.
    pub fn nominated_to(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominated.get(node).map_or(&[], Vec::as_slice)
    }

    /// Whether pods wait for others to go from a node.
    pub fn has_nominated(&self) -> bool {
        !self.nominated.is_empty()
    }

    fn touch(&mut self, at: usize) {
        self.generation += 1;
        self.nodes[at].generation = self.generation;
    }

    fn count_images(&mut self, facts: &NodeFacts, add: bool) {
        for image in facts.images.keys() {
            let count = self.image_nodes.entry(image.clone()).or_insert(0);
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.image_nodes.remove(image);
            }
        }
    }

    /// Adds a node or takes its new facts. What was before, and whether anything changed.
    pub fn set_node(&mut self, name: &str, facts: NodeFacts) -> (Option<NodeFacts>, bool) {
        if let Some(at) = self.index.get(name).copied() {
            if self.nodes[at].facts == facts {
                return (None, false);
            }
            self.count_images(&facts, true);
            let old = std::mem::replace(&mut self.nodes[at].facts, facts);
            self.count_images(&old, false);
            self.touch(at);
            return (Some(old), true);
        }
        self.count_images(&facts, true);
        let name: Arc<str> = name.into();
        let mut node = NodeInfo::new(name.clone(), facts);
        for pod in self.homeless.remove(&name).unwrap_or_default() {
            node.add(pod);
        }
        self.index.insert(name, self.nodes.len());
        self.nodes.push(node);
        self.touch(self.nodes.len() - 1);
        (None, true)
    }

    /// Forgets a node; returns whether it was known.
    pub fn remove_node(&mut self, name: &str) -> bool {
        let Some(at) = self.index.remove(name) else {
            return false;
        };
        let node = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(moved.name.clone(), at);
        }
        self.count_images(&node.facts, false);
        if !node.pods.is_empty() {
            self.homeless.insert(node.name, node.pods);
        }
        true
    }

    /// Counts a pod on a node, in place of what was known of it.
    pub fn add_pod(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.remove_pod(pod.uid());
        self.with_affinity += usize::from(!pod.affinity.is_empty());
        let name: Arc<str> = match self.index.get(node).copied() {
            Some(at) => {
                self.nodes[at].add(pod.clone());
                self.touch(at);
                self.nodes[at].name.clone()
            }
            None => {
                let name: Arc<str> = node.into();
                self.homeless.entry(name.clone()).or_default().push(pod.clone());
                name
            }
        };
        self.places.insert(pod.uid().into(), name);
    }

    /// Takes a pod out, if it counts somewhere.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let name = self.places.remove(uid)?;
        let pod = match self.index.get(&name).copied() {
            Some(at) => {
                let pod = self.nodes[at].remove(uid);
                self.touch(at);
                pod
            }
            None => {
                let pods = self.homeless.get_mut(&name)?;
                let found = pods.iter().position(|p| p.uid() == uid).map(|i| pods.swap_remove(i));
                if pods.is_empty() {
                    self.homeless.remove(&name);
                }
                found
            }
        }?;
        self.with_affinity -= usize::from(!pod.affinity.is_empty());
        Some(pod)
    }

    /// Where a pod counts.
    pub fn place(&self, uid: &str) -> Option<&str> {
        self.places.get(uid).map(|n| &**n)
    }

    /// Keeps room on a node for a pod that preempted others there.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.withdraw_nomination(pod.uid());
        self.nominated.entry(node.into()).or_default().push(pod);
    }

    /// A pod waits for no node any more.
    pub fn withdraw_nomination(&mut self, uid: &str) {
        if self.nominated.is_empty() {
            return;
        }
        self.nominated.retain(|_, pods| {
            pods.retain(|p| p.uid() != uid);
            !pods.is_empty()
        });
    }
}
