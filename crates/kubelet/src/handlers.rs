//! Performing the actions of probes and lifecycle hooks: exec, HTTP, TCP, gRPC, sleep.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, LifecycleHandler, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::env::port_number;
use crate::runtime::Runtime;

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

/// Upstream reads at most this much of an answer, in bytes.
const LARGEST_ANSWER: usize = 10 << 10;
/// As Go's client.
const MOST_REDIRECTS: usize = 10;

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

/// The words of a port that is none: of an unknown name, or out of range.
fn no_port(port: &IntOrString) -> Outcome {
    Outcome::Unknown(match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("strconv.Atoi: parsing {name:?}: invalid syntax"),
    })
}

pub async fn tcp(container: &Container, action: &TCPSocketAction, pod_ip: &str, timeout: Duration) -> Outcome {
    let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
    let Some(port) = port_number(container, &action.port) else {
        return no_port(&action.port);
    };
    match tokio::time::timeout(timeout, connect(host, port)).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(error),
        Err(_) => Outcome::Failure(format!("dial tcp {}: i/o timeout", address(host, port))),
    }
}

/// An HTTP GET as the kubelet sends it.
struct Get {
    tls: bool,
    host: String,
    port: u16,
    /// With its query.
    path: String,
    headers: Vec<(String, String)>,
}

impl Get {
    fn of(container: &Container, action: &HTTPGetAction, pod_ip: &str, user_agent: &str) -> Result<Get, Outcome> {
        let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
        let port = port_number(container, &action.port).ok_or_else(|| no_port(&action.port))?;
        let path = action.path.as_deref().unwrap_or("/");
        let mut headers: Vec<(String, String)> = action
            .http_headers
            .iter()
            .flatten()
            .map(|h| (h.name.clone(), h.value.clone()))
            .collect();
        for (name, value) in [("User-Agent", user_agent), ("Accept", "*/*")] {
            if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(Get {
            tls: action
                .scheme
                .as_deref()
                .is_some_and(|s| s.eq_ignore_ascii_case("https")),
            host: host.to_owned(),
            port,
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
            headers,
        })
    }

    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", address(&self.host, self.port), self.path)
    }

    async fn send(&self) -> Result<Answer, String> {
        let mut request = http::Request::get(&self.path).header("Connection", "close");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
            request = request.header("Host", address(&self.host, self.port));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
        let tcp = connect(&self.host, self.port).await?;
        if !self.tls {
            return exchange(tcp, request).await;
        }
        let config = client::TlsConfig {
            insecure: true,
            ..Default::default()
        };
        let mut config = config.rustls().map_err(|e| e.to_string())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = rustls_pki_types::ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let stream = connector.connect(name, tcp).await.map_err(|e| e.to_string())?;
        exchange(stream, request).await
    }

    /// Where an answer sends the client on; `None` if it does not, or to another host.
    fn redirected(&self, answer: &Answer) -> Option<Get> {
        if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let location = answer.location.as_deref()?;
        let (tls, rest) = match (location.strip_prefix("http://"), location.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            // Without a scheme it is that of before.
            _ if location.starts_with("//") => (self.tls, &location[2..]),
            _ => {
                let base = self.path.split(['?', '#']).next().unwrap_or_default();
                let directory = &base[..base.rfind('/').map_or(0, |i| i + 1)];
                let path = if location.starts_with('/') {
                    location.to_owned()
                } else if location.starts_with('?') {
                    format!("{base}{location}")
                } else {
                    format!("{directory}{location}")
                };
                return Some(self.at(self.tls, self.port, &path));
            }
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (place, path) = rest.split_at(end);
        let authority: http::uri::Authority = place.parse().ok()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        (host == self.host).then(|| self.at(tls, port, &path))
    }

    fn at(&self, tls: bool, port: u16, path: &str) -> Get {
        Get {
            tls,
            host: self.host.clone(),
            port,
            path: path.split('#').next().unwrap_or_default().to_owned(),
            headers: self.headers.clone(),
        }
    }
}

struct Answer {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
}

/// Success is any answer from 200 to 399. Redirects are followed on the same host; one to another host ends the probe
/// and is told of. Upstream: `pkg/probe/http`.
pub async fn http_get(
    container: &Container,
    action: &HTTPGetAction,
    pod_ip: &str,
    user_agent: &str,
    timeout: Duration,
) -> Outcome {
    let mut get = match Get::of(container, action, pod_ip, user_agent) {
        Ok(get) => get,
        Err(outcome) => return outcome,
    };
    let until = tokio::time::Instant::now() + timeout;
    let mut redirects = 0;
    loop {
        let failed = |error: String| Outcome::Failure(format!("Get {:?}: {error}", get.url()));
        let answer = match tokio::time::timeout_at(until, get.send()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return failed(error),
            Err(_) => {
                return failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned());
            }
        };
        if let Some(next) = get.redirected(&answer) {
            redirects += 1;
            if redirects >= MOST_REDIRECTS {
                return failed(format!("stopped after {MOST_REDIRECTS} redirects"));
            }
            get = next;
            continue;
        }
        return match answer.status {
            200..300 => Outcome::Success,
            300..400 => Outcome::Warning(format!(
                "Probe terminated redirects, Response body: {}",
                String::from_utf8_lossy(&answer.body)
            )),
            status => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        };
    }
}

async fn exchange<S>(stream: S, request: http::Request<Empty<Bytes>>) -> Result<Answer, String>
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
                body.truncate(LARGEST_ANSWER);
                break;
            }
        }
    }
    let location = response.headers().get(http::header::LOCATION);
    Ok(Answer {
        status: response.status().as_u16(),
        location: location.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()),
        body,
    })
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
                Err(error) => tracing::trace!(place, error, "gRPC probe"),
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
async fn grpc_check(place: &str, service: &str, connected: &mut bool) -> Result<Outcome, String> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{place}")).map_err(|e| e.to_string())?;
    let channel = endpoint.connect().await.map_err(|e| e.to_string())?;
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|e| e.to_string())?;
    *connected = true;
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
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
        Err(error) if std::error::Error::source(&error).is_some() => Err(error.to_string()),
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
) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        return match runtime.exec(id, command.clone(), Duration::ZERO).await {
            Ok((0, _)) => Ok(()),
            Ok((code, output)) => Err(format!(
                "Exec lifecycle hook ({command:?}) for Container {:?} failed - error: command exited with {code}: , message: {:?}",
                container.name,
                String::from_utf8_lossy(&output)
            )),
            Err(error) => Err(error.to_string()),
        };
    }
    if let Some(action) = &handler.http_get {
        let mut get = Get::of(container, action, pod_ip, "kube-lifecycle/1.36").map_err(|outcome| match outcome {
            Outcome::Unknown(text) | Outcome::Failure(text) | Outcome::Warning(text) => text,
            Outcome::Success => String::new(),
        })?;
        // Any answer will do; a server that speaks no TLS is asked without.
        return match get.send().await {
            Ok(_) => Ok(()),
            Err(_) if get.tls => {
                get.tls = false;
                get.headers.retain(|(n, _)| !n.eq_ignore_ascii_case("authorization"));
                get.send().await.map(drop)
            }
            Err(error) => Err(format!("Get {:?}: {error}", get.url())),
        };
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(action.seconds.unsigned_abs())).await;
        return Ok(());
    }
    // A tcpSocket is no action of a hook, though its schema has one.
    Err("invalid handler: it names no action".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Get {
        Get {
            tls: false,
            host: "10.0.0.1".into(),
            port: 8080,
            path: path.into(),
            headers: Vec::new(),
        }
    }

    #[test]
    fn redirects_are_followed_on_the_same_host_only() {
        let to = |location: &str| {
            let answer = Answer {
                status: 302,
                location: Some(location.to_owned()),
                body: Vec::new(),
            };
            get("/a/b?c").redirected(&answer).map(|g| g.url())
        };
        for (location, url) in [
            ("/x", Some("http://10.0.0.1:8080/x")),
            ("x?y#z", Some("http://10.0.0.1:8080/a/x?y")),
            ("?q", Some("http://10.0.0.1:8080/a/b?q")),
            ("http://10.0.0.1:9090/x", Some("http://10.0.0.1:9090/x")),
            ("https://10.0.0.1", Some("https://10.0.0.1:443/")),
            ("//10.0.0.1:1/x", Some("http://10.0.0.1:1/x")),
            ("http://0.0.0.0/", None),
            ("http://10.0.0.1.evil/", None),
        ] {
            assert_eq!(to(location).as_deref(), url, "{location}");
        }
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (given, text) in [(1, "1s"), (60, "1m0s"), (3661, "1h1m1s")] {
            assert_eq!(seconds(Duration::from_secs(given)), text);
        }
    }
}
