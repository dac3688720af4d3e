//! Health checks, metrics and the issuer's discovery document.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::authentication::service_account::TokenIssuer;
use crate::http::request_info::Query;
use crate::http::status::{ApiError, Result};
use crate::registry::body::{self, Body};
use crate::server::ApiServer;

/// What is checked.
#[derive(Debug, Default)]
pub struct Health {
    /// Set when the server is told to stop: it is alive but no longer ready.
    pub stopping: std::sync::atomic::AtomicBool,
}

const CHECKS: [&str; 4] = ["ping", "log", "etcd", "poststarthook/rbac/bootstrap-roles"];

impl Health {
    fn passes(&self, server: &ApiServer, check: &str) -> Option<bool> {
        match check {
            "ping" | "log" => Some(true),
            // the store has a revision as soon as it is open
            "etcd" => Some(server.registry.store.revision() > 0),
            "poststarthook/rbac/bootstrap-roles" => Some(
                server
                    .registry
                    .get("rbac.authorization.k8s.io", "clusterroles", "", "cluster-admin")
                    .is_some(),
            ),
            "shutdown" => Some(!self.stopping.load(std::sync::atomic::Ordering::Relaxed)),
            _ => None,
        }
    }

    fn checks(path: &str) -> impl Iterator<Item = &'static str> {
        CHECKS.into_iter().chain((path == "/readyz").then_some("shutdown"))
    }

    /// All checks of `/healthz`, `/livez` or `/readyz`.
    pub fn answer(&self, server: &ApiServer, path: &str, query: &Query) -> Response<Body> {
        let excluded = query.all("exclude");
        let mut text = String::new();
        let mut failed = false;
        for check in Self::checks(path) {
            if excluded.iter().any(|e| e == check) {
                text.push_str(&format!("[+]{check} excluded: ok\n"));
            } else if self.passes(server, check) == Some(true) {
                text.push_str(&format!("[+]{check} ok\n"));
            } else {
                failed = true;
                text.push_str(&format!("[-]{check} failed: reason withheld\n"));
            }
        }
        let name = path.trim_start_matches('/');
        if failed {
            text.push_str(&format!("{name} check failed\n"));
            return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
        if query.get("verbose").is_some() {
            text.push_str(&format!("{name} check passed\n"));
            return plain(StatusCode::OK, text);
        }
        plain(StatusCode::OK, "ok".into())
    }

    /// One check: `/readyz/etcd`.
    pub fn one(&self, server: &ApiServer, path: &str) -> Result<Response<Body>> {
        let (_, check) = path
            .trim_start_matches('/')
            .split_once('/')
            .ok_or_else(ApiError::no_such_path)?;
        match self.passes(server, check) {
            Some(true) => Ok(plain(StatusCode::OK, "ok".into())),
            Some(false) => Ok(plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("internal server error: {check} failed\n"),
            )),
            None => Err(ApiError::no_such_path()),
        }
    }
}

fn plain(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// `/.well-known/openid-configuration`
pub fn openid_configuration(issuer: &TokenIssuer) -> Value {
    json!({
        "issuer": issuer.issuer,
        "jwks_uri": format!("{}/openid/v1/jwks", issuer.issuer),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

/// `/metrics` in the Prometheus text format.
pub fn metrics(server: &ApiServer) -> Response<Body> {
    let mut text = String::from(
        "# HELP apiserver_storage_objects Number of stored objects by resource.\n# TYPE apiserver_storage_objects gauge\n",
    );
    for served in server.registry.catalog().all() {
        let resource = &served.resource;
        if resource.is_stored_version() {
            text.push_str(&format!(
                "apiserver_storage_objects{{resource=\"{}\"}} {}\n",
                resource.qualified(),
                served.cache.len()
            ));
        }
    }
    text.push_str(
        "# HELP apiserver_storage_revision The revision of the datastore.\n# TYPE apiserver_storage_revision counter\n",
    );
    text.push_str(&format!(
        "apiserver_storage_revision {}\n",
        server.registry.store.revision()
    ));
    plain(StatusCode::OK, text)
}
