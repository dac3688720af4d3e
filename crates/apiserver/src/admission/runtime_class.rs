//! RuntimeClass: a pod's runtime class must exist; it brings its overhead and scheduling.

use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::{ApiError, Result};
use crate::tree::text;

/// Applies the runtime classes of pods.
pub struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "pods", Operation::Create)
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        let name = text(tree, &["spec", "runtimeClassName"]).unwrap_or_default().to_owned();
        if name.is_empty() {
            if tree.pointer("/spec/overhead").is_some_and(Value::is_object) {
                let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                return Err(asked.resource.forbidden(asked.name, why));
            }
            return Ok(());
        }
        // a name that no path can have is nobody's to ask for
        let unfit = api::names::path_segment_errors(&name);
        if !unfit.is_empty() {
            let why = format!("invalid resource name {}: [{}]", api::go::quote(&name), unfit.join(" "));
            return Err(ApiError::plain(why));
        }
        let Some(class) = asked.registry.get("node.k8s.io", "runtimeclasses", "", &name) else {
            let why = format!("pod rejected: RuntimeClass {name:?} not found");
            return Err(asked.resource.forbidden(asked.name, &why));
        };
        let class = class.tree()?;
        let overhead = class.pointer("/overhead/podFixed");
        let own = tree.pointer("/spec/overhead").filter(|o| !o.is_null());
        match (own, overhead) {
            (Some(own), fixed) if Some(own) != fixed => {
                let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
                return Err(asked.resource.forbidden(asked.name, why));
            }
            (None, Some(fixed)) => tree["spec"]["overhead"] = fixed.clone(),
            _ => {}
        }
        if let Some(selector) = class.pointer("/scheduling/nodeSelector").and_then(Value::as_object) {
            for (key, value) in selector {
                let show = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                if let Some(own) = tree["spec"]["nodeSelector"].get(key).filter(|own| *own != value) {
                    let (wanted, own) = (show(value), show(own));
                    let why = format!(
                        "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {own}"
                    );
                    return Err(asked.resource.forbidden(asked.name, &why));
                }
                tree["spec"]["nodeSelector"][key] = value.clone();
            }
        }
        if let Some(extra) = class.pointer("/scheduling/tolerations").and_then(Value::as_array) {
            let mut list = tree
                .pointer("/spec/tolerations")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            list.extend(extra.iter().filter(|t| !list.contains(t)).cloned().collect::<Vec<_>>());
            tree["spec"]["tolerations"] = Value::Array(list);
        }
        Ok(())
    }
}
