//! `proxy` of pods, services and nodes: HTTP through the API server.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::registry::Served;
use crate::registry::resource::Resource;
use crate::server::body::{self, Body};
use crate::server::{ApiServer, Request};
use crate::subresource::admit_connection;
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

/// Passes a request on to a pod, a Service or a node.
///
/// # Errors
/// `404` where there is no such object, `403` when admission refuses, `503` when nobody answers there.
pub async fn proxy(server: &Arc<ApiServer>, served: &Served, request: Request) -> Result<Response<Body>> {
    let asked = options(served, &request);
    let mut told = asked.clone();
    admit_connection(server, served, &request, &mut told).await?;
    // a path that admission has changed is the one to go on to
    let changed = (told != asked).then(|| text(&told, "/path").to_owned());
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
    let object = || {
        let object = served.cache.get(home, name).ok_or_else(|| resource.not_found(name))?;
        object.tree()
    };
    let to = match plural {
        "nodes" => {
            object()?;
            node_endpoint(server, &target).await?
        }
        "pods" => pod_endpoint(server, resource, &target, &object()?)?,
        // of a service only the endpoints are asked for
        _ => service_endpoint(server, namespace, &target)?,
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
    let rest = changed.as_deref().unwrap_or(rest);
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

/// `PodProxyOptions`, `ServiceProxyOptions` or `NodeProxyOptions`.
fn options(served: &Served, request: &Request) -> Value {
    let kind = served.resource.kind_of("proxy").kind;
    let mut options = json!({ "apiVersion": "v1", "kind": kind });
    let (_, rest) = split_path(request.uri.path(), served.resource.namespaced);
    if !rest.is_empty() {
        options["path"] = json!(rest);
    }
    options
}

/// The path up to `proxy` and what follows it. An encoded slash is a slash, as it is to who authorizes the request.
fn split_path(path: &str, namespaced: bool) -> (&str, &str) {
    let bytes = path.as_bytes();
    // the length of a slash that stands here
    let slash = |at: usize| match bytes.get(at..) {
        Some([b'/', ..]) => 1,
        Some([b'%', b'2', b'f' | b'F', ..]) => 3,
        _ => 0,
    };
    let mut at = 0;
    // slashes before the first part are none
    while slash(at) > 0 {
        at += slash(at);
    }
    // api/v1/nodes/NAME/proxy, api/v1/namespaces/NAMESPACE/pods/NAME/proxy
    let mut left = if namespaced { 7 } else { 5 };
    while at < bytes.len() {
        let length = slash(at);
        if length > 0 {
            left -= 1;
            if left == 0 {
                return path.split_at(at);
            }
        }
        at += length.max(1);
    }
    (path, "")
}

/// Whether an address is one of the cluster: neither this machine by another name, nor the link's, where clouds keep credentials.
fn is_proxyable(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_broadcast() || v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_link_local())
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local()),
    }
}

fn not_allowed() -> ApiError {
    ApiError::bad_request("address not allowed")
}

async fn node_endpoint(server: &ApiServer, target: &Target<'_>) -> Result<Endpoint> {
    let own = kubelet(server, target.name, "nodes")?;
    let addresses: Vec<IpAddr> = match own.host.parse() {
        Ok(address) => vec![address],
        Err(_) => {
            let found = tokio::net::lookup_host((own.host.as_str(), own.port)).await;
            let found = found.map_err(|e| ApiError::bad_request(format!("lookup {}: {e}", own.host)))?;
            found.map(|address| address.ip()).collect()
        }
    };
    if addresses.is_empty() {
        return Err(ApiError::bad_request("no addresses for hostname"));
    }
    if !addresses.into_iter().all(is_proxyable) {
        return Err(not_allowed());
    }
    Ok(match target.number().filter(|port| *port != own.port) {
        None => own,
        Some(port) => Endpoint {
            host: own.host,
            port,
            tls: target.tls,
            known: false,
            way: own.way,
        },
    })
}

fn pod_endpoint(server: &ApiServer, resource: &Resource, target: &Target<'_>, pod: &Value) -> Result<Endpoint> {
    let address = pod.pointer("/status/podIPs/0/ip").and_then(Value::as_str);
    let address: IpAddr = address.unwrap_or_default().parse().map_err(|_| not_allowed())?;
    if !is_proxyable(address) {
        return Err(not_allowed());
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
        host: address.to_string(),
        port,
        tls: target.tls,
        known: false,
        way: server.registry.egress.to_pods(text(pod, "/spec/nodeName")),
    })
}

/// An endpoint of a service that is ready and a pod of its namespace: an address that only says so is nobody's.
fn service_endpoint(server: &ApiServer, namespace: &str, target: &Target<'_>) -> Result<Endpoint> {
    let name = target.name;
    let mut port = target.port.to_owned();
    if let Ok(number) = target.port.parse::<i64>() {
        let service = server.registry.get("", "services", namespace, name);
        let service = service
            .ok_or_else(|| ApiError::not_found("", "services", name))?
            .tree()?;
        let ports = list(&service, "/spec/ports").find(|p| p["port"].as_i64() == Some(number));
        let found = ports
            .ok_or_else(|| ApiError::unavailable(format!("no service port {number} found for service {name:?}")))?;
        text(found, "/name").clone_into(&mut port);
    }
    for slice in server.registry.list("discovery.k8s.io", "endpointslices", namespace) {
        if slice.object.meta.label("kubernetes.io/service-name") != Some(name) {
            continue;
        }
        let slice = slice.tree()?;
        let named = |p: &&Value| p.get("name").and_then(Value::as_str) == Some(port.as_str());
        let number = list(&slice, "/ports").find(named).and_then(|p| p["port"].as_u64());
        let Some(number) = number.and_then(|n| u16::try_from(n).ok()) else {
            continue;
        };
        let mut endpoints =
            list(&slice, "/endpoints").filter(|e| e.pointer("/conditions/ready") != Some(&json!(false)));
        if let Some(endpoint) = endpoints.find(|endpoint| is_of_pod(server, namespace, endpoint)) {
            return Ok(Endpoint {
                host: text(endpoint, "/addresses/0").to_owned(),
                port: number,
                tls: target.tls,
                known: false,
                way: server.registry.egress.to_pods(text(endpoint, "/nodeName")),
            });
        }
    }
    Err(ApiError::unavailable(format!(
        "no endpoints available for service {name:?}"
    )))
}

/// Whether the pod that an endpoint refers to has its address.
fn is_of_pod(server: &ApiServer, namespace: &str, endpoint: &Value) -> bool {
    if text(endpoint, "/targetRef/namespace") != namespace {
        return false;
    }
    let pod = server
        .registry
        .get("", "pods", namespace, text(endpoint, "/targetRef/name"));
    let Some(Ok(pod)) = pod.map(|pod| pod.tree()) else {
        return false;
    };
    list(&pod, "/status/podIPs").any(|own| text(own, "/ip") == text(endpoint, "/addresses/0"))
}

fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    tree.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(tree: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    tree.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_of_this_machine_or_its_link_is_proxied_to() {
        for (address, allowed) in [
            ("10.244.0.5", true),
            ("198.51.100.10", true),
            ("fd00::5", true),
            ("::ffff:10.244.0.5", true),
            ("127.0.0.1", false),
            ("127.8.8.8", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("169.254.169.254", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
        ] {
            assert_eq!(is_proxyable(address.parse().unwrap()), allowed, "{address}");
        }
    }

    #[test]
    fn the_path_after_proxy_is_the_backends() {
        let cases = [
            ("/api/v1/namespaces/proxy-1/pods/a/proxy/proxy/x", true, "/proxy/x"),
            ("/api/v1/namespaces/n/services/https:a:b/proxy", true, ""),
            ("/api/v1/nodes/a/proxy/", false, "/"),
            ("/api/v1/namespaces/n%2Fpods/a/proxy/x", true, "/x"),
            ("//api/v1/nodes/a/proxy/x%2Fy", false, "/x%2Fy"),
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
