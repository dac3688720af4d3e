//! Custom resources: a definition that is written becomes a served resource, one that is deleted stops being one.

mod definition;
mod ending;
pub mod follow;

pub use crate::kinds::apiextensions::custom_resource_definition::{GROUP, PLURAL};
pub use ending::{deleted, object_gone};

use std::sync::Arc;

use serde_json::{Value, json};

use crate::http::status::Result;
use crate::pipeline::Pipeline;
use crate::pipeline::WriteOptions;
use crate::registry::cached::Cached;
use crate::registry::own::Own;

/// Serves every definition that is stored: at start.
///
/// # Errors
/// The first; the other definitions are served nevertheless.
pub async fn restore(pipeline: &Arc<Pipeline>) -> Result<()> {
    let mut done = Ok(());
    for object in pipeline.registry.list(GROUP, PLURAL, "") {
        done = done.and(written(pipeline, &object).await);
    }
    done
}

/// Serves a definition as it is now and says so in its status.
pub async fn written(pipeline: &Arc<Pipeline>, object: &Cached) -> Result<()> {
    let tree = object.tree()?;
    if object.object.meta.deleting {
        return ending::advance(pipeline, object).await;
    }
    let resources = definition::compile(&tree, &pipeline.registry).map_err(|errors| {
        crate::http::status::ApiError::invalid(GROUP, "CustomResourceDefinition", &object.object.meta.name, &errors)
    })?;
    let group = resources.first().map(|r| r.group.clone()).unwrap_or_default();
    pipeline.registry.serve(resources).await?;
    crate::api_services::sync(pipeline, &group).await?;
    let conditions = tree.pointer("/status/conditions").and_then(Value::as_array);
    let established = conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Established" && c["status"] == "True");
    if established && tree.pointer("/status/acceptedNames") == tree.pointer("/spec/names") {
        return Ok(());
    }
    let now = pipeline.registry.timestamp();
    let definition = Own {
        registry: &pipeline.registry,
        group: GROUP,
        plural: PLURAL,
        namespace: "",
        name: &object.object.meta.name,
        options: WriteOptions::own("status"),
    };
    let condition = |kind: &str, reason: &str, message: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message });
    let established = definition.swap(|tree| {
        tree["status"] = json!({
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
            "acceptedNames": tree.pointer("/spec/names"),
            "storedVersions": tree.pointer("/status/storedVersions"),
        });
        Ok(())
    });
    established.await.map(|_| ())
}
