//! Whether the node takes a pod: resources, host ports, node name, selector and required affinity.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};

use crate::pod::PodExt;
use crate::resources;
use crate::security;
use crate::status::Verdict;

fn refuse(reason: &str, message: String) -> Result<(), Verdict> {
    Err(Verdict {
        reason: reason.to_owned(),
        message,
    })
}

/// Refuses a pod that is meant for another operating system.
pub fn fits_os(pod: &Pod) -> Result<(), Verdict> {
    let label = pod.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/os"));
    if label.is_some_and(|os| os != "linux") {
        return refuse(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label".to_owned(),
        );
    }
    let os = pod.spec.as_ref().and_then(|s| s.os.as_ref());
    if os.is_some_and(|os| os.name != "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS".to_owned();
        return refuse("PodOSNotSupported", message);
    }
    Ok(())
}

/// Refuses a pod that asks for an AppArmor profile where the kernel would not enforce it.
pub fn fits_apparmor(pod: &Pod, enforced: bool) -> Result<(), Verdict> {
    let mut profiles = security::apparmor_profiles(pod);
    if !enforced && profiles.any(|p| p.type_ != "Unconfined") {
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned();
        return refuse("AppArmor", message);
    }
    Ok(())
}

/// What is counted always, by name and by how many of our thousandths make one of upstream's units in messages.
const COUNTED: [(&str, i64); 3] = [("cpu", 1), ("memory", 1000), ("ephemeral-storage", 1000)];

/// What the pod asks for: first what is counted always, then the huge pages it names.
fn counted(pod: &Pod) -> impl Iterator<Item = (String, i64)> {
    let mut names: Vec<(String, i64)> = COUNTED.map(|(name, unit)| (name.to_owned(), unit)).into();
    let containers = pod.init_containers().iter().chain(pod.containers());
    let of_containers = containers.filter_map(|c| c.resources.as_ref()?.requests.as_ref());
    let of_pod = pod.spec.as_ref().and_then(|s| s.resources.as_ref()?.requests.as_ref());
    let mut huge: Vec<&String> = of_containers.chain(of_pod).flat_map(|r| r.keys()).collect();
    huge.retain(|name| name.starts_with("hugepages-"));
    huge.sort();
    huge.dedup();
    names.extend(huge.into_iter().map(|name| (name.clone(), 1000)));
    names.into_iter()
}

/// What a pod takes of its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// By resource, in thousandths.
    amounts: BTreeMap<String, i64>,
    host_ports: Vec<HostPort>,
}

impl Taken {
    /// What a pod takes of the node.
    pub fn by(pod: &Pod) -> Taken {
        Taken {
            amounts: counted(pod)
                .map(|(name, _)| (name.clone(), resources::pod_total(pod, false, &name)))
                .collect(),
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
    for (name, unit) in counted(pod) {
        let requested = resources::pod_total(pod, false, &name);
        let capacity = allocatable.get(&name).copied().unwrap_or(0);
        let used = resources::sum(others.clone().filter_map(|o| o.amounts.get(&name).copied()));
        if requested > 0 && requested > capacity.saturating_sub(used) {
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

    #[test]
    fn a_pod_of_another_system_or_with_what_is_not_there_is_refused() {
        let pod = |json: &str| -> Pod { serde_json::from_str(json).unwrap() };
        let reason = |verdict: Result<(), Verdict>| verdict.err().map(|v| v.reason).unwrap_or_default();
        for (json, want) in [
            (
                r#"{"spec":{"os":{"name":"windows"},"containers":[]}}"#,
                "PodOSNotSupported",
            ),
            (r#"{"spec":{"os":{"name":"linux"},"containers":[]}}"#, ""),
            (
                r#"{"metadata":{"labels":{"kubernetes.io/os":"windows"}},"spec":{"containers":[]}}"#,
                "PodOSSelectorNodeLabelDoesNotMatch",
            ),
        ] {
            assert_eq!(reason(fits_os(&pod(json))), want, "{json}");
        }
        let profile = |kind: &str| {
            pod(&format!(
                r#"{{"spec":{{"containers":[{{"name":"a","securityContext":{{"appArmorProfile":{{"type":"{kind}","localhostProfile":"x"}}}}}}]}}}}"#
            ))
        };
        assert_eq!(reason(fits_apparmor(&profile("Localhost"), false)), "AppArmor");
        assert_eq!(reason(fits_apparmor(&profile("RuntimeDefault"), false)), "AppArmor");
        assert_eq!(reason(fits_apparmor(&profile("Unconfined"), false)), "");
        assert_eq!(reason(fits_apparmor(&profile("Localhost"), true)), "");
        let huge = pod(r#"{"spec":{"containers":[{"name":"a","resources":{"requests":{"hugepages-2Mi":"4Mi"}}}]}}"#);
        let verdict = |pages: i64| {
            let allocatable = BTreeMap::from([("hugepages-2Mi".to_owned(), pages * (2 << 20) * 1000)]);
            reason(has_room(&huge, &std::iter::empty(), &allocatable))
        };
        assert_eq!((verdict(1).as_str(), verdict(2).as_str()), ("OutOfhugepages-2Mi", ""));
    }
}
