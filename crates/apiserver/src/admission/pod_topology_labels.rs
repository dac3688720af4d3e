//! PodTopologyLabels: a pod that has a node says in its labels in which zone and region that is.

use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;
use crate::tree::text;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Labels pods that are made with a node or bound to one.
pub struct PodTopologyLabels;

impl Plugin for PodTopologyLabels {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        let bound =
            asked.resource.is("", "pods") && asked.subresource == "binding" && asked.operation == Operation::Create;
        bound || asked.is("", "pods", Operation::Create)
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        let path = match asked.subresource {
            "binding" => ["target", "name"],
            _ => ["spec", "nodeName"],
        };
        let Some(node) = text(tree, &path).filter(|node| !node.is_empty()) else {
            return Ok(());
        };
        // a node that is not there has no zone
        if let Some(node) = asked.registry.get("", "nodes", "", node) {
            copy(|label| node.object.meta.label(label), tree);
        }
        Ok(())
    }
}

fn copy<'a>(of_node: impl Fn(&str) -> Option<&'a str>, pod: &mut Value) {
    for label in LABELS {
        if let Some(value) = of_node(label) {
            pod["metadata"]["labels"][label] = value.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn zone_and_region_of_the_node_replace_the_pods_own() {
        let node = |label: &str| match label {
            "topology.kubernetes.io/zone" => Some("z"),
            "kubernetes.io/os" => Some("linux"),
            _ => None,
        };
        let mut pod = json!({ "metadata": { "name": "a" } });
        copy(node, &mut pod);
        assert_eq!(pod["metadata"]["labels"], json!({ "topology.kubernetes.io/zone": "z" }));
        pod["metadata"]["labels"] =
            json!({ "topology.kubernetes.io/zone": "mine", "topology.kubernetes.io/region": "r" });
        copy(node, &mut pod);
        let wanted = json!({ "topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r" });
        assert_eq!(pod["metadata"]["labels"], wanted);
    }
}
