//! TLS connections: HTTP/1.1 and HTTP/2, client certificates, and an end without cutting off answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Response;
use hyper::body::Incoming;
use rustls::RootCertStore;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serving::{Activity, Answer, DRAIN, FIRST_REQUEST, Ongoing, Protocol};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authentication::certificate;
use crate::http::user::User;
use crate::server::ApiServer;
use crate::server::body::Body;
use crate::server::in_flight::Place;
use crate::server::intake::{Budget, Payload};

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
pub fn tls(
    certificate: Arc<Certificate>,
    client_authorities: &str,
    settings: &serving::TlsSettings,
) -> Result<TlsAcceptor, ServeError> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(client_authorities.as_bytes()) {
        roots.add(der.map_err(tls_error)?).map_err(tls_error)?;
    }
    let provider = settings.provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(tls_error)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(settings.versions())
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
    let connections = TaskTracker::new();
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
        let (server, tls, stop) = (server.clone(), tls.clone(), stop.clone());
        connections.spawn(async move {
            let shaken = tokio::select! {
                () = stop.cancelled() => return,
                shaken = tokio::time::timeout(FIRST_REQUEST, tls.accept(stream)) => shaken,
            };
            match shaken {
                Ok(Ok(stream)) => converse(server, stream, peer, stop).await,
                Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN + DRAIN / 2, connections.wait())
        .await
        .is_err()
    {
        tracing::info!("connections were still open after the grace period");
    }
}

/// Answers the requests of one connection.
async fn converse(server: Arc<ApiServer>, stream: TlsStream<TcpStream>, peer: SocketAddr, stop: CancellationToken) {
    let tls = stream.get_ref().1;
    let protocol = Protocol::of(tls.alpn_protocol());
    let certificate = tls.peer_certificates().and_then(|c| c.first());
    let certificate = certificate.and_then(|c| certificate::user(c)).map(Arc::new);
    let bodies = Budget::of_connection();
    let answer = |request, ongoing| {
        let (server, certificate, bodies) = (server.clone(), certificate.clone(), bodies.clone());
        async move { receive(&server, request, certificate.as_deref(), ongoing, bodies).await }
    };
    let activity = Activity::start();
    let served = serving::serve(stream, protocol, &activity, answer, stop.cancelled());
    if let Err(error) = served.await {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// Answers one request.
async fn receive(
    server: &Arc<ApiServer>,
    mut request: http::Request<Incoming>,
    certificate: Option<&User>,
    ongoing: Ongoing,
    connection: Arc<Budget>,
) -> Response<Answer<Body, Option<Place>>> {
    let wants_upgrade = request.headers().contains_key(http::header::UPGRADE);
    let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let answered = server
        .answer(parts, Payload::Coming { body, connection }, upgrade, None, certificate)
        .await;
    let by = answered.within.map(|within| Instant::now() + within);
    answered.response.map(|body| ongoing.answer(body, answered.place, by))
}
