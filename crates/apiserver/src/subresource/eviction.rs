//! `pods/eviction`: deletes a pod unless a disruption budget forbids it.

use std::sync::Arc;

use api::selectors::LabelSelector;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::registry::Served;
use crate::registry::body::{self, Body};
use crate::registry::delete::DeleteOptions;
use crate::registry::write::{Change, Write};
use crate::server::decode::decode_kind;
use crate::server::{ApiServer, Request};
use crate::strategy::text;

pub async fn create(server: &Arc<ApiServer>, served: &Served, request: &Request) -> Result<Response<Body>> {
    let eviction = decode_kind(request, api::schema::Schema::builtin(), &[("policy/v1", "Eviction")])?;
    let options = match eviction.get("deleteOptions").filter(|o| !o.is_null()) {
        Some(tree) => DeleteOptions::read(Some(tree.clone()), &request.query)?,
        None => DeleteOptions::default(),
    };
    let (namespace, name) = (&request.info.namespace, &request.info.name);
    let pod = served
        .cache
        .get(namespace, name)
        .ok_or_else(|| served.resource.not_found(name))?;
    let tree = pod.tree()?;
    let phase = text(&tree, &["status", "phase"]).unwrap_or_default();
    let mut write_options = request.write_options()?;
    write_options.subresource.clear();
    // a pod that does not run disrupts nobody
    let counts = !matches!(phase, "Succeeded" | "Failed" | "Pending") && !pod.object.meta.deleting;
    if counts {
        spend_budget(server, &pod.object.meta, namespace, &write_options).await?;
    }
    let write = Write {
        registry: &server.registry,
        served,
        namespace,
        options: &write_options,
    };
    write.delete(name, &options).await?;
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    Ok(body::tree_response(StatusCode::CREATED, request.accept, &status))
}

async fn spend_budget(
    server: &Arc<ApiServer>,
    pod: &api::object::Meta,
    namespace: &str,
    options: &crate::registry::write::WriteOptions,
) -> Result<()> {
    let mut budgets = Vec::new();
    for object in server.registry.list("policy", "poddisruptionbudgets", namespace) {
        let budget = object.tree()?;
        let selector = budget
            .pointer("/spec/selector")
            .and_then(|s| LabelSelector::from_tree(s).ok());
        if selector.is_some_and(|s| s.matches(|key| pod.label(key))) {
            budgets.push(object.object.meta.name.to_string());
        }
    }
    match budgets.as_slice() {
        [] => Ok(()),
        [name] => {
            let catalog = server.registry.catalog();
            let Some(served) = catalog.stored("policy", "poddisruptionbudgets") else {
                return Ok(());
            };
            let mut options = options.clone();
            options.subresource = "status".into();
            let write = Write {
                registry: &server.registry,
                served,
                namespace,
                options: &options,
            };
            let now = server.registry.timestamp();
            write
                .update(name, |old| {
                    let allowed = old
                        .pointer("/status/disruptionsAllowed")
                        .and_then(Value::as_i64)
                        .unwrap_or(0);
                    let seen = old
                        .pointer("/status/observedGeneration")
                        .and_then(Value::as_i64)
                        .unwrap_or(0);
                    let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
                    if seen < generation || allowed <= 0 {
                        return Err(refused(old, name, seen < generation));
                    }
                    let mut tree = old.clone();
                    tree["status"]["disruptionsAllowed"] = json!(allowed - 1);
                    tree["status"]["disruptedPods"][&*pod.name] = json!(now);
                    Ok(Change {
                        tree,
                        uid: None,
                        revision: None,
                        applied: false,
                    })
                })
                .await
                .map(|_| ())
        }
        _ => Err(ApiError::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        )),
    }
}

fn refused(budget: &Value, name: &str, stale: bool) -> ApiError {
    let why = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut error = ApiError::too_many_requests(why, 10);
    let number = |path: &str| budget.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    let message = if stale {
        format!("The disruption budget {name} is still being processed by the server.")
    } else {
        format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number("/status/desiredHealthy"),
            number("/status/currentHealthy")
        )
    };
    error.details = Some(json!({ "causes": [{ "reason": "DisruptionBudget", "message": message }] }));
    error
}
