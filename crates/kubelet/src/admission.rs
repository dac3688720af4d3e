//! Whether the node takes a pod: resources, host ports, node name, selector and required affinity.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};

use crate::pod::PodExt;
use crate::resources;
use crate::status::Verdict;

fn refuse(reason: &str, message: String) -> Result<(), Verdict> {
    Err(Verdict {
        reason: reason.to_owned(),
        message,
    })
}

/// What is counted, by name and by how many of our thousandths make one of upstream's units in messages.
const COUNTED: [(&str, i64); 3] = [("cpu", 1), ("memory", 1000), ("ephemeral-storage", 1000)];

/// What a pod takes of its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// As `COUNTED`, in thousandths.
    amounts: [i64; COUNTED.len()],
    host_ports: Vec<HostPort>,
}

impl Taken {
    pub fn by(pod: &Pod) -> Taken {
        Taken {
            amounts: COUNTED.map(|(name, _)| resources::pod_total(pod, false, name)),
            host_ports: host_ports(pod),
        }
    }
}

/// Takes the pod beside `others` or says why not. `allocatable` is in thousandths.
pub fn admit<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Taken> + Clone,
    allocatable: &BTreeMap<String, i64>,
    labels: &BTreeMap<String, String>,
) -> Result<(), Verdict> {
    let used = others.clone().count();
    if let Some(most) = allocatable.get("pods").map(|m| m / 1000)
        && i64::try_from(used).unwrap_or(i64::MAX) >= most
    {
        return refuse(
            "OutOfpods",
            format!("Node didn't have enough resource: pods, requested: 1, used: {used}, capacity: {most}"),
        );
    }
    has_room(pod, &others, allocatable)?;
    if !selected(pod, labels) {
        return refuse(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector".to_owned(),
        );
    }
    let wanted = host_ports(pod);
    let mut taken = others.flat_map(|o| &o.host_ports);
    if taken.any(|t| wanted.iter().any(|w| clash(w, t))) {
        return refuse(
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports".to_owned(),
        );
    }
    Ok(())
}

/// Whether the node has what the pod asks for beside `others`.
pub fn has_room<'a>(
    pod: &Pod,
    others: &(impl Iterator<Item = &'a Taken> + Clone),
    allocatable: &BTreeMap<String, i64>,
) -> Result<(), Verdict> {
    for (at, (name, unit)) in COUNTED.into_iter().enumerate() {
        let requested = resources::pod_total(pod, false, name);
        let capacity = allocatable.get(name).copied().unwrap_or(0);
        let used: i64 = others.clone().map(|o| o.amounts[at]).sum();
        if requested > 0 && requested > capacity - used {
            let (requested, used, capacity) = (requested / unit, used / unit, capacity / unit);
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return refuse(&format!("OutOf{name}"), message);
        }
    }
    Ok(())
}

type HostPort = (String, String, i32);

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let ports = pod.containers().iter().flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let ip = p
                .host_ip
                .clone()
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| "0.0.0.0".to_owned());
            p.host_port
                .filter(|h| *h > 0)
                .map(|h| (ip, p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), h))
        })
        .collect()
}

fn clash(a: &HostPort, b: &HostPort) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || a.0 == "0.0.0.0" || b.0 == "0.0.0.0")
}

fn selected(pod: &Pod, labels: &BTreeMap<String, String>) -> bool {
    let Some(spec) = &pod.spec else { return true };
    if !spec
        .node_selector
        .iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v))
    {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|r| {
        r.node_selector_terms
            .iter()
            .any(|t| term(t, labels, spec.node_name.as_deref().unwrap_or_default()))
    })
}

fn term(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, node: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|r| requirement(r, labels.get(&r.key).map(String::as_str)))
        && fields
            .iter()
            .all(|r| requirement(r, (r.key == "metadata.name").then_some(node)))
}

fn requirement(r: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = r.values.as_deref().unwrap_or_default();
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let compare = |f: fn(&i64, &i64) -> bool| match (number(value), number(values.first().map(String::as_str))) {
        (Some(a), Some(b)) => f(&a, &b),
        _ => false,
    };
    match r.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|x| x == v)),
        "NotIn" => value.is_none_or(|v| values.iter().all(|x| x != v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_refused_with_upstreams_reasons() {
        let pod = |spec: &str| -> Pod { serde_json::from_str(&format!(r#"{{"spec":{spec}}}"#)).unwrap() };
        let allocatable = BTreeMap::from([("cpu".to_owned(), 1000), ("pods".to_owned(), 110_000)]);
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let busy = Taken::by(&pod(
            r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"600m"}},"ports":[{"containerPort":80,"hostPort":80}]}]}"#,
        ));
        let reason = |p: &Pod| {
            admit(p, std::iter::once(&busy), &allocatable, &labels)
                .err()
                .map(|v| v.reason)
        };
        assert_eq!(
            reason(&pod(
                r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"500m"}}}]}"#
            ))
            .as_deref(),
            Some("OutOfcpu")
        );
        assert_eq!(
            reason(&pod(
                r#"{"containers":[{"name":"a","ports":[{"containerPort":1,"hostPort":80}]}]}"#
            ))
            .as_deref(),
            Some("NodePorts")
        );
        assert_eq!(
            reason(&pod(r#"{"nodeSelector":{"zone":"b"},"containers":[]}"#)).as_deref(),
            Some("NodeAffinity")
        );
        assert_eq!(reason(&pod(r#"{"nodeSelector":{"zone":"a"},"containers":[]}"#)), None);
    }
}
