//! What the definition of a custom resource says of its migration. Once all is written anew, it stores one version only.

use client::{Client, Patch};
use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::GroupResource;
use serde_json::{Value, json};

use crate::Error;

const MANAGER: &str = "migration-runner-controller";

fn path(resource: &GroupResource) -> String {
    let (plural, group) = (&resource.resource, &resource.group);
    format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{group}")
}

/// The definition, if the resource has one.
async fn get(client: &Client, resource: &GroupResource) -> Result<Option<Value>, Error> {
    match client.json(Method::GET, &path(resource), &[], None::<&()>).await {
        Ok(definition) => Ok(Some(definition)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Applies to the definition as it was read, and to no other.
async fn apply(client: &Client, resource: &GroupResource, read: &Value, status: Value) -> Result<(), Error> {
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": read["metadata"]["name"], "resourceVersion": read["metadata"]["resourceVersion"] },
        "status": status,
    });
    let patch = Patch::Apply {
        manager: MANAGER.to_owned(),
        force: true,
        object,
    };
    let _: Value = client.patch_path(&format!("{}/status", path(resource)), &patch).await?;
    Ok(())
}

fn condition(read: &Value, status: &str, reason: &str, message: &str) -> Value {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!([{ "type": "StorageMigrating", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": now, "observedGeneration": read["metadata"]["generation"] }])
}

/// The stored versions stay as they are: an apply takes away what it leaves out and an earlier one set.
fn status(read: &Value, conditions: &Value) -> Value {
    json!({ "conditions": conditions, "storedVersions": read.pointer("/status/storedVersions") })
}

/// Says that a migration goes on.
pub(super) async fn mark_running(client: &Client, resource: &GroupResource, message: &str) -> Result<(), Error> {
    let Some(read) = get(client, resource).await? else {
        return Ok(());
    };
    let status = status(&read, &condition(&read, "True", "MigrationRunning", message));
    apply(client, resource, &read, status).await
}

/// Says how a migration ended.
pub(super) async fn mark_ended(client: &Client, resource: &GroupResource, succeeded: bool) -> Result<(), Error> {
    let Some(read) = get(client, resource).await? else {
        return Ok(());
    };
    apply(client, resource, &read, ended(&read, succeeded)).await
}

/// Upstream forgets the stored versions after a failure too (its own test asks for that), and so loses which versions are
/// stored; here they stay.
fn ended(read: &Value, succeeded: bool) -> Value {
    let conditions = read.pointer("/status/conditions").and_then(Value::as_array);
    let mut running = conditions
        .into_iter()
        .flatten()
        .filter(|c| c["type"] == "StorageMigrating");
    let same = running.any(|c| c["observedGeneration"] == read["metadata"]["generation"]);
    let (reason, message) = match (succeeded, same) {
        (true, true) => (
            "MigrationSucceeded",
            "The migration has succeeded and the stored versions have been updated",
        ),
        (true, false) => (
            "MigrationSucceeded",
            "The migration has succeeded but the stored versions have not been updated due to a generation mismatch",
        ),
        (false, _) => ("MigrationFailed", "The migration has failed"),
    };
    let mut status = status(read, &condition(read, "False", reason, message));
    if succeeded && same {
        let versions = read.pointer("/spec/versions").and_then(Value::as_array);
        let stored = versions.into_iter().flatten().find(|v| v["storage"] == true);
        if let Some(stored) = stored {
            status["storedVersions"] = json!([stored["name"]]);
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_versions_are_forgotten_when_all_is_written_anew() {
        let read = |observed: i64| {
            json!({ "metadata": { "generation": 2 }, "spec": { "versions": [{ "name": "v1" }, { "name": "v2", "storage": true }] },
                "status": { "storedVersions": ["v1", "v2"],
                    "conditions": [{ "type": "StorageMigrating", "observedGeneration": observed }] } })
        };
        assert_eq!(ended(&read(2), true)["storedVersions"], json!(["v2"]));
        for (status, message) in [
            (
                ended(&read(1), true),
                "The migration has succeeded but the stored versions have not been updated due to a generation mismatch",
            ),
            (ended(&read(2), false), "The migration has failed"),
        ] {
            assert_eq!(status["storedVersions"], json!(["v1", "v2"]));
            assert_eq!(status["conditions"][0]["message"], message);
        }
    }
}
