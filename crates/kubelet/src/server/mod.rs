//! The kubelet's HTTPS server: pods, logs, streams into containers, figures; and plain health.

mod auth;
mod idle;
mod metrics;
mod node_log_query;
mod node_logs;
mod stats;
mod streams;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use client::Cache;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpListener;

use crate::config::{KubeletConfig, ServerTls};
use crate::logs::{self, LogOptions};
use crate::node_context::NodeContext;
use crate::pod::PodExt;
use auth::Authorizer;

/// The body of an answer.
pub type ServerBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("serving certificate: {0}")]
    Certificate(String),
    #[error(transparent)]
    Shown(#[from] serving::CertificateError),
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
}

/// The pods of this node as the server shows them.
#[derive(Debug, Clone)]
pub struct PodTable {
    cache: Cache,
    static_pods: Arc<RwLock<Vec<Pod>>>,
}

impl PodTable {
    /// The pods of the API in this cache; there are no static ones yet.
    pub fn new(cache: Cache) -> PodTable {
        PodTable {
            cache,
            static_pods: Arc::default(),
        }
    }

    /// Replaces the static pods.
    pub fn set_static(&self, pods: Vec<Pod>) {
        *self.static_pods.write().unwrap_or_else(PoisonError::into_inner) = pods;
    }

    fn static_pods(&self) -> Vec<Pod> {
        self.static_pods.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The API's pod, which may be a mirror.
    pub fn by_key(&self, key: &str) -> Option<Pod> {
        self.cache.decode(key).ok().flatten()
    }

    /// Static pods as their manifests say, others as the API does.
    pub fn all(&self) -> Vec<Pod> {
        let mut pods = self.static_pods();
        pods.extend(
            self.cache
                .list()
                .iter()
                .filter_map(|o| o.decode::<Pod>().ok())
                .filter(|p| !p.is_mirror()),
        );
        pods
    }

    /// Those whose resources are in use.
    pub fn active(&self) -> Vec<Pod> {
        self.all().into_iter().filter(|p| !p.has_ended()).collect()
    }

    /// By `namespace/name`; the static pod rather than its mirror.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Pod> {
        let fixed = self
            .static_pods()
            .into_iter()
            .find(|p| p.namespace() == namespace && p.name() == name);
        fixed.or_else(|| self.by_key(&format!("{namespace}/{name}")))
    }
}

struct State {
    node: Arc<NodeContext>,
    config: KubeletConfig,
    table: PodTable,
    authorizer: Authorizer,
}

/// The kubelet's own API, bound to its addresses.
pub struct Server {
    state: Arc<State>,
    listener: TcpListener,
    health: Option<TcpListener>,
    tls: tokio_rustls::TlsAcceptor,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Default)]
struct Peer {
    certificate: Option<CertificateDer<'static>>,
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response<ServerBody> {
    let body = Full::new(Bytes::from(text.into()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn json(value: &impl serde::Serialize) -> Response<ServerBody> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(
                Full::new(Bytes::from(bytes))
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            );
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                header::HeaderValue::from_static("application/json"),
            );
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn acceptor(config: &KubeletConfig) -> Result<tokio_rustls::TlsAcceptor, ServerError> {
    let bad = |e: &dyn std::fmt::Display| ServerError::Certificate(e.to_string());
    let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
    let certificate = match &config.server_tls {
        ServerTls::Pem { cert, key } => serving::Certificate::new(&text(cert), &text(key))?,
        ServerTls::Renewed(certificate) => certificate.clone(),
        ServerTls::SelfSigned => {
            let mut names = vec![config.node_name.clone()];
            names.extend(config.node_ips.iter().map(ToString::to_string));
            let made = rcgen::generate_simple_self_signed(names).map_err(|e| bad(&e))?;
            serving::Certificate::new(&made.cert.pem(), &made.signing_key.serialize_pem())?
        }
    };
    let provider = config.tls.provider();
    let builder =
        rustls::ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(config.tls.versions())?;
    let builder = match &config.client_ca {
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            for cert in CertificateDer::pem_slice_iter(pem) {
                roots.add(cert.map_err(|e| bad(&e))?)?;
            }
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            // Tokens are another way in.
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().map_err(|e| bad(&e))?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut tls = builder.with_cert_resolver(certificate);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // a session to resume would hold the API server's certificate once more for each connection
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(tokio_rustls::TlsAcceptor::from(Arc::new(tls)))
}

/// The answer to a HEAD: over HTTP/2 a body that follows breaks the stream.
fn without_body(response: Response<ServerBody>) -> Response<ServerBody> {
    let (parts, _) = response.into_parts();
    let empty = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    Response::from_parts(parts, empty)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServerError::Listen { address, source })
}

impl Server {
    /// Binds to the addresses of the configuration.
    ///
    /// # Errors
    /// When an address is taken or the certificate cannot be used.
    pub async fn bind(config: &KubeletConfig, node: Arc<NodeContext>, table: PodTable) -> Result<Server, ServerError> {
        let listener = listen(SocketAddr::new(config.address, config.port)).await?;
        let health = match config.healthz_port {
            0 => None,
            port => Some(listen(SocketAddr::new(config.healthz_address, port)).await?),
        };
        let authorizer = Authorizer::new(node.client.clone(), config);
        let state = Arc::new(State {
            node,
            config: config.clone(),
            table,
            authorizer,
        });
        Ok(Server {
            state,
            listener,
            health,
            tls: acceptor(config)?,
        })
    }

    /// Serves until it is dropped.
    pub async fn run(self) {
        let health = self
            .health
            .map(|listener| tokio_util::task::AbortOnDropHandle::new(tokio::spawn(serve_health(listener))));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let tcp = match self.listener.accept().await {
                Ok((tcp, _)) => tcp,
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (tls, state) = (self.tls.clone(), self.state.clone());
            let _alive = &health;
            connections.spawn(async move {
                let stream = match tokio::time::timeout(serving::FIRST_REQUEST, tls.accept(tcp)).await {
                    Ok(Ok(stream)) => stream,
                    _ => return,
                };
                let session = stream.get_ref().1;
                let protocol = serving::Protocol::of(session.alpn_protocol());
                let certificate = session
                    .peer_certificates()
                    .and_then(|c| c.first())
                    .map(|c| c.clone().into_owned());
                let peer = Peer { certificate };
                let answer = move |request: Request<Incoming>, ongoing: serving::Ongoing| {
                    let (state, peer) = (state.clone(), peer.clone());
                    // logs and figures may be as long as their readers want
                    async move {
                        let head = request.method() == Method::HEAD;
                        let mut response = handle(state, peer, request).await;
                        if head {
                            response = without_body(response);
                        }
                        response.map(|body| ongoing.answer(body, (), None))
                    }
                };
                let activity = serving::Activity::start();
                let served = serving::serve(stream, protocol, &activity, answer, std::future::pending());
                if let Err(error) = served.await {
                    tracing::debug!(%error, "connection ended");
                }
            });
        }
    }
}

async fn serve_health(listener: TcpListener) {
    while let Ok((tcp, _)) = listener.accept().await {
        tokio::spawn(async move {
            let answer = |request: Request<Incoming>, ongoing: serving::Ongoing| async move {
                let response = if request.uri().path() == "/healthz" {
                    plain(StatusCode::OK, "ok")
                } else {
                    plain(StatusCode::NOT_FOUND, "404 page not found\n")
                };
                response.map(|body| ongoing.answer(body, (), None))
            };
            let (http1, activity) = (serving::Protocol::Http1, serving::Activity::start());
            let served = serving::serve(tcp, http1, &activity, answer, std::future::pending());
            if let Err(error) = served.await {
                tracing::debug!(%error, "health connection ended");
            }
        });
    }
}

/// The query as pairs, decoded.
fn query(request: &Request<Incoming>) -> Vec<(String, String)> {
    let text = request.uri().query().unwrap_or_default();
    text.split('&')
        .filter(|p| !p.is_empty())
        .map(|pair| {
            let (k, v) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(k), decode(v))
        })
        .collect()
}

/// A path, in which a plus is a plus.
fn decode_path(text: &str) -> String {
    decode(&text.replace('+', "%2B"))
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'+' => out.push(b' '),
            b'%' => match text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok()) {
                Some(byte) => {
                    out.push(byte);
                    i += 2;
                }
                None => out.push(b'%'),
            },
            other => out.push(other),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn handle(state: Arc<State>, peer: Peer, request: Request<Incoming>) -> Response<ServerBody> {
    let path = request.uri().path().to_owned();
    if let Err(refusal) = state.authorizer.allow(&peer, &request).await {
        return refusal;
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    // What a GET would say, without its body.
    let method = if request.method() == Method::HEAD {
        &Method::GET
    } else {
        request.method()
    };
    match (method, parts.as_slice()) {
        (&Method::GET, ["healthz"]) => plain(StatusCode::OK, "ok"),
        (&Method::GET, ["pods"]) => {
            let items = state.table.all();
            json(&serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
        }
        (&Method::GET, ["runningpods"]) => {
            let items: Vec<Pod> = state.table.active();
            json(&serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
        }
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            container_logs(&state, namespace, pod, container, &query(&request)).await
        }
        (&Method::GET, ["stats", "summary"]) => json(&stats::summary(&state.node, &state.config, &state.table).await),
        (&Method::GET, ["metrics", "resource"]) => plain(
            StatusCode::OK,
            metrics::resource_metrics(&state.node, &state.config, &state.table).await,
        ),
        (&Method::GET, ["metrics", "cadvisor"]) => plain(
            StatusCode::OK,
            metrics::cadvisor_metrics(&state.node, &state.config, &state.table).await,
        ),
        (&Method::GET, ["metrics"]) => plain(StatusCode::OK, metrics::own_metrics(&state.node, &state.table)),
        (&Method::GET, ["metrics", "probes"]) => plain(StatusCode::OK, metrics::probe_metrics(&state.node)),
        (&Method::GET, ["configz"]) => json(&serde_json::json!({"kubeletconfig": state.config.to_json()})),
        (_, ["logs", ..]) if !state.config.enable_system_log_handler => {
            plain(StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled.\n")
        }
        (&Method::GET, ["logs", ..]) => {
            let path = decode_path(&path);
            if path == "/logs" || node_logs::is_directory_without_slash(&state.config, &path) {
                // As Go's file server: the links of a listing are relative.
                let last = path.rsplit('/').next().unwrap_or_default();
                let mut response = plain(StatusCode::MOVED_PERMANENTLY, "");
                if let Ok(location) = header::HeaderValue::from_str(&format!("{last}/")) {
                    response.headers_mut().insert(header::LOCATION, location);
                }
                return response;
            }
            if state.config.enable_system_log_query {
                return node_log_query::serve(&state.config, &path, &query(&request)).await;
            }
            node_logs::serve(&state.config, &path).await
        }
        (_, [verb @ ("exec" | "attach" | "portForward" | "run"), rest @ ..]) => {
            streams::handle(&state, verb, rest, request).await
        }
        _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// The container of a pod, newest or the one before.
async fn find_container(
    state: &State,
    namespace: &str,
    pod: &str,
    container: &str,
    previous: bool,
) -> Result<(Pod, crate::runtime_pod::RuntimeContainer), Response<ServerBody>> {
    let Some(found) = state.table.find(namespace, pod) else {
        return Err(plain(StatusCode::NOT_FOUND, format!("pod {pod:?} does not exist\n")));
    };
    let runtime = state
        .node
        .runtime
        .pod(found.uid(), &crate::runtime_pod::RuntimePod::default())
        .await;
    let runtime = runtime.map_err(|e| plain(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    if !found.every_container().iter().any(|(_, c)| c.name == container) {
        return Err(plain(
            StatusCode::NOT_FOUND,
            format!("container {container:?} not found in pod {pod:?}\n"),
        ));
    }
    let mut all = runtime.containers.into_iter().filter(|c| c.name == container);
    let chosen = if previous { all.nth(1) } else { all.next() };
    match chosen {
        Some(status) => Ok((found, status)),
        None => Err(plain(
            StatusCode::BAD_REQUEST,
            nothing_to_show(&found, container, previous),
        )),
    }
}

/// Why a container has no log. Upstream: `validateContainerLogStatus`.
fn nothing_to_show(pod: &Pod, container: &str, previous: bool) -> String {
    let name = pod.name();
    if previous {
        return format!("previous terminated container {container:?} in pod {name:?} not found");
    }
    let statuses = pod.status.iter().flat_map(|s| {
        let lists = [
            &s.container_statuses,
            &s.init_container_statuses,
            &s.ephemeral_container_statuses,
        ];
        lists.into_iter().flatten().flatten()
    });
    let state = statuses.filter(|s| s.name == container).find_map(|s| s.state.as_ref());
    let what = match state {
        Some(state) if state.terminated.is_some() => "is terminated".to_owned(),
        Some(state) => {
            let reason = state.waiting.as_ref().and_then(|w| w.reason.as_deref());
            match reason.unwrap_or("ContainerCreating") {
                "ErrImagePull" => "is waiting to start: image can't be pulled".to_owned(),
                "ImagePullBackOff" => "is waiting to start: trying and failing to pull image".to_owned(),
                reason => format!("is waiting to start: {reason}"),
            }
        }
        None => "is not available".to_owned(),
    };
    format!("container {container:?} in pod {name:?} {what}")
}

async fn container_logs(
    state: &State,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &[(String, String)],
) -> Response<ServerBody> {
    let query: HashMap<&str, &str> = query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let flag = |name: &str| query.get(name).is_some_and(|v| matches!(*v, "true" | "1"));
    let mut options = LogOptions {
        follow: flag("follow"),
        timestamps: flag("timestamps"),
        ..LogOptions::default()
    };
    let number = |name: &str| query.get(name).map(|v| v.parse::<u64>()).transpose();
    match (number("tailLines"), number("limitBytes"), number("sinceSeconds")) {
        (Ok(tail), Ok(limit), Ok(since)) => {
            options.tail_lines = tail;
            options.limit_bytes = limit;
            options.since = since
                .and_then(|s| i64::try_from(s).ok())
                .map(|s| Timestamp::now() - SignedDuration::from_secs(s));
        }
        _ => return plain(StatusCode::BAD_REQUEST, r#"{"message": "Unable to decode query."}"#),
    }
    if let Some(time) = query.get("sinceTime") {
        match time.parse() {
            Ok(time) => options.since = Some(time),
            Err(error) => return plain(StatusCode::BAD_REQUEST, format!("sinceTime: {error}")),
        }
    }
    options.stream = query.get("stream").filter(|s| **s != "All").map(|s| (*s).to_owned());
    let (_, status) = match find_container(state, namespace, pod, container, flag("previous")).await {
        Ok(found) => found,
        Err(response) => return response,
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let (runtime, id) = (state.node.runtime.clone(), status.id.clone());
    let ended = move || -> futures::future::BoxFuture<'static, bool> {
        let (runtime, id) = (runtime.clone(), id.clone());
        Box::pin(async move {
            runtime
                .container(&id, "")
                .await
                .map_or(true, |c| c.state != crate::runtime_pod::State::Running)
        })
    };
    let path = std::path::PathBuf::from(&status.log_path);
    if let Err(error) = tokio::fs::metadata(&path).await {
        return plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("failed to open log file {:?}: {error}", status.log_path),
        );
    }
    tokio::spawn(async move {
        if let Err(error) = logs::read(path, options, sender.clone(), ended).await {
            // The client sees a broken stream.
            let _ = sender.send(Err(error)).await;
        }
    });
    let frames = futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|piece| (piece, r)) });
    let mut response = Response::new(StreamBody::new(frames.map(|piece| piece.map(Frame::data))).boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}
