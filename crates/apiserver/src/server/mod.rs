//! The server: a request's path from the connection to the registry, as a stack of layers.

mod access_review;
pub mod body;
pub mod component_status;
pub mod connection;
pub mod decode;
pub mod discovery;
pub mod follow;
pub mod health;
pub mod in_flight;
pub mod intake;
pub mod lane;
pub mod limits;
pub mod openapi;
pub mod options;
pub mod read;
pub mod resources;
pub mod reviews;
pub mod tagged;
pub mod watch;
pub mod websocket;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;

use crate::authentication::{Authenticator, impersonation};
use crate::authorization::Attributes;
use crate::http::negotiate::Accept;
use crate::http::request_info::{Query, RequestInfo};
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::http::warnings::Warnings;
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::server::body::Body;
use crate::server::in_flight::{Place, is_long_running};
use crate::server::intake::{Held, Payload};
use crate::server::limits::Limits;
use crate::subresource::kubelet::KubeletClient;

/// Everything that answers requests.
pub struct ApiServer {
    pub registry: Arc<Registry>,
    pub pipeline: Arc<Pipeline>,
    pub authenticator: Authenticator,
    pub discovery: discovery::Documents,
    pub openapi: openapi::Documents,
    pub kubelets: KubeletClient,
    pub version: crate::Version,
    pub health: health::Health,
    pub components: component_status::Components,
    pub limits: Limits,
}

/// An answer, and what it is bound to while it is sent.
pub struct Answered {
    pub response: Response<Body>,
    /// The request's place among those in flight.
    pub place: Option<Place>,
    /// How long its client may take to read it; `None` where it may last.
    pub within: Option<Duration>,
}

/// A request whose body has been read.
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What the body has taken of the server's memory for bodies.
    pub held: Option<Held>,
    pub upgrade: Option<OnUpgrade>,
    pub info: RequestInfo,
    pub query: Query,
    pub accept: Accept,
    pub user: Arc<User>,
    /// Told with the answer, whatever it is.
    pub warnings: Warnings,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl ApiServer {
    /// Answers a request of a user who is known already: the way in for components in this process.
    pub async fn call(self: &Arc<Self>, request: http::Request<Bytes>, user: Arc<User>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let answered = self.answer(parts, Payload::Whole(body), None, Some(user), None).await;
        answered.response
    }

    /// The stack of layers, outermost first.
    pub async fn answer(
        self: &Arc<Self>,
        parts: http::request::Parts,
        payload: Payload,
        upgrade: Option<OnUpgrade>,
        known: Option<Arc<User>>,
        certificate: Option<&User>,
    ) -> Answered {
        let query = Query::parse(parts.uri.query());
        let read = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
        let accept = parts.headers.get(http::header::ACCEPT).and_then(|a| a.to_str().ok());
        let negotiated = match read.as_ref().is_ok_and(|info| matches!(info.verb, "list" | "watch")) {
            true => Accept::of_collection(accept),
            false => Accept::parse(accept),
        };
        // an error is written as JSON to whoever cannot be understood
        let accept = negotiated.clone().unwrap_or_default();
        let warnings = Warnings::default();
        let long_running = read.as_ref().is_ok_and(is_long_running);
        let within = (!long_running).then_some(self.limits.request_timeout);
        let mut place = None;
        let done = async {
            let info = read?;
            if !long_running {
                check_timeout(&query)?;
            }
            let inside = known.is_some();
            // who: a certificate, a token, or nobody
            let user = match known {
                Some(user) => user,
                None => Arc::new(
                    self.authenticator
                        .authenticate(&parts.headers, &info.path, certificate)
                        .await?,
                ),
            };
            // as whom: one user may be allowed to act as another
            let attributes = Attributes::of(&info);
            let modes = &self.authenticator.last_modes;
            let user = impersonation::impersonate(&self.pipeline.authorizer, modes, &parts.headers, user, &attributes)?;
            // whether: Node and RBAC
            self.pipeline.authorizer.authorize(&user, &attributes)?;
            drop(attributes);
            // when: so many at a time; the server's own components never wait for others
            if !inside {
                place = self.limits.in_flight.admit(&info, &user).await?;
            }
            // with what: nothing is read of those who may not
            let (body, held) = payload.read(&self.limits.bodies, self.limits.request_timeout).await?;
            let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
            let content = headers
                .get(http::header::CONTENT_TYPE)
                .map_or(&b""[..], HeaderValue::as_bytes);
            let yaml = memchr::memmem::find(content, b"yaml").is_some();
            let long = lane::is_long(body.len(), yaml);
            let request = Request {
                method,
                uri,
                headers,
                body,
                held,
                upgrade,
                info,
                query,
                accept,
                user,
                warnings: warnings.clone(),
            };
            // where: long work does not hold up the threads that answer
            if long {
                let server = self.clone();
                let work = async move { server.dispatch(request, negotiated).await };
                return self.limits.lane.run(work).await?;
            }
            self.dispatch(request, negotiated).await
        };
        let mut response = match done.await {
            Ok(response) => response,
            Err(error) => {
                if error.code >= 500 {
                    tracing::warn!(%error, code = error.code, "request failed");
                }
                body::error_response(
                    Accept {
                        transform: Default::default(),
                        ..accept
                    },
                    &error,
                )
            }
        };
        for warning in warnings.headers() {
            response.headers_mut().append(http::header::WARNING, warning);
        }
        let id = self.registry.uid();
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("audit-id", value);
        }
        Answered {
            response,
            place,
            within,
        }
    }

    async fn dispatch(self: &Arc<Self>, request: Request, negotiated: Result<Accept>) -> Result<Response<Body>> {
        // whoever authorizes a request leaves slashes before the path out; nothing is served there
        if request.info.path.starts_with("//") {
            return Ok(body::no_such_page());
        }
        if request.info.is_resource {
            return self.resource(request, negotiated).await;
        }
        match request.info.path.trim_end_matches('/') {
            "" => Ok(discovery::root(&self.registry.catalog())),
            "/version" | "/openid/v1/jwks" | "/.well-known/openid-configuration" if request.method != Method::GET => {
                Err(ApiError::method_not_allowed())
            }
            "/version" => Ok(body::json_response(StatusCode::OK, &self.version.document())),
            "/openid/v1/jwks" => Ok(body::json_response(StatusCode::OK, &self.authenticator.tokens.jwks())),
            "/.well-known/openid-configuration" => Ok(body::json_response(
                StatusCode::OK,
                &health::openid_configuration(&self.authenticator.tokens),
            )),
            "/metrics" => Ok(health::metrics(self)),
            "/metrics/slis" => Ok(self.health.indicators()),
            path if matches!(path, "/healthz" | "/livez" | "/readyz") && !request.info.path.ends_with('/') => {
                Ok(self.health.answer(self, path, &request.query))
            }
            path if ["/healthz/", "/livez/", "/readyz/"].iter().any(|p| path.starts_with(p)) => {
                Ok(self.health.one(self, path))
            }
            path if path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/") => {
                self.discovery.answer(self, &request)
            }
            path if path.starts_with("/openapi/") => self.openapi.answer(self, &request).await,
            _ => Ok(body::no_such_page()),
        }
    }
}

/// A client says how long it waits at most.
///
/// # Errors
/// `400` when it is not a duration.
fn check_timeout(query: &Query) -> Result<()> {
    let Some(text) = query.text("timeout") else {
        return Ok(());
    };
    api::duration::parse_go(text)
        .map(|_| ())
        .map_err(|why| ApiError::bad_request(format!("invalid timeout specified in the request URL - {why}")))
}
