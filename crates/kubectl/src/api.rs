//! Requests to the server as a command line sends them: with impersonation, warnings shown, and a limit in time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{Body, Client, Config, HttpsTransport, Upgraded};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::error::{Error, Result, message};
use crate::flags::Globals;

pub(crate) const JSON: &str = "application/json";
/// Tables where the server can make them, objects where not.
pub const TABLE: &str =
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Everything but the unreserved characters, escaped.
pub fn escape(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// Names and values of a request's query.
pub type Query = Vec<(&'static str, String)>;

#[derive(Clone)]
pub(crate) struct Api {
    transport: HttpsTransport,
    client: Client,
    /// `host:port`, for messages.
    pub server: String,
    /// As the kubeconfig has it.
    pub url: String,
    headers: HeaderMap,
    timeout: Option<Duration>,
    warnings_as_errors: bool,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub query: Query,
    pub accept: &'static str,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Call {
        Call::new(Method::GET, path)
    }

    pub(crate) fn new(method: Method, path: impl Into<String>) -> Call {
        Call {
            method,
            path: path.into(),
            query: Vec::new(),
            accept: JSON,
            content_type: JSON,
            body: Bytes::new(),
        }
    }

    pub(crate) fn query(mut self, query: Query) -> Call {
        self.query.extend(query);
        self
    }

    pub(crate) fn accept(mut self, accept: &'static str) -> Call {
        self.accept = accept;
        self
    }

    pub(crate) fn json(mut self, body: &Value) -> Call {
        self.body = Bytes::from(body.to_string());
        self
    }

    pub(crate) fn content(mut self, content_type: &'static str) -> Call {
        self.content_type = content_type;
        self
    }

    fn uri(&self) -> String {
        let mut uri = self.path.clone();
        for (i, (name, value)) in self.query.iter().enumerate() {
            uri.push(if i == 0 && !self.path.contains('?') { '?' } else { '&' });
            uri.push_str(name);
            uri.push('=');
            uri.push_str(&escape(value));
        }
        uri
    }
}

impl Api {
    pub(crate) fn new(config: &Config, globals: &Globals, timeout: Option<Duration>) -> Result<Api> {
        let transport = HttpsTransport::new(config)?;
        let url = config.server.clone();
        let server = url
            .split("://")
            .last()
            .unwrap_or_default()
            .split('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: &str| -> Result<()> {
            let value =
                HeaderValue::from_str(value).map_err(|_| message(format!("{name}: invalid value {value:?}")))?;
            headers.append(HeaderName::from_static(name), value);
            Ok(())
        };
        match &globals.as_user {
            Some(user) => add("impersonate-user", user)?,
            None if !globals.as_group.is_empty() || globals.as_uid.is_some() || !globals.as_user_extra.is_empty() => {
                return Err(message(
                    "requesting uid, groups or user-extra for  without impersonating a user",
                ));
            }
            None => {}
        }
        for group in &globals.as_group {
            add("impersonate-group", group)?;
        }
        if let Some(uid) = &globals.as_uid {
            add("impersonate-uid", uid)?;
        }
        for extra in &globals.as_user_extra {
            let (key, value) = extra
                .split_once('=')
                .ok_or_else(|| message(format!("invalid user extra {extra:?}: it is no key=value")))?;
            let name = format!("impersonate-extra-{}", escape(key).to_lowercase());
            let name = HeaderName::try_from(name).map_err(|e| message(format!("{extra}: {e}")))?;
            let value = HeaderValue::from_str(value).map_err(|e| message(format!("{extra}: {e}")))?;
            headers.append(name, value);
        }
        let client = Client::new(
            Arc::new(transport.clone()),
            concat!("kubectl/", api::kubernetes_version!()),
        );
        Ok(Api {
            transport,
            client,
            server,
            url,
            headers,
            timeout,
            warnings_as_errors: globals.warnings_as_errors,
        })
    }

    /// How long a request may take, if that is limited.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    fn request(&self, call: &Call) -> Result<Request<Bytes>> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.uri())
            .header(header::ACCEPT, call.accept);
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, call.content_type);
        }
        let mut request = request.body(call.body.clone()).map_err(client::Error::from)?;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }

    fn lost(&self, error: client::Error) -> Error {
        match error {
            client::Error::Connection { source, .. } => Error::Unreachable {
                server: self.server.clone(),
                reason: source.to_string(),
            },
            other => Error::Api(other),
        }
    }

    /// The answer of a request that succeeded, its body still to be read.
    pub async fn open(&self, call: &Call) -> Result<Response<Body>> {
        let request = self.request(call)?;
        let answer = self.client.send(request).await.map_err(|e| self.lost(e))?;
        self.show_warnings(answer.headers())?;
        if !answer.status().is_success() {
            return Err(self.lost(client::error_of(call.method.as_str(), &call.path, answer).await));
        }
        Ok(answer)
    }

    /// `Warning: 299 - "text"`.
    fn show_warnings(&self, headers: &HeaderMap) -> Result<()> {
        let mut count = 0;
        for value in headers.get_all(header::WARNING) {
            let Ok(text) = value.to_str() else { continue };
            if let Some((_, rest)) = text.split_once('"') {
                let text = rest.rsplit_once('"').map_or(rest, |(t, _)| t).replace("\\\"", "\"");
                eprintln!("Warning: {text}");
                count += 1;
            }
        }
        match count {
            n if n > 0 && self.warnings_as_errors => {
                let s = if n == 1 { "" } else { "s" };
                Err(message(format!("{n} warning{s} received")))
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn bytes(&self, call: &Call) -> Result<Bytes> {
        let whole = async {
            let answer = self.open(call).await?;
            let body = answer.into_body().collect().await.map_err(|e| self.lost(e))?;
            Ok(body.to_bytes())
        };
        match self.timeout {
            None => whole.await,
            Some(limit) => tokio::time::timeout(limit, whole).await.unwrap_or_else(|_| {
                Err(Error::Unreachable {
                    server: self.server.clone(),
                    reason: "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned(),
                })
            }),
        }
    }

    /// The answer as a tree.
    pub async fn json(&self, call: &Call) -> Result<Value> {
        let body = self.bytes(call).await?;
        serde_json::from_slice(&body).map_err(|source| {
            Error::Api(client::Error::Decode {
                path: call.path.clone(),
                source,
            })
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.json(&Call::get(path)).await
    }

    /// Sends somebody else's request in the user's name, and answers what the server answers.
    pub async fn forward(&self, mut request: Request<Bytes>) -> Result<Response<Body>> {
        request.headers_mut().extend(self.headers.clone());
        client::Transport::call(&self.transport, request)
            .await
            .map_err(|e| self.lost(e))
    }

    /// The same for a request whose connection becomes a stream.
    pub async fn forward_upgrade(&self, mut request: Request<Bytes>) -> Result<(HeaderMap, Upgraded)> {
        request.headers_mut().extend(self.headers.clone());
        self.transport.upgrade(request).await.map_err(|e| self.lost(e))
    }

    /// Turns a request's connection into a stream of the protocol's own.
    pub async fn web_socket(&self, path_and_query: &str, protocol: &'static str) -> Result<Upgraded> {
        let mut random = [0u8; 16];
        getrandom::fill(&mut random).map_err(|e| message(format!("no random numbers: {e}")))?;
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, random);
        let mut request = Request::get(path_and_query)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, key)
            .header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
            .header(header::USER_AGENT, self.client.user_agent())
            .body(Bytes::new())
            .map_err(client::Error::from)?;
        request.headers_mut().extend(self.headers.clone());
        let (headers, io) = self.transport.upgrade(request).await.map_err(|e| match e {
            client::Error::Http { body, .. } => message(format!("unable to upgrade connection: {}", body.trim())),
            refused @ client::Error::Api(_) => message(format!("unable to upgrade connection: {refused}")),
            other => self.lost(other),
        })?;
        match headers
            .get(header::SEC_WEBSOCKET_PROTOCOL)
            .and_then(|p| p.to_str().ok())
        {
            Some(chosen) if chosen == protocol => Ok(io),
            other => Err(message(format!(
                "unable to upgrade connection: the server chose {:?}, not {protocol:?}",
                other.unwrap_or_default()
            ))),
        }
    }
}
