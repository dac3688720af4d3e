//! The small plugins: TaintNodesByCondition, DefaultTolerationSeconds, RuntimeClass.

use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};
use crate::http::status::Result;
use crate::tree::text;

/// A new node is not ready until its kubelet says so and the node life cycle controller takes the taint away.
pub fn taint_nodes_by_condition(attributes: &Attributes<'_>, tree: &mut Value) {
    if !attributes.is("", "nodes", Operation::Create) {
        return;
    }
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
}

/// Pods stay five minutes on a node that is not ready or not reachable.
pub fn default_toleration_seconds(attributes: &Attributes<'_>, tree: &mut Value) {
    let writes = [Operation::Create, Operation::Update];
    if !writes.into_iter().any(|write| attributes.is("", "pods", write)) {
        return;
    }
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
}

/// A pod's runtime class must exist; it brings its overhead and scheduling.
pub fn runtime_class(attributes: &Attributes<'_>, tree: &mut Value) -> Result<()> {
    if !attributes.is("", "pods", Operation::Create) {
        return Ok(());
    }
    let name = text(tree, &["spec", "runtimeClassName"]).unwrap_or_default().to_owned();
    if name.is_empty() {
        if tree.pointer("/spec/overhead").is_some_and(Value::is_object) {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(attributes.resource.forbidden(attributes.name, why));
        }
        return Ok(());
    }
    let Some(class) = attributes.registry.get("node.k8s.io", "runtimeclasses", "", &name) else {
        let why = format!("pod rejected: RuntimeClass {name:?} not found");
        return Err(attributes.resource.forbidden(attributes.name, &why));
    };
    let class = class.tree()?;
    let overhead = class.pointer("/overhead/podFixed");
    let own = tree.pointer("/spec/overhead").filter(|o| !o.is_null());
    match (own, overhead) {
        (Some(own), fixed) if Some(own) != fixed => {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(attributes.resource.forbidden(attributes.name, why));
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
                return Err(attributes.resource.forbidden(attributes.name, &why));
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
