//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or not reachable.

use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;

/// Tolerates for a while what ends pods on a node.
pub struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "pods", Operation::Create) || asked.is("", "pods", Operation::Update)
    }

    fn admit(&self, _: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        let list = tree
            .pointer("/spec/tolerations")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let mut tolerations = list;
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let tolerated = tolerations.iter().any(|t| {
                let its = t["key"].as_str().unwrap_or_default();
                let effect = t["effect"].as_str().unwrap_or_default();
                (its == key || its.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            });
            if !tolerated {
                tolerations
                    .push(json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }));
            }
        }
        tree["spec"]["tolerations"] = Value::Array(tolerations);
        Ok(())
    }
}
