//! What a pod asks for as a whole: containers add up, init containers run before them, sidecars beside.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use serde_json::Value;

pub type Resources = BTreeMap<String, Quantity>;

fn of(container: &Value, kind: &str) -> Resources {
    let map = container
        .pointer(&format!("/resources/{kind}"))
        .and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.parse().ok()?)))
        .collect()
}

fn add(total: &mut Resources, more: &Resources) {
    for (key, q) in more {
        let sum = total.get(key).map_or_else(|| *q, |t| t.add(q));
        total.insert(key.clone(), sum);
    }
}

fn raise(total: &mut Resources, least: &Resources) {
    for (key, q) in least {
        if total.get(key).is_none_or(|t| t < q) {
            total.insert(key.clone(), *q);
        }
    }
}

fn whole(pod: &Value, kind: &str) -> Resources {
    let list = |field: &str| {
        pod.pointer(&format!("/spec/{field}"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let mut total = Resources::new();
    for container in list("containers") {
        add(&mut total, &of(container, kind));
    }
    let mut sidecars = Resources::new();
    let mut peak = Resources::new();
    for container in list("initContainers") {
        let own = of(container, kind);
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            add(&mut sidecars, &own);
            add(&mut total, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut during = sidecars.clone();
            add(&mut during, &own);
            raise(&mut peak, &during);
        }
    }
    raise(&mut total, &peak);
    let overhead = pod.pointer("/spec/overhead").and_then(Value::as_object);
    if kind == "requests" || !total.is_empty() {
        let extra: Resources = overhead
            .into_iter()
            .flatten()
            .filter(|(k, _)| kind == "requests" || total.contains_key(*k))
            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.parse().ok()?)))
            .collect();
        add(&mut total, &extra);
    }
    total
}

/// Requests of the whole pod.
pub fn requests(pod: &Value) -> Resources {
    whole(pod, "requests")
}

/// Limits of the whole pod.
pub fn limits(pod: &Value) -> Resources {
    whole(pod, "limits")
}
