//! The server: a request's path from the connection to the registry, as a stack of layers.

mod access_review;
pub mod apply;
pub mod beside;
pub mod body;
pub mod component_status;
pub mod connection;
pub mod decode;
pub mod discovery;
mod extension;
pub mod follow;
pub mod health;
pub mod in_flight;
pub mod intake;
pub mod lane;
pub mod limits;
pub mod list;
mod metrics;
pub mod openapi;
pub mod options;
pub mod read;
pub mod resources;
pub mod reviews;
pub mod sent;
pub mod tagged;
pub mod watch;
pub mod websocket;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;

use crate::aggregator::Aggregator;
use crate::audit::policy::Level;
use crate::audit::{AUDIT_ID, Audit, Trail};
use crate::authentication::certificate::Peer;
use crate::authentication::{self, Authenticator, impersonation};
use crate::authorization::Attributes;
use crate::flow_control::{Asked, Schema};
use crate::http::negotiate::{Accept, Transform};
use crate::http::request_info::{Query, RequestInfo};
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::http::warnings::Warnings;
use crate::metrics::{Asked as Counted, Measured, Told};
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::server::body::Body;
use crate::server::extension::Forward;
use crate::server::in_flight::{Entry, InFlight, Place, is_long_running};
use crate::server::intake::{Held, Leave, Payload};
use crate::server::limits::Limits;
use crate::subresource::kubelet::KubeletClient;

/// Pages on flow control.
const FLOW_CONTROL: &str = "/debug/api_priority_and_fairness/";
/// Bytes of an error that the log shows.
const LOGGED: usize = 1000;

/// Everything that answers requests.
pub struct ApiServer {
    pub registry: Arc<Registry>,
    pub pipeline: Arc<Pipeline>,
    pub aggregator: Arc<Aggregator>,
    pub authenticator: Authenticator,
    pub discovery: discovery::Documents,
    pub openapi: openapi::Documents,
    pub kubelets: KubeletClient,
    pub version: crate::Version,
    pub health: health::Health,
    pub components: component_status::Components,
    pub limits: Limits,
    /// What is recorded of requests, if anything is.
    pub audit: Option<Arc<Audit>>,
    /// What other parts of this process count: it is shown with the server's own.
    pub others: ::metrics::Registry,
    /// What a scheduler in this process shows of pods.
    pub pod_resources: std::sync::OnceLock<Arc<dyn ::metrics::Source>>,
}

/// An answer, and what it is bound to while it is sent.
pub struct Answered {
    pub response: Response<Body>,
    /// The request's place among those in flight.
    pub place: Option<Place>,
    /// How long its client may take to read it; `None` where it may last.
    pub within: Option<Duration>,
}

/// A request whose body has not been read.
struct Arriving<'p> {
    parts: http::request::Parts,
    upgrade: Option<OnUpgrade>,
    /// The user, where a component of this process asks.
    known: Option<Arc<User>>,
    peer: Option<&'p Peer>,
    info: Result<RequestInfo>,
    query: Query,
    negotiated: Result<Accept>,
    /// What was negotiated, or the form of errors.
    accept: Accept,
    warnings: Warnings,
    trail: Trail,
    told: Told,
    long_running: bool,
}

/// What a request has taken on its way, for the end of it.
#[derive(Default)]
struct Passed {
    /// The body, until it is read.
    payload: Option<Payload>,
    place: Option<Place>,
    /// The request's class in flow control.
    class: Option<Arc<Schema>>,
    /// Another server answers.
    forwarded: bool,
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
    /// The record of the request.
    pub trail: Trail,
    /// What metrics are told of the request.
    pub told: Told,
}

impl Request {
    /// The value of a header, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Says what metrics count the request as.
    fn tell(&self, asked: impl FnOnce() -> Counted) {
        self.told.get_or_init(asked);
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
        peer: Option<&Peer>,
    ) -> Answered {
        let begun = Instant::now();
        let leave = Leave::of(&parts);
        let told = Told::default();
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
        let mut id = self.audit_id(&parts.headers);
        let trail = match &self.audit {
            Some(audit) => audit.begin(
                &parts,
                peer.map(|peer| peer.address),
                String::from_utf8_lossy(id.as_bytes()).into_owned(),
            ),
            None => Trail::default(),
        };
        let long_running = read.as_ref().is_ok_and(is_long_running);
        let mut shows = read.as_ref().is_ok_and(shows_object) && !long_running;
        let within = (!long_running).then_some(self.limits.request_timeout);
        // an error that its client cannot be told as asked is written without being looked at
        let plain = negotiated.is_err() || accept.transform != Transform::Whole;
        let arriving = Arriving {
            parts,
            upgrade,
            known,
            peer,
            info: read,
            query,
            negotiated,
            accept,
            warnings: warnings.clone(),
            trail: trail.clone(),
            told: told.clone(),
            long_running,
        };
        let mut passed = Passed {
            payload: Some(payload),
            ..Passed::default()
        };
        let done = self.pass(arriving, &mut passed).await;
        // whoever still sends reads no answer before he is done
        if let Some(payload) = passed.payload {
            payload.pass_over(leave).await;
        }
        let mut response = match done {
            Ok(response) => {
                // what another server answers is that one's to record
                shows &= !passed.forwarded;
                response
            }
            Err(error) => {
                match plain {
                    true => shows = false,
                    false => {
                        shows = true;
                        trail.status(&error.status());
                    }
                }
                failed(accept, &error)
            }
        };
        for warning in warnings.headers() {
            response.headers_mut().append(http::header::WARNING, warning);
        }
        // no two requests share it: kept out of the compression of headers, it does not fill the table that each answer searches
        id.set_sensitive(true);
        response.headers_mut().insert(AUDIT_ID, id);
        if let Some(schema) = passed.class {
            in_flight::tell(&schema, response.headers_mut());
        }
        // a watch that has begun takes no place
        let place = passed.place.filter(|_| !long_running);
        let response = recorded(&trail, response, long_running, shows).await;
        let response = self.measured(response, begun, told, long_running);
        Answered {
            response,
            place,
            within,
        }
    }

    /// The layers from the client to the resource, outermost first.
    async fn pass(self: &Arc<Self>, arriving: Arriving<'_>, passed: &mut Passed) -> Result<Response<Body>> {
        let Arriving {
            parts,
            upgrade,
            known,
            peer,
            info,
            query,
            negotiated,
            accept,
            warnings,
            trail,
            told,
            long_running,
        } = arriving;
        let info = info?;
        if !long_running && let Err(error) = check_timeout(&query) {
            trail.refused(&info);
            return Err(error);
        }
        let inside = known.is_some();
        // who: a certificate, a token, or nobody
        let user = match known {
            Some(user) => user,
            None => self.authenticate(&parts.headers, &info, &query, peer, &trail).await?,
        };
        // the record: from here on it is known whose request this is
        trail.received(&info, &user).await?;
        // as whom: one user may be allowed to act as another
        let user = self.impersonate(&parts.headers, user, &info, &trail)?;
        // when: so many at a time; the server's own components never wait for others
        let counted = &self.registry.metrics.requests;
        let _load = (!long_running).then(|| counted.in_flight.enter(info.verb));
        if !inside {
            let asked = Asked {
                info: &info,
                query: &query,
                user: &user,
                method: &parts.method,
                uri: &parts.uri,
            };
            if let Err(retry_after) = self.enter(asked, &parts.headers, passed).await {
                return Ok(in_flight::refusal(retry_after));
            }
        }
        // whether: Node and RBAC
        self.authorize(&user, &info, &trail)?;
        // by whom: other servers read the rest themselves
        if let Some(remote) = self.aggregator.find(&info) {
            passed.forwarded = true;
            let forward = Forward {
                remote: &remote,
                parts,
                payload: &mut passed.payload,
                upgrade,
                info: &info,
                query: &query,
                user: &user,
                from: peer.map(|peer| peer.address),
            };
            return Box::pin(forward.answer(self)).await;
        }
        // one after the other, if it reads much: many lists do not keep a single object waiting
        let _wide = match &passed.place {
            Some(place) if place.is_wide() => Some(self.limits.wide.acquire().await.map_err(ApiError::internal)?),
            _ => None,
        };
        // with what: nothing is read of those who may not
        let payload = passed.payload.take().unwrap_or_default();
        let (body, held) = payload.read(&self.limits.bodies, self.limits.request_timeout).await?;
        let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
        let long = is_long(&headers, &body);
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
            warnings,
            trail,
            told,
        };
        // where: long work does not hold up the threads that answer
        if long {
            let server = self.clone();
            let work = async move { server.dispatch(request, negotiated).await };
            return self.limits.lane.run(work).await?;
        }
        self.dispatch(request, negotiated).await
    }

    /// The user that a request is to count as.
    fn impersonate(
        &self,
        headers: &HeaderMap,
        user: Arc<User>,
        info: &RequestInfo,
        trail: &Trail,
    ) -> Result<Arc<User>> {
        let (authorizer, modes) = (&self.pipeline.authorizer, &self.authenticator.last_modes);
        impersonation::impersonate(authorizer, modes, headers, user, &Attributes::of(info), trail)
    }

    /// Refuses what the user may not do.
    fn authorize(&self, user: &User, info: &RequestInfo, trail: &Trail) -> Result<()> {
        let attributes = Attributes::of(info);
        let decision = self.pipeline.authorizer.decide(user, &attributes);
        let word = if decision.allowed { "allow" } else { "forbid" };
        trail.annotate("authorization.k8s.io/decision", || word.into());
        trail.annotate("authorization.k8s.io/reason", || decision.reason.clone());
        match decision.allowed {
            true => Ok(()),
            false => Err(attributes.forbidden(user, &decision.reason)),
        }
    }

    /// Waits for the place of a request among those in flight; or says after how many seconds its client may try again.
    async fn enter(&self, asked: Asked<'_>, headers: &HeaderMap, passed: &mut Passed) -> Result<(), u64> {
        let (info, query) = (asked.info, asked.query);
        let time = time_of(query, self.limits.request_timeout);
        let Entry { schema, outcome } = self.limits.in_flight.enter(asked, time).await;
        passed.class = schema;
        passed.place = outcome.inspect_err(|_| {
            let catalog = self.registry.catalog();
            if let Some(served) = catalog.find(&info.group, &info.version, &info.resource) {
                let counted = Counted::of(info, query, headers, &served.resource);
                self.registry.metrics.requests.dropped(&counted);
            }
        })?;
        Ok(())
    }

    /// The user whom a certificate or a token in a request names.
    async fn authenticate(
        &self,
        headers: &HeaderMap,
        info: &RequestInfo,
        query: &Query,
        peer: Option<&Peer>,
        trail: &Trail,
    ) -> Result<Arc<User>> {
        match self.authenticator.authenticate(headers, &info.path, peer, trail).await {
            Ok(user) => Ok(Arc::new(user)),
            Err(error) => {
                trail.refused(info);
                // what stands in the record where the answer cannot be told in it
                trail.status(&authentication::failed(headers, query, peer));
                Err(error)
            }
        }
    }

    /// An answer that is counted when it has been sent.
    fn measured(&self, response: Response<Body>, begun: Instant, told: Told, lasts: bool) -> Response<Body> {
        let metrics = &self.registry.metrics;
        let lasting = told.get().filter(|_| lasts).map(|asked| metrics.requests.lasts(asked));
        if told.get().is_none() {
            return response;
        }
        let mut measured = Measured::new(metrics, begun, told, response.status());
        let (parts, body) = response.into_parts();
        match body.size_hint().exact() {
            Some(size) if lasting.is_none() => {
                measured.sent(size);
                Response::from_parts(parts, body)
            }
            _ => {
                let sent = move |bytes: usize| measured.sent(bytes as u64);
                Response::from_parts(parts, body::counting(body::holding(body, lasting), sent))
            }
        }
    }

    /// Who is where in flow control, for a person to read.
    fn flow_control_page(&self, path: &str, query: &Query) -> Response<Body> {
        let name = path.strip_prefix(FLOW_CONTROL).unwrap_or_default();
        let page = match &self.limits.in_flight {
            InFlight::Fair(fair) => fair.page(name, query),
            InFlight::Plain(_) => None,
        };
        page.map_or_else(body::no_such_page, health::plain_page)
    }

    /// The name of a request: its client's, or one that nobody has had.
    fn audit_id(&self, headers: &HeaderMap) -> HeaderValue {
        let given = headers.get(AUDIT_ID).filter(|id| !id.is_empty()).cloned();
        given.unwrap_or_else(|| {
            HeaderValue::from_str(&self.registry.uid()).unwrap_or_else(|_| HeaderValue::from_static(""))
        })
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
            "" => Ok(discovery::root(&self.registry.catalog(), &self.aggregator)),
            "/version" | "/openid/v1/jwks" | "/.well-known/openid-configuration" if request.method != Method::GET => {
                Err(ApiError::method_not_allowed())
            }
            "/version" => Ok(body::json_response(StatusCode::OK, &self.version.document())),
            "/openid/v1/jwks" => Ok(body::json_response(StatusCode::OK, &self.authenticator.tokens.jwks())),
            "/.well-known/openid-configuration" => Ok(body::json_response(
                StatusCode::OK,
                &health::openid_configuration(&self.authenticator.tokens),
            )),
            "/metrics" => Ok(metrics::page(self)),
            "/metrics/resources" if self.pod_resources.get().is_some() => Ok(metrics::pod_resources(self)),
            path if path.starts_with(FLOW_CONTROL) => Ok(self.flow_control_page(path, &request.query)),
            "/metrics/slis" => Ok(self.health.indicators()),
            path if matches!(path, "/healthz" | "/livez" | "/readyz") && !request.info.path.ends_with('/') => {
                request.tell(|| health::counted(path));
                Ok(self.health.answer(self, path, &request.query))
            }
            path if ["/healthz/", "/livez/", "/readyz/"].iter().any(|p| path.starts_with(p)) => {
                Ok(self.health.one(self, path))
            }
            path if path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/") => {
                self.discovery.answer(self, &request)
            }
            path if path.starts_with("/openapi/") => Box::pin(self.openapi.answer(self, &request)).await,
            _ => Ok(body::no_such_page()),
        }
    }
}

/// Whether the answer to a request is an object: other pages are not recorded.
fn shows_object(info: &RequestInfo) -> bool {
    let path = info.path.trim_end_matches('/');
    info.is_resource
        && !matches!(
            info.subresource.as_str(),
            "log" | "proxy" | "exec" | "attach" | "portforward"
        )
        || ["/api", "/apis"].contains(&path)
        || ["/api/", "/apis/"].iter().any(|root| path.starts_with(root))
}

/// Whether a body is long work to read.
fn is_long(headers: &HeaderMap, body: &[u8]) -> bool {
    let content = headers.get(http::header::CONTENT_TYPE);
    let content = content.map_or(&b""[..], HeaderValue::as_bytes);
    let yaml = memchr::memmem::find(content, b"yaml").is_some();
    lane::is_long(body.len(), yaml)
}

/// The answer of a request that failed, in the encoding that its client accepts.
fn failed(accept: Accept, error: &ApiError) -> Response<Body> {
    if error.code >= 500 {
        // a message may repeat what a client sent, which may be megabytes
        let shown = &error.message[..error.message.floor_char_boundary(LOGGED)];
        tracing::warn!(error = shown, code = error.code, "request failed");
    }
    let accept = Accept {
        transform: Transform::default(),
        ..accept
    };
    body::error_response(accept, error)
}

/// Records how a request was answered. An answer that lasts keeps its record until it has been sent.
async fn recorded(trail: &Trail, response: Response<Body>, lasts: bool, shows: bool) -> Response<Body> {
    let level = trail.level();
    let code = response.status().as_u16();
    if level == Level::None {
        // a policy without a word on this, or a request that nobody could read
        return response;
    }
    let (parts, body) = response.into_parts();
    let body = match level == Level::RequestResponse && shows {
        true => match body.collect().await.map(http_body_util::Collected::to_bytes) {
            Ok(bytes) => {
                let media_type = parts
                    .headers
                    .get(http::header::CONTENT_TYPE)
                    .and_then(|v| v.to_str().ok());
                trail.response_object(media_type.unwrap_or_default(), &bytes);
                body::full(bytes)
            }
            Err(error) => body::failing(error),
        },
        false => body,
    };
    trail.answered(code, lasts).await;
    match lasts {
        true => Response::from_parts(parts, body::holding(body, trail.clone())),
        false => Response::from_parts(parts, body),
    }
}

/// How long a request may take: its client may ask for less.
fn time_of(query: &Query, most: Duration) -> Duration {
    let asked = query
        .text("timeout")
        .and_then(|text| api::duration::parse_go(text).ok());
    let asked = asked
        .and_then(|nanos| u64::try_from(nanos).ok())
        .filter(|nanos| *nanos > 0);
    asked.map_or(most, |nanos| most.min(Duration::from_nanos(nanos)))
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
