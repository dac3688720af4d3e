//! `pods/binding`, and a Binding in its collection: gives a pod its node.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::admission::Operation;
use crate::http::status::{ApiError, Result};
use crate::pipeline::{Change, Write};
use crate::registry::{Served, metadata};
use crate::server::body::{self, Body};
use crate::server::decode::decode_kind;
use crate::server::{ApiServer, Request};
use crate::subresource::{in_namespace, recorded};
use crate::tree::text;

/// Binds a pod to a node: `pods/binding`, or `bindings` with the pod's name in the body.
///
/// # Errors
/// `400` for a body that is no binding, `409` when the pod is bound or being deleted, and all that an update fails with.
pub async fn create(server: &Arc<ApiServer>, served: &Served, request: &Request) -> Result<Response<Body>> {
    let binding = decode_kind(request, api::schema::Schema::builtin(), &[("v1", "Binding")])?;
    let namespace = &request.info.namespace;
    let direct = request.info.resource == "bindings";
    let name = &match direct {
        true => text(&binding, &["metadata", "name"]).unwrap_or_default().to_owned(),
        false => request.info.name.clone(),
    };
    let mut options = request.write_options()?;
    let mut binding = in_namespace(binding, namespace);
    if direct {
        // what a client may not say of a new object is not heard, as in every collection
        metadata::wipe(&mut binding)?;
    }
    let mut binding = recorded(server, &options, binding);
    let answered = server.registry.answered("", "bindings");
    let own = answered.filter(|_| direct).map(|resource| Served {
        resource,
        cache: served.cache.clone(),
    });
    let asking = options.clone();
    let asked = Write {
        pipeline: &server.pipeline,
        served: own.as_ref().unwrap_or(served),
        namespace,
        options: &asking,
    };
    let attributes = asked.attributes(Operation::Create, name, name);
    let admission = &server.pipeline.admission;
    admission.admit(&attributes, &mut binding, None).await?;
    let node = target(&binding, name)?;
    let uid = text(&binding, &["metadata", "uid"])
        .filter(|u| !u.is_empty())
        .map(Into::into);
    admission.validate(&attributes, &binding, None).await?;
    if name.is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    options.subresource = "binding".into();
    // it was asked of the binding
    options.admitted = true;
    let write = Write {
        pipeline: &server.pipeline,
        served,
        namespace,
        options: &options,
    };
    let now = server.registry.timestamp();
    let wanted = text(&binding, &["metadata", "resourceVersion"]).unwrap_or_default();
    write
        .update(name, |old| {
            let version = metadata::text(old, "resourceVersion");
            if !wanted.is_empty() && wanted != version {
                return Err(served.resource.other_version(namespace, name, wanted, version));
            }
            check_free(old, name)?;
            Ok(Change {
                uid: uid.clone(),
                ..Change::to(bound(old, &binding, &node, &now))
            })
        })
        .await?;
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    request.trail.status(&status);
    Ok(body::tree_response(StatusCode::CREATED, request.accept, &status))
}

/// Checks that a pod may be given a node now.
fn check_free(pod: &Value, name: &str) -> Result<()> {
    let conflict = |why: &str| Err(ApiError::conflict("", "pods/binding", name, why));
    if text(pod, &["metadata", "deletionTimestamp"]).is_some() {
        return conflict(&format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(bound) = text(pod, &["spec", "nodeName"]).filter(|n| !n.is_empty()) {
        return conflict(&format!("pod {name} is already assigned to node {bound:?}"));
    }
    let gates = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return conflict(&format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    Ok(())
}

/// The pod with its node, and with the labels and annotations of the binding.
fn bound(pod: &Value, binding: &Value, node: &str, now: &str) -> Value {
    let mut tree = pod.clone();
    tree["spec"]["nodeName"] = json!(node);
    // who looks for room does not keep it for the pod twice
    if let Some(status) = tree.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("nominatedNodeName");
    }
    for field in ["annotations", "labels"] {
        let given = binding
            .pointer(&format!("/metadata/{field}"))
            .and_then(Value::as_object);
        for (key, value) in given.into_iter().flatten() {
            tree["metadata"][field][key] = value.clone();
        }
    }
    let condition =
        json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now });
    let conditions = tree.pointer("/status/conditions").and_then(Value::as_array);
    let others = conditions.into_iter().flatten().filter(|c| c["type"] != "PodScheduled");
    let conditions = others.cloned().chain([condition]).collect();
    tree["status"]["conditions"] = Value::Array(conditions);
    tree
}

/// The node that a pod of this name is given.
fn target(binding: &Value, name: &str) -> Result<String> {
    if text(binding, &["metadata", "name"]).unwrap_or_default() != name {
        let why = "name in URL does not match name in Binding object";
        return Err(ApiError::bad_request(why));
    }
    let node = text(binding, &["target", "name"]).unwrap_or_default().to_owned();
    let kind = text(binding, &["target", "kind"]).unwrap_or_default();
    let mut errors = Vec::new();
    if !matches!(kind, "" | "Node") {
        errors.push(api::field::FieldError::not_supported(
            "target.kind",
            json!(kind),
            &["Node", "<empty>"],
        ));
    }
    if node.is_empty() {
        errors.push(api::field::FieldError::required("target.name", ""));
    }
    if !errors.is_empty() {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let all = if texts.len() == 1 {
            texts.concat()
        } else {
            format!("[{}]", texts.join(", "))
        };
        return Err(ApiError::plain(all));
    }
    Ok(node)
}
