//! LimitPodHardAntiAffinityTopology: a pod keeps others off its own node at most, not off a zone.

use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;
use crate::registry::metadata;

const HOSTNAME: &str = "kubernetes.io/hostname";
const REQUIRED: &str = "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution";

/// Refuses required anti-affinity of anything larger than a node.
pub struct LimitPodHardAntiAffinityTopology;

impl Plugin for LimitPodHardAntiAffinityTopology {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "pods", Operation::Create) || asked.is("", "pods", Operation::Update)
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, _: Option<&Value>) -> Result<()> {
        let terms = tree.pointer(REQUIRED).and_then(Value::as_array);
        let mut keys = terms
            .into_iter()
            .flatten()
            .map(|term| term["topologyKey"].as_str().unwrap_or_default());
        let Some(key) = keys.find(|key| *key != HOSTNAME) else {
            return Ok(());
        };
        let why = format!(
            "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOSTNAME} is allowed"
        );
        Err(asked.resource.forbidden(metadata::text(tree, "name"), &why))
    }
}
