//! Requests that an extension server answers (`handler_proxy.go`): passed on as they come, with the name of who asks.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::aggregator::error::RemoteError;
use crate::aggregator::remote::{Outgoing, Remote, empty};
use crate::authentication::strip_websocket_token;
use crate::http::front_proxy::{identify, strip_credentials};
use crate::http::request_info::{Query, RequestInfo};
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::server::ApiServer;
use crate::server::body::{self, Body};
use crate::server::in_flight::is_long_running;
use crate::server::intake::Payload;
use crate::subresource::kubelet::join;
use crate::webhook::clean;

/// How long discovery may take: every client waits for it.
const DISCOVERY: Duration = Duration::from_secs(5);

/// What Go leaves in a path as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// Headers that are of one connection (`httputil.ReverseProxy`).
const HOP: [&str; 9] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Those by which an extension server would speak to browsers in this one's name.
const CORS: [&str; 4] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
];

/// A request on its way to another server.
pub struct Forward<'a> {
    pub remote: &'a Remote,
    pub parts: http::request::Parts,
    /// Taken once the other server is asked.
    pub payload: &'a mut Option<Payload>,
    pub upgrade: Option<OnUpgrade>,
    pub info: &'a RequestInfo,
    pub query: &'a Query,
    pub user: &'a User,
    /// Where it comes from; `None` within this process.
    pub from: Option<std::net::IpAddr>,
}

impl Forward<'_> {
    /// The other server's answer, while it comes. What goes wrong is told as text, as upstream does.
    ///
    /// # Errors
    /// `504` when nothing comes within the time that a request has.
    pub async fn answer(mut self, server: &Arc<ApiServer>) -> Result<Response<Body>> {
        if !self.remote.is_available() {
            return Ok(failed(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"));
        }
        if let Some(why) = self.remote.misconfigured() {
            return Ok(failed(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()));
        }
        let authority = match self.remote.resolve() {
            Ok(authority) => authority,
            Err(why) => {
                tracing::warn!(name = self.remote.spec.name, %why, "an extension server is nowhere");
                return Ok(failed(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"));
            }
        };
        let upgrade = self
            .upgrade
            .take()
            .filter(|_| has_token(&self.parts.headers, "upgrade"));
        let headers = match self.headers(server, &authority, upgrade.is_some()) {
            Ok(headers) => headers,
            Err(why) => return Ok(unreachable(&why)),
        };
        // what authorization has seen is what is asked for
        let path = utf8_percent_encode(&self.info.path, PATH);
        let query = self.query.encode();
        let mark = if query.is_empty() { "" } else { "?" };
        let uri = format!("https://{authority}{path}{mark}{query}");
        let mut request = Request::new(empty());
        *request.uri_mut() = uri.parse().map_err(ApiError::internal)?;
        *request.method_mut() = self.parts.method;
        *request.headers_mut() = headers;
        if let Some(upgrade) = upgrade {
            return Ok(switch(self.remote, &authority, request, upgrade).await);
        }
        *request.body_mut() = outgoing(self.payload.take().unwrap_or_default());
        let discovery = !self.info.is_resource && self.info.path.trim_matches('/').split('/').count() == 3;
        let sent = self.remote.send(request);
        let answer = if discovery {
            let within = tokio::time::timeout(DISCOVERY, sent).await;
            within.unwrap_or(Err(RemoteError::Deadline))
        } else if is_long_running(self.info) {
            sent.await
        } else {
            let within = tokio::time::timeout(server.limits.request_timeout, sent).await;
            within.map_err(|_| ApiError::timeout("request did not complete within the allotted timeout", 0))?
        };
        Ok(match answer {
            Ok(answer) => passed_on(answer.map(|body| body::forwarded(body, ())), server),
            Err(why) => unreachable(&why),
        })
    }

    /// The headers that go on: without what is of the client's connection and what proves to this server who he is.
    fn headers(&self, server: &ApiServer, authority: &str, upgrade: bool) -> Result<HeaderMap, RemoteError> {
        let mut headers = self.parts.headers.clone();
        let protocol = headers.get(header::UPGRADE).cloned();
        let trailers = has_list_token(&headers, &header::TE, "trailers");
        remove_hops(&mut headers);
        strip_credentials(&mut headers);
        server.aggregator.front_proxy().behind.strip(&mut headers);
        strip_websocket_token(&mut headers);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        if upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            if let Some(protocol) = protocol {
                headers.insert(header::UPGRADE, protocol);
            }
        }
        identify(&mut headers, self.user)?;
        let value = |text: &str| HeaderValue::from_str(text);
        if let Some(from) = self.from {
            let name = HeaderName::from_static("x-forwarded-for");
            let before = headers.get_all(&name).iter().filter_map(|v| v.to_str().ok());
            let chain: Vec<String> = before
                .map(str::to_owned)
                .chain([from.to_canonical().to_string()])
                .collect();
            headers.insert(name, value(&chain.join(", "))?);
        }
        if !upgrade {
            let path = utf8_percent_encode(&self.info.path, PATH).to_string();
            let slash = if path.ends_with('/') { "/" } else { "" };
            headers.insert("x-forwarded-uri", value(&format!("{}{slash}", clean(&path)))?);
            headers.insert("x-forwarded-host", value(authority)?);
            headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        }
        headers.insert(header::HOST, value(authority)?);
        Ok(headers)
    }
}

fn outgoing(payload: Payload) -> Outgoing {
    match payload {
        Payload::Whole(bytes) if bytes.is_empty() => empty(),
        Payload::Whole(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
        Payload::Coming { body, .. } if hyper::body::Body::is_end_stream(&body) => empty(),
        Payload::Coming { body, .. } => body.map_err(std::io::Error::other).boxed_unsync(),
    }
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    has_list_token(headers, &header::CONNECTION, token)
}

fn has_list_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    let mut tokens = values.flat_map(|v| v.split(',')).map(str::trim);
    tokens.any(|t| t.eq_ignore_ascii_case(token))
}

fn remove_hops(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in named.iter().map(String::as_str).chain(HOP) {
        headers.remove(name);
    }
}

/// What went wrong, as Go's `http.Error` tells it.
fn failed(code: StatusCode, why: &str) -> Response<Body> {
    body::plain_error(code, format!("{why}\n"))
}

fn unreachable(why: &RemoteError) -> Response<Body> {
    failed(
        StatusCode::SERVICE_UNAVAILABLE,
        &format!("error trying to reach service: {why}"),
    )
}

/// An answer as the client gets it.
fn passed_on(answer: Response<Body>, server: &ApiServer) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    if parts.status.is_redirection()
        && parts.headers.contains_key(header::LOCATION)
        && server.aggregator.options.reject_redirects
    {
        let why = "the backend attempted to redirect this request, which is not permitted";
        return body::plain_error(StatusCode::BAD_GATEWAY, why);
    }
    remove_hops(&mut parts.headers);
    for name in CORS {
        parts.headers.remove(name);
    }
    // it says over which connection the answer came
    parts.extensions.clear();
    Response::from_parts(parts, body)
}

/// A request that changes the protocol of its connection, on one of its own.
async fn switch(
    remote: &Remote,
    authority: &str,
    mut request: Request<Outgoing>,
    upgrade: OnUpgrade,
) -> Response<Body> {
    let stream = match remote.dial(authority).await {
        Ok(stream) => stream,
        Err(why) => {
            let why = format!("error dialing backend: {why}");
            return failed(StatusCode::SERVICE_UNAVAILABLE, &why);
        }
    };
    // one connection asks for a path alone
    let path = request.uri().path_and_query().cloned();
    if let Some(path) = path {
        *request.uri_mut() = path.into();
    }
    let answer = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to an extension server ended");
            }
        });
        let answer = sender.send_request(request).await?;
        Ok::<_, hyper::Error>((answer, sender))
    };
    let (mut answer, sender) = match answer.await {
        Ok(answer) => answer,
        Err(error) => return failed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    };
    let status = answer.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let theirs = hyper::upgrade::on(&mut answer);
        tokio::spawn(join(upgrade, theirs));
    } else if status.as_u16() < 400 {
        let why = format!("invalid upgrade response: status code {}", status.as_u16());
        return failed(StatusCode::SERVICE_UNAVAILABLE, &why);
    } else {
        remove_hops(answer.headers_mut());
    }
    // the connection lives as long as its answer is read
    answer.map(|body| body::forwarded(body, sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_go_writes_it() {
        let written = utf8_percent_encode("/apis/g/v/a b/ü%/x:y@z=1,2;3!(4)", PATH).to_string();
        assert_eq!(written, "/apis/g/v/a%20b/%C3%BC%25/x:y@z=1,2;3%21%284%29");
    }

    #[test]
    fn what_is_of_one_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Mine"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("accept", "a"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_hops(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
