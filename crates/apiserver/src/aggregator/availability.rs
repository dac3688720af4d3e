//! Whether the server of an APIService can be asked (`status/remote`, `AvailableConditionController`).

use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;

use super::api_service::{Available, Spec};
use super::error::RemoteError;
use super::remote::Remote;
use crate::http::user::{MASTERS, User};
use crate::registry::Registry;
use crate::registry::cached::Cached;
use crate::webhook::service::SERVICE_NAME;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(5);
/// How often it is asked before it counts as failing: another endpoint may answer.
const ATTEMPTS: usize = 5;

/// Why a server counts as failing.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    /// The Service leads nowhere.
    #[error(transparent)]
    Nowhere(RemoteError),
    #[error("failing or missing response from {url}: bad status from {url}: {code}")]
    Status { url: String, code: u16 },
    #[error(
        "failing or missing response from {url}: Get {url:?}: context deadline exceeded (Client.Timeout exceeded while \
         awaiting headers)"
    )]
    Timeout { url: String },
    #[error("failing or missing response from {url}: Get {url:?}: {source}")]
    NoAnswer { url: String, source: RemoteError },
}

/// Looks at the Service and asks the server; `None` where nobody can be asked, which upstream does not tell either.
pub async fn check(remote: &Remote, registry: &Registry) -> Option<Available> {
    let service = &remote.spec.service;
    let found = registry.get("", "services", &service.namespace, &service.name);
    let found = found.and_then(|object| object.tree().ok());
    let slices = registry.list("discovery.k8s.io", "endpointslices", &service.namespace);
    let slices = slices.iter().filter(|slice| is_of(slice, &service.name));
    let slices: Vec<Value> = slices.filter_map(|slice| slice.tree().ok()).collect();
    if let Some(missing) = missing(&remote.spec, found.as_ref(), &slices) {
        return Some(missing);
    }
    if let Some(why) = remote.misconfigured() {
        tracing::warn!(name = remote.spec.name, %why, "an extension server cannot be asked");
        return None;
    }
    let mut failed = match ask(remote).await {
        Ok(()) => return Some(passed()),
        Err(why) => why,
    };
    for answer in join_all((1..ATTEMPTS).map(|_| ask(remote))).await {
        match answer {
            Ok(()) => return Some(passed()),
            Err(why) => failed = why,
        }
    }
    Some(Available {
        status: "False",
        reason: "FailedDiscoveryCheck",
        message: failed.to_string(),
    })
}

fn passed() -> Available {
    Available {
        status: "True",
        reason: "Passed",
        message: "all checks passed".into(),
    }
}

/// Whether an EndpointSlice is a Service's.
pub fn is_of(slice: &Cached, service: &str) -> bool {
    slice.object.meta.label(SERVICE_NAME) == Some(service)
}

/// The first thing that a Service lacks so that there is nobody to ask.
fn missing(spec: &Spec, service: Option<&Value>, slices: &[Value]) -> Option<Available> {
    let (name, namespace) = (&spec.service.name, api::go::quote(&spec.service.namespace));
    let lacks = |reason, message| {
        Some(Available {
            status: "False",
            reason,
            message,
        })
    };
    let Some(service) = service else {
        return lacks(
            "ServiceNotFound",
            format!("service/{name} in {namespace} is not present"),
        );
    };
    if service.pointer("/spec/type").and_then(Value::as_str) != Some("ClusterIP") {
        return None;
    }
    let number = u64::from(spec.service.port);
    let Some(port) = list(service, "/spec/ports").find(|p| p["port"].as_u64() == Some(number)) else {
        let why = format!("service/{name} in {namespace} is not listening on port {number}");
        return lacks("ServicePortError", why);
    };
    if slices.is_empty() {
        let why = format!("cannot find endpointslices for service/{name} in {namespace}");
        return lacks("EndpointsNotFound", why);
    }
    let port = port["name"].as_str().unwrap_or_default();
    if !slices.iter().any(|slice| has_endpoint(slice, port)) {
        let port = api::go::quote(port);
        let why = format!("endpointslices for service/{name} in {namespace} have no addresses with port name {port}");
        return lacks("MissingEndpoints", why);
    }
    None
}

fn has_endpoint(slice: &Value, port: &str) -> bool {
    let ready = list(slice, "/endpoints").any(|e| e.pointer("/conditions/ready") != Some(&Value::Bool(false)));
    ready && list(slice, "/ports").any(|p| p["name"] == port && p["port"].is_u64())
}

fn list<'a>(tree: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    tree.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// Asks for what every extension server must have.
async fn ask(remote: &Remote) -> Result<(), CheckError> {
    let authority = remote.resolve().map_err(CheckError::Nowhere)?;
    let url = format!("https://{authority}{}", remote.spec.path());
    let who = User {
        name: "system:kube-aggregator".into(),
        groups: vec![MASTERS.into()],
        ..User::default()
    };
    match remote.read(&remote.spec.path(), "*/*", None, &who, WITHIN).await {
        Ok(answer) => match answer.status.as_u16() {
            200..300 => Ok(()),
            code => Err(CheckError::Status { url, code }),
        },
        Err(RemoteError::Deadline) => Err(CheckError::Timeout { url }),
        Err(source) => Err(CheckError::NoAnswer { url, source }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::aggregator::api_service::Priorities;
    use crate::webhook::service::Service;

    fn said(service: Option<&Value>, slices: &[Value]) -> Option<(&'static str, String)> {
        let spec = Spec {
            name: "v1.example.org".into(),
            group: "example.org".into(),
            version: "v1".into(),
            priorities: Priorities { group: 1, version: 1 },
            service: Service {
                namespace: "n".into(),
                name: "s".into(),
                port: 443,
            },
            insecure: false,
            bundle: String::new(),
        };
        missing(&spec, service, slices).map(|a| (a.reason, a.message))
    }

    /// Words of `remote_available_controller.go`.
    #[test]
    fn a_service_must_have_the_port_and_an_endpoint_that_is_ready() {
        let lacks = |reason, message: &str| Some((reason, message.to_owned()));
        assert_eq!(
            said(None, &[]),
            lacks("ServiceNotFound", r#"service/s in "n" is not present"#)
        );
        let service =
            |port: u16| json!({ "spec": { "type": "ClusterIP", "ports": [{ "name": "https", "port": port }] } });
        assert_eq!(
            said(Some(&service(444)), &[]),
            lacks("ServicePortError", r#"service/s in "n" is not listening on port 443"#)
        );
        assert_eq!(
            said(Some(&service(443)), &[]),
            lacks(
                "EndpointsNotFound",
                r#"cannot find endpointslices for service/s in "n""#
            )
        );
        let slice = |ready: Value, port: &str| {
            json!({
                "endpoints": [{ "addresses": ["1.2.3.4"], "conditions": ready }], "ports": [{ "name": port, "port": 8443 }],
            })
        };
        let none = lacks(
            "MissingEndpoints",
            r#"endpointslices for service/s in "n" have no addresses with port name "https""#,
        );
        assert_eq!(
            said(Some(&service(443)), &[slice(json!({ "ready": false }), "https")]),
            none
        );
        assert_eq!(said(Some(&service(443)), &[slice(json!({}), "other")]), none);
        assert_eq!(said(Some(&service(443)), &[slice(json!({}), "https")]), None);
        // what leads out of the cluster has no endpoints here
        assert_eq!(said(Some(&json!({ "spec": { "type": "ExternalName" } })), &[]), None);
    }
}
