//! What a pod asks for as a whole, where it says so in part only. It is filled in after admission, which may have added containers.
//! KEP-2837.

use std::collections::BTreeMap;

use api::pod::{COMPUTE, Resources, asked_by_containers, is_huge_pages, is_of_pods};
use api::quantity::Quantity;
use serde_json::{Map, Value, json};

/// Fills in what follows from the containers.
pub fn fill(pod: &mut Value) {
    let (mut limits, mut requests) = (given(pod, "limits"), given(pod, "requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    let of_containers = [asked_by_containers(pod, "limits"), asked_by_containers(pod, "requests")];
    let [their_limits, their_requests] = of_containers;
    let pages = their_limits
        .iter()
        .filter(|(name, _)| is_huge_pages(name) && !requests.contains_key(*name));
    add(&mut limits, pages);
    add(
        &mut requests,
        their_requests
            .iter()
            .filter(|(name, _)| COMPUTE.contains(&name.as_str())),
    );
    add(&mut requests, limits.iter().filter(|(name, _)| is_of_pods(name)));
    // a limit of the whole where each container has one
    for (name, request) in requests.iter().filter(|(name, _)| is_of_pods(name)) {
        if limits.contains_key(name) || !each_container_limits(pod, name) {
            continue;
        }
        if let Some(limit) = their_limits.get(name) {
            limits.insert(name.clone(), (*limit).max(*request));
        }
    }
    for (kind, amounts) in [("limits", &limits), ("requests", &requests)] {
        put(pod, kind, amounts);
    }
}

fn given(pod: &Value, kind: &str) -> Resources {
    let map = pod
        .pointer(&format!("/spec/resources/{kind}"))
        .and_then(Value::as_object);
    let read = |(name, amount): (&String, &Value)| {
        let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        Some((name.clone(), text.parse::<Quantity>().ok()?))
    };
    map.into_iter().flatten().filter_map(read).collect()
}

fn add<'a>(to: &mut Resources, more: impl Iterator<Item = (&'a String, &'a Quantity)>) {
    for (name, amount) in more {
        to.entry(name.clone()).or_insert(*amount);
    }
}

/// Amounts that are there stay as their writer wrote them.
fn put(pod: &mut Value, kind: &str, amounts: &BTreeMap<String, Quantity>) {
    let resources = pod.pointer_mut("/spec/resources").and_then(Value::as_object_mut);
    if let (Some(resources), false) = (resources, amounts.is_empty()) {
        let map = resources.entry(kind).or_insert_with(|| Value::Object(Map::new()));
        for (name, amount) in amounts {
            if map.get(name).is_none() {
                map[name.as_str()] = json!(amount.to_string());
            }
        }
    }
}

fn each_container_limits(pod: &Value, resource: &str) -> bool {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let all = lists.iter().flat_map(|field| {
        let list = pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array);
        list.into_iter().flatten()
    });
    let limits = |container: &Value| {
        container
            .pointer("/resources/limits")
            .is_some_and(|l| l.get(resource).is_some())
    };
    all.into_iter().all(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_says_in_part_what_it_asks_for_asks_otherwise_for_what_its_containers_do() {
        let container = |resources: Value| json!({ "name": "c", "resources": resources });
        for (own, containers, want) in [
            (
                json!({ "limits": { "cpu": "2" } }),
                json!([container(json!({ "requests": { "cpu": "1", "memory": "1Gi" } }))]),
                json!({ "limits": { "cpu": "2" }, "requests": { "cpu": "1", "memory": "1Gi" } }),
            ),
            (
                json!({ "requests": { "cpu": "3" } }),
                json!([container(
                    json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "1" } })
                )]),
                json!({ "limits": { "cpu": "3" }, "requests": { "cpu": "3" } }),
            ),
            (
                json!({ "requests": { "cpu": "3" } }),
                json!([container(
                    json!({ "limits": { "hugepages-2Mi": "2Mi" }, "requests": { "hugepages-2Mi": "2Mi" } })
                )]),
                json!({ "limits": { "hugepages-2Mi": "2Mi" }, "requests": { "cpu": "3", "hugepages-2Mi": "2Mi" } }),
            ),
            (
                json!({}),
                json!([container(json!({ "requests": { "cpu": "1" } }))]),
                json!({}),
            ),
        ] {
            let mut pod = json!({ "spec": { "resources": own, "containers": containers } });
            fill(&mut pod);
            assert_eq!(pod["spec"]["resources"], want);
        }
    }
}
