//! Custom resources: a definition that is written becomes a served resource, one that is deleted stops being one.

mod definition;
mod ending;

pub use ending::{deleted, object_gone};

use std::sync::Arc;

use serde_json::{Value, json};

use crate::http::status::Result;
use crate::registry::cached::Cached;
use crate::registry::write::{Change, Write, WriteOptions};
use crate::server::ApiServer;

pub const GROUP: &str = "apiextensions.k8s.io";
pub const PLURAL: &str = "customresourcedefinitions";

/// Serves every definition that is stored: at start.
///
/// # Errors
/// The first; the other definitions are served nevertheless.
pub async fn restore(server: &Arc<ApiServer>) -> Result<()> {
    let mut done = Ok(());
    for object in server.registry.list(GROUP, PLURAL, "") {
        done = done.and(written(server, &object).await);
    }
    done
}

/// Serves a definition as it is now and says so in its status.
pub async fn written(server: &Arc<ApiServer>, object: &Cached) -> Result<()> {
    let tree = object.tree()?;
    if object.object.meta.deleting {
        return ending::advance(server, object).await;
    }
    let resources = definition::compile(&tree).map_err(|errors| {
        crate::http::status::ApiError::invalid(GROUP, "CustomResourceDefinition", &object.object.meta.name, &errors)
    })?;
    let group = resources.first().map(|r| r.group.clone()).unwrap_or_default();
    server.registry.serve(resources).await?;
    crate::api_services::sync(&server.registry, &group).await?;
    let conditions = tree.pointer("/status/conditions").and_then(Value::as_array);
    let established = conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Established" && c["status"] == "True");
    if established && tree.pointer("/status/acceptedNames") == tree.pointer("/spec/names") {
        return Ok(());
    }
    let catalog = server.registry.catalog();
    let Some(served) = catalog.stored(GROUP, PLURAL) else {
        return Ok(());
    };
    let options = WriteOptions::own("status");
    let write = Write {
        registry: &server.registry,
        served,
        namespace: "",
        options: &options,
    };
    let now = server.registry.timestamp();
    let change = |old: &Value| {
        let mut tree = old.clone();
        let condition = |kind: &str, reason: &str, message: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message });
        tree["status"] = json!({
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
            "acceptedNames": old.pointer("/spec/names"),
            "storedVersions": old.pointer("/status/storedVersions"),
        });
        Ok(Change {
            tree,
            uid: None,
            revision: None,
            applied: false,
        })
    };
    write.update(&object.object.meta.name, change).await.map(|_| ())
}
