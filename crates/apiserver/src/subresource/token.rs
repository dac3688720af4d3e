//! `serviceaccounts/token`: a TokenRequest answered with a token.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::admission::Operation;
use crate::authentication::service_account::{Bound, TokenRequest};
use crate::http::status::{ApiError, Result};
use crate::pipeline::Write;
use crate::registry::{Served, format_time};
use crate::server::body::{self, Body};
use crate::server::decode::decode_kind;
use crate::server::{ApiServer, Request};
use crate::subresource::in_namespace;

/// Seconds.
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
const DEFAULT: i64 = 3600;

pub async fn create(server: &Arc<ApiServer>, served: &Served, request: &Request) -> Result<Response<Body>> {
    let mut tree = decode_kind(
        request,
        api::schema::Schema::builtin(),
        &[("authentication.k8s.io/v1", "TokenRequest")],
    )?;
    let (namespace, name) = (request.info.namespace.as_str(), request.info.name.as_str());
    let registry = &server.registry;
    let asking = request.write_options()?;
    let asked = Write {
        pipeline: &server.pipeline,
        served,
        namespace,
        options: &asking,
    };
    let attributes = asked.attributes(Operation::Create, name, name);
    let admission = &server.pipeline.admission;
    tree = in_namespace(tree, namespace);
    tree["metadata"]["managedFields"] = managed(server, request, &tree)?;
    admission.admit(&attributes, &mut tree, None).await?;
    let written = managed(server, request, &tree)?;
    let account = registry
        .get("", "serviceaccounts", namespace, name)
        .ok_or_else(|| ApiError::not_found("", "serviceaccounts", name))?;
    let seconds = tree
        .pointer("/spec/expirationSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(DEFAULT);
    let problem = if seconds < SHORTEST {
        Some("may not specify a duration less than 10 minutes")
    } else if seconds > LONGEST {
        Some("may not specify a duration larger than 2^32 seconds")
    } else {
        None
    };
    if let Some(why) = problem {
        let error = api::field::FieldError::invalid("spec.expirationSeconds", json!(seconds), why);
        return Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", "", &[error]));
    }
    let asked = tree
        .pointer("/spec/audiences")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut audiences: Vec<String> = asked.iter().filter_map(|a| a.as_str().map(Into::into)).collect();
    if audiences.is_empty() {
        audiences.clone_from(&server.authenticator.tokens.audiences);
    }
    let mut shown = tree.clone();
    for (key, value) in [
        ("name", name),
        ("namespace", namespace),
        ("uid", &account.object.meta.uid),
    ] {
        shown["metadata"][key] = json!(value);
    }
    shown["metadata"]["creationTimestamp"] = json!(registry.timestamp());
    shown["spec"]["audiences"] = json!(audiences);
    admission.validate(&attributes, &shown, None).await?;
    let (bound, node) = match tree.pointer("/spec/boundObjectRef").filter(|r| !r.is_null()) {
        Some(reference) => bound(server, request, namespace, reference)?,
        None => (None, None),
    };
    let id = registry.uid();
    let token = server.authenticator.tokens.issue(
        registry,
        &TokenRequest {
            id: &id,
            namespace,
            name,
            uid: &account.object.meta.uid,
            audiences: audiences.clone(),
            seconds,
            bound,
            node,
        },
    )?;
    let issued = "authentication.kubernetes.io/issued-credential-id";
    request.trail.annotate(issued, || format!("JTI={id}"));
    let now = registry.environment.now();
    let expires = now
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .map_err(ApiError::internal)?;
    tree["spec"]["audiences"] = json!(audiences);
    tree["spec"]["expirationSeconds"] = json!(seconds);
    if tree["spec"].get("boundObjectRef").is_none() {
        tree["spec"]["boundObjectRef"] = Value::Null;
    }
    tree["metadata"] = json!({
        "name": name, "namespace": namespace, "uid": registry.uid(), "creationTimestamp": format_time(now),
        "managedFields": written,
    });
    tree["status"] = json!({ "token": token, "expirationTimestamp": format_time(expires) });
    Ok(body::tree_response(StatusCode::CREATED, request.accept, &tree))
}

/// What the request itself set.
fn managed(server: &ApiServer, request: &Request, tree: &Value) -> Result<Value> {
    const VERSION: &str = "authentication.k8s.io/v1";
    let schema = api::schema::Schema::builtin();
    let root = schema
        .type_for(&api::gvk::GroupVersionKind::from_api_version(VERSION, "TokenRequest"))
        .ok_or_else(|| ApiError::internal("token requests have no schema"))?;
    let mut tree = tree.clone();
    tree["metadata"] = json!({});
    let context = request.write_options()?.context(&server.registry, VERSION);
    api::apply::track_update(&api::apply::Target::new(schema, root), None, &mut tree, &context);
    Ok(tree["metadata"]["managedFields"].take())
}

type BoundTo = (Option<Bound>, Option<(String, String)>);

fn bound(server: &ApiServer, request: &Request, namespace: &str, reference: &Value) -> Result<BoundTo> {
    let text = |key: &str| {
        reference
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let (plural, home) = match kind.as_str() {
        "Pod" => ("pods", namespace),
        "Secret" => ("secrets", namespace),
        "Node" => ("nodes", ""),
        other => {
            let why = format!(
                "cannot bind token to object of type {}, Kind={other}",
                text("apiVersion")
            );
            return Err(ApiError::bad_request(why));
        }
    };
    let object = server
        .registry
        .get("", plural, home, &name)
        .ok_or_else(|| ApiError::not_found("", plural, &name))?;
    let found = object.object.meta.uid.to_string();
    if !uid.is_empty() && uid != found {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", plural, &name, &why));
    }
    let mut node = None;
    if kind == "Pod" {
        let pod = object.tree()?;
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        if account != request.info.name {
            let why = format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                request.info.name
            );
            return Err(ApiError::bad_request(why));
        }
        let node_name = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        let uid = server
            .registry
            .get("", "nodes", "", &node_name)
            .map(|n| n.object.meta.uid.to_string());
        node = uid.map(|uid| (node_name, uid));
    }
    Ok((Some(Bound { kind, name, uid: found }), node))
}
