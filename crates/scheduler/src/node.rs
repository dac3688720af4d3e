//! What the scheduler knows of a node: what it is, and what runs or is about to run on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::object::Object;
use serde::Deserialize;

use crate::label::LabelText;
use crate::pod::{HostPort, PodInfo, Taint};
use crate::resources::Resources;

/// What a node says of itself. Heartbeats change none of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// Label keys and values, sorted.
    labels: Vec<(LabelText, LabelText)>,
    /// Labels whose value is an integer.
    numbers: Vec<(LabelText, i64)>,
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
    pub allocatable: Resources,
    pub allowed_pods: usize,
    /// Bytes by image name.
    pub images: HashMap<Box<str>, i64>,
}

/// A node.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    pub name: Arc<str>,
    pub facts: NodeFacts,
    pub pods: Vec<Arc<PodInfo>>,
    pub requested: Resources,
    pub nonzero: (i64, i64),
    ports: Vec<HostPort>,
    /// Changes with everything above.
    pub generation: u64,
}

#[derive(Deserialize)]
struct RawNode {
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSpec {
    unschedulable: Option<bool>,
    taints: Option<Vec<Taint>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStatus {
    allocatable: Option<BTreeMap<String, String>>,
    images: Option<Vec<RawImage>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawImage {
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    size_bytes: i64,
}

impl NodeFacts {
    /// # Errors
    /// When the object is no node.
    pub fn of(object: &Object) -> Result<NodeFacts, serde_json::Error> {
        let raw: RawNode = object.decode()?;
        let mut facts = NodeFacts {
            unschedulable: raw.spec.unschedulable.unwrap_or(false),
            taints: raw.spec.taints.unwrap_or_default(),
            ..NodeFacts::default()
        };
        for (key, value) in &object.meta.labels {
            let key = LabelText::of(key);
            facts.labels.push((key, LabelText::of(value)));
            if let Ok(number) = value.parse() {
                facts.numbers.push((key, number));
            }
        }
        facts.labels.sort_unstable();
        let allocatable = raw.status.allocatable.unwrap_or_default();
        facts.allowed_pods = allocatable.get("pods").and_then(|p| p.parse().ok()).unwrap_or(0);
        facts.allocatable = Resources::of(&allocatable);
        for image in raw.status.images.unwrap_or_default() {
            for name in image.names.unwrap_or_default() {
                facts.images.insert(name.into(), image.size_bytes);
            }
        }
        Ok(facts)
    }

    /// The labels, key and value.
    pub fn labels(&self) -> &[(LabelText, LabelText)] {
        &self.labels
    }
}

impl NodeInfo {
    /// A node without pods.
    pub fn new(name: Arc<str>, facts: NodeFacts) -> NodeInfo {
        NodeInfo {
            name,
            facts,
            pods: Vec::new(),
            requested: Resources::default(),
            nonzero: (0, 0),
            ports: Vec::new(),
            generation: 0,
        }
    }

    /// A label's value.
    pub fn label(&self, key: LabelText) -> Option<LabelText> {
        let at = self.facts.labels.binary_search_by_key(&key, |(k, _)| *k).ok()?;
        Some(self.facts.labels[at].1)
    }

    /// A label's value as an integer.
    pub fn number(&self, key: LabelText) -> Option<i64> {
        self.facts.numbers.iter().find(|(k, _)| *k == key).map(|(_, n)| *n)
    }

    /// Whether a pod on the node has one of these ports of the node.
    pub fn has_conflicting_port(&self, wanted: &[HostPort]) -> bool {
        wanted.iter().any(|w| self.ports.iter().any(|p| p.conflicts(w)))
    }

    /// Counts a pod among those on the node.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.nonzero = (self.nonzero.0 + pod.nonzero.0, self.nonzero.1 + pod.nonzero.1);
        self.ports.extend(pod.ports.iter().cloned());
        self.pods.push(pod);
    }

    /// Takes a pod out, if it is there.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|p| p.uid() == uid)?;
        let pod = self.pods.swap_remove(at);
        self.requested.sub(&pod.requests);
        self.nonzero = (self.nonzero.0 - pod.nonzero.0, self.nonzero.1 - pod.nonzero.1);
        if !pod.ports.is_empty() {
            self.ports = self.pods.iter().flat_map(|p| p.ports.iter().cloned()).collect();
        }
        Some(pod)
    }
}
