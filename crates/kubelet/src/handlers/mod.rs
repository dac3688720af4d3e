//! Performing the actions of probes and lifecycle hooks: exec, HTTP, TCP, gRPC, sleep.

mod http;

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, GRPCAction, LifecycleHandler, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::env::port_number;
use crate::runtime::{Runtime, RuntimeError};

pub use http::{GetError, http_get};

/// What an action found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// It counts as success, and something about it is to be told.
    Warning(String),
    Failure(String),
    /// It could not be performed, which says nothing about the container.
    Unknown(String),
}

/// Why a lifecycle hook failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error(
        "Exec lifecycle hook ({command:?}) for Container {container:?} failed - error: command exited with {code}: , message: {output:?}"
    )]
    Exit {
        command: Vec<String>,
        container: String,
        code: i32,
        output: String,
    },
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The request cannot be made: its port is none.
    #[error("{0}")]
    Port(String),
    #[error("Get {url:?}: {source}")]
    Get { url: String, source: GetError },
    /// The server spoke no TLS and was asked without.
    #[error(transparent)]
    WithoutTls(GetError),
    #[error("invalid handler: it names no action")]
    NoAction,
}

/// Why there is no connection to a container, in the words of Go's `net`.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Resolve(#[from] client::ResolveError),
    #[error("{0} has no address")]
    NoAddress(String),
    #[error("dial tcp {place}: connect: {}", api::go::io_error(.source))]
    Dial { place: String, source: std::io::Error },
}

/// Why a try to ask for health over gRPC gave no answer.
#[derive(Debug, thiserror::Error)]
enum GrpcError {
    #[error(transparent)]
    Connection(#[from] tonic::transport::Error),
    #[error(transparent)]
    Status(#[from] Box<tonic::Status>),
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

/// As Go prints whole seconds: `1s`, `1m30s`.
pub fn seconds(timeout: Duration) -> String {
    let seconds = timeout.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let ips: Vec<IpAddr> = client::resolve(host).await?;
    let mut last = ConnectError::NoAddress(host.to_owned());
    for ip in ips {
        match TcpStream::connect((ip, port)).await {
            Ok(stream) => {
                // A probe must not leave sockets in TIME_WAIT on the node.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(source) => {
                let place = address(host, port);
                last = ConnectError::Dial { place, source };
            }
        }
    }
    Err(last)
}

/// The words of a port that is none: of an unknown name, or out of range.
fn no_port(port: &IntOrString) -> Outcome {
    Outcome::Unknown(match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("strconv.Atoi: parsing {name:?}: invalid syntax"),
    })
}

/// Opens a connection to a port of a container, and closes it.
pub async fn tcp(container: &Container, action: &TCPSocketAction, pod_ip: &str, timeout: Duration) -> Outcome {
    let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
    let Some(port) = port_number(container, &action.port) else {
        return no_port(&action.port);
    };
    match tokio::time::timeout(timeout, connect(host, port)).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(error.to_string()),
        Err(_) => Outcome::Failure(format!("dial tcp {}: i/o timeout", address(host, port))),
    }
}

/// Runs a command in a container. One that cannot be started says nothing about the container.
pub async fn exec(runtime: &Runtime, id: &str, command: &[String], timeout: Duration) -> Outcome {
    match runtime.exec(id, command.to_vec(), timeout).await {
        Ok((0, _)) => Outcome::Success,
        Ok((_, mut output)) => {
            output.truncate(LARGEST_ANSWER);
            Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.code == tonic::Code::DeadlineExceeded => Outcome::Failure(format!(
            "command timed out: {:?} timed out after {}",
            command.join(" "),
            seconds(timeout)
        )),
        Err(error) => Outcome::Unknown(error.to_string()),
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

/// Waits between tries to connect.
const RETRY: Duration = Duration::from_millis(100);

/// Asks `grpc.health.v1.Health`. Who does not speak gRPC is tried until the time is over, as upstream's client does.
pub async fn grpc(action: &GRPCAction, pod_ip: &str, timeout: Duration) -> Outcome {
    let Ok(port) = u16::try_from(action.port) else {
        return Outcome::Unknown(format!("invalid port number: {}", action.port));
    };
    let place = address(pod_ip, port);
    let until = tokio::time::Instant::now() + timeout;
    let mut connected = false;
    let check = async {
        loop {
            match grpc_check(&place, action.service.as_deref().unwrap_or_default(), &mut connected).await {
                Ok(outcome) => return outcome,
                Err(error) => tracing::trace!(place, %error, "gRPC probe"),
            }
            connected = false;
            tokio::time::sleep(RETRY).await;
        }
    };
    match tokio::time::timeout_at(until, check).await {
        Ok(outcome) => outcome,
        Err(_) if connected => Outcome::Failure(format!(
            "timeout: health rpc did not complete within {}",
            seconds(timeout)
        )),
        Err(_) => Outcome::Failure(format!(
            "timeout: failed to connect service {place:?} within {}: context deadline exceeded",
            seconds(timeout)
        )),
    }
}

/// One try; an error is of the connection.
async fn grpc_check(place: &str, service: &str, connected: &mut bool) -> Result<Outcome, GrpcError> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{place}"))?;
    let endpoint = endpoint.user_agent(concat!("kube-probe/", api::kubernetes_minor!()))?;
    let channel = endpoint.connect().await?;
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await?;
    *connected = true;
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let path = ::http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    match grpc
        .unary(tonic::Request::new(request), path, codec)
        .await
        .map(|a| a.into_inner().status)
    {
        Ok(1) => Ok(Outcome::Success),
        Ok(status) => Ok(Outcome::Failure(format!(
            "service unhealthy (responded with {:?})",
            ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]
                .get(usize::try_from(status).unwrap_or(0))
                .unwrap_or(&"UNKNOWN")
        ))),
        // What the server itself said has no other cause.
        Err(error) if std::error::Error::source(&error).is_some() => Err(Box::new(error).into()),
        Err(error) if error.code() == tonic::Code::Unimplemented => Ok(Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            error.message()
        ))),
        Err(error) => Ok(Outcome::Failure(format!(
            "error: health rpc probe failed: rpc error: code = {:?} desc = {}",
            error.code(),
            error.message()
        ))),
    }
}

/// Runs a postStart or preStop hook.
pub async fn hook(
    runtime: &Runtime,
    container: &Container,
    id: &str,
    handler: &LifecycleHandler,
    pod_ip: &str,
) -> Result<(), HookError> {
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        return match runtime.exec(id, command.clone(), Duration::ZERO).await {
            Ok((0, _)) => Ok(()),
            Ok((code, output)) => Err(HookError::Exit {
                command,
                container: container.name.clone(),
                code,
                output: String::from_utf8_lossy(&output).into_owned(),
            }),
            Err(error) => Err(error.into()),
        };
    }
    if let Some(action) = &handler.http_get {
        return http::hook(container, action, pod_ip).await;
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(action.seconds.unsigned_abs())).await;
        return Ok(());
    }
    // A tcpSocket is no action of a hook, though its schema has one.
    Err(HookError::NoAction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (given, text) in [(1, "1s"), (60, "1m0s"), (3661, "1h1m1s")] {
            assert_eq!(seconds(Duration::from_secs(given)), text);
        }
    }
}
