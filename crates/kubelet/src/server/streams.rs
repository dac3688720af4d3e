//! exec, attach and port-forward: the runtime gives an address, and the connection is carried there byte by byte.

use std::time::Duration;

use bytes::Bytes;
use cri::v1;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::idle::copy;
use super::{ServerBody, State, find_container, plain, query};
use crate::pod::PodExt;
use crate::runtime_pod::{RuntimePod, State as ContainerState};

fn refuse(status: StatusCode, text: impl Into<String>) -> Response<ServerBody> {
    plain(status, text)
}

/// Why a request names no ports, in upstream's words.
#[derive(Debug, thiserror::Error)]
enum PortError {
    #[error("port {0:?} must be > 0")]
    Zero(String),
    #[error("query parameter \"port\" cannot be empty")]
    Empty,
    #[error("unable to parse {text:?} as a port: {source}")]
    Number {
        text: String,
        source: std::num::ParseIntError,
    },
}

/// The ports that a request names, in lists or one by one.
fn ports_of(query: &[(String, String)]) -> Result<Vec<i32>, PortError> {
    let lists = query.iter().filter(|(key, _)| key == "port").map(|(_, list)| list);
    let read = |list: &String| {
        let each = list.split(',').map(|port| match port.parse::<u16>() {
            Ok(0) => Err(PortError::Zero(list.clone())),
            Ok(port) => Ok(i32::from(port)),
            Err(_) if list.is_empty() => Err(PortError::Empty),
            Err(source) => Err(PortError::Number {
                text: list.clone(),
                source,
            }),
        });
        each.collect::<Result<Vec<i32>, PortError>>()
    };
    let lists = lists.map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(lists.concat())
}

/// `rest` is namespace/pod[/uid]/container, without the container for port-forward.
pub async fn handle(state: &State, verb: &str, rest: &[&str], request: Request<Incoming>) -> Response<ServerBody> {
    let query = query(&request);
    let flag = |name: &str| {
        query
            .iter()
            .any(|(k, v)| k == name && matches!(v.as_str(), "1" | "true"))
    };
    let command: Vec<String> = query
        .iter()
        .filter(|(k, _)| k == "command" || k == "cmd")
        .map(|(_, v)| v.clone())
        .collect();
    let (namespace, pod, container) = match (verb, rest) {
        ("portForward", [namespace, pod] | [namespace, pod, _]) => (*namespace, *pod, ""),
        ("portForward", _) => return refuse(StatusCode::NOT_FOUND, "404 page not found\n"),
        (_, [namespace, pod, container] | [namespace, pod, _, container]) => (*namespace, *pod, *container),
        _ => return refuse(StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    if verb == "portForward" {
        return port_forward(state, (namespace, pod), &query, request).await;
    }
    let status = match find_container(state, namespace, pod, container, false).await {
        Ok((_, status)) => status,
        Err(response) => return response,
    };
    if status.state != ContainerState::Running {
        return refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("container not found ({container:?})"),
        );
    }
    let mut runtime = state.node.runtime.runtime.clone();
    let (stdin, stdout, stderr, tty) = (
        flag("input") || flag("stdin"),
        flag("output") || flag("stdout"),
        flag("error") || flag("stderr"),
        flag("tty"),
    );
    let url = match verb {
        "run" => {
            return match state
                .node
                .runtime
                .exec(&status.id, command, std::time::Duration::ZERO)
                .await
            {
                Ok((_, output)) => refuse(StatusCode::OK, String::from_utf8_lossy(&output).into_owned()),
                Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            };
        }
        "attach" => {
            let asked = v1::AttachRequest {
                container_id: status.id,
                stdin,
                stdout,
                stderr: stderr && !tty,
                tty,
            };
            runtime.attach(asked).await.map(|a| a.into_inner().url)
        }
        _ => {
            let asked = v1::ExecRequest {
                container_id: status.id,
                cmd: command,
                stdin,
                stdout,
                stderr: stderr && !tty,
                tty,
            };
            runtime.exec(asked).await.map(|a| a.into_inner().url)
        }
    };
    match url {
        Ok(url) => proxy(&url, request, state.config.streaming_idle_timeout).await,
        Err(status) => refuse(StatusCode::INTERNAL_SERVER_ERROR, status.message()),
    }
}

/// Leads a connection to ports of a pod, which must run.
async fn port_forward(
    state: &State,
    (namespace, pod): (&str, &str),
    query: &[(String, String)],
    request: Request<Incoming>,
) -> Response<ServerBody> {
    let Some(found) = state.table.find(namespace, pod) else {
        return refuse(StatusCode::NOT_FOUND, "pod does not exist");
    };
    let known = match state.node.runtime.pod(found.uid(), &RuntimePod::default()).await {
        Ok(known) => known,
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let Some(sandbox) = known.sandbox().filter(|s| s.ready) else {
        return refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("unable to do port forwarding: pod {pod} is not running"),
        );
    };
    let port = match ports_of(query) {
        Ok(port) => port,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, why.to_string()),
    };
    let asked = v1::PortForwardRequest {
        pod_sandbox_id: sandbox.id.clone(),
        port,
    };
    match state.node.runtime.runtime.clone().port_forward(asked).await {
        Ok(answer) => proxy(&answer.into_inner().url, request, state.config.streaming_idle_timeout).await,
        Err(status) => refuse(StatusCode::INTERNAL_SERVER_ERROR, status.message()),
    }
}

fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    // They were for the kubelet.
    kept.remove(header::AUTHORIZATION);
    kept.remove(header::HOST);
    kept
}

/// Sends the request on to the runtime's streaming server, and when both sides have switched protocols, copies until one of them
/// ends or nothing was sent for `idle`.
async fn proxy(url: &str, mut request: Request<Incoming>, idle: Duration) -> Response<ServerBody> {
    let bad = |e: &dyn std::fmt::Display| refuse(StatusCode::BAD_GATEWAY, format!("error upgrading connection: {e}"));
    let uri: http::Uri = match url.parse() {
        Ok(uri) => uri,
        Err(error) => return bad(&error),
    };
    let host = uri.host().unwrap_or("127.0.0.1").to_owned();
    let port = uri.port_u16().unwrap_or(80);
    let tcp = match TcpStream::connect((
        host.trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .unwrap_or([127, 0, 0, 1].into()),
        port,
    ))
    .await
    {
        Ok(tcp) => tcp,
        Err(error) => return bad(&error),
    };
    if let Err(error) = tcp.set_nodelay(true) {
        return bad(&error);
    }
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await {
        Ok(made) => made,
        Err(error) => return bad(&error),
    };
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to the streaming server ended");
        }
    });
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut onward = match Request::builder()
        .method(request.method().clone())
        .uri(path)
        .body(Empty::<Bytes>::new())
    {
        Ok(onward) => onward,
        Err(error) => return bad(&error),
    };
    *onward.headers_mut() = forwarded(request.headers());
    if let Ok(value) = header::HeaderValue::from_str(&format!("{host}:{port}")) {
        onward.headers_mut().insert(header::HOST, value);
    }
    let answer = match sender.send_request(onward).await {
        Ok(answer) => answer,
        Err(error) => return bad(&error),
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = answer.into_parts();
        return Response::from_parts(parts, body.map_err(std::io::Error::other).boxed_unsync());
    }
    let mut response = refuse(StatusCode::SWITCHING_PROTOCOLS, "");
    *response.headers_mut() = answer.headers().clone();
    tokio::spawn(async move {
        let (ours, theirs) = tokio::join!(hyper::upgrade::on(&mut request), hyper::upgrade::on(answer));
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                let copied = copy(TokioIo::new(ours), TokioIo::new(theirs), idle).await;
                if let Err(error) = copied {
                    tracing::debug!(%error, "stream ended");
                }
            }
            (Err(error), _) | (_, Err(error)) => tracing::debug!(%error, "stream not upgraded"),
        }
    });
    response
}
