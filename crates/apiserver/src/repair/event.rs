//! Events that the server itself has to report about an object.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::pipeline::Pipeline;
use crate::pipeline::{Origin, Write, WriteOptions};
use crate::registry::metadata;

/// Records a warning beside the object it is about, and in the log. An event that cannot be written is only logged.
pub async fn warn(pipeline: &Arc<Pipeline>, about: &Value, controller: &str, reason: &str, action: &str, note: &str) {
    let (namespace, name) = (metadata::text(about, "namespace"), metadata::text(about, "name"));
    tracing::warn!(reason, namespace, name, "{note}");
    let catalog = pipeline.registry.catalog();
    let Some(served) = catalog.stored("", "events") else {
        return;
    };
    let place = if namespace.is_empty() { "default" } else { namespace };
    let now = pipeline.registry.environment.now();
    let tree = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "name": format!("{name}.{:x}", now.as_nanosecond()), "namespace": place },
        "involvedObject": {
            "apiVersion": about["apiVersion"], "kind": about["kind"], "namespace": namespace, "name": name,
            "uid": about["metadata"]["uid"], "resourceVersion": about["metadata"]["resourceVersion"],
        },
        "type": "Warning", "reason": reason, "action": if action.is_empty() { reason } else { action },
        "message": note, "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        "reportingComponent": controller, "reportingInstance": controller,
        "source": {}, "firstTimestamp": null, "lastTimestamp": null,
    });
    let options = WriteOptions::own("");
    let write = Write {
        pipeline,
        served,
        namespace: place,
        options: &options,
    };
    if let Err(error) = write.create(tree, Origin::Post).await {
        tracing::warn!(reason, %error, "event not recorded");
    }
}
