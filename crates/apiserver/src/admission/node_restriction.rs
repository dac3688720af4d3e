//! NodeRestriction: a kubelet writes its own node, the pods bound to it, its lease, and nothing else.

use serde_json::Value;

use crate::admission::{Attributes, Operation};
use crate::http::status::Result;
use crate::strategy::text;

/// Label prefixes that only administrators set.
const RESTRICTED: &str = "node-restriction.kubernetes.io/";

/// Labels of `kubernetes.io` and `k8s.io` that a kubelet may set on itself.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];

pub fn validate(attributes: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
    let Some(node) = attributes.user.node_name() else {
        return Ok(());
    };
    let refuse = |why: String| Err(attributes.resource.forbidden(attributes.name, &why));
    let resource = attributes.resource;
    if resource.is("", "pods") {
        return pods(attributes, node, tree, old).or_else(refuse);
    }
    if resource.is("", "nodes") {
        if attributes.name != node {
            return refuse(format!(
                "node {node:?} is not allowed to modify node {:?}",
                attributes.name
            ));
        }
        if attributes.operation == Operation::Delete {
            return refuse(format!(
                "node {node:?} is not allowed to delete node {:?}",
                attributes.name
            ));
        }
        return labels_and_taints(node, tree, old).or_else(refuse);
    }
    if resource.is("coordination.k8s.io", "leases") {
        if attributes.namespace != "kube-node-lease" || attributes.name != node {
            return refuse("can only access node lease with the same name as the requesting node".into());
        }
        return Ok(());
    }
    if resource.is("storage.k8s.io", "csinodes") && attributes.name != node {
        return refuse("can only access CSINode with the same name as the requesting node".into());
    }
    Ok(())
}

fn pods(attributes: &Attributes<'_>, node: &str, tree: &Value, old: Option<&Value>) -> std::result::Result<(), String> {
    let bound_here = |pod: &Value| text(pod, &["spec", "nodeName"]) == Some(node);
    match (attributes.subresource, attributes.operation) {
        ("", Operation::Create) => {
            let mirror = tree
                .pointer("/metadata/annotations")
                .is_some_and(|a| a.get("kubernetes.io/config.mirror").is_some());
            if !mirror {
                let name = text(tree, &["metadata", "name"]).unwrap_or_default();
                return Err(format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods (pod {name:?})"
                ));
            }
            if !bound_here(tree) {
                return Err(format!(
                    "node {node:?} can only create pods with spec.nodeName set to itself"
                ));
            }
            Ok(())
        }
        ("" | "eviction", Operation::Delete) | ("status", Operation::Update) => {
            if old.is_some_and(bound_here) {
                return Ok(());
            }
            let what = if attributes.operation == Operation::Delete {
                "delete pods"
            } else {
                "update pod status for pods"
            };
            Err(format!(
                "node {node:?} can only {what} with spec.nodeName set to itself"
            ))
        }
        ("eviction" | "binding" | "log" | "exec" | "attach" | "portforward" | "proxy", _) => Ok(()),
        (sub, _) => Err(format!("unexpected pod subresource {sub:?} for node {node:?}")),
    }
}

fn labels_and_taints(node: &str, tree: &Value, old: Option<&Value>) -> std::result::Result<(), String> {
    let labels = |t: Option<&Value>| {
        t.and_then(|t| t.pointer("/metadata/labels"))
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let (before, after) = (labels(old), labels(Some(tree)));
    let changed = before
        .keys()
        .chain(after.keys())
        .filter(|k| before.get(*k) != after.get(*k));
    for key in changed {
        let namespace = key.split_once('/').map_or("", |(n, _)| n);
        let kubernetes = ["kubernetes.io", "k8s.io"]
            .iter()
            .any(|d| namespace == *d || namespace.ends_with(&format!(".{d}")));
        let kubelet = namespace == "kubelet.kubernetes.io"
            || namespace.ends_with(".kubelet.kubernetes.io")
            || namespace == "node.kubernetes.io"
            || namespace.ends_with(".node.kubernetes.io");
        if key.starts_with(RESTRICTED) || (kubernetes && !kubelet && !OWN_LABELS.contains(&key.as_str())) {
            return Err(format!("node {node:?} is not allowed to modify labels: {key}"));
        }
    }
    if let Some(old) = old
        && old.pointer("/spec/taints") != tree.pointer("/spec/taints")
    {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    Ok(())
}
