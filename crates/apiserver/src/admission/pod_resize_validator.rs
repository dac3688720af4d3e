//! PodResizeValidator: a pod in its place asks for no more than its node could ever give, and only on Linux.

use api::pod;
use api::quantity::Quantity;
use serde_json::{Value, json};

use crate::admission::{Attributes, Plugin};
use crate::http::status::{ApiError, Result};
use crate::tree::text;

/// Keeps resizes of pods to what their node has.
pub struct PodResizeValidator;

impl Plugin for PodResizeValidator {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.resizes_pod()
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
        let node = text(tree, &["spec", "nodeName"]).unwrap_or_default();
        let generation = |tree: &Value| tree["metadata"]["generation"].as_i64();
        if node.is_empty() || old.map(generation) == Some(generation(tree)) {
            return Ok(());
        }
        let refuse = |why: &str| asked.resource.forbidden(asked.name, why);
        let Some(found) = asked.registry.get("", "nodes", "", node) else {
            return Err(refuse(&format!("node {node:?} not found")));
        };
        let because = |why: String, cause: &str| {
            let mut error: ApiError = refuse(&why);
            if let Some(details) = error.details.as_mut().and_then(Value::as_object_mut) {
                details.insert("causes".into(), json!([{ "reason": cause }]));
            }
            Err(error)
        };
        let system = found.object.meta.label("kubernetes.io/os").unwrap_or("linux");
        if system != "linux" {
            let why = format!("pod resize is only supported on linux nodes, node {node:?} is {system:?}");
            return because(why, "UnsupportedPlatform");
        }
        let short = short(tree, &found.tree()?["status"]["allocatable"]);
        if short.is_empty() {
            return Ok(());
        }
        let short = short.join("; ");
        because(
            format!("node didn't have enough allocatable resources: {short}"),
            "NodeCapacity",
        )
    }
}

/// What the pod asks more of than there is.
fn short(pod: &Value, allocatable: &Value) -> Vec<String> {
    // what the pod has now does not count
    let requests = pod::requests(&json!({ "spec": pod["spec"] }));
    let asked = |name: &str| requests.get(name).cloned().unwrap_or(Quantity::ZERO);
    let given = |name: &str| {
        let text = allocatable.get(name).and_then(Value::as_str);
        text.and_then(|q| q.parse().ok()).unwrap_or(Quantity::ZERO)
    };
    // CPU is counted in thousandths
    [
        ("cpu", Quantity::milli_value as fn(&Quantity) -> i64),
        ("memory", Quantity::value),
    ]
    .into_iter()
    .filter(|(name, _)| asked(name) > given(name))
    .map(|(name, shown)| {
        format!(
            "{name}, requested: {}, allocatable: {}",
            shown(&asked(name)),
            shown(&given(name))
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_named_with_what_is_asked_and_what_there_is() {
        let pod = |cpu: &str, memory: &str| json!({ "spec": { "containers": [{ "name": "a", "resources": { "requests": { "cpu": cpu, "memory": memory } } }] } });
        let node = json!({ "cpu": "2", "memory": "1Ki" });
        assert!(short(&pod("2000m", "1024"), &node).is_empty());
        let wanted = [
            "cpu, requested: 2001, allocatable: 2000",
            "memory, requested: 1025, allocatable: 1024",
        ];
        assert_eq!(short(&pod("2001m", "1025"), &node), wanted);
    }
}
