//! TaintNodesByCondition: a new node is not ready until its kubelet says so and the node life cycle controller takes the taint away.

use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;

/// Taints new nodes.
pub struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "nodes", Operation::Create)
    }

    fn admit(&self, _: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        const KEY: &str = "node.kubernetes.io/not-ready";
        let taints = &mut tree["spec"]["taints"];
        if !taints.is_array() {
            *taints = json!([]);
        }
        if let Some(list) = taints.as_array_mut()
            && !list.iter().any(|t| t["key"] == KEY && t["effect"] == "NoSchedule")
        {
            list.push(json!({ "key": KEY, "effect": "NoSchedule" }));
        }
        Ok(())
    }
}
