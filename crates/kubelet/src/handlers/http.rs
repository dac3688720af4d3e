//! HTTP requests of probes and hooks, and what went wrong with them in the words of Go's client, which users read in events.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::LOCATION;
use http::uri::Authority;
use http_body_util::{BodyExt, Empty};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};

use super::{ConnectError, HookError, LARGEST_ANSWER, Outcome, address, connect, no_port};
use crate::env::port_number;

/// As Go's client.
const MOST_REDIRECTS: usize = 10;

/// Why a request has no answer, in the words of Go's client.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    #[error(transparent)]
    Request(#[from] http::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Tls(#[from] client::Error),
    #[error(transparent)]
    Name(#[from] rustls_pki_types::InvalidDnsNameError),
    #[error("{}", handshake_error(.0))]
    Handshake(#[source] std::io::Error),
    #[error("{}", transport_error(.0))]
    Exchange(#[from] hyper::Error),
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

    async fn send(&self) -> Result<Answer, GetError> {
        let mut request = Request::get(&self.path);
        if !self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
            request = request.header("Host", address(&self.host, self.port));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.header("Connection", "close");
        let request = request.body(Empty::<Bytes>::new())?;
        let tcp = connect(&self.host, self.port).await?;
        if !self.tls {
            return exchange(tcp, request).await;
        }
        let config = client::TlsConfig {
            insecure: true,
            ..Default::default()
        };
        let mut config = config.rustls()?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = rustls_pki_types::ServerName::try_from(self.host.clone())?;
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let stream = connector.connect(name, tcp).await.map_err(GetError::Handshake)?;
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
        let authority: Authority = place.parse().ok()?;
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
        let failed = |error: &dyn std::fmt::Display| Outcome::Failure(format!("Get {:?}: {error}", get.url()));
        let answer = match tokio::time::timeout_at(until, get.send()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return failed(&error),
            Err(_) => {
                return failed(&"context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
            }
        };
        if let Some(next) = get.redirected(&answer) {
            redirects += 1;
            if redirects >= MOST_REDIRECTS {
                // Go names where it was sent last, in the server's words
                let location = answer.location.unwrap_or_default();
                return Outcome::Failure(format!("Get {location:?}: stopped after {MOST_REDIRECTS} redirects"));
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

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Answer, GetError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .handshake(io)
        .await?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let mut response = sender.send_request(request).await?;
    let mut body = Vec::new();
    while let Some(frame) = response.frame().await {
        if let Ok(data) = frame?.into_data() {
            body.extend_from_slice(&data);
            if body.len() > LARGEST_ANSWER {
                body.truncate(LARGEST_ANSWER);
                break;
            }
        }
    }
    let location = response.headers().get(LOCATION);
    Ok(Answer {
        status: response.status().as_u16(),
        location: location.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()),
        body,
    })
}

/// An error of an exchange in the words of Go.
fn transport_error(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "EOF".to_owned();
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
                _ => api::go::io_error(io),
            };
        }
        source = cause.source();
    }
    if error.is_parse() {
        return "net/http: HTTP/1.x transport connection broken: malformed HTTP response".to_owned();
    }
    error.to_string()
}

/// An error of a TLS handshake; a server that speaks no TLS answers the first message with text.
fn handshake_error(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => "http: server gave HTTP response to HTTPS client".to_owned(),
        Some(other) => format!("remote error: tls: {other}"),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => api::go::io_error(error),
    }
}

/// A hook: any answer will do, and a server that speaks no TLS is asked without.
pub async fn hook(container: &Container, action: &HTTPGetAction, pod_ip: &str) -> Result<(), HookError> {
    let mut get = Get::of(
        container,
        action,
        pod_ip,
        concat!("kube-lifecycle/", api::kubernetes_minor!()),
    )
    .map_err(|outcome| match outcome {
        Outcome::Unknown(text) | Outcome::Failure(text) | Outcome::Warning(text) => HookError::Port(text),
        Outcome::Success => HookError::Port(String::new()),
    })?;
    match get.send().await {
        Ok(_) => Ok(()),
        Err(_) if get.tls => {
            get.tls = false;
            get.headers.retain(|(n, _)| !n.eq_ignore_ascii_case("authorization"));
            get.send().await.map(drop).map_err(HookError::WithoutTls)
        }
        Err(source) => Err(HookError::Get { url: get.url(), source }),
    }
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

    /// A server that answers each connection with this text and closes it.
    async fn server(answer: &'static str) -> u16 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    async fn failure(answer: &'static str, scheme: &str) -> String {
        let port = server(answer).await;
        let action = HTTPGetAction {
            path: Some("/x".to_owned()),
            port: k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(port.into()),
            scheme: Some(scheme.to_owned()),
            ..Default::default()
        };
        let timeout = Duration::from_secs(20);
        let outcome = http_get(&Container::default(), &action, "127.0.0.1", "a", timeout).await;
        let Outcome::Failure(text) = outcome else {
            panic!("{outcome:?}")
        };
        text.replace(&port.to_string(), "PORT")
    }

    #[tokio::test]
    async fn failures_are_told_in_the_words_of_gos_client() {
        let loops = "HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n";
        let plain = "HTTP/1.0 400 Bad Request\r\n\r\n";
        for (answer, scheme, text) in [
            ("", "HTTP", "Get \"http://127.0.0.1:PORT/x\": EOF"),
            (loops, "HTTP", "Get \"/y\": stopped after 10 redirects"),
            (
                plain,
                "HTTPS",
                "Get \"https://127.0.0.1:PORT/x\": http: server gave HTTP response to HTTPS client",
            ),
        ] {
            assert_eq!(failure(answer, scheme).await, text);
        }
    }
}
