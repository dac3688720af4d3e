//! The way to an API server over HTTPS: HTTP/2 connections with certificates or tokens.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;

use crate::kubeconfig::{Config, Token};
use crate::{Body, Error, ListWatch, Result, Transport, WatchEvent, list_watch_over, resolve};

/// Trust and identity of the client's side of a connection, as PEM.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// The authorities that sign the server's certificate; `None` trusts nobody.
    pub ca_pem: Option<Vec<u8>>,
    /// The client's certificate.
    pub cert_pem: Option<Vec<u8>>,
    /// The certificate's key.
    pub key_pem: Option<Vec<u8>>,
    /// The name in the server's certificate, where it is not the host.
    pub server_name: Option<String>,
    /// Accept any certificate of the server.
    pub insecure: bool,
}

impl TlsConfig {
    /// The rustls configuration, offering HTTP/2 and HTTP/1.1.
    pub fn rustls(&self) -> Result<rustls::ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = if self.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(pki::AcceptAny(provider)))
        } else {
            let mut roots = rustls::RootCertStore::empty();
            for cert in certificates(self.ca_pem.as_deref().unwrap_or_default())? {
                roots.add(cert)?;
            }
            builder.with_root_certificates(roots)
        };
        let mut config = match (&self.cert_pem, &self.key_pem) {
            (Some(cert), Some(key)) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| Error::Config(format!("client key: {e}")))?;
                builder.with_client_auth_cert(certificates(cert)?, key)?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => {
                return Err(Error::Config(
                    "a client certificate and its key must be given together".to_owned(),
                ));
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Error::Config(format!("certificate: {e}")))
}

/// Opens TCP or TLS connections for the pool.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    server_name: Option<String>,
}

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// One connection, as hyper wants it.
pub(crate) struct Io(TokioIo<Stream>);

impl tokio::io::AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl tokio::io::AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match &mut *self {
            Stream::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Stream::Plain(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Connection for Io {
    fn connected(&self) -> Connected {
        match self.0.inner() {
            Stream::Tls(s) if s.get_ref().1.alpn_protocol() == Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn connect(
    connector: Connector,
    uri: Uri,
) -> std::result::Result<Io, Box<dyn std::error::Error + Send + Sync>> {
    let host = uri.host().ok_or("the server's address has no host")?;
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let mut last: Box<dyn std::error::Error + Send + Sync> = format!("{host} has no address").into();
    for ip in resolve(host).await? {
        let tcp = match TcpStream::connect((ip, port)).await {
            Ok(tcp) => tcp,
            Err(error) => {
                last = format!("connect to {ip}:{port}: {error}").into();
                continue;
            }
        };
        tcp.set_nodelay(true)?;
        if !tls {
            return Ok(Io(TokioIo::new(Stream::Plain(tcp))));
        }
        let name = connector
            .server_name
            .as_deref()
            .unwrap_or(host)
            .trim_start_matches('[')
            .trim_end_matches(']');
        let name = ServerName::try_from(name.to_owned())?;
        let stream = tokio_rustls::TlsConnector::from(connector.tls.clone())
            .connect(name, tcp)
            .await?;
        return Ok(Io(TokioIo::new(Stream::Tls(Box::new(stream)))));
    }
    Err(last)
}

impl tower::Service<Uri> for Connector {
    type Response = Io;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Io, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, connect(connector, uri)).await {
                Ok(outcome) => outcome,
                Err(_) => Err("connecting took too long".into()),
            }
        })
    }
}

type Pool = hyper_util::client::legacy::Client<Connector, Full<Bytes>>;

/// Servers allow 100 to 250 streams a connection; more watches than this get another one, so that no request waits behind them.
const WATCHES_A_CONNECTION: usize = 64;

/// The way to one API server.
#[derive(Clone)]
pub struct HttpsTransport {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    base: Uri,
    pub(crate) connector: Connector,
    requests: Pool,
    watches: Mutex<Vec<(Pool, Arc<AtomicUsize>)>>,
    token: Option<TokenSource>,
}

/// A token in a file is read again every minute: projected tokens rotate.
struct TokenSource {
    token: Token,
    read: Mutex<Option<(Instant, header::HeaderValue)>>,
}

impl TokenSource {
    fn header(&self) -> Result<header::HeaderValue> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, value)) = &*read
            && (!matches!(self.token, Token::File(_)) || at.elapsed() < Duration::from_secs(60))
        {
            return Ok(value.clone());
        }
        let text = match &self.token {
            Token::Value(text) => format!("Bearer {}", text.trim()),
            Token::Password { username, password } => {
                format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
            }
            Token::File(path) => match (std::fs::read_to_string(path), &*read) {
                (Ok(text), _) => format!("Bearer {}", text.trim()),
                // The last one may still be good for a while.
                (Err(_), Some((_, value))) => return Ok(value.clone()),
                (Err(error), None) => return Err(Error::Config(format!("token file {}: {error}", path.display()))),
            },
        };
        let mut value = header::HeaderValue::from_str(&text).map_err(|_| {
            Error::Config("the token or the password has characters that no header can carry".to_owned())
        })?;
        value.set_sensitive(true);
        *read = Some((Instant::now(), value.clone()));
        Ok(value)
    }
}

impl HttpsTransport {
    /// A way to the server of a configuration; connects with the first request.
    ///
    /// # Errors
    /// `Config` and `Tls` for settings that cannot be used.
    pub fn new(config: &Config) -> Result<HttpsTransport> {
        let base: Uri = config
            .server
            .parse()
            .map_err(|e| Error::Config(format!("server {:?}: {e}", config.server)))?;
        if base.host().is_none() || base.scheme().is_none() {
            return Err(Error::Config(format!(
                "server {:?} is not a URL with a host",
                config.server
            )));
        }
        let connector = Connector {
            tls: Arc::new(config.tls.rustls()?),
            server_name: config.tls.server_name.clone(),
        };
        let token = config.token.clone().map(|token| TokenSource {
            token,
            read: Mutex::new(None),
        });
        let requests = pool(connector.clone());
        Ok(HttpsTransport {
            inner: Arc::new(Inner {
                base,
                connector,
                requests,
                watches: Mutex::new(Vec::new()),
                token,
            }),
        })
    }

    /// Sends a request that lasts, on a connection for watches. Its place there is given back when the answer ends.
    pub(crate) fn watch(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>>> {
        let (pool, slot) = self.watch_slot();
        let answer = self.send(&pool, request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(move |body| {
                let held = body.map_frame(move |frame| {
                    let _ = &slot;
                    frame
                });
                held.boxed_unsync()
            }))
        })
    }

    fn send(&self, pool: &Pool, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>>> {
        let path = request.uri().path().to_owned();
        let request = match self.inner.complete(request) {
            Ok(request) => request,
            Err(error) => return futures::future::ready(Err(error)).boxed(),
        };
        let answer = pool.request(request);
        Box::pin(async move {
            let response = answer.await.map_err(|e| Error::connection(&path, innermost(&e)))?;
            Ok(response.map(move |body| body.map_err(move |e| Error::connection(&path, e)).boxed_unsync()))
        })
    }

    fn watch_slot(&self) -> (Pool, Slot) {
        let mut pools = self.inner.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match pools
            .iter()
            .position(|(_, n)| n.load(Ordering::Relaxed) < WATCHES_A_CONNECTION)
        {
            Some(at) => at,
            None => {
                pools.push((pool(self.inner.connector.clone()), Arc::default()));
                pools.len() - 1
            }
        };
        let (pool, count) = &pools[at];
        count.fetch_add(1, Ordering::Relaxed);
        (pool.clone(), Slot(count.clone()))
    }
}

/// A watch's place on a connection, given back when dropped.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    pub(crate) fn complete(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>> {
        let (mut parts, body) = request.into_parts();
        let prefix = self.base.path().trim_end_matches('/');
        let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let mut uri = Uri::builder().path_and_query(format!("{prefix}{path}"));
        if let Some(scheme) = self.base.scheme() {
            uri = uri.scheme(scheme.clone());
        }
        if let Some(authority) = self.base.authority() {
            uri = uri.authority(authority.clone());
        }
        parts.uri = uri.build()?;
        if let Some(token) = &self.token {
            parts.headers.insert(header::AUTHORIZATION, token.header()?);
        }
        Ok(Request::from_parts(parts, Full::new(body)))
    }
}

fn pool(connector: Connector) -> Pool {
    hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(15))
        .http2_adaptive_window(true)
        .build(connector)
}

/// The pool's own wording says only "client error"; the cause is what helps.
fn innermost(error: &hyper_util::client::legacy::Error) -> Box<dyn std::error::Error + Send + Sync> {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text.into()
}

impl Transport for HttpsTransport {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>>> {
        self.send(&self.inner.requests, request)
    }

    fn list_watch(&self, request: ListWatch) -> BoxStream<'static, WatchEvent> {
        let transport = self.clone();
        let (pool, slot) = self.watch_slot();
        list_watch_over(
            Arc::new(move |request| {
                let _held = &slot;
                transport.send(&pool, request)
            }),
            request,
        )
    }
}
