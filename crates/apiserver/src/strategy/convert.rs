//! Conversions between the versions of the few kinds that are served in two.

use serde_json::{Value, json};

fn take(tree: &mut Value, key: &str) -> Option<Value> {
    tree.as_object_mut()?.remove(key)
}

fn put(tree: &mut Value, key: &str, value: Option<Value>) {
    if let (Some(object), Some(value)) = (tree.as_object_mut(), value) {
        object.insert(key.to_owned(), value);
    }
}

/// Core `v1` Events and `events.k8s.io/v1` Events are one kind under two names for each field.
pub fn event(mut tree: Value, to: &str) -> Value {
    const NAMES: [(&str, &str); 7] = [
        ("involvedObject", "regarding"),
        ("message", "note"),
        ("source", "deprecatedSource"),
        ("firstTimestamp", "deprecatedFirstTimestamp"),
        ("lastTimestamp", "deprecatedLastTimestamp"),
        ("count", "deprecatedCount"),
        ("reportingComponent", "reportingController"),
    ];
    for (core, events) in NAMES {
        let (from, into) = if to == "v1" { (events, core) } else { (core, events) };
        let value = take(&mut tree, from);
        put(&mut tree, into, value);
    }
    tree["apiVersion"] = json!(to);
    tree
}

/// `autoscaling/v1` knows one metric, CPU utilization; v2 knows all. What v1 has no field for travels in annotations,
/// as upstream keeps it.
pub fn autoscaler(mut tree: Value, to: &str) -> Value {
    const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
    const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
    const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
    const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
    let is_cpu = |metric: &Value| {
        metric["type"] == "Resource"
            && metric["resource"]["name"] == "cpu"
            && metric.pointer("/resource/target/averageUtilization").is_some()
    };
    if to == "autoscaling/v1" {
        let mut annotate = Vec::new();
        if let Some(spec) = tree.get_mut("spec") {
            if let Some(Value::Array(mut metrics)) = take(spec, "metrics") {
                if let Some(at) = metrics.iter().position(is_cpu) {
                    let cpu = metrics.remove(at);
                    let target = cpu.pointer("/resource/target/averageUtilization").cloned();
                    put(spec, "targetCPUUtilizationPercentage", target);
                }
                if !metrics.is_empty() {
                    annotate.push((METRICS, Value::Array(metrics)));
                }
            }
            annotate.extend(take(spec, "behavior").map(|b| (BEHAVIOR, b)));
        }
        if let Some(status) = tree.get_mut("status") {
            if let Some(Value::Array(current)) = take(status, "currentMetrics") {
                let cpu = current
                    .iter()
                    .find(|m| m["type"] == "Resource" && m["resource"]["name"] == "cpu");
                let used = cpu
                    .and_then(|m| m.pointer("/resource/current/averageUtilization"))
                    .cloned();
                put(status, "currentCPUUtilizationPercentage", used);
                if !current.is_empty() {
                    annotate.push((CURRENT, Value::Array(current)));
                }
            }
            annotate.extend(take(status, "conditions").map(|c| (CONDITIONS, c)));
        }
        for (key, value) in annotate {
            tree["metadata"]["annotations"][key] = json!(value.to_string());
        }
    } else {
        let mut back = |key: &str| -> Option<Value> {
            let annotations = tree.pointer_mut("/metadata/annotations")?;
            let text = take(annotations, key)?;
            if annotations.as_object().is_some_and(serde_json::Map::is_empty) {
                take(tree.get_mut("metadata")?, "annotations");
            }
            serde_json::from_str(text.as_str()?).ok()
        };
        let (metrics, behavior, current, conditions) = (back(METRICS), back(BEHAVIOR), back(CURRENT), back(CONDITIONS));
        if let Some(spec) = tree.get_mut("spec") {
            let mut all = metrics.and_then(|m| m.as_array().cloned()).unwrap_or_default();
            if let Some(percent) = take(spec, "targetCPUUtilizationPercentage") {
                let target = json!({ "type": "Utilization", "averageUtilization": percent });
                all.push(json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } }));
            }
            if !all.is_empty() {
                put(spec, "metrics", Some(Value::Array(all)));
            }
            put(spec, "behavior", behavior);
        }
        if let Some(status) = tree.get_mut("status") {
            take(status, "currentCPUUtilizationPercentage");
            put(status, "currentMetrics", current);
            put(status, "conditions", conditions);
        }
    }
    tree["apiVersion"] = json!(to);
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_survives_the_way_to_v1_and_back() {
        let v2 = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "a" },
            "spec": { "maxReplicas": 3, "metrics": [
                { "type": "Pods", "pods": { "metric": { "name": "x" } } },
                { "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 80 } } },
            ] },
        });
        let v1 = autoscaler(v2.clone(), "autoscaling/v1");
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 80);
        assert_eq!(autoscaler(v1, "autoscaling/v2"), v2);
    }

    #[test]
    fn an_event_survives_the_way_to_the_other_group_and_back() {
        let core =
            json!({ "apiVersion": "v1", "message": "m", "involvedObject": { "name": "p" }, "reportingComponent": "k" });
        let other = event(core.clone(), "events.k8s.io/v1");
        assert_eq!(other["note"], "m");
        assert_eq!(other["reportingController"], "k");
        assert_eq!(event(other, "v1"), core);
    }
}
