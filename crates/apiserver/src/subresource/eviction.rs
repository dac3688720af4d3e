//! `pods/eviction`: deletes a pod unless a disruption budget forbids it.

use std::sync::Arc;

use api::field::FieldError;
use api::selectors::LabelSelector;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::admission::Operation;
use crate::http::status::{ApiError, Result};
use crate::pipeline::delete::{DeleteOptions, UNSAFE, check_preconditions};
use crate::pipeline::{Change, Write, WriteOptions};
use crate::registry::Served;
use crate::registry::metadata;
use crate::registry::own::Own;
use crate::server::body::{self, Body};
use crate::server::decode::decode_kind;
use crate::server::{ApiServer, Request};
use crate::subresource::{in_namespace, recorded};
use crate::tree::text;

/// Times that a pod which changes meanwhile is looked at again.
const ATTEMPTS: usize = 8;
/// Evictions that a budget may have which its controller has not seen yet.
const MOST_DISRUPTED: usize = 2000;

/// Evicts a pod, unless a disruption budget keeps it.
///
/// # Errors
/// `429` while the budget does not allow it, `400` for a body that is no eviction, and all that a deletion fails with.
pub async fn create(server: &Arc<ApiServer>, served: &Served, request: &Request) -> Result<Response<Body>> {
    // upstream still reads those of old clients
    let eviction = decode_kind(
        request,
        api::schema::Schema::builtin(),
        &[("policy/v1", "Eviction"), ("policy/v1beta1", "Eviction")],
    )?;
    let (namespace, name) = (&request.info.namespace, &request.info.name);
    let asking = request.write_options()?;
    let mut eviction = recorded(server, &asking, in_namespace(eviction, namespace));
    let asked = Write {
        pipeline: &server.pipeline,
        served,
        namespace,
        options: &asking,
    };
    let attributes = asked.attributes(Operation::Create, name, name);
    let admission = &server.pipeline.admission;
    admission.admit(&attributes, &mut eviction, None).await?;
    if text(&eviction, &["metadata", "name"]).unwrap_or_default() != name {
        let why = "name in URL does not match name in Eviction object";
        return Err(ApiError::bad_request(why));
    }
    let given = eviction.get("deleteOptions").filter(|options| !options.is_null());
    if given.is_some_and(|options| options[UNSAFE] == true) {
        let why = "can not be set for pod eviction, try after removing the option";
        let error = FieldError::invalid(format!("deleteOptions.{UNSAFE}"), json!(true), why);
        return Err(ApiError::invalid("policy", "Eviction", name, &[error]));
    }
    let options = match given {
        Some(tree) => DeleteOptions::of(tree.clone())?,
        None => DeleteOptions::default(),
    };
    admission.validate(&attributes, &eviction, None).await?;
    let mut write_options = request.write_options()?;
    write_options.dry_run |= !options.dry_run.is_empty();
    write_options.subresource.clear();
    // it was asked of the eviction
    write_options.admitted = true;
    let write = Write {
        pipeline: &server.pipeline,
        served,
        namespace,
        options: &write_options,
    };
    let asked = options.preconditions.as_ref().and_then(|p| p.resource_version.as_ref());
    for attempt in 1.. {
        let pod = served
            .cache
            .get(namespace, name)
            .ok_or_else(|| served.resource.not_found(name))?;
        let tree = pod.tree()?;
        let budget = match disrupts(&tree) {
            false => None,
            true => budget_of(server, &pod.object.meta, namespace)?,
        };
        // what was decided of the pod must still be true of it when it is deleted
        let decided_by_state = match &budget {
            None => !disrupts(&tree) && !is_over(&tree),
            Some(budget) if may_go_unhealthy(&tree, budget) => true,
            Some(budget) => {
                spend(
                    server,
                    namespace,
                    metadata::text(budget, "name"),
                    name,
                    write_options.dry_run,
                )
                .await?;
                false
            }
        };
        let mut options = options.clone();
        if decided_by_state && asked.is_none() {
            let preconditions = options.preconditions.get_or_insert_default();
            preconditions.resource_version = Some(pod.revision().to_string());
        }
        match mark_and_delete(&write, name, options).await {
            Ok(()) => break,
            Err(error) if error.reason == "Conflict" && decided_by_state && asked.is_none() => {
                if let Some(budget) = &budget {
                    return Err(being_processed(metadata::text(budget, "name")));
                }
                if attempt >= ATTEMPTS {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    request.trail.status(&status);
    Ok(body::tree_response(StatusCode::CREATED, request.accept, &status))
}

/// A pod that does not run, or will not for long, disrupts nobody.
fn disrupts(pod: &Value) -> bool {
    let phase = text(pod, &["status", "phase"]).unwrap_or_default();
    phase != "Pending" && !is_over(pod)
}

fn is_over(pod: &Value) -> bool {
    api::pod::has_ended(pod) || text(pod, &["metadata", "deletionTimestamp"]).is_some()
}

/// Whether a pod that is not ready may go without spending of the budget.
fn may_go_unhealthy(pod: &Value, budget: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    if conditions.any(|c| c["type"] == "Ready" && c["status"] == "True") {
        return false;
    }
    let (healthy, desired) = (
        number(budget, "/status/currentHealthy"),
        number(budget, "/status/desiredHealthy"),
    );
    text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == Some("AlwaysAllow") || healthy >= desired && desired > 0
}

fn number(tree: &Value, path: &str) -> i64 {
    tree.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

/// Says on the pod that it is a disruption that ends it, and deletes it.
async fn mark_and_delete(write: &Write<'_>, name: &str, mut options: DeleteOptions) -> Result<()> {
    check_preconditions(write, &options, &*write.place().current(name)?, name)?;
    if !write.options.dry_run {
        let mut status_options = write.options.clone();
        status_options.subresource = "status".into();
        let status = Write {
            options: &status_options,
            ..*write
        };
        let now = write.pipeline.registry.timestamp();
        let wanted = options.preconditions.clone().unwrap_or_default();
        let marked = status
            .update(name, |old| {
                let revision = match &wanted.resource_version {
                    Some(text) => Some(
                        text.parse()
                            .map_err(|_| ApiError::bad_request("resourceVersion is not a number"))?,
                    ),
                    None => None,
                };
                Ok(Change {
                    tree: marked(old, &now),
                    uid: wanted.uid.clone(),
                    revision,
                    // nobody comes to manage the mark
                    applied: true,
                    seen: None,
                })
            })
            .await?;
        if let Some(preconditions) = options.preconditions.as_mut().filter(|p| p.resource_version.is_some()) {
            preconditions.resource_version = Some(marked.revision().to_string());
        }
    }
    // only the deletion asks whether they fit together
    options.validate()?;
    write.delete(name, &options).await.map(|_| ())
}

/// The pod with the condition `DisruptionTarget`.
fn marked(pod: &Value, now: &str) -> Value {
    let mut tree = pod.clone();
    let list = pod.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = list.cloned().unwrap_or_default();
    let mut condition = json!({
        "type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
    });
    match conditions.iter_mut().find(|c| c["type"] == "DisruptionTarget") {
        Some(old) => {
            if old["status"] == "True" {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
    tree["status"]["conditions"] = json!(conditions);
    tree
}

/// The budget that the pod counts in.
fn budget_of(server: &ApiServer, pod: &api::object::Meta, namespace: &str) -> Result<Option<Value>> {
    let mut found = None;
    for object in server.registry.list("policy", "poddisruptionbudgets", namespace) {
        let budget = object.tree()?;
        let selector = budget.pointer("/spec/selector");
        let selector = selector.and_then(|s| LabelSelector::from_tree(s).ok());
        if selector.is_some_and(|s| s.matches(|key| pod.label(key))) && found.replace(budget).is_some() {
            return Err(ApiError::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    }
    Ok(found)
}

/// Takes one disruption of the budget, as the server's own write.
async fn spend(server: &Arc<ApiServer>, namespace: &str, budget: &str, pod: &str, dry_run: bool) -> Result<()> {
    let now = server.registry.timestamp();
    let spent = Own {
        registry: &server.registry,
        group: "policy",
        plural: "poddisruptionbudgets",
        namespace,
        name: budget,
        options: WriteOptions {
            dry_run,
            ..WriteOptions::own("status")
        },
    };
    let spent = spent.swap(|tree| {
        *tree = spend_of(tree, pod, &now)?;
        Ok(())
    });
    match spent.await? {
        Some(_) => Ok(()),
        None => Err(ApiError::not_found("policy", "poddisruptionbudgets", budget)),
    }
}

/// The budget less one disruption.
fn spend_of(budget: &Value, pod: &str, now: &str) -> Result<Value> {
    let name = metadata::text(budget, "name");
    let allowed = number(budget, "/status/disruptionsAllowed");
    if number(budget, "/status/observedGeneration") < number(budget, "/metadata/generation") {
        return Err(being_processed(name));
    }
    let forbidden = |why: &str, told: &str| {
        let mut error = ApiError::forbidden("policy", "poddisruptionbudget", name, why);
        if let Some(details) = error.details.as_mut().and_then(Value::as_object_mut) {
            let message = format!("The disruption budget {name} does not allow evicting pods currently: {told}");
            let causes = json!([{ "reason": "DisruptionBudget", "message": message }]);
            details.insert("causes".into(), causes);
        }
        Err(error)
    };
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return forbidden(why, why);
    }
    let disrupted = budget.pointer("/status/disruptedPods").and_then(Value::as_object);
    if disrupted.is_some_and(|d| d.len() > MOST_DISRUPTED) {
        return forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            "too many pending evictions not confirmed by PDB controller",
        );
    }
    if allowed == 0 {
        return Err(refused(&why_refused(budget), 0));
    }
    let mut tree = budget.clone();
    tree["status"]["disruptionsAllowed"] = json!(allowed - 1);
    tree["status"]["disruptedPods"][pod] = json!(now);
    if allowed == 1 {
        say_insufficient(&mut tree["status"], now);
    }
    Ok(tree)
}

/// Says in the status of a budget that it allows no disruption any more.
fn say_insufficient(status: &mut Value, now: &str) {
    let mut condition = json!({
        "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
        "lastTransitionTime": now, "observedGeneration": number(status, "/observedGeneration"),
    });
    let list = status.get("conditions").and_then(Value::as_array);
    let mut conditions = list.cloned().unwrap_or_default();
    match conditions.iter_mut().find(|old| old["type"] == condition["type"]) {
        Some(old) => {
            if old["status"] == condition["status"] {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
    status["conditions"] = json!(conditions);
}

fn why_refused(budget: &Value) -> String {
    let name = metadata::text(budget, "name");
    let (healthy, desired) = (
        number(budget, "/status/currentHealthy"),
        number(budget, "/status/desiredHealthy"),
    );
    let conditions = budget.pointer("/status/conditions").and_then(Value::as_array);
    let condition = conditions
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "DisruptionAllowed");
    let said = condition.filter(|c| c["status"] == "False").and_then(|c| {
        let message = c["message"].as_str().filter(|m| !m.is_empty())?;
        Some((c["reason"].as_str().unwrap_or_default(), message))
    });
    match said {
        Some(("SyncFailed", message)) => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        ),
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        Some((reason, message)) => {
            format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {message}")
        }
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

fn being_processed(budget: &str) -> ApiError {
    let why = format!("The disruption budget {budget} is still being processed by the server.");
    refused(&why, 10)
}

fn refused(why: &str, retry_seconds: u32) -> ApiError {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut error = ApiError::too_many_requests(message, retry_seconds);
    let mut details = json!({ "causes": [{ "reason": "DisruptionBudget", "message": why }] });
    if retry_seconds > 0 {
        details["retryAfterSeconds"] = json!(retry_seconds);
    }
    error.details = Some(details);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(allowed: i64, healthy: i64, desired: i64) -> Value {
        json!({ "metadata": { "name": "b", "generation": 1 }, "status": {
            "observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": desired,
        }})
    }

    #[test]
    fn a_budget_is_spent_until_it_is_empty() {
        let spent_once = spend_of(&budget(1, 2, 1), "p", "now").unwrap();
        assert_eq!(spent_once["status"]["disruptionsAllowed"], 0);
        assert_eq!(spent_once["status"]["disruptedPods"], json!({ "p": "now" }));
        let said = json!([{ "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "lastTransitionTime": "now", "observedGeneration": 1 }]);
        assert_eq!(spent_once["status"]["conditions"], said);
        let twice = spend_of(&budget(2, 2, 1), "p", "now").unwrap();
        assert!(twice["status"].get("conditions").is_none());
        let error = spend_of(&spent_once, "q", "now").unwrap_err();
        let why = "The disruption budget b does not allow evicting pods currently";
        assert_eq!(
            (error.code, error.details.unwrap()["causes"][0]["message"].as_str()),
            (429, Some(why))
        );
        let mut stale = budget(1, 2, 1);
        stale["metadata"]["generation"] = json!(2);
        assert!(spend_of(&stale, "p", "now").is_err());
        assert!(why_refused(&budget(0, 1, 1)).contains("needs 1 healthy pods and has 1 currently"));
    }

    #[test]
    fn a_pod_that_is_not_ready_goes_when_the_others_suffice_or_the_policy_says_so() {
        let pod = |ready: &str| json!({ "status": { "conditions": [{ "type": "Ready", "status": ready }] } });
        assert!(!may_go_unhealthy(&pod("True"), &budget(0, 2, 1)));
        assert!(may_go_unhealthy(&pod("False"), &budget(0, 1, 1)));
        assert!(!may_go_unhealthy(&pod("False"), &budget(0, 0, 1)));
        let mut always = budget(0, 0, 1);
        always["spec"] = json!({ "unhealthyPodEvictionPolicy": "AlwaysAllow" });
        assert!(may_go_unhealthy(&pod("False"), &always));
    }

    #[test]
    fn an_evicted_pod_says_so() {
        let once = marked(
            &json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }),
            "1",
        );
        assert_eq!(once["status"]["conditions"][1]["type"], "DisruptionTarget");
        assert_eq!(marked(&once, "2"), once);
    }
}
