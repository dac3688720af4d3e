//! `proxy` of pods, services and nodes: HTTP through the API server.

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::Value;

use crate::http::status::{ApiError, Result};
use crate::registry::Served;
use crate::registry::body::{self, Body};
use crate::registry::resource::Resource;
use crate::server::{ApiServer, Request};
use crate::subresource::connect::kubelet;
use crate::subresource::kubelet::Endpoint;
use crate::subresource::rewrite::Rewrite;

/// `[scheme:]name[:port]`
struct Target<'a> {
    tls: bool,
    name: &'a str,
    port: &'a str,
}

impl Target<'_> {
    fn parse(text: &str) -> Option<Target<'_>> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme @ ("http" | "https" | ""), name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        (!name.is_empty()).then_some(Target {
            tls: scheme == "https",
            name,
            port,
        })
    }

    fn number(&self) -> Option<u16> {
        self.port.parse().ok()
    }
}

pub async fn proxy(server: &Arc<ApiServer>, served: &Served, request: Request) -> Result<Response<Body>> {
    let info = &request.info;
    let resource = &served.resource;
    let (namespace, plural) = (info.namespace.as_str(), resource.plural.as_str());
    let invalid = || {
        let kind = plural.trim_end_matches('s');
        ApiError::bad_request(format!("invalid {kind} request {:?}", info.name))
    };
    let target = Target::parse(&info.name).ok_or_else(invalid)?;
    let name = target.name;
    let home = if resource.namespaced { namespace } else { "" };
    let object = served.cache.get(home, name).ok_or_else(|| resource.not_found(name))?;
    let tree = object.tree()?;
    let to = match plural {
        "nodes" => node_endpoint(server, &target)?,
        "pods" => pod_endpoint(resource, &target, &tree)?,
        _ => service_endpoint(server, namespace, &target, &tree)?,
    };
    let (own, rest) = split_path(request.uri.path(), resource.namespaced);
    let query = request.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    if request.upgrade.is_none() && rest.is_empty() && matches!(request.method, Method::GET | Method::HEAD) {
        // relative links of the page need the slash
        let mut response = Response::new(body::full(""));
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let there = HeaderValue::from_str(&format!("{own}/{query}")).map_err(ApiError::internal)?;
        response.headers_mut().insert(header::LOCATION, there);
        return Ok(response);
    }
    let path = format!("{}{query}", if rest.is_empty() { "/" } else { rest });
    let mut headers = request.headers;
    let rewrite = Rewrite {
        prefix: own.to_owned(),
        host: headers
            .get(header::HOST)
            .and_then(|h| h.to_str().ok())
            .unwrap_or_default()
            .to_owned(),
    };
    if let Ok(uri) = HeaderValue::from_str(&format!("{own}{rest}")) {
        headers.insert("x-forwarded-uri", uri);
    }
    let answer = server
        .kubelets
        .forward(&to, request.method, &path, &headers, request.body, request.upgrade);
    rewrite.response(answer.await?).await
}

/// The path up to `proxy` and what follows it.
fn split_path(path: &str, namespaced: bool) -> (&str, &str) {
    // /api/v1/nodes/NAME/proxy, /api/v1/namespaces/NAMESPACE/pods/NAME/proxy
    let slashes = if namespaced { 8 } else { 6 };
    match path.match_indices('/').nth(slashes - 1) {
        Some((at, _)) => path.split_at(at),
        None => (path, ""),
    }
}

fn node_endpoint(server: &ApiServer, target: &Target<'_>) -> Result<Endpoint> {
    let own = kubelet(server, target.name)?;
    Ok(match target.number().filter(|port| *port != own.port) {
        None => own,
        Some(port) => Endpoint {
            host: own.host,
            port,
            tls: target.tls,
            known: false,
        },
    })
}

fn pod_endpoint(resource: &Resource, target: &Target<'_>, pod: &Value) -> Result<Endpoint> {
    let address = pod.pointer("/status/podIP").and_then(Value::as_str).unwrap_or_default();
    if address.is_empty() {
        let why = format!("address not allowed: pod {:?} has no IP", target.name);
        return Err(ApiError::unavailable(why));
    }
    let port = if target.port.is_empty() {
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
        let mut first = containers
            .into_iter()
            .flatten()
            .filter_map(|c| c["ports"][0]["containerPort"].as_u64());
        first
            .next()
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or(if target.tls { 443 } else { 80 })
    } else {
        let why = || {
            ApiError::bad_request(format!(
                "invalid port {:?} of {} {:?}",
                target.port, resource.kind, target.name
            ))
        };
        target.number().ok_or_else(why)?
    };
    Ok(Endpoint {
        host: address.to_owned(),
        port,
        tls: target.tls,
        known: false,
    })
}

fn service_endpoint(server: &ApiServer, namespace: &str, target: &Target<'_>, service: &Value) -> Result<Endpoint> {
    let (name, port) = (target.name, target.port);
    let none = || ApiError::unavailable(format!("no endpoints available for service {name:?}"));
    let ports = service
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let wanted = match port {
        "" => ports.first(),
        port => ports
            .iter()
            .find(|p| p["name"] == port || p["port"].as_u64().is_some_and(|n| n.to_string() == port)),
    };
    let port_name =
        wanted.ok_or_else(|| ApiError::unavailable(format!("no service port {port:?} found for service {name:?}")))?;
    let port_name = port_name["name"].as_str().unwrap_or_default();
    for object in server.registry.list("discovery.k8s.io", "endpointslices", namespace) {
        if object.object.meta.label("kubernetes.io/service-name") != Some(name) {
            continue;
        }
        let slice = object.tree()?;
        let number = slice["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|p| p["name"].as_str().unwrap_or_default() == port_name);
        let Some(number) = number
            .and_then(|p| p["port"].as_u64())
            .and_then(|p| u16::try_from(p).ok())
        else {
            continue;
        };
        let ready = slice["endpoints"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|e| e.pointer("/conditions/ready") != Some(&Value::Bool(false)));
        if let Some(host) = ready.and_then(|e| e["addresses"][0].as_str()) {
            return Ok(Endpoint {
                host: host.to_owned(),
                port: number,
                tls: target.tls,
                known: false,
            });
        }
    }
    Err(none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_after_proxy_is_the_backends() {
        let cases = [
            ("/api/v1/namespaces/proxy-1/pods/a/proxy/proxy/x", true, "/proxy/x"),
            ("/api/v1/namespaces/n/services/https:a:b/proxy", true, ""),
            ("/api/v1/nodes/a/proxy/", false, "/"),
        ];
        for (path, namespaced, rest) in cases {
            assert_eq!(split_path(path, namespaced).1, rest, "{path}");
        }
    }

    #[test]
    fn a_target_has_a_scheme_and_a_port_or_neither() {
        let parts = |text| Target::parse(text).map(|t| (t.tls, t.name, t.port));
        assert_eq!(parts("a"), Some((false, "a", "")));
        assert_eq!(parts("a:80"), Some((false, "a", "80")));
        assert_eq!(parts("https:a:web"), Some((true, "a", "web")));
        assert_eq!(parts("https:a:"), Some((true, "a", "")));
        assert_eq!(parts("ftp:a:1"), None);
        assert_eq!(parts(":1"), None);
    }
}
