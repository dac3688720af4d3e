//! `log`, `exec`, `attach` and `portforward` of pods: found here, answered by kubelets.

use std::sync::Arc;

use http::{Method, Response};
use serde_json::Value;

use crate::authorization::Attributes;
use crate::http::status::{ApiError, Result};
use crate::registry::Served;
use crate::registry::body::Body;
use crate::registry::resource::Resource;
use crate::server::{ApiServer, Request, websocket};
use crate::subresource::kubelet::Endpoint;

const KUBELET_PORT: u16 = 10250;

fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    tree.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The kubelet of a node.
pub(super) fn kubelet(server: &ApiServer, node: &str) -> Result<Endpoint> {
    let object = server
        .registry
        .get("", "nodes", "", node)
        .ok_or_else(|| ApiError::not_found("", "nodes", node))?;
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
    let host = host.ok_or_else(|| ApiError::internal(format!("no preferred addresses found for node {node:?}")))?;
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
    })
}

/// The container that is meant: the one asked for, or the only one.
fn container(resource: &Resource, pod: &Value, asked: Option<&str>, name: &str) -> Result<String> {
    let list = |field: &str| {
        pod.pointer(&format!("/spec/{field}"))
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let names = |field: &str| {
        list(field)
            .iter()
            .filter_map(|c| c["name"].as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let ephemeral = names("ephemeralContainers");
    if let Some(asked) = asked {
        if [&main, &init, &ephemeral].iter().any(|l| l.iter().any(|n| n == asked)) {
            return Ok(asked.to_owned());
        }
        return Err(ApiError::bad_request(format!(
            "container {asked} is not valid for pod {name}"
        )));
    }
    match main.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(resource.not_found(name)),
        many => {
            let mut why = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                many.join(" ")
            );
            if !init.is_empty() {
                why.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::bad_request(why))
        }
    }
}

/// Streams of a pod.
pub async fn pod(server: &Arc<ApiServer>, served: &Served, request: Request) -> Result<Response<Body>> {
    let info = &request.info;
    // a WebSocket begins with a GET: it must not do what takes `create`
    if info.subresource != "log" && info.verb == "get" {
        let attributes = Attributes {
            verb: "create",
            ..Attributes::of(info)
        };
        if !server.authorizer.allows(&request.user, &attributes) {
            let why = attributes.refusal(&request.user);
            return Err(ApiError::forbidden("", &attributes.full_resource(), &info.name, &why));
        }
    }
    let object = served
        .cache
        .get(&info.namespace, &info.name)
        .ok_or_else(|| served.resource.not_found(&info.name))?;
    let pod = object.tree()?;
    let node = text(&pod, "/spec/nodeName");
    if info.subresource == "log" {
        let container = container(&served.resource, &pod, request.query.text("container"), &info.name)?;
        if node.is_empty() {
            // nothing was written yet
            let mut response = Response::new(crate::registry::body::full(""));
            *response.status_mut() = http::StatusCode::NO_CONTENT;
            return Ok(response);
        }
        let query = without(request.uri.query(), "container");
        let path = format!("/containerLogs/{}/{}/{container}?{query}", info.namespace, info.name);
        let to = kubelet(server, node)?;
        let response = server
            .kubelets
            .forward(&to, Method::GET, &path, &request.headers, request.body, None)
            .await?;
        return websocket::bytes(&request.headers, request.upgrade, response);
    }
    if node.is_empty() {
        return Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            info.name
        )));
    }
    let to = kubelet(server, node)?;
    let query = request.uri.query().unwrap_or_default();
    let path = match info.subresource.as_str() {
        "portforward" => format!("/portForward/{}/{}?{query}", info.namespace, info.name),
        verb => {
            let container = container(&served.resource, &pod, request.query.text("container"), &info.name)?;
            let query = kubelet_query(&without(Some(query), "container"));
            format!("/{verb}/{}/{}/{container}?{query}", info.namespace, info.name)
        }
    };
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

fn without(query: Option<&str>, key: &str) -> String {
    let prefix = format!("{key}=");
    query
        .unwrap_or_default()
        .split('&')
        .filter(|p| !p.is_empty() && !p.starts_with(&prefix))
        .collect::<Vec<_>>()
        .join("&")
}

/// Kubelets name the streams differently: `stdin=true` is `input=1`.
fn kubelet_query(query: &str) -> String {
    let translate = |pair: &str| -> Option<String> {
        let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let name = match key {
            "stdin" => "input",
            "stdout" => "output",
            "stderr" => "error",
            "tty" => "tty",
            _ => return Some(pair.to_owned()),
        };
        (value == "true" || value == "1").then(|| format!("{name}=1"))
    };
    query
        .split('&')
        .filter(|p| !p.is_empty())
        .filter_map(translate)
        .collect::<Vec<_>>()
        .join("&")
}
