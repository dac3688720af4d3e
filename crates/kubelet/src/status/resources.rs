//! What a pod has as a whole: the sums of what its containers were given, or what it names itself; once it runs, what its
//! control group has.

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

use super::container::{LEAST_CPU_LIMIT, LEAST_CPU_REQUEST};
use crate::cgroups::PodLimits;
use crate::resources;

/// Bytes.
const PAGE: i64 = 4096;

/// The pod's resources, and its requests alone as `allocatedResources` has them. Upstream: `getEffectiveAllocatedResources`.
pub(super) fn of_pod(pod: &Pod) -> (ResourceRequirements, Option<BTreeMap<String, Quantity>>) {
    let Some(spec) = &pod.spec else {
        return (ResourceRequirements::default(), None);
    };
    // without the status: what containers have in fact is no part of it
    let tree = serde_json::json!({ "spec": spec });
    let list = |amounts: api::pod::Resources| -> Option<BTreeMap<String, Quantity>> {
        let amounts = amounts.into_iter().map(|(name, q)| (name, Quantity(q.to_string())));
        Some(amounts.collect()).filter(|list: &BTreeMap<_, _>| !list.is_empty())
    };
    let requests = list(api::pod::requests(&tree));
    let claims = spec.resources.as_ref().and_then(|r| r.claims.clone());
    if pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running") {
        let resources = in_use(pod, requests.as_ref());
        return (ResourceRequirements { claims, ..resources }, requests);
    }
    let resources = ResourceRequirements {
        limits: list(api::pod::limits(&tree)),
        requests: requests.clone(),
        claims,
    };
    (resources, requests)
}

/// What the control group of the pod has, beside what the pod names itself. Upstream: `convertToAPIPodLevelResourcesStatus`.
fn in_use(pod: &Pod, asked: Option<&BTreeMap<String, Quantity>>) -> ResourceRequirements {
    let own = pod.spec.as_ref().and_then(|s| s.resources.clone()).unwrap_or_default();
    let (mut requests, mut limits) = (own.requests.unwrap_or_default(), own.limits.unwrap_or_default());
    let group = PodLimits::of(pod);
    let cpu = |list: &BTreeMap<String, Quantity>| list.get("cpu").map_or(0, resources::milli);
    let shares = resources::milli_of_shares(group.shares);
    if shares > LEAST_CPU_REQUEST || cpu(&requests) > LEAST_CPU_REQUEST {
        requests.insert("cpu".to_owned(), resources::cpu_quantity(shares));
    }
    if let Some(memory) = asked.and_then(|list| list.get("memory")) {
        requests.entry("memory".to_owned()).or_insert_with(|| memory.clone());
    }
    if let Some(quota) = group.quota {
        let quota = quota * 1000 / resources::CPU_PERIOD;
        if quota > LEAST_CPU_LIMIT || cpu(&limits) > LEAST_CPU_LIMIT {
            limits.insert("cpu".to_owned(), resources::cpu_quantity(quota));
        }
    }
    if let Some(bytes) = group.memory {
        // the kernel counts pages
        let bytes = bytes - bytes % PAGE;
        limits.insert("memory".to_owned(), resources::memory_quantity(bytes));
    }
    let some = |list: BTreeMap<String, Quantity>| Some(list).filter(|list| !list.is_empty());
    ResourceRequirements {
        limits: some(limits),
        requests: some(requests),
        claims: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_runs_has_what_its_control_group_has() {
        let pod: Pod = serde_json::from_str(
            r#"{"status":{"phase":"Running"},"spec":{"containers":[
            {"name":"a","resources":{"limits":{"memory":"67108865"},"requests":{"cpu":"1m","memory":"1Mi"}}},
            {"name":"b","resources":{"limits":{"memory":"64Mi","cpu":"1"},"requests":{"cpu":"1m"}}}]}}"#,
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(of_pod(&pod).0).unwrap(),
            serde_json::json!({ "limits": { "memory": "128Mi" }, "requests": { "memory": "1Mi" } })
        );
    }

    #[test]
    fn a_pod_has_the_sum_of_its_containers_and_an_empty_list_of_none() {
        let pod = |text: &str| serde_json::from_str::<Pod>(text).unwrap();
        let (resources, allocated) = of_pod(&pod(r#"{"spec":{"containers":[
            {"name":"a","resources":{"limits":{"memory":"64Mi"},"requests":{"cpu":"5m"}}},
            {"name":"b","resources":{"requests":{"cpu":"10m"}}}]}}"#));
        assert_eq!(
            serde_json::to_value(resources).unwrap(),
            serde_json::json!({ "limits": { "memory": "64Mi" }, "requests": { "cpu": "15m" } })
        );
        assert_eq!(allocated.unwrap()["cpu"].0, "15m");
        let (resources, allocated) = of_pod(&pod(r#"{"spec":{"containers":[{"name":"a"}]}}"#));
        assert_eq!(
            (serde_json::to_value(resources).unwrap(), allocated),
            (serde_json::json!({}), None)
        );
    }
}
