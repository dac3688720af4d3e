//! What the scheduler knows of a pod, read once when the pod comes or changes.

mod raw;
mod read;

use std::sync::Arc;

use api::object::Object;
use api::selectors::LabelSelector;
use jiff::Timestamp;
use serde::Deserialize;

pub(crate) use self::raw::RawNodeSelector;
use crate::label::LabelText;
use crate::node_affinity::{NodeSelector, Term};
use crate::resources::Resources;

/// A host port that a pod occupies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    pub ip: Box<str>,
    pub protocol: Box<str>,
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be on one node: the same port and protocol, on addresses that overlap.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.ip) || any(&other.ip) || self.ip == other.ip)
    }
}

/// A toleration of a pod. Empty fields match all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Default)]
#[serde(default)]
pub struct Toleration {
    pub key: String,
    pub operator: String,
    pub value: String,
    pub effect: String,
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Default)]
#[serde(default)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

impl Toleration {
    /// Whether a taint does not keep the pod off.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if !self.effect.is_empty() && self.effect != taint.effect || !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        match self.operator.as_str() {
            "" | "Equal" => self.value == taint.value,
            "Exists" => true,
            // numbers, compared as integers
            "Gt" | "Lt" => match (taint.value.parse::<i64>(), self.value.parse::<i64>()) {
                (Ok(theirs), Ok(ours)) if self.operator == "Gt" => theirs > ours,
                (Ok(theirs), Ok(ours)) => theirs < ours,
                _ => false,
            },
            _ => false,
        }
    }
}

/// A term of inter-pod affinity or anti-affinity.
#[derive(Debug, Clone)]
pub struct AffinityTerm {
    pub selector: LabelSelector,
    pub namespaces: Vec<String>,
    /// Namespaces by their labels; an empty selector means all.
    pub namespace_selector: Option<LabelSelector>,
    /// A label key of nodes.
    pub topology: LabelText,
    pub weight: i64,
}

/// A pod's affinity to other pods, required and preferred.
#[derive(Debug, Clone, Default)]
pub struct PodAffinity {
    pub required: Vec<AffinityTerm>,
    pub required_anti: Vec<AffinityTerm>,
    pub preferred: Vec<AffinityTerm>,
    pub preferred_anti: Vec<AffinityTerm>,
}

impl PodAffinity {
    /// Whether the pod says nothing of other pods.
    pub fn is_empty(&self) -> bool {
        self.required.is_empty()
            && self.required_anti.is_empty()
            && self.preferred.is_empty()
            && self.preferred_anti.is_empty()
    }
}

/// A topology spread constraint.
#[derive(Debug, Clone)]
pub struct Spread {
    pub max_skew: i64,
    pub topology: LabelText,
    pub required: bool,
    pub selector: LabelSelector,
    pub min_domains: Option<i64>,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

/// A pod as plugins see it.
#[derive(Debug)]
pub struct PodInfo {
    pub object: Arc<Object>,
    /// `namespace/name`.
    pub key: Arc<str>,
    pub node_name: Box<str>,
    pub scheduler_name: Box<str>,
    pub priority: i32,
    pub started: Option<Timestamp>,
    pub gates: Vec<String>,
    pub requests: Resources,
    /// CPU and memory with defaults for containers that request none.
    pub nonzero: (i64, i64),
    pub ports: Vec<HostPort>,
    pub node_selector: NodeSelector,
    pub preferred_nodes: Vec<(i64, Term)>,
    pub tolerations: Vec<Toleration>,
    pub affinity: PodAffinity,
    pub spread: Vec<Spread>,
    pub images: Vec<String>,
    pub containers: usize,
    /// Names of PersistentVolumeClaims.
    pub claims: Vec<String>,
    /// Those of them that are made for the pod.
    pub made_claims: Vec<String>,
    pub resource_claims: bool,
    pub never_preempts: bool,
    pub nominated_node: Box<str>,
    /// Pods of one shape get the same answer from every node.
    pub shape: u64,
}

impl PodInfo {
    /// The pod's namespace.
    pub fn namespace(&self) -> &str {
        &self.object.meta.namespace
    }

    /// The pod's name.
    pub fn name(&self) -> &str {
        &self.object.meta.name
    }

    /// The pod's UID.
    pub fn uid(&self) -> &str {
        &self.object.meta.uid
    }

    /// The value of a label, if the pod has it.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.object.meta.label(key)
    }

    /// Whether one of the pod's tolerations is of a taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|t| t.tolerates(taint))
    }

    /// The first taint with one of the effects that keeps the pod away.
    pub fn untolerated<'a>(&self, taints: &'a [Taint]) -> Option<&'a Taint> {
        taints
            .iter()
            .find(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute") && !self.tolerates(t))
    }

    /// Whether the answer of a node depends on nothing but the node and the pod's shape.
    pub fn is_plain(&self) -> bool {
        self.affinity.is_empty() && self.spread.is_empty() && self.claims.is_empty() && !self.resource_claims
    }
}

/// Why a pod cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    #[error("pod {0}: {1}")]
    Decode(String, serde_json::Error),
    #[error("pod {0}: {1}")]
    Selector(String, api::selectors::SelectorError),
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::Value;

    /// A pod of a tree, in the namespace `default`.
    pub fn pod(tree: Value) -> Arc<PodInfo> {
        let mut tree = tree;
        tree["metadata"]["namespace"] = "default".into();
        let object = Object::parse(tree.to_string().into()).unwrap();
        Arc::new(PodInfo::of(&object).unwrap())
    }

    #[test]
    fn an_init_container_counts_while_it_is_larger_than_the_rest() {
        let request = |cpu: &str| serde_json::json!({ "requests": { "cpu": cpu } });
        let tree = serde_json::json!({
            "metadata": { "name": "a" },
            "spec": {
                "containers": [{ "name": "c", "resources": request("1") }],
                "initContainers": [
                    { "name": "s", "restartPolicy": "Always", "resources": request("500m") },
                    { "name": "i", "resources": request("2") },
                ],
            },
        });
        let pod = pod(tree);
        assert_eq!(pod.requests.cpu, 2500);
        assert_eq!(pod.nonzero.0, 2500);
    }

    #[test]
    fn a_toleration_without_key_and_effect_tolerates_everything() {
        let taint = |key: &str, effect: &str| Taint {
            key: key.into(),
            value: "v".into(),
            effect: effect.into(),
        };
        let exists = Toleration {
            operator: "Exists".into(),
            ..Toleration::default()
        };
        assert!(exists.tolerates(&taint("a", "NoSchedule")));
        let keyed = Toleration {
            key: "a".into(),
            value: "v".into(),
            ..Toleration::default()
        };
        assert!(keyed.tolerates(&taint("a", "NoExecute")));
        assert!(!keyed.tolerates(&taint("b", "NoExecute")));
    }
}
