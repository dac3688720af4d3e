//! The server itself: who asks, whether they may, and the pages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use metrics::{Kind, Metric, Registry, Source};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::delegated::{Delegated, Question, User};
use crate::flags::{FlagError, OpenPaths, ServingFlags};

/// Whoever is of this group may do everything.
const MASTERS: &str = "system:masters";

/// A health check.
pub struct Check {
    /// The check's name, in the answer's text and below the path: `/readyz/name`.
    pub name: &'static str,
    /// Returns whether it passes now. Called for every request, so it must not block.
    pub passes: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What a component shows of itself.
#[derive(Default)]
pub struct Page {
    /// Whose metrics `/metrics` shows.
    pub metrics: Registry,
    /// `/metrics/resources`, where a component has it.
    pub resources: Option<Arc<dyn Source>>,
    /// What `/readyz` looks at; `/healthz` and `/livez` look at nothing but whether there is an answer.
    pub ready: Vec<Check>,
}

/// Why a component cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The flags cannot be used.
    #[error(transparent)]
    Flags(#[from] FlagError),
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where the component should listen.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The certificate or key in the files is none, or none could be made.
    #[error("serving certificate: {0}")]
    Certificate(String),
    /// Certificate and key do not fit each other, or TLS cannot be set up.
    #[error("serving certificate: {0}")]
    Tls(#[from] rustls::Error),
}

struct State {
    page: Page,
    users: Delegated,
    open: OpenPaths,
}

type Answer = Response<Full<Bytes>>;

/// A server that answers until it is dropped.
pub struct Server {
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// Serves a page; `None` where the port is 0. `program` is the component's name, `port` its port unless the flags say another.
    ///
    /// # Errors
    /// For files that cannot be read, an address that cannot be had, and certificates that are none.
    pub async fn start(
        flags: &ServingFlags,
        program: &str,
        port: u16,
        page: Page,
    ) -> Result<Option<Server>, ServeError> {
        let port = flags.secure_port.unwrap_or(port);
        if port == 0 {
            return Ok(None);
        }
        let open = flags.open_paths()?;
        let (users, authority) = flags.delegated(program).await?;
        let tls = acceptor(flags, authority.as_deref())?;
        let address = SocketAddr::new(flags.bind_address, port);
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ServeError::Listen { address, source })?;
        let state = Arc::new(State { page, users, open });
        let task = tokio::spawn(accept(listener, move |tcp| connection(tcp, tls.clone(), state.clone())));
        Ok(Some(Server {
            _task: AbortOnDropHandle::new(task),
        }))
    }
}

/// Serves each connection in a task of its own; they end with this.
pub(crate) async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((tcp, _)) => drop(connections.spawn(serve(tcp))),
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                // out of file descriptors: another connection must end first
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(tcp: TcpStream, tls: TlsAcceptor, state: Arc<State>) {
    let Ok(Ok(stream)) = tokio::time::timeout(serving::FIRST_REQUEST, tls.accept(tcp)).await else {
        return;
    };
    let session = stream.get_ref().1;
    let protocol = serving::Protocol::of(session.alpn_protocol());
    let shown = session.peer_certificates().and_then(|chain| chain.first());
    let user = shown.and_then(|certificate| User::of_certificate(certificate));
    let answer = move |request: Request<Incoming>, ongoing: serving::Ongoing| {
        let (state, user) = (state.clone(), user.clone());
        async move {
            let response = state.answer(&request, user).await;
            response.map(|body| ongoing.answer(body, (), None))
        }
    };
    let activity = serving::Activity::start();
    let served = serving::serve(stream, protocol, &activity, answer, std::future::pending());
    if let Err(error) = served.await {
        tracing::debug!(%error, "connection ended");
    }
}

fn acceptor(flags: &ServingFlags, authority: Option<&[u8]>) -> Result<TlsAcceptor, ServeError> {
    let bad = |e: &dyn std::fmt::Display| ServeError::Certificate(e.to_string());
    let (certificate, key) = match flags.identity()? {
        Some(given) => given,
        None => {
            let names = vec!["localhost".to_owned(), flags.bind_address.to_string()];
            let made = rcgen::generate_simple_self_signed(names).map_err(|e| bad(&e))?;
            (
                made.cert.pem().into_bytes(),
                made.signing_key.serialize_pem().into_bytes(),
            )
        }
    };
    let chain = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(&e))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| bad(&e))?;
    let settings = flags.tls()?;
    let provider = settings.provider();
    let builder =
        rustls::ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(settings.versions())?;
    let builder = match authority {
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.map_err(|e| bad(&e))?)?;
            }
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            // tokens are another way in
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().map_err(|e| bad(&e))?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut tls = builder.with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

pub(crate) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let text = header::HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    let nosniff = header::HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

pub(crate) fn page(page: &metrics::Page) -> Answer {
    let mut response = plain(StatusCode::OK, page.text());
    let media_type = header::HeaderValue::from_static(metrics::CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// All that a component shows at `/metrics`.
pub(crate) fn metrics_of(registry: &Registry) -> metrics::Page {
    let mut shown = metrics::Page::default();
    api::features::show(&mut shown);
    api::version::show(&mut shown, api::version::VERSION);
    metrics::process::show(&mut shown);
    registry.show(&mut shown);
    shown.count_metrics();
    shown
}

impl State {
    async fn answer(&self, request: &Request<Incoming>, known: Option<User>) -> Answer {
        let (path, method) = (request.uri().path(), request.method());
        let mut response = match self.refusal(request, known).await {
            Some(refusal) => refusal,
            None if !matches!(*method, Method::GET | Method::HEAD) => {
                plain(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed\n")
            }
            None => self.page(path, request.uri().query().unwrap_or_default()),
        };
        if *method == Method::HEAD {
            *response.body_mut() = Full::default();
        }
        response
    }

    async fn refusal(&self, request: &Request<Incoming>, known: Option<User>) -> Option<Answer> {
        let bearer = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let user = match (known, bearer) {
            (Some(user), _) => user,
            (None, None) => User::anonymous(),
            (None, Some(token)) => match self.users.user_of(token).await {
                Some(user) => user,
                None => return Some(plain(StatusCode::UNAUTHORIZED, "Unauthorized\n")),
            },
        };
        let path = request.uri().path();
        if self.open.has(path) || user.groups.iter().any(|group| group == MASTERS) {
            return None;
        }
        let verb = match *request.method() {
            Method::GET => "get",
            Method::HEAD => "head",
            Method::POST => "post",
            Method::PUT => "put",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        let question = Question::Path {
            verb,
            path: path.to_owned(),
        };
        match self.users.allows(&user, &question).await {
            Ok(true) => None,
            Ok(false) => Some(plain(
                StatusCode::FORBIDDEN,
                format!("forbidden: User {:?} cannot {verb} path {path:?}\n", user.name),
            )),
            Err(error) => {
                tracing::warn!(%error, "permission not known");
                Some(plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n"))
            }
        }
    }

    fn page(&self, path: &str, query: &str) -> Answer {
        match path {
            "/metrics" => page(&metrics_of(&self.page.metrics)),
            "/metrics/slis" => page(&self.indicators()),
            "/metrics/resources" if self.page.resources.is_some() => {
                let mut shown = metrics::Page::default();
                if let Some(resources) = &self.page.resources {
                    resources.show(&mut shown);
                }
                page(&shown)
            }
            "/healthz" | "/livez" | "/readyz" => self.health(path, query),
            _ => match path.trim_start_matches('/').split_once('/') {
                Some(("healthz" | "livez" | "readyz", "ping")) => plain(StatusCode::OK, "ok"),
                Some(("readyz", name)) => match self.page.ready.iter().find(|check| check.name == name) {
                    Some(check) if (check.passes)() => plain(StatusCode::OK, "ok"),
                    Some(_) => plain(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        format!("internal server error: {name} failed\n"),
                    ),
                    None => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
                },
                _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
            },
        }
    }

    /// What the checks give (KEP-3466).
    fn indicators(&self) -> metrics::Page {
        const LAST: Metric = Metric::stable("kubernetes_healthcheck", "Whether a health check passed the last time.");
        let mut shown = metrics::Page::default();
        for check in &self.page.ready {
            let passes = f64::from(u8::from((check.passes)()));
            shown
                .samples(&LAST, Kind::Gauge)
                .number(&[("name", check.name), ("type", "readyz")], passes);
        }
        shown
    }

    fn health(&self, path: &str, query: &str) -> Answer {
        let checks = if path == "/readyz" { &self.page.ready[..] } else { &[] };
        let mut text = "[+]ping ok\n".to_owned();
        let mut failed = false;
        for check in checks {
            match (check.passes)() {
                true => text.push_str(&format!("[+]{} ok\n", check.name)),
                false => {
                    text.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
                    failed = true;
                }
            }
        }
        let name = path.trim_start_matches('/');
        if failed {
            text.push_str(&format!("{name} check failed\n"));
            return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
        let verbose = query.split('&').any(|pair| pair.split('=').next() == Some("verbose"));
        match verbose {
            true => plain(StatusCode::OK, format!("{text}{name} check passed\n")),
            false => plain(StatusCode::OK, "ok"),
        }
    }
}
