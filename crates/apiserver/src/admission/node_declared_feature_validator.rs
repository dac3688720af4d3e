//! NodeDeclaredFeatureValidator: a pod on a node changes only in ways that its node declares to know (KEP-5328).

use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;
use crate::tree::text;

/// Keeps changes of pods to what their node knows.
pub struct NodeDeclaredFeatureValidator;

impl Plugin for NodeDeclaredFeatureValidator {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "pods", Operation::Update) || asked.resizes_pod()
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
        let node = text(tree, &["spec", "nodeName"]).unwrap_or_default();
        let generation = |tree: &Value| tree["metadata"]["generation"].as_i64();
        let Some(old) = old.filter(|old| !node.is_empty() && generation(old) != generation(tree)) else {
            return Ok(());
        };
        let required = required(tree, old);
        if required.is_empty() {
            return Ok(());
        }
        let refuse = |why: &str| Err(asked.resource.forbidden(asked.name, why));
        let Some(found) = asked.registry.get("", "nodes", "", node) else {
            return refuse(&format!("node {node:?} not found"));
        };
        let found = found.tree()?;
        let declared = found.pointer("/status/declaredFeatures").and_then(Value::as_array);
        let knows = |feature: &str| declared.is_some_and(|all| all.iter().any(|one| one == feature));
        let missing: Vec<&str> = required.into_iter().filter(|feature| !knows(feature)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        refuse(&format!(
            "pod update requires features {} which are not available on node {node:?}",
            missing.join(", ")
        ))
    }
}

/// What the node of a pod must know for an update of it.
fn required(new: &Value, old: &Value) -> Vec<&'static str> {
    let of_pod = new.pointer("/spec/resources") != old.pointer("/spec/resources");
    let list = |pod: &Value| {
        let list = pod.pointer("/spec/initContainers").and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let is_sidecar = |container: &Value| text(container, &["restartPolicy"]) == Some("Always");
    let of_init = list(old)
        .iter()
        .zip(&list(new))
        .any(|(old, new)| !is_sidecar(old) && old.get("resources") != new.get("resources"));
    [
        (of_pod, "InPlacePodLevelResourcesVerticalScaling"),
        (of_init, "InPlacePodVerticalScalingInitContainers"),
    ]
    .into_iter()
    .filter_map(|(changed, feature)| changed.then_some(feature))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resources_of_the_pod_and_of_containers_that_end_need_a_node_that_knows() {
        let old = json!({ "spec": {
            "resources": { "requests": { "cpu": "1" } },
            "containers": [{ "name": "a", "resources": {} }],
            "initContainers": [{ "name": "i", "resources": {} }, { "name": "s", "restartPolicy": "Always", "resources": {} }],
        } });
        let with = |path: &str| {
            let mut new = old.clone();
            new.pointer_mut(path).unwrap()["limits"] = json!({ "cpu": "2" });
            required(&new, &old)
        };
        assert_eq!(with("/spec/resources"), ["InPlacePodLevelResourcesVerticalScaling"]);
        let init = with("/spec/initContainers/0/resources");
        assert_eq!(init, ["InPlacePodVerticalScalingInitContainers"]);
        assert!(with("/spec/initContainers/1/resources").is_empty());
        assert!(with("/spec/containers/0/resources").is_empty());
    }
}
