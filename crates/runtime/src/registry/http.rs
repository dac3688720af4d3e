//! Requests to registries and token services, with redirects.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::connect::{Resolve, connect};
use super::error::PullError;
use super::registries::Registries;

const MOST_REDIRECTS: usize = 10;
/// A server that says nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Default)]
pub(crate) struct Outgoing {
    pub url: String,
    pub accept: Vec<&'static str>,
    pub authorization: Option<String>,
    /// From this byte on.
    pub offset: u64,
    /// With a form it is a POST.
    pub form: Option<String>,
}

impl Outgoing {
    pub(crate) fn method(&self) -> &'static str {
        if self.form.is_some() { "Post" } else { "Get" }
    }

    pub(crate) fn failed(&self, reason: impl Into<String>) -> PullError {
        PullError::Request {
            method: self.method(),
            url: self.url.clone(),
            reason: reason.into(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    request: Outgoing,
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, PullError> {
        loop {
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            match frame.map_err(|_| self.request.failed("the server went silent"))? {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => return Err(self.request.failed(error.to_string())),
            }
        }
    }

    /// The whole body, of at most so many bytes.
    pub async fn text(mut self, most: usize) -> Result<Vec<u8>, PullError> {
        let mut text = Vec::new();
        while let Some(piece) = self.piece().await? {
            if text.len() + piece.len() > most {
                return Err(self.request.failed(format!("the answer is larger than {most} bytes")));
            }
            text.extend_from_slice(&piece);
        }
        Ok(text)
    }

    /// The error that an unexpected status is.
    pub async fn refused(self) -> PullError {
        let (method, url, status) = (self.request.method(), self.request.url.clone(), self.status.to_string());
        // Half an explanation is better than the failure to read it.
        let text = self.text(4096).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        PullError::Status {
            method,
            url,
            status,
            body: if text.is_empty() { text } else { format!(": {text}") },
        }
    }
}

/// Sends requests.
#[derive(Clone)]
pub struct Http {
    pub registries: Registries,
    pub resolve: Resolve,
}

fn authority(uri: &Uri) -> String {
    uri.authority().map(|a| a.as_str().to_owned()).unwrap_or_default()
}

impl Http {
    /// The answer, after redirects. Proof of who asks is not shown to another host.
    pub async fn send(&self, outgoing: &Outgoing) -> Result<Answer, PullError> {
        let mut current = outgoing.clone();
        for _ in 0..MOST_REDIRECTS {
            let answer = self.once(&current).await?;
            let location = answer.headers.get(header::LOCATION).and_then(|l| l.to_str().ok());
            let (true, Some(location)) = (answer.status.is_redirection(), location) else {
                return Ok(answer);
            };
            let here: Uri = current.url.parse().map_err(|e| current.failed(format!("{e}")))?;
            let next = if location.starts_with('/') {
                format!(
                    "{}://{}{location}",
                    here.scheme_str().unwrap_or("https"),
                    authority(&here)
                )
            } else {
                location.to_owned()
            };
            let there: Uri = next
                .parse()
                .map_err(|e| current.failed(format!("redirect to {next:?}: {e}")))?;
            if authority(&here) != authority(&there) || here.scheme() != there.scheme() {
                current.authorization = None;
            }
            current.url = next;
        }
        Err(outgoing.failed(format!("stopped after {MOST_REDIRECTS} redirects")))
    }

    async fn once(&self, outgoing: &Outgoing) -> Result<Answer, PullError> {
        let uri: Uri = outgoing.url.parse().map_err(|e| outgoing.failed(format!("{e}")))?;
        let tls = self.registries.tls(&authority(&uri));
        let proxy = self.registries.proxies.of(&uri);
        let connecting = connect(&uri, proxy.as_ref(), &tls, &self.resolve);
        let io = connecting.await.map_err(|e| outgoing.failed(e.to_string()))?;
        let failed = |e: hyper::Error| outgoing.failed(e.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
            .await
            .map_err(failed)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to a registry ended");
            }
        });
        // A proxy for plain requests is told the whole address.
        let plain_proxy = proxy.as_ref().filter(|_| uri.scheme_str() == Some("http"));
        let path = match plain_proxy {
            Some(_) => outgoing.url.as_str(),
            None => uri.path_and_query().map_or("/", |p| p.as_str()),
        };
        let mut request = Request::builder()
            .method(if outgoing.form.is_some() {
                Method::POST
            } else {
                Method::GET
            })
            .uri(path)
            .header(header::HOST, authority(&uri))
            .header(header::USER_AGENT, concat!("skiff/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = plain_proxy.and_then(|p| p.authorization.as_ref()) {
            request = request.header(header::PROXY_AUTHORIZATION, authorization);
        }
        for accept in &outgoing.accept {
            request = request.header(header::ACCEPT, *accept);
        }
        if let Some(authorization) = &outgoing.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if outgoing.offset > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", outgoing.offset));
        }
        if outgoing.form.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let body = Full::new(Bytes::from(outgoing.form.clone().unwrap_or_default()));
        let request = request.body(body).map_err(|e| outgoing.failed(e.to_string()))?;
        let answer = tokio::time::timeout(SILENCE, sender.send_request(request))
            .await
            .map_err(|_| outgoing.failed("the server went silent"))?
            .map_err(failed)?;
        let (parts, body) = answer.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            request: outgoing.clone(),
        })
    }
}
