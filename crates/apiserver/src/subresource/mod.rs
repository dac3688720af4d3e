//! Subresources: one file for each family.

pub mod binding;
mod connect;
mod eviction;
pub mod kubelet;
mod proxy;
mod rewrite;
mod scale;
mod stream_options;
mod token;

use std::sync::Arc;

use http::{Method, Response};

use crate::http::status::{ApiError, Result};
use crate::registry::Served;
use crate::server::body::Body;
use crate::server::{ApiServer, Request};

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
        ("serviceaccounts", "token") => token::create(server, &request).await,
        _ => Err(ApiError::new(
            501,
            "NotImplemented",
            format!("{}/{subresource} is not implemented", resource.plural),
        )),
    }
}
