//! ExtendedResourceToleration: a pod that asks for an extended resource tolerates the taint of nodes that are kept for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;
use crate::kinds::rules::is_extended_resource;

/// Tolerates the taints of extended resources.
pub struct ExtendedResourceToleration;

/// The extended resources that a pod's containers ask for.
fn asked_for(pod: &Value) -> BTreeSet<String> {
    let containers = api::pod::containers(pod).chain(api::pod::init_containers(pod));
    let requests = containers.filter_map(|container| container.pointer("/resources/requests")?.as_object());
    let names = requests.flat_map(|requests| requests.keys());
    names.filter(|name| is_extended_resource(name)).cloned().collect()
}

fn is_for(toleration: &Value, resource: &str) -> bool {
    let text = |key: &str| toleration[key].as_str().unwrap_or_default();
    (text("key"), text("operator"), text("effect"), text("value")) == (resource, "Exists", "NoSchedule", "")
}

impl Plugin for ExtendedResourceToleration {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "pods", Operation::Create) || asked.is("", "pods", Operation::Update)
    }

    fn admit(&self, _: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        let resources = asked_for(tree);
        if resources.is_empty() {
            return Ok(());
        }
        let mut tolerations = tree["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        for resource in resources {
            let toleration = json!({ "key": resource, "operator": "Exists", "effect": "NoSchedule" });
            let mut is_there = false;
            for known in tolerations.iter_mut().filter(|known| is_for(known, &resource)) {
                *known = toleration.clone();
                is_there = true;
            }
            if !is_there {
                tolerations.push(toleration);
            }
        }
        tree["spec"]["tolerations"] = Value::Array(tolerations);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_extended_resources_of_containers_count() {
        let requests = |name: &str| json!([{ "name": "c", "resources": { "requests": { name: "1", "cpu": "1" } } }]);
        let pod = json!({ "spec": {
            "containers": requests("example.com/gpu"), "initContainers": requests("example.com/fpga"),
            "ephemeralContainers": requests("example.com/other"),
        } });
        let found: Vec<String> = asked_for(&pod).into_iter().collect();
        assert_eq!(found, ["example.com/fpga", "example.com/gpu"]);
        assert!(asked_for(&json!({ "spec": { "containers": requests("kubernetes.io/x") } })).is_empty());
    }
}
