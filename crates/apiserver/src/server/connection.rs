//! TLS connections: HTTP/1.1 and HTTP/2, client certificates, and an end without cutting off answers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::RootCertStore;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::authentication::certificate;
use crate::http::negotiate::Accept;
use crate::http::status::ApiError;
use crate::http::user::User;
use crate::registry::body::{self, Body};
use crate::server::{ApiServer, MAX_BODY};

/// How long answers may take to end after a stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection, as upstream's.
const MAX_STREAMS: u32 = 250;

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("TLS: {0}")]
    Tls(String),
    #[error("listening: {0}")]
    Listen(#[from] std::io::Error),
}

fn tls_error(e: impl std::fmt::Display) -> ServeError {
    ServeError::Tls(e.to_string())
}

/// The certificate in use; replaced when it is renewed.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    pub fn new(certificate: &str, key: &str) -> Result<Arc<Certificate>, ServeError> {
        Ok(Arc::new(Certificate(ArcSwap::from_pointee(certified(
            certificate,
            key,
        )?))))
    }

    /// Connections made from now on see the new certificate.
    pub fn replace(&self, certificate: &str, key: &str) -> Result<(), ServeError> {
        self.0.store(Arc::new(certified(certificate, key)?));
        Ok(())
    }
}

fn certified(certificate: &str, key: &str) -> Result<CertifiedKey, ServeError> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(tls_error)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(tls_error)?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(tls_error)?;
    Ok(CertifiedKey::new(chain, key))
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// TLS that offers `h2` and `http/1.1` and asks clients for a certificate of one of the authorities.
pub fn tls(certificate: Arc<Certificate>, client_authorities: &str) -> Result<TlsAcceptor, ServeError> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(client_authorities.as_bytes()) {
        roots.add(der.map_err(tls_error)?).map_err(tls_error)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(tls_error)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls_error)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // clients keep their connections: a session to resume would hold a certificate for nobody
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `stop`, then lets answers end.
pub async fn serve(server: Arc<ApiServer>, listener: TcpListener, tls: TlsAcceptor, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // out of file descriptors: another connection must end first
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let (server, tls, watcher) = (server.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            let stream = match tls.accept(stream).await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, %peer, "TLS handshake failed");
                    return;
                }
            };
            let certificate = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|c| c.first())
                .and_then(|c| certificate::user(c));
            let certificate = certificate.map(Arc::new);
            let service = service_fn(move |request| {
                let (server, certificate) = (server.clone(), certificate.clone());
                async move { Ok::<_, Infallible>(receive(&server, request, certificate.as_deref(), peer).await) }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(32));
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .keep_alive_interval(Some(Duration::from_secs(30)))
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(4 << 20);
            let connection = builder
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .into_owned();
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, %peer, "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::info!("connections were still open after the grace period");
    }
}

/// Reads the body and answers.
async fn receive(
    server: &Arc<ApiServer>,
    mut request: http::Request<Incoming>,
    certificate: Option<&User>,
    peer: SocketAddr,
) -> Response<Body> {
    let wants_upgrade = request.headers().contains_key(http::header::UPGRADE);
    let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let (parts, incoming) = request.into_parts();
    let body = if wants_upgrade {
        Bytes::new()
    } else {
        match Limited::new(incoming, MAX_BODY).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => {
                let refused = if error.downcast_ref::<LengthLimitError>().is_some() {
                    ApiError::too_large(MAX_BODY)
                } else {
                    tracing::debug!(%error, %peer, "body could not be read");
                    ApiError::bad_request(format!("error reading the body: {error}"))
                };
                return body::error_response(Accept::default(), &refused);
            }
        }
    };
    server.answer(parts, body, upgrade, None, certificate).await
}
