//! Whether a pod's node selector and required node affinity admit a node.

use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::meta::{label, name};

fn requirement_holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|x| x == v));
    let number = || {
        let bound: i64 = values.first()?.parse().ok()?;
        Some((value?.parse::<i64>().ok()?, bound))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number().is_some_and(|(v, bound)| v > bound),
        "Lt" => number().is_some_and(|(v, bound)| v < bound),
        _ => false,
    }
}

/// A term without requirements admits nothing.
fn term_holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |key: &str| (key == "metadata.name").then(|| name(node));
    expressions.iter().all(|r| requirement_holds(r, label(node, &r.key)))
        && fields.iter().all(|r| requirement_holds(r, field(&r.key)))
}

pub(crate) fn selector_admits(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|t| term_holds(t, node))
}

pub(crate) fn admits(spec: &PodSpec, node: &Node) -> bool {
    let plain = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(k, v)| label(node, k) == Some(v));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    plain && required.is_none_or(|s| selector_admits(s, node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn terms_are_alternatives_and_requirements_are_not() {
        let node: Node = serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"a": "1", "b": "7"}}}),
        )
        .unwrap();
        let admits = |terms: serde_json::Value| {
            selector_admits(
                &serde_json::from_value(json!({"nodeSelectorTerms": terms})).unwrap(),
                &node,
            )
        };
        assert!(admits(
            json!([{"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}, {"key": "b", "operator": "Gt", "values": ["5"]}]}])
        ));
        assert!(!admits(
            json!([{"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}, {"key": "c", "operator": "Exists"}]}])
        ));
        assert!(admits(
            json!([{}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}])
        ));
        assert!(!admits(json!([{}])));
        assert!(admits(
            json!([{"matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["1"]}]}])
        ));
    }
}
