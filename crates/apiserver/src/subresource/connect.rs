//! `log`, `exec`, `attach` and `portforward` of pods: found here, answered by kubelets.

use std::sync::Arc;

use http::{Method, Response};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::authorization::Attributes;
use crate::http::status::{ApiError, Result};
use crate::registry::Served;
use crate::server::body::Body;
use crate::server::{ApiServer, Request, websocket};
use crate::subresource::kubelet::Endpoint;
use crate::subresource::{admit_connection, stream_options};

const KUBELET_PORT: u16 = 10250;

fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    tree.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The kubelet of a node. One that is not there is told as one of `plural`, which the request is about.
pub fn kubelet(server: &ApiServer, node: &str, plural: &str) -> Result<Endpoint> {
    let object = server
        .registry
        .get("", "nodes", "", node)
        .ok_or_else(|| ApiError::not_found("", plural, node))?;
    let tree = object.tree()?;
    let addresses = tree
        .pointer("/status/addresses")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let of = |kind: &str| {
        addresses
            .iter()
            .find(|a| a["type"] == kind)
            .and_then(|a| a["address"].as_str())
    };
    let host = of("InternalIP").or_else(|| of("Hostname")).or_else(|| of("ExternalIP"));
    let host = host.ok_or_else(|| {
        let shown = |a: &Value| format!("{{{} {}}}", text(a, "/type"), text(a, "/address"));
        let known: Vec<String> = addresses.iter().map(shown).collect();
        ApiError::plain(format!(
            "no preferred addresses found; known addresses: [{}]",
            known.join(" ")
        ))
    })?;
    let port = tree
        .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
        .and_then(Value::as_u64);
    let port = port
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p != 0)
        .unwrap_or(KUBELET_PORT);
    Ok(Endpoint {
        host: host.to_owned(),
        port,
        tls: true,
        known: true,
        way: server.registry.egress.to_node(node),
    })
}

/// Streams of a pod.
pub async fn pod(server: &Arc<ApiServer>, served: &Served, mut request: Request) -> Result<Response<Body>> {
    // a WebSocket begins with a GET: it must not do what takes `create`
    if request.info.subresource != "log" && request.info.verb != "create" {
        let attributes = Attributes {
            verb: "create",
            ..Attributes::of(&request.info)
        };
        let decision = server.pipeline.authorizer.decide(&request.user, &attributes);
        if !decision.allowed {
            return Err(served.resource.forbidden(&request.info.name, &decision.reason));
        }
    }
    if request.info.subresource != "log" {
        let mut options = stream_options::tree(&request.query, &request.info.subresource)?;
        let before = options.clone();
        admit_connection(server, served, &request, &mut options).await?;
        if options != before {
            request.query = stream_options::query(&options);
        }
    }
    let info = &request.info;
    let log = match info.subresource.as_str() {
        "log" => Some(stream_options::log(&request.query, &info.name)?),
        _ => None,
    };
    let object = served
        .cache
        .get(&info.namespace, &info.name)
        .ok_or_else(|| served.resource.not_found(&info.name))?;
    let pod = object.tree()?;
    let node = text(&pod, "/spec/nodeName");
    if let Some(asked) = log {
        let container = stream_options::container(&pod, request.query.text("container"), &info.name)?;
        if node.is_empty() {
            // nothing was written yet
            let mut response = Response::new(crate::server::body::full(""));
            *response.status_mut() = http::StatusCode::NO_CONTENT;
            return Ok(response);
        }
        let path = format!("/containerLogs/{}/{}/{container}?{asked}", info.namespace, info.name);
        let to = kubelet(server, node, "pods")?;
        let response = server
            .kubelets
            .forward(&to, Method::GET, &path, &request.headers, request.body, None)
            .await?;
        let response = log_or_error(response, &info.name).await?;
        return websocket::bytes(&request.headers, request.upgrade, response);
    }
    let unplaced = || ApiError::bad_request(format!("pod {} does not have a host assigned", info.name));
    let query = &request.query;
    let path = match info.subresource.as_str() {
        "portforward" => {
            let ports = stream_options::port_forward(query)?;
            format!("/portForward/{}/{}?{ports}", info.namespace, info.name)
        }
        verb => {
            let container = stream_options::container(&pod, query.text("container"), &info.name)?;
            let asked = stream_options::remote_command(query, verb == "exec");
            format!("/{verb}/{}/{}/{container}?{asked}", info.namespace, info.name)
        }
    };
    if node.is_empty() {
        return Err(unplaced());
    }
    let to = kubelet(server, node, "pods")?;
    if request.upgrade.is_none() {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    server
        .kubelets
        .forward(
            &to,
            request.method,
            &path,
            &request.headers,
            request.body,
            request.upgrade,
        )
        .await
}

/// Bytes that are read of what a kubelet answers in place of a log.
const EXPLANATION: usize = 50_000;

/// The log, or an error in the kubelet's words: clients read a `Status` and not a text.
async fn log_or_error(response: Response<Body>, pod: &str) -> Result<Response<Body>> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ApiError::internal)?;
        let Ok(data) = frame.into_data() else { continue };
        let room = EXPLANATION - text.len();
        text.extend_from_slice(&data[..data.len().min(room)]);
        if text.len() >= EXPLANATION {
            break;
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let about = format!("( pods/log {pod})");
    Err(match status.as_u16() {
        400 => ApiError::bad_request(text),
        500 => ApiError::internal(text),
        404 => {
            let why = format!("the server could not find the requested resource {about}");
            ApiError::new(404, "NotFound", why)
        }
        401 => {
            let why = format!("the server has asked for the client to provide credentials {about}");
            ApiError::new(401, "Unauthorized", why)
        }
        403 => ApiError::new(403, "Forbidden", format!("{text} {about}")),
        code => {
            let why =
                format!("the server responded with the status code {code} but did not return more information {about}");
            ApiError::new(code, "", why)
        }
    })
}
