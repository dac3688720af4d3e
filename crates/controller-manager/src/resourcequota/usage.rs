//! What the objects of a namespace use of the resources that a quota limits.

use std::collections::BTreeMap;

use api::quantity::{Format, Quantity};
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, ResourceQuotaSpec, ScopedResourceSelectorRequirement, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::pods::is_terminal;

pub(super) type Usage = BTreeMap<String, Quantity>;

fn parse(text: &Text) -> Quantity {
    text.0.parse().unwrap_or(Quantity::ZERO)
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

fn add(usage: &mut Usage, key: impl Into<String>, amount: &Quantity) {
    let entry = usage.entry(key.into()).or_insert(Quantity::ZERO);
    *entry = if entry.is_zero() { *amount } else { entry.add(amount) };
}

fn resources(container: &Container, limits: bool) -> Usage {
    let all = container.resources.as_ref();
    let wanted = all.and_then(|r| if limits { r.limits.as_ref() } else { r.requests.as_ref() });
    wanted
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), parse(v)))
        .collect()
}

fn sum(into: &mut Usage, other: &Usage) {
    for (key, amount) in other {
        add(into, key.clone(), amount);
    }
}

fn max(into: &mut Usage, other: &Usage) {
    for (key, amount) in other {
        let entry = into.entry(key.clone()).or_insert(*amount);
        if *entry < *amount {
            *entry = *amount;
        }
    }
}

/// What a pod asks for at most at one time: its containers together, or an init container beside the sidecars before it.
fn pod_resources(pod: &Pod, limits: bool) -> Usage {
    let Some(spec) = &pod.spec else { return Usage::new() };
    let (mut sidecars, mut starting) = (Usage::new(), Usage::new());
    for container in spec.init_containers.iter().flatten() {
        let own = resources(container, limits);
        if container.restart_policy.as_deref() == Some("Always") {
            sum(&mut sidecars, &own);
            max(&mut starting, &sidecars);
        } else {
            let mut together = sidecars.clone();
            sum(&mut together, &own);
            max(&mut starting, &together);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        sum(&mut total, &resources(container, limits));
    }
    max(&mut total, &starting);
    for (key, amount) in spec.overhead.iter().flatten() {
        if !limits || total.contains_key(key) {
            add(&mut total, key.clone(), &parse(amount));
        }
    }
    total
}

fn is_best_effort(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let all = spec
        .into_iter()
        .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    let counted = |usage: Usage| {
        usage
            .iter()
            .any(|(k, v)| matches!(k.as_str(), "cpu" | "memory") && !v.is_zero())
    };
    !all.into_iter()
        .any(|c| counted(resources(c, false)) || counted(resources(c, true)))
}

fn matches_scope(pod: &Pod, requirement: &ScopedResourceSelectorRequirement) -> bool {
    let spec = pod.spec.as_ref();
    let ends = spec.and_then(|s| s.active_deadline_seconds).is_some();
    match requirement.scope_name.as_str() {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = spec
                .and_then(|s| s.priority_class_name.as_ref())
                .filter(|c| !c.is_empty());
            let listed = class.is_some_and(|c| requirement.values.iter().flatten().any(|v| v == c));
            match requirement.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => class.is_some(),
                "DoesNotExist" => class.is_none(),
                _ => false,
            }
        }
        "CrossNamespacePodAffinity" => uses_other_namespaces(pod),
        _ => false,
    }
}

fn uses_other_namespaces(pod: &Pod) -> bool {
    let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref());
    let Some(affinity) = affinity else { return false };
    let near = affinity.pod_affinity.as_ref();
    let far = affinity.pod_anti_affinity.as_ref();
    let required = near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let required_far = far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let preferred = near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let preferred_far = far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let hard = required.into_iter().chain(required_far).flatten();
    let soft = preferred
        .into_iter()
        .chain(preferred_far)
        .flatten()
        .map(|w| &w.pod_affinity_term);
    hard.chain(soft)
        .any(|t| t.namespaces.as_ref().is_some_and(|n| !n.is_empty()) || t.namespace_selector.is_some())
}

fn scopes(spec: &ResourceQuotaSpec) -> Vec<ScopedResourceSelectorRequirement> {
    let plain = spec
        .scopes
        .iter()
        .flatten()
        .map(|scope| ScopedResourceSelectorRequirement {
            scope_name: scope.clone(),
            operator: "Exists".to_owned(),
            values: None,
        });
    let selected = spec.scope_selector.as_ref().and_then(|s| s.match_expressions.clone());
    plain.chain(selected.into_iter().flatten()).collect()
}

pub(super) fn of_pod(pod: &Pod) -> Usage {
    let mut usage = Usage::from([("count/pods".to_owned(), one())]);
    if is_terminal(pod) {
        return usage;
    }
    usage.insert("pods".to_owned(), one());
    for (key, amount) in pod_resources(pod, false) {
        if matches!(key.as_str(), "cpu" | "memory" | "ephemeral-storage") || key.starts_with("hugepages-") {
            usage.insert(key.clone(), amount);
        }
        usage.insert(format!("requests.{key}"), amount);
    }
    for (key, amount) in pod_resources(pod, true) {
        usage.insert(format!("limits.{key}"), amount);
    }
    usage
}

pub(super) fn of_service(service: &Service) -> Usage {
    let mut usage = Usage::from([("services".to_owned(), one()), ("count/services".to_owned(), one())]);
    let Some(spec) = &service.spec else { return usage };
    let ports = i64::try_from(spec.ports.as_ref().map_or(0, Vec::len)).unwrap_or(0);
    let ports = Quantity::new(ports, Format::DecimalSi);
    match spec.type_.as_deref() {
        Some("NodePort") => add(&mut usage, "services.nodeports", &ports),
        Some("LoadBalancer") => {
            add(&mut usage, "services.loadbalancers", &one());
            if spec.allocate_load_balancer_node_ports != Some(false) {
                add(&mut usage, "services.nodeports", &ports);
            }
        }
        _ => {}
    }
    usage
}

pub(super) fn of_claim(claim: &PersistentVolumeClaim) -> Usage {
    let mut usage = Usage::from([
        ("persistentvolumeclaims".to_owned(), one()),
        ("count/persistentvolumeclaims".to_owned(), one()),
    ]);
    let Some(spec) = &claim.spec else { return usage };
    let requests = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    let storage = requests.and_then(|r| r.get("storage")).map(parse);
    let class = spec.storage_class_name.as_ref().filter(|c| !c.is_empty());
    if let Some(class) = class {
        let prefix = format!("{class}.storageclass.storage.k8s.io");
        add(&mut usage, format!("{prefix}/persistentvolumeclaims"), &one());
        if let Some(storage) = &storage {
            add(&mut usage, format!("{prefix}/requests.storage"), storage);
        }
    }
    if let Some(storage) = &storage {
        add(&mut usage, "requests.storage", storage);
    }
    usage
}

/// What is used of each limited resource. `counts` are of kinds that are only counted, by `count/` name.
pub(super) fn used(
    spec: &ResourceQuotaSpec,
    pods: &[Pod],
    services: &[Service],
    claims: &[PersistentVolumeClaim],
    counts: &BTreeMap<String, i64>,
) -> BTreeMap<String, Text> {
    let scopes = scopes(spec);
    let mut total = Usage::new();
    for pod in pods.iter().filter(|p| scopes.iter().all(|s| matches_scope(p, s))) {
        sum(&mut total, &of_pod(pod));
    }
    // Nothing but pods is in any scope.
    if scopes.is_empty() {
        services.iter().for_each(|s| sum(&mut total, &of_service(s)));
        claims.iter().for_each(|c| sum(&mut total, &of_claim(c)));
        for (key, count) in counts {
            add(&mut total, key.clone(), &Quantity::new(*count, Format::DecimalSi));
        }
    }
    let hard = spec.hard.iter().flatten();
    hard.map(|(key, _)| {
        let amount = total.get(key).copied().unwrap_or(Quantity::ZERO);
        (key.clone(), Text(amount.to_string()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(phase: &str, more: &Value) -> Pod {
        let mut tree = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "status": {"phase": phase},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "1"}}}]}});
        for (k, v) in more.as_object().unwrap() {
            tree["spec"][k] = v.clone();
        }
        serde_json::from_value(tree).unwrap()
    }

    fn amounts(spec: &Value, pods: &[Pod]) -> Vec<String> {
        let spec = serde_json::from_value(spec.clone()).unwrap();
        used(&spec, pods, &[], &[], &BTreeMap::new())
            .into_values()
            .map(|q| q.0)
            .collect()
    }

    #[test]
    fn pods_use_what_they_request_until_they_end() {
        let hard =
            json!({"hard": {"count/pods": "9", "cpu": "9", "limits.cpu": "9", "pods": "9", "requests.memory": "9Gi"}});
        let init = json!({"initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
            {"name": "i", "resources": {"requests": {"cpu": "2"}}}]});
        let pods = [
            pod("Running", &json!({})),
            pod("Succeeded", &json!({})),
            pod("Pending", &init),
        ];
        assert_eq!(amounts(&hard, &pods), ["3", "2350m", "2", "2", "2Gi"]);
    }

    #[test]
    fn scopes_choose_pods() {
        let scoped = |scope: &str| json!({"hard": {"pods": "9"}, "scopes": [scope]});
        let ending = pod("Running", &json!({"activeDeadlineSeconds": 5}));
        let idle = pod("Running", &json!({"containers": [{"name": "c"}]}));
        let pods = [pod("Running", &json!({})), ending, idle];
        assert_eq!(amounts(&scoped("Terminating"), &pods), ["1"]);
        assert_eq!(amounts(&scoped("NotTerminating"), &pods), ["2"]);
        assert_eq!(amounts(&scoped("BestEffort"), &pods), ["1"]);
        assert_eq!(amounts(&scoped("NotBestEffort"), &pods), ["2"]);
    }

    #[test]
    fn services_and_claims_are_counted() {
        let service: Service = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Service", "metadata": {},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}}))
        .unwrap();
        let claim: PersistentVolumeClaim = serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {},
            "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}}}),
        )
        .unwrap();
        let spec = serde_json::from_value(
            json!({"hard": {"count/configmaps": "9", "fast.storageclass.storage.k8s.io/requests.storage": "9Gi",
            "persistentvolumeclaims": "9", "services.loadbalancers": "9", "services.nodeports": "9"}}),
        )
        .unwrap();
        let counts = BTreeMap::from([("count/configmaps".to_owned(), 4)]);
        let found: Vec<String> = used(&spec, &[], &[service], &[claim], &counts)
            .into_values()
            .map(|q| q.0)
            .collect();
        assert_eq!(found, ["4", "5Gi", "1", "1", "2"]);
    }
}
