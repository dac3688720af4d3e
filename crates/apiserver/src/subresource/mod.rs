//! Subresources: one file for each family.

pub mod binding;
mod connect;
mod eviction;
pub mod kubelet;
mod proxy;
mod rewrite;
mod scale;
pub mod stream_options;
mod token;

pub use self::connect::kubelet;

use std::sync::Arc;

use http::{Method, Response};
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};
use crate::http::status::{ApiError, Result};
use crate::pipeline::{Write, WriteOptions};
use crate::registry::Served;
use crate::server::body::Body;
use crate::server::{ApiServer, Request};
use crate::tree::text;

/// What is made in a namespace is of it, though its writer does not say so.
fn in_namespace(mut tree: Value, namespace: &str) -> Value {
    if text(&tree, &["metadata", "namespace"]).unwrap_or_default().is_empty() {
        tree["metadata"]["namespace"] = json!(namespace);
    }
    tree
}

/// Records who wrote what is made under a path and never stored.
fn recorded(server: &ApiServer, options: &WriteOptions, mut tree: Value) -> Value {
    let schema = api::schema::Schema::builtin();
    let version = text(&tree, &["apiVersion"]).unwrap_or_default().to_owned();
    let kind = text(&tree, &["kind"]).unwrap_or_default();
    if let Some(root) = schema.type_for(&api::gvk::GroupVersionKind::from_api_version(&version, kind)) {
        let context = options.context(&server.registry, &version);
        api::apply::track_update(&api::apply::Target::new(schema, root), None, &mut tree, &context);
    }
    tree
}

/// Asks admission of a connection, which may change its options.
///
/// # Errors
/// What admission refuses.
async fn admit_connection(server: &ApiServer, served: &Served, request: &Request, options: &mut Value) -> Result<()> {
    let info = &request.info;
    let asking = WriteOptions {
        subresource: info.subresource.clone(),
        ..request.write_options()?
    };
    let asked = Write {
        pipeline: &server.pipeline,
        served,
        namespace: &info.namespace,
        options: &asking,
    };
    let attributes = Attributes {
        dry_run: false,
        ..asked.attributes(Operation::Connect, &info.name, &info.name)
    };
    let admission = &server.pipeline.admission;
    admission.admit(&attributes, options, None).await?;
    admission.validate(&attributes, options, None).await?;
    Ok(())
}

/// Answers a request for a subresource other than `status`.
pub async fn answer(server: &Arc<ApiServer>, served: Served, request: Request) -> Result<Response<Body>> {
    let resource = served.resource.clone();
    let subresource = request.info.subresource.clone();
    let allowed = resource
        .subresource(&subresource)
        .is_some_and(|s| s.verbs.iter().any(|v| v == request.info.verb));
    let allowed = match subresource.as_str() {
        "exec" | "attach" | "portforward" => matches!(request.method, Method::GET | Method::POST),
        "proxy" => true,
        _ => allowed,
    };
    if !allowed {
        return Err(ApiError::method_not_allowed());
    }
    match (resource.plural.as_str(), subresource.as_str()) {
        (_, "scale") => scale::answer(server, &served, &request).await,
        ("pods", "binding") => binding::create(server, &served, &request).await,
        ("pods", "eviction") => eviction::create(server, &served, &request).await,
        ("pods", "log" | "exec" | "attach" | "portforward") => connect::pod(server, &served, request).await,
        ("pods" | "services" | "nodes", "proxy") => proxy::proxy(server, &served, request).await,
        ("serviceaccounts", "token") => token::create(server, &served, &request).await,
        _ => Err(ApiError::new(
            501,
            "NotImplemented",
            format!("{}/{subresource} is not implemented", resource.plural),
        )),
    }
}
