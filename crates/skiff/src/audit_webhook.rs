//! The server that audit events are sent to: that of a kubeconfig, asked again when it fails (`plugin/pkg/audit/webhook`).

use std::path::Path;
use std::time::Duration;

use apiserver::audit::backend::Post;
use bytes::Bytes;
use client::{Kubeconfig, Transport};
use futures::future::BoxFuture;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts, and how the time between them grows.
const ATTEMPTS: u32 = 5;
const FACTOR: f64 = 1.5;
const JITTER: f64 = 0.2;

/// Why events did not reach the server.
type Unsent = Box<dyn std::error::Error + Send + Sync>;

/// The way to the server.
pub struct Webhook {
    transport: client::HttpsTransport,
    /// The path and query that lists are posted to.
    path: String,
    initial_backoff: Duration,
}

impl Webhook {
    /// The server of the current context.
    ///
    /// # Errors
    /// When the file cannot be read or names no server.
    pub fn open(path: &Path, initial_backoff: Duration) -> client::Result<Webhook> {
        let mut config = Kubeconfig::load(path)?.config(None)?;
        // the server's address is a whole URL: lists go to it and not below it
        let (server, path) = split(&config.server);
        let path = format!("{path}?timeout={}s", TIMEOUT.as_secs());
        config.server = server.to_owned();
        Ok(Webhook {
            path,
            transport: client::HttpsTransport::new(&config)?,
            initial_backoff,
        })
    }

    async fn once(&self, body: Bytes) -> Result<(), Unsent> {
        let request = Request::post(&self.path)
            .header(header::ACCEPT, "application/json, */*")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, format!("kube-apiserver/{}", crate::GIT_VERSION))
            .body(body)?;
        let response = self.transport.call(request).await?;
        let status = response.status();
        // read whole, so that the connection can be used again
        let body = response.into_body().collect().await?;
        if (StatusCode::OK..=StatusCode::PARTIAL_CONTENT).contains(&status) {
            return Ok(());
        }
        let said = body.to_bytes();
        let said = String::from_utf8_lossy(&said[..said.len().min(200)]).into_owned();
        Err(format!("the server answered {status}: {said}").into())
    }
}

/// A URL's scheme and authority, and its path.
pub fn split(url: &str) -> (&str, &str) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    match url[authority..].find('/') {
        Some(at) => url.split_at(authority + at),
        None => (url, "/"),
    }
}

/// The time before the next attempt, with as much chance as the server's names of objects have.
fn jittered(delay: Duration) -> Duration {
    let mut byte = [0u8; 1];
    // without randomness all wait equally long
    let part = match getrandom::fill(&mut byte) {
        Ok(()) => f64::from(byte[0]) / 255.0,
        Err(_) => 0.0,
    };
    delay.mul_f64(1.0 + JITTER * part)
}

impl Post for Webhook {
    fn post(&self, body: Bytes) -> BoxFuture<'_, Result<(), Unsent>> {
        Box::pin(async move {
            let mut delay = self.initial_backoff;
            let mut last = Err("nothing was sent".into());
            for attempt in 1..=ATTEMPTS {
                let sent = tokio::time::timeout(TIMEOUT, self.once(body.clone())).await;
                last = sent.unwrap_or_else(|_| Err("the server did not answer in time".into()));
                if last.is_ok() || attempt == ATTEMPTS {
                    break;
                }
                tokio::time::sleep(jittered(delay)).await;
                delay = delay.mul_f64(FACTOR);
            }
            last
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_go_to_the_url_of_the_server() {
        assert_eq!(split("https://a:1/b/c"), ("https://a:1", "/b/c"));
        assert_eq!(split("http://a"), ("http://a", "/"));
    }
}
