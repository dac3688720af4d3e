//! `/metrics/resources`: what pods ask for, and what they may use at most (`pkg/scheduler/metrics/resources`).

use std::sync::OnceLock;

use api::pod;
use client::Cache;
use metrics::{Kind, Metric, Page, Source};
use serde_json::Value;

const REQUEST: Metric = Metric::stable(
    "kube_pod_resource_request",
    "What pods that have not ended ask for, by resource and its unit.",
);
const LIMIT: Metric = Metric::stable(
    "kube_pod_resource_limit",
    "What pods that have not ended may use at most, by resource and its unit.",
);

/// The pods of the scheduler, as it comes to know them.
#[derive(Default)]
pub struct PodResources(OnceLock<Cache>);

/// The unit of a resource; others have none.
fn unit(resource: &str) -> &'static str {
    match resource {
        "cpu" => "cores",
        "memory" | "storage" | "ephemeral-storage" => "bytes",
        _ if pod::is_huge_pages(resource) => "bytes",
        _ if resource.starts_with("attachable-volumes-") => "integer",
        _ => "",
    }
}

impl PodResources {
    pub(crate) fn follow(&self, pods: &Cache) {
        // the first holds: a process schedules once
        let _ = self.0.set(pods.clone());
    }
}

impl Source for PodResources {
    fn show(&self, page: &mut Page) {
        for object in self.0.get().map(Cache::list).unwrap_or_default() {
            let tree: Value = match object.decode() {
                Ok(tree) => tree,
                Err(error) => {
                    tracing::warn!(pod = object.key(), %error, "a pod cannot be read; its resources are not shown");
                    continue;
                }
            };
            if pod::has_ended(&tree) {
                continue;
            }
            let text = |path: &str| tree.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let priority = tree.pointer("/spec/priority").and_then(Value::as_i64);
            let priority = priority.map(|priority| priority.to_string()).unwrap_or_default();
            for (metric, amounts) in [(&REQUEST, pod::requests(&tree)), (&LIMIT, pod::limits(&tree))] {
                let mut samples = page.samples(metric, Kind::Gauge);
                for (resource, amount) in amounts.iter().filter(|(_, amount)| !amount.is_zero()) {
                    let labels = [
                        ("namespace", &*object.meta.namespace),
                        ("node", text("/spec/nodeName")),
                        ("pod", &object.meta.name),
                        ("priority", &priority),
                        ("resource", resource),
                        ("scheduler", text("/spec/schedulerName")),
                        ("unit", unit(resource)),
                    ];
                    samples.number(&labels, amount.as_f64());
                }
            }
        }
    }
}
