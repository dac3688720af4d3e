//! Performing the actions of probes and lifecycle hooks: exec, HTTP, TCP, gRPC, sleep.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, LifecycleHandler, TCPSocketAction};
use tokio::net::TcpStream;

use crate::env::port_number;
use crate::runtime::Runtime;

/// What an action found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure(String),
}

/// Upstream reads at most this much of an answer, in bytes.
const LARGEST_ANSWER: usize = 10 << 10;

fn address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let ips: Vec<IpAddr> = client::resolve(host).await.map_err(|e| e.to_string())?;
    let mut last = format!("{host} has no address");
    for ip in ips {
        match TcpStream::connect((ip, port)).await {
            Ok(stream) => {
                // A probe must not leave sockets in TIME_WAIT on the node.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                last = format!("dial tcp {}: connect: connection refused", address(host, port));
            }
            Err(error) => last = format!("dial tcp {}: {error}", address(host, port)),
        }
    }
    Err(last)
}

pub async fn tcp(container: &Container, action: &TCPSocketAction, pod_ip: &str) -> Outcome {
    let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
    let Some(port) = port_number(container, &action.port) else {
        return Outcome::Failure("invalid port number".to_owned());
    };
    match connect(host, port).await {
        Ok(_) => Outcome::Success,
        Err(error) => Outcome::Failure(error),
    }
}

/// Success is any answer from 200 to 399, as upstream; redirects are not followed.
pub async fn http_get(container: &Container, action: &HTTPGetAction, pod_ip: &str, user_agent: &str) -> Outcome {
    let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
    let Some(port) = port_number(container, &action.port) else {
        return Outcome::Failure("invalid port number".to_owned());
    };
    let tls = action
        .scheme
        .as_deref()
        .is_some_and(|s| s.eq_ignore_ascii_case("https"));
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let url = format!("{}://{}{path}", if tls { "https" } else { "http" }, address(host, port));
    let mut request = http::Request::get(&path).header("Connection", "close");
    let mut named = (false, false, false);
    for header in action.http_headers.iter().flatten() {
        named.0 |= header.name.eq_ignore_ascii_case("host");
        named.1 |= header.name.eq_ignore_ascii_case("user-agent");
        named.2 |= header.name.eq_ignore_ascii_case("accept");
        request = request.header(&header.name, &header.value);
    }
    if !named.0 {
        request = request.header("Host", address(host, port));
    }
    if !named.1 {
        request = request.header("User-Agent", user_agent);
    }
    if !named.2 {
        request = request.header("Accept", "*/*");
    }
    let request = match request.body(Empty::<Bytes>::new()) {
        Ok(request) => request,
        Err(error) => return Outcome::Failure(error.to_string()),
    };
    let answer = async {
        let tcp = connect(host, port).await?;
        if tls {
            let config = client::TlsConfig {
                insecure: true,
                ..Default::default()
            };
            let mut config = config.rustls().map_err(|e| e.to_string())?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let name = rustls_pki_types::ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
            let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
            let stream = connector.connect(name, tcp).await.map_err(|e| e.to_string())?;
            exchange(stream, request).await
        } else {
            exchange(tcp, request).await
        }
    };
    match answer.await {
        Ok((code, _)) if (200..400).contains(&code) => Outcome::Success,
        Ok((code, _)) => Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
        Err(error) => Outcome::Failure(format!("Get {url:?}: {error}")),
    }
}

async fn exchange<S>(stream: S, request: http::Request<Empty<Bytes>>) -> Result<(u16, Vec<u8>), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .map_err(|e| e.to_string())?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let mut response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let mut body = Vec::new();
    while let Some(frame) = response.frame().await {
        if let Ok(data) = frame.map_err(|e| e.to_string())?.into_data() {
            body.extend_from_slice(&data);
            if body.len() > LARGEST_ANSWER {
                break;
            }
        }
    }
    Ok((response.status().as_u16(), body))
}

pub async fn exec(runtime: &Runtime, id: &str, command: &[String], timeout: Duration) -> Outcome {
    match runtime.exec(id, command.to_vec(), timeout).await {
        Ok((0, _)) => Outcome::Success,
        Ok((code, output)) if output.is_empty() => {
            Outcome::Failure(format!("command terminated with exit code {code}"))
        }
        Ok((_, mut output)) => {
            output.truncate(LARGEST_ANSWER);
            Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.code == tonic::Code::DeadlineExceeded => Outcome::Failure(format!(
            "command timed out: {:?} timed out after {}",
            command.join(" "),
            crate::images::duration(timeout)
        )),
        Err(error) => Outcome::Failure(error.to_string()),
    }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; 1 is SERVING.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub async fn grpc(action: &GRPCAction, pod_ip: &str) -> Outcome {
    let Ok(port) = u16::try_from(action.port) else {
        return Outcome::Failure("invalid port number".to_owned());
    };
    let check = async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", address(pod_ip, port)))
            .map_err(|e| e.to_string())?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|e| format!("failed to connect service {:?}: {e}", address(pod_ip, port)))?;
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|e| e.to_string())?;
        let request = HealthCheckRequest {
            service: action.service.clone().unwrap_or_default(),
        };
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let answer = grpc.unary(tonic::Request::new(request), path, codec).await;
        answer.map(|a| a.into_inner().status).map_err(|e| match e.code() {
            tonic::Code::Unimplemented => {
                "server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned()
            }
            _ => format!("error: health rpc probe failed: {e}"),
        })
    };
    match check.await {
        Ok(1) => Outcome::Success,
        Ok(status) => Outcome::Failure(format!(
            "service unhealthy (responded with {:?})",
            ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]
                .get(usize::try_from(status).unwrap_or(0))
                .unwrap_or(&"UNKNOWN")
        )),
        Err(error) => Outcome::Failure(error),
    }
}

/// Runs a postStart or preStop hook.
pub async fn hook(
    runtime: &Runtime,
    container: &Container,
    id: &str,
    handler: &LifecycleHandler,
    pod_ip: &str,
) -> Result<(), String> {
    let outcome = if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        match runtime.exec(id, command.clone(), Duration::ZERO).await {
            Ok((0, _)) => Outcome::Success,
            Ok((code, output)) => Outcome::Failure(format!(
                "Exec lifecycle hook ({command:?}) for Container {:?} failed - error: command exited with {code}: , message: {:?}",
                container.name,
                String::from_utf8_lossy(&output)
            )),
            Err(error) => Outcome::Failure(error.to_string()),
        }
    } else if let Some(action) = &handler.http_get {
        http_get(container, action, pod_ip, "kube-lifecycle/1.36").await
    } else if let Some(action) = &handler.tcp_socket {
        tcp(container, action, pod_ip).await
    } else if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(action.seconds.unsigned_abs())).await;
        Outcome::Success
    } else {
        return Err("invalid handler: it names no action".to_owned());
    };
    match outcome {
        Outcome::Success => Ok(()),
        Outcome::Failure(message) => Err(message),
    }
}
