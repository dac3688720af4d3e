//! What a pod asks for as a whole. Upstream: `component-helpers/resource`, `apis/core/v1/helper/qos`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity::Quantity;

/// Amounts by the names of resources.
pub type Resources = BTreeMap<String, Quantity>;

/// What decides a pod's class.
pub const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// Requests of the whole pod: containers add up, init containers run before them and beside the sidecars so far. A
/// container that has more than it asks for, because it has not been given less yet, counts with what it has.
pub fn requests(pod: &Value) -> Resources {
    whole(pod, of_containers(pod, "requests", in_use))
}

/// The same as it is asked for, whatever its containers have.
pub fn asked_requests(pod: &Value) -> Resources {
    whole(pod, asked_by_containers(pod, "requests"))
}

/// With what the pod asks for as a whole in place of what its containers do, and what running it takes.
fn whole(pod: &Value, mut total: Resources) -> Resources {
    total.extend(of_pod(pod, "requests"));
    for (name, more) in amounts(pod.pointer("/spec/overhead")) {
        add(&mut total, name, &more);
    }
    total
}

/// Limits of the whole pod.
pub fn limits(pod: &Value) -> Resources {
    let mut total = of_containers(pod, "limits", in_use);
    total.extend(of_pod(pod, "limits"));
    for (name, more) in amounts(pod.pointer("/spec/overhead")) {
        if total.get(&name).is_some_and(|limit| !limit.is_zero()) {
            add(&mut total, name, &more);
        }
    }
    total
}

/// Whether the pod as a whole asks for resources that containers then share.
pub fn has_resources_of_its_own(pod: &Value) -> bool {
    ["requests", "limits"].iter().any(|kind| !of_pod(pod, kind).is_empty())
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Value) -> &'static str {
    // what a pod asks for as a whole counts in place of what its containers ask for
    let parts: Vec<&Value> = match pod.get("spec").filter(|_| has_resources_of_its_own(pod)) {
        Some(spec) => vec![spec],
        None => containers(pod).chain(init_containers(pod)).collect(),
    };
    let mut any = false;
    let mut guaranteed = !parts.is_empty();
    for part in parts {
        for resource in COMPUTE {
            let get = |kind: &str| {
                let text = part.pointer(&format!("/resources/{kind}/{resource}"))?.as_str()?;
                text.parse::<Quantity>().ok().filter(|q| !q.is_zero())
            };
            let (request, limit) = (get("requests"), get("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some_and(|limit| request.is_none_or(|request| request == limit));
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// `Succeeded` or `Failed`.
pub fn has_ended(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str);
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The containers of `spec.containers`, in their order.
pub fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/spec/containers")
}

/// The containers of `spec.initContainers`, in the order in which they run.
pub fn init_containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/spec/initContainers")
}

fn list<'a>(pod: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    pod.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// A list of requests or limits as it stands.
pub fn amounts(map: Option<&Value>) -> Resources {
    let all = map.and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(name, q)| Some((name.clone(), q.as_str()?.parse().ok()?)))
        .collect()
}

fn add(total: &mut Resources, name: String, more: &Quantity) {
    total
        .entry(name)
        .and_modify(|t| *t = t.add(more))
        .or_insert_with(|| *more);
}

fn add_all(total: &mut Resources, more: &Resources) {
    for (name, q) in more {
        add(total, name.clone(), q);
    }
}

fn raise(total: &mut Resources, least: &Resources) {
    for (name, q) in least {
        let entry = total.entry(name.clone()).or_insert(*q);
        *entry = (*entry).max(*q);
    }
}

/// What stands in the pod's own `resources`, as far as that is for pods.
fn of_pod(pod: &Value, kind: &str) -> Resources {
    let mut all = amounts(pod.pointer(&format!("/spec/resources/{kind}")));
    all.retain(|name, _| is_of_pods(name));
    all
}

/// Returns whether the resource is huge pages of some size: `hugepages-2Mi` and so on.
pub fn is_huge_pages(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

/// Whether a pod as a whole may ask for a resource.
pub fn is_of_pods(resource: &str) -> bool {
    COMPUTE.contains(&resource) || is_huge_pages(resource)
}

/// What the containers of a pod together ask for, whatever they have.
pub fn asked_by_containers(pod: &Value, kind: &str) -> Resources {
    of_containers(pod, kind, |_, container, kind| asked(container, kind))
}

fn of_containers(pod: &Value, kind: &str, of: impl Fn(&Value, &Value, &str) -> Resources) -> Resources {
    let mut total = Resources::new();
    for container in containers(pod) {
        add_all(&mut total, &of(pod, container, kind));
    }
    let (mut sidecars, mut peak) = (Resources::new(), Resources::new());
    for container in init_containers(pod) {
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            let own = of(pod, container, kind);
            add_all(&mut sidecars, &own);
            add_all(&mut total, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut during = sidecars.clone();
            add_all(&mut during, &asked(container, kind));
            raise(&mut peak, &during);
        }
    }
    raise(&mut total, &peak);
    total
}

fn asked(container: &Value, kind: &str) -> Resources {
    amounts(container.pointer(&format!("/resources/{kind}")))
}

/// What a container asks for or has, whichever is more; only what it has if the node will never give it what it asks for.
fn in_use(pod: &Value, container: &Value, kind: &str) -> Resources {
    let statuses = list(pod, "/status/containerStatuses").chain(list(pod, "/status/initContainerStatuses"));
    let mut of_this = statuses.filter(|s| s.get("name") == container.get("name"));
    let Some(status) = of_this
        .next()
        .filter(|s| s.get("resources").is_some_and(Value::is_object))
    else {
        return asked(container, kind);
    };
    let never = list(pod, "/status/conditions").any(|c| {
        let is = |field: &str, text: &str| c.get(field).and_then(Value::as_str) == Some(text);
        is("type", "PodResizePending") && is("reason", "Infeasible")
    });
    let mut all = asked(status, kind);
    if kind == "requests" {
        raise(&mut all, &amounts(status.get("allocatedResources")));
    }
    if !never {
        raise(&mut all, &asked(container, kind));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(resources: &Resources) -> Vec<String> {
        resources.iter().map(|(name, q)| format!("{name}={q}")).collect()
    }

    fn cpu(name: &str, amount: &str) -> Value {
        json!({ "name": name, "resources": { "requests": { "cpu": amount } } })
    }

    #[test]
    fn init_containers_run_before_the_others_and_beside_sidecars() {
        let mut sidecar = cpu("s", "100m");
        sidecar["restartPolicy"] = json!("Always");
        let pod = json!({ "spec": {
            "initContainers": [sidecar, cpu("i", "2")],
            "containers": [cpu("a", "250m"), { "name": "b", "resources": { "limits": { "memory": "1Gi" } } }],
            "overhead": { "cpu": "50m", "memory": "1Mi" },
        } });
        assert_eq!(shown(&requests(&pod)), ["cpu=2150m", "memory=1Mi"]);
        assert_eq!(
            shown(&limits(&pod)),
            ["memory=1025Mi"],
            "overhead only where there is a limit"
        );
    }

    #[test]
    fn what_the_pod_asks_for_stands_for_its_containers() {
        let pod = json!({ "spec": {
            "resources": { "requests": { "cpu": "3" }, "limits": { "cpu": "4", "example.com/x": "1" } },
            "containers": [cpu("a", "250m")],
        } });
        assert_eq!(shown(&requests(&pod)), ["cpu=3"]);
        assert_eq!(shown(&limits(&pod)), ["cpu=4"]);
    }

    #[test]
    fn a_pod_counts_with_what_it_has_until_it_has_less() {
        let status = |name: &str, has: &str| {
            let list = json!({ "cpu": has });
            json!({ "name": name, "resources": { "requests": list }, "allocatedResources": list })
        };
        let mut pod = json!({ "spec": { "containers": [cpu("a", "1"), cpu("b", "1")] },
            "status": { "containerStatuses": [status("a", "2"), status("b", "500m")] } });
        assert_eq!(shown(&requests(&pod)), ["cpu=3"]);
        pod["status"]["conditions"] = json!([{ "type": "PodResizePending", "reason": "Infeasible" }]);
        assert_eq!(
            shown(&requests(&pod)),
            ["cpu=2500m"],
            "what it will never get does not count"
        );
    }

    #[test]
    fn the_quality_of_service_follows_requests_and_limits() {
        let pod = |resources: Value| json!({ "spec": { "containers": [{ "resources": resources }] } });
        let both = json!({ "cpu": "1", "memory": "1Gi" });
        assert_eq!(qos_class(&pod(json!({}))), "BestEffort");
        assert_eq!(qos_class(&pod(json!({ "requests": { "cpu": "1" } }))), "Burstable");
        assert_eq!(qos_class(&pod(json!({ "limits": both }))), "Guaranteed");
        assert_eq!(
            qos_class(&pod(
                json!({ "limits": both, "requests": { "cpu": "1000m", "memory": "1Gi" } })
            )),
            "Guaranteed"
        );
        assert_eq!(
            qos_class(&pod(json!({ "limits": both, "requests": { "cpu": "1m" } }))),
            "Burstable"
        );
    }
}
