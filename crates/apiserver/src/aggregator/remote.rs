//! The server of one APIService: where it is, the connections to it, and what it last said of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::api_service::Spec;
use super::error::{MisconfiguredError, RemoteError};
use crate::egress;
use crate::http::front_proxy::{FrontProxy, identify};
use crate::http::user::User;
use crate::registry::Registry;
use crate::webhook::connect::{Connector, Target, Used};
use crate::webhook::trust::{self, Trust};
use crate::webhook::{pool, problem};

/// The body of a request on its way.
pub type Outgoing = UnsyncBoxBody<Bytes, std::io::Error>;

/// Bytes that are read of a document.
const MAX_DOCUMENT: usize = 64 << 20;

/// The server of one APIService.
pub struct Remote {
    pub spec: Spec,
    /// Wakes who checks it.
    pub look: Notify,
    available: AtomicBool,
    route: Result<Route, MisconfiguredError>,
    said: ArcSwap<Said>,
}

struct Route {
    registry: Arc<Registry>,
    front_proxy: Arc<FrontProxy>,
    to_endpoints: bool,
    /// The authorities that vouch for the server, as PEM.
    bundle: Vec<u8>,
    connections: ArcSwap<Connections>,
}

/// The connections that are made with one certificate of this server's: who is asked over them looks at each request whether that
/// certificate has expired.
struct Connections {
    /// Which of the front proxy's certificates it is.
    certificate: u64,
    pool: Client<Connector, Outgoing>,
    /// For connections that change their protocol, which HTTP/2 cannot.
    alone: Connector,
}

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// Its version in aggregated discovery; `None` before it was asked.
    pub discovery: Option<Discovery>,
    pub openapi: OpenApi,
}

/// A version in aggregated discovery.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovery {
    /// `APIVersionDiscovery`.
    pub version: serde_json::Value,
    pub etag: Option<HeaderValue>,
    /// The server did not say when it was last asked.
    pub stale: bool,
}

/// Schemas of a server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpenApi {
    /// The index of its documents in version 3.
    pub index: serde_json::Map<String, serde_json::Value>,
    /// Its document in version 2, in what concerns the APIService.
    pub v2: Option<Bytes>,
    pub etag: Option<HeaderValue>,
}

/// A document of a server.
pub struct Document {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Remote {
    /// The server of an APIService as `spec` names it. It counts as unavailable until it was checked.
    pub fn new(spec: Spec, registry: &Arc<Registry>, front_proxy: &Arc<FrontProxy>, to_endpoints: bool) -> Remote {
        Remote {
            route: Route::new(&spec, registry, front_proxy, to_endpoints),
            spec,
            look: Notify::new(),
            available: AtomicBool::new(false),
            said: ArcSwap::default(),
        }
    }

    /// Knows what another said of the same server until it has been asked.
    pub fn take_over(&self, before: &Remote) {
        self.said.store(before.said.load_full());
    }

    /// Whether the server passed its last check.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire)
    }

    /// Whether this is new.
    pub fn set_available(&self, available: bool) -> bool {
        self.available.swap(available, Ordering::AcqRel) != available
    }

    /// What the server last said of itself.
    pub fn said(&self) -> Arc<Said> {
        self.said.load_full()
    }

    /// Keeps what the server says of itself.
    pub fn set_said(&self, said: Said) {
        self.said.store(Arc::new(said));
    }

    /// Why there can be no connection, whoever is there.
    pub fn misconfigured(&self) -> Option<&MisconfiguredError> {
        self.route.as_ref().err()
    }

    /// `host:port` to ask now.
    ///
    /// # Errors
    /// When the Service leads nowhere, in upstream's words.
    pub fn resolve(&self) -> Result<String, RemoteError> {
        let route = self.route.as_ref().map_err(Clone::clone)?;
        let (host, port) = self.spec.service.route(&route.registry, route.to_endpoints)?;
        Ok(match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        })
    }

    fn connections(&self) -> Result<Arc<Connections>, RemoteError> {
        let route = self.route.as_ref().map_err(Clone::clone)?;
        Ok(route.connections(&self.spec)?)
    }

    /// Sends a request whose URI has the host that was resolved. One without a body that only reads is sent again when a connection
    /// that was kept turns out to be closed.
    ///
    /// # Errors
    /// In Go's words, when there is no answer.
    pub async fn send(&self, request: Request<Outgoing>) -> Result<Response<Incoming>, RemoteError> {
        let pool = &self.connections()?.pool;
        let repeatable = hyper::body::Body::is_end_stream(request.body())
            && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let again = repeatable.then(|| {
            let mut again = Request::new(empty());
            again.method_mut().clone_from(request.method());
            again.uri_mut().clone_from(request.uri());
            again.headers_mut().clone_from(request.headers());
            again
        });
        let error = match pool.request(request).await {
            Ok(response) => return Ok(noted(response)),
            Err(error) => error,
        };
        let kept = error.connect_info().is_some_and(|info| {
            let mut extras = http::Extensions::new();
            info.get_extras(&mut extras);
            extras.get::<Used>().is_some_and(Used::before)
        });
        let Some(again) = again.filter(|_| kept) else {
            return Err(RemoteError::Failed(problem(&error)));
        };
        let response = pool.request(again).await;
        response.map(noted).map_err(|e| RemoteError::Failed(problem(&e)))
    }

    /// A connection for a request that changes its protocol.
    ///
    /// # Errors
    /// In Go's words, when there is none.
    pub async fn dial(&self, authority: &str) -> Result<TlsStream<egress::Stream>, RemoteError> {
        let connections = self.connections()?;
        let uri: Uri = format!("https://{authority}/").parse()?;
        Ok(connections.alone.clone().dial(uri).await?)
    }

    /// Reads a document as `who`.
    ///
    /// # Errors
    /// When it does not come whole in time.
    pub async fn read(
        &self,
        path: &str,
        accept: &'static str,
        etag: Option<&HeaderValue>,
        who: &User,
        within: Duration,
    ) -> Result<Document, RemoteError> {
        let authority = self.resolve()?;
        let mut request = Request::new(empty());
        *request.uri_mut() = format!("https://{authority}{path}").parse()?;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        headers.insert(header::HOST, HeaderValue::from_str(&authority)?);
        if let Some(etag) = etag {
            headers.insert(header::IF_NONE_MATCH, etag.clone());
        }
        identify(headers, who)?;
        let reading = async {
            let (parts, body) = self.send(request).await?.into_parts();
            let body = Limited::new(body, MAX_DOCUMENT).collect().await?;
            Ok(Document {
                status: parts.status,
                headers: parts.headers,
                body: body.to_bytes(),
            })
        };
        let read = tokio::time::timeout(within, reading).await;
        read.unwrap_or(Err(RemoteError::Deadline))
    }
}

impl Route {
    fn new(
        spec: &Spec,
        registry: &Arc<Registry>,
        front_proxy: &Arc<FrontProxy>,
        to_endpoints: bool,
    ) -> Result<Route, MisconfiguredError> {
        // a bundle that is no base64 was never accepted
        let bundle = STANDARD.decode(&spec.bundle)?;
        let connections = Connections::new(spec, &bundle, registry, front_proxy)?;
        Ok(Route {
            registry: registry.clone(),
            front_proxy: front_proxy.clone(),
            to_endpoints,
            bundle,
            connections: ArcSwap::from_pointee(connections),
        })
    }

    /// Those with the certificate of now.
    fn connections(&self, spec: &Spec) -> Result<Arc<Connections>, MisconfiguredError> {
        let current = self.connections.load_full();
        if current.certificate == self.front_proxy.renewals() {
            return Ok(current);
        }
        let new = Connections::new(spec, &self.bundle, &self.registry, &self.front_proxy)?;
        let new = Arc::new(new);
        self.connections.store(new.clone());
        Ok(new)
    }
}

impl Connections {
    fn new(
        spec: &Spec,
        bundle: &[u8],
        registry: &Arc<Registry>,
        front_proxy: &FrontProxy,
    ) -> Result<Connections, MisconfiguredError> {
        // the number first: a certificate that is replaced meanwhile makes these connections old
        let certificate = front_proxy.renewals();
        let connector = |protocols: &[&str]| {
            let trust = Trust {
                bundle,
                any: spec.insecure,
                own: Some(front_proxy.certificate()),
            };
            Ok::<_, MisconfiguredError>(Connector {
                registry: registry.clone(),
                target: Arc::new(Target::Asked(spec.service.clone())),
                tls: TlsConnector::from(Arc::new(trust::configuration(trust, protocols)?)),
            })
        };
        Ok(Connections {
            certificate,
            pool: pool(connector(&["h2", "http/1.1"])?),
            alone: connector(&["http/1.1"])?,
        })
    }
}

/// An answer came on this connection.
fn noted(response: Response<Incoming>) -> Response<Incoming> {
    if let Some(used) = response.extensions().get::<Used>() {
        used.note();
    }
    response
}

/// No body.
pub fn empty() -> Outgoing {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
