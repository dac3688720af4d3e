//! The server: a request's path from the connection to the registry, as a stack of layers.

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
pub mod resources;
pub mod reviews;
pub mod tagged;
pub mod websocket;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;

use crate::authentication::{Authenticator, impersonation};
use crate::authorization::{Attributes, Authorizer};
use crate::http::negotiate::Accept;
use crate::http::request_info::{Query, RequestInfo};
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::http::warnings::Warnings;
use crate::registry::Registry;
use crate::registry::body::{self, Body};
use crate::server::in_flight::{Place, is_long_running};
use crate::server::intake::{Held, Payload};
use crate::server::limits::Limits;
use crate::subresource::kubelet::KubeletClient;

/// Everything that answers requests.
pub struct ApiServer {
    pub registry: Arc<Registry>,
    pub authenticator: Authenticator,
    pub authorizer: Authorizer,
    pub discovery: discovery::Documents,
    pub openapi: openapi::Documents,
    pub kubelets: KubeletClient,
    pub version: crate::Version,
    pub health: health::Health,
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
        let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
        let accept = parts.headers.get(http::header::ACCEPT).and_then(|a| a.to_str().ok());
        let negotiated = Accept::parse(accept);
        // an error is written as JSON to whoever cannot be understood
        let accept = negotiated.clone().unwrap_or_default();
        let warnings = Warnings::default();
        let within = (!is_long_running(&info)).then_some(self.limits.request_timeout);
        let mut place = None;
        let done = async {
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
            let user = self.impersonate(&parts.headers, user)?;
            // whether: Node and RBAC
            self.authorize(&user, &info)?;
            // when: so many at a time; the server's own components never wait for others
            if !inside {
                place = self.limits.in_flight.admit(&info, &user).await?;
            }
            // with what: nothing is read of those who may not
            let (body, held) = payload.read(&self.limits.bodies, self.limits.request_timeout).await?;
            if let Some(text) = deprecation(&info) {
                warnings.add(text);
            }
            let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
            let long = body.len() > lane::LONG;
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

    fn impersonate(&self, headers: &HeaderMap, user: Arc<User>) -> Result<Arc<User>> {
        let Some((other, checks)) = impersonation::asked(headers)? else {
            return Ok(user);
        };
        for (group, resource, subresource, namespace, name) in checks {
            let attributes = Attributes {
                verb: "impersonate",
                is_resource: true,
                group,
                namespace: &namespace,
                resource,
                subresource: &subresource,
                name: &name,
                path: "",
            };
            if !self.authorizer.allows(&user, &attributes) {
                return Err(ApiError::forbidden(group, resource, &name, &attributes.refusal(&user)));
            }
        }
        Ok(Arc::new(other))
    }

    pub(crate) fn authorize(&self, user: &User, info: &RequestInfo) -> Result<()> {
        let attributes = Attributes::of(info);
        if self.authorizer.allows(user, &attributes) {
            return Ok(());
        }
        let why = attributes.refusal(user);
        if info.is_resource {
            return Err(ApiError::forbidden(
                &info.group,
                &attributes.full_resource(),
                &info.name,
                &why,
            ));
        }
        let mut error = ApiError::new(403, "Forbidden", format!("forbidden: {why}"));
        error.details = Some(serde_json::json!({}));
        Err(error)
    }

    async fn dispatch(self: &Arc<Self>, request: Request, negotiated: Result<Accept>) -> Result<Response<Body>> {
        if request.info.is_resource {
            // tables and protobuf are of resources; proxies negotiate with whom they proxy to
            if !matches!(
                request.info.subresource.as_str(),
                "log" | "proxy" | "exec" | "attach" | "portforward"
            ) {
                negotiated?;
            }
            return self.resource(request).await;
        }
        match request.info.path.trim_end_matches('/') {
            "" => Ok(discovery::root()),
            "/version" => Ok(body::json_response(StatusCode::OK, &self.version.document())),
            "/openid/v1/jwks" => Ok(body::json_response(StatusCode::OK, &self.authenticator.tokens.jwks())),
            "/.well-known/openid-configuration" => Ok(body::json_response(
                StatusCode::OK,
                &health::openid_configuration(&self.authenticator.tokens),
            )),
            "/metrics" => Ok(health::metrics(self)),
            path if path == "/healthz" || path == "/livez" || path == "/readyz" => {
                Ok(self.health.answer(self, path, &request.query))
            }
            path if ["/healthz/", "/livez/", "/readyz/"].iter().any(|p| path.starts_with(p)) => {
                self.health.one(self, path)
            }
            path if path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/") => {
                self.discovery.answer(self, &request)
            }
            path if path.starts_with("/openapi/") => self.openapi.answer(self, &request).await,
            _ => Ok(body::no_such_page()),
        }
    }
}

/// Resources that are served only for those who cannot do without yet.
fn deprecation(info: &RequestInfo) -> Option<&'static str> {
    match (info.is_resource, info.group.as_str(), info.resource.as_str()) {
        (true, "", "endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        (true, "", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}
