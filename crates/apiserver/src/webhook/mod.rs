//! Calls of the webhooks that users configure (`k8s.io/apiserver/pkg/util/webhook`): those of admission, and those that convert
//! custom resources; and the way to all servers that users configure, which extension servers share.

mod answer;
pub mod connect;
pub mod service;
pub mod trust;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use self::answer::Answer;
pub use self::answer::AnswerError;
use self::connect::{Connector, Target};
use self::service::Service;
use self::trust::{Trust, TrustError};
use crate::http::MAX_BODY;
use crate::registry::Registry;

/// Bytes that are read of an answer: a list that was converted may be longer than what any client sends.
const MAX_ANSWER: usize = 16 * MAX_BODY;
/// Bytes above which an answer is long work: it is held several times over while it is read.
const LARGE: usize = 256 << 10;
/// Large answers of one webhook that are held at once; others are left to the network meanwhile.
const LARGE_AT_ONCE: usize = 2;
/// How often a webhook that asks for time is asked again.
const RETRIES: usize = 10;
/// Go's numbers for connections that are kept.
const IDLE: Duration = Duration::from_secs(90);
const IDLE_CONNECTIONS: usize = 25;

/// Why a `clientConfig` leads nowhere, in upstream's words.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConfigError {
    /// `caBundle` is no base64.
    #[error(transparent)]
    Bundle(#[from] base64::DecodeError),
    /// The port of the Service is none.
    #[error(transparent)]
    Port(#[from] std::num::TryFromIntError),
    /// `url` is none.
    #[error("Unparsable URL: parse {url:?}: {why}")]
    Url {
        /// The text.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is neither a Service nor a URL of HTTPS.
    #[error("webhook configuration must have either service or URL")]
    NoTarget,
    /// The authorities in `caBundle` are none.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Why a webhook gave no answer, in the words of Go and `client-go`.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no time left.
    #[error("context deadline exceeded")]
    Deadline,
    /// No attempt was made.
    #[error("the webhook was not asked")]
    NotAsked,
    /// There was no answer.
    #[error("Post {url:?}: {why}")]
    Post {
        /// What was asked.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The answer did not come whole.
    #[error("unexpected error when reading response body. Please retry. Original error: {0}")]
    Body(#[from] BodyError),
    /// The answer is no JSON.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// Why an answer did not come whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is too long.
    #[error("the answer has more than {MAX_ANSWER} bytes")]
    TooLong,
    /// The connection ended within it.
    #[error("unexpected EOF")]
    Eof,
    /// It took too long.
    #[error("context deadline exceeded")]
    Deadline,
    /// This server ends, and waits for no more room.
    #[error(transparent)]
    Closed(#[from] tokio::sync::AcquireError),
}

/// The way to one webhook. Its connections are kept while it is.
pub struct Webhook {
    /// `https://host[:port]/path`.
    url: String,
    pool: Client<Connector, Full<Bytes>>,
    large: Arc<Semaphore>,
}

/// The room that a large answer takes, for as long as anything of it is held.
#[derive(Debug)]
pub struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    /// Does work with the answer: what is long work keeps nobody waiting who has nothing to do with it.
    pub fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.0 {
            Some(_) => tokio::task::block_in_place(work),
            None => work(),
        }
    }
}

impl Webhook {
    /// Reads a `clientConfig` of a URL or a Service.
    ///
    /// # Errors
    /// In upstream's words, when it leads nowhere.
    pub fn read(config: &Value, registry: &Arc<Registry>) -> Result<Webhook, ConfigError> {
        let text = |path: &str| config.pointer(path).and_then(Value::as_str).unwrap_or_default();
        // a bundle that is no base64 was never accepted
        let bundle = STANDARD.decode(text("/caBundle"))?;
        let (target, url, local) = match config.get("service").filter(|s| s.is_object()) {
            Some(service) => {
                let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
                let service = Service {
                    namespace: text("/service/namespace").to_owned(),
                    name: text("/service/name").to_owned(),
                    port: u16::try_from(port)?,
                };
                let host = format!("{}:{}", service.server_name(), service.port);
                let url = format!("https://{host}{}", clean(text("/service/path")));
                (Target::Service(service), url, false)
            }
            None => of_url(text("/url"))?,
        };
        // connections of HTTP/2 would bring all requests to one of a Service's endpoints
        let protocols: &[&str] = if local { &["h2", "http/1.1"] } else { &["http/1.1"] };
        let trust = Trust {
            bundle: &bundle,
            ..Trust::default()
        };
        let connector = Connector {
            registry: registry.clone(),
            target: Arc::new(target),
            tls: TlsConnector::from(Arc::new(trust::configuration(trust, protocols)?)),
        };
        let pool = pool(connector);
        let large = Arc::new(Semaphore::new(LARGE_AT_ONCE));
        Ok(Webhook { url, pool, large })
    }

    /// Asks the webhook, and reads its answer. Redirects are not followed: they would lead the server anywhere.
    ///
    /// # Errors
    /// In the words of Go and `client-go`, when there is no answer in time or it is no JSON.
    pub async fn post(&self, body: Bytes, deadline: Instant) -> Result<(Value, Room), CallError> {
        for attempt in 0.. {
            let (answer, room) = self.once(body.clone(), deadline).await?;
            match answer.wait().filter(|_| attempt < RETRIES) {
                None => return Ok((room.work(|| answer.tree())?, room)),
                Some(seconds) => {
                    let again = Instant::now() + Duration::from_secs(seconds);
                    if again >= deadline {
                        tokio::time::sleep_until(deadline).await;
                        return Err(CallError::Deadline);
                    }
                    tokio::time::sleep_until(again).await;
                }
            }
        }
        Err(CallError::NotAsked)
    }

    async fn once(&self, body: Bytes, deadline: Instant) -> Result<(Answer, Room), CallError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CallError::Deadline);
        }
        // the webhook is told how long it has, in whole seconds
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        let url = format!("{}?timeout={seconds}s", self.url);
        let failed = |why: &str| CallError::Post {
            url: url.clone(),
            why: why.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|e: http::uri::InvalidUri| failed(&e.to_string()))?;
        let request = Request::post(uri)
            .header(header::ACCEPT, "application/json, */*")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body))
            .map_err(|e| failed(&e.to_string()))?;
        let response = timeout_at(deadline, self.pool.request(request)).await;
        let response = response.map_err(|_| failed("context deadline exceeded"))?;
        let response = response.map_err(|e| failed(&problem(&e)))?;
        let (parts, body) = response.into_parts();
        let text = |name: header::HeaderName| parts.headers.get(name).and_then(|v| v.to_str().ok());
        let read = timeout_at(deadline, self.whole(body)).await;
        let (body, room) = read.unwrap_or(Err(BodyError::Deadline))?;
        let answer = Answer {
            status: parts.status,
            content_type: text(header::CONTENT_TYPE).filter(|t| !t.is_empty()).map(Into::into),
            retry_after: text(header::RETRY_AFTER).and_then(|t| t.parse().ok()),
            body,
        };
        Ok((answer, room))
    }

    /// Reads all of an answer. Before it reads more than a little of it, it waits for room.
    async fn whole(&self, body: Incoming) -> Result<(Bytes, Room), BodyError> {
        let (mut body, mut read, mut room) = (Limited::new(body, MAX_ANSWER), BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| match e.downcast_ref::<LengthLimitError>() {
                Some(_) => BodyError::TooLong,
                None => BodyError::Eof,
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if room.is_none() && read.len() + data.len() > LARGE {
                room = Some(self.large.clone().acquire_owned().await?);
            }
            read.extend_from_slice(&data);
        }
        Ok((read.freeze(), Room(room)))
    }
}

/// Connections that are kept while they are of use, as long as Go keeps them.
pub fn pool<B>(connector: Connector) -> Client<Connector, B>
where
    B: hyper::body::Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(15))
        .build(connector)
}

/// Why there was no answer: the innermost cause is what helps.
pub fn problem(error: &hyper_util::client::legacy::Error) -> String {
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    let mut text = error.to_string();
    while let Some(cause) = source {
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>()
            && hyper.is_incomplete_message()
        {
            return "EOF".into();
        }
        text = match cause.downcast_ref::<std::io::Error>() {
            Some(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => return "EOF".into(),
            Some(io) => api::go::io_error(io),
            None => cause.to_string(),
        };
        source = cause.source();
    }
    text
}

fn of_url(url: &str) -> Result<(Target, String, bool), ConfigError> {
    let uri: Uri = url.parse().map_err(|e: http::uri::InvalidUri| ConfigError::Url {
        url: url.to_owned(),
        why: e.to_string(),
    })?;
    let (Some(host), Some("https")) = (uri.host(), uri.scheme_str()) else {
        return Err(ConfigError::NoTarget);
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let shown = match uri.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let target = Target::Host {
        host: bare.to_owned(),
        port: uri.port_u16().unwrap_or(443),
    };
    let url = format!("https://{shown}{}", clean(uri.path()));
    Ok((target, url, loopback || bare.eq_ignore_ascii_case("localhost")))
}

/// A path as Go's `path.Join` makes it: no empty or dotted steps, no slash at the end.
pub fn clean(path: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop();
            }
            step => steps.push(step),
        }
    }
    format!("/{}", steps.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, want) in [("", "/"), ("/a//b/", "/a/b"), ("a/./b/../c", "/a/c"), ("/..", "/")] {
            assert_eq!(clean(path), want, "{path}");
        }
    }

    #[test]
    fn urls_lead_to_a_host_and_a_port() {
        let of = |url: &str| match of_url(url) {
            Ok((Target::Host { host, port }, url, local)) => Some((host, port, url, local)),
            _ => None,
        };
        let host = |host: &str, port, url: &str, local| Some((host.to_owned(), port, url.to_owned(), local));
        assert_eq!(of("https://a.b/c/"), host("a.b", 443, "https://a.b/c", false));
        assert_eq!(
            of("https://127.0.0.1:8443"),
            host("127.0.0.1", 8443, "https://127.0.0.1:8443/", true)
        );
        assert_eq!(of("https://[::1]:1/x"), host("::1", 1, "https://[::1]:1/x", true));
        assert_eq!(of("http://a.b"), None);
    }
}
