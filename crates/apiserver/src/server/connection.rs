//! TLS connections: HTTP/1.1 and HTTP/2, client certificates, and an end without cutting off answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use rustls::RootCertStore;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use serving::{Activity, Answer, Certificate, DRAIN, FIRST_REQUEST, Ongoing, Protocol};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authentication::certificate::{self, Peer, Proof};
use crate::http::front_proxy::RequestHeaders;
use crate::server::ApiServer;
use crate::server::beside::Beside;
use crate::server::body::Body;
use crate::server::in_flight::Place;
use crate::server::intake::{Budget, Payload};

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("TLS: {0}")]
    Tls(String),
    #[error(transparent)]
    Certificate(#[from] serving::CertificateError),
    #[error("listening: {0}")]
    Listen(#[from] std::io::Error),
}

fn tls_error(e: impl std::fmt::Display) -> ServeError {
    ServeError::Tls(e.to_string())
}

/// Who vouches for clients.
#[derive(Debug)]
pub struct Authorities {
    users: Arc<dyn ClientCertVerifier>,
    /// `None` where no proxy stands in front of the server.
    proxies: Option<(Arc<dyn ClientCertVerifier>, RequestHeaders)>,
}

impl Authorities {
    /// What a client shows of itself, which one of the authorities has signed.
    fn proof(&self, chain: &[CertificateDer<'static>]) -> Option<Proof> {
        let (own, between) = chain.split_first()?;
        let signed = |by: &Arc<dyn ClientCertVerifier>| by.verify_client_cert(own, between, UnixTime::now()).is_ok();
        if let Some((by, headers)) = &self.proxies
            && signed(by)
        {
            let name = pki::Subject::of_certificate(own).ok()?.common_name;
            if headers.allows(&name) {
                return Some(Proof::Proxy);
            }
            // who vouches for proxies vouches for no user
            if !signed(&self.users) {
                return None;
            }
        }
        certificate::user(own).map(Proof::User)
    }
}

/// TLS that offers `h2` and `http/1.1` and asks clients for a certificate of one of the authorities.
pub fn tls(
    certificate: Arc<Certificate>,
    client_authorities: &str,
    headers: &RequestHeaders,
    settings: &serving::TlsSettings,
) -> Result<(TlsAcceptor, Arc<Authorities>), ServeError> {
    let provider = settings.provider();
    let verifier = |authorities: &[&str]| -> Result<Arc<dyn ClientCertVerifier>, ServeError> {
        let mut roots = RootCertStore::empty();
        for pem in authorities {
            for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(der.map_err(tls_error)?).map_err(tls_error)?;
            }
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(tls_error)
    };
    let proxies = match headers.authority.as_str() {
        "" => None,
        authority => Some((verifier(&[authority])?, headers.clone())),
    };
    let authorities = Authorities {
        users: verifier(&[client_authorities])?,
        proxies,
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(settings.versions())
        .map_err(tls_error)?
        .with_client_cert_verifier(verifier(&[client_authorities, &headers.authority])?)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // clients keep their connections: a session to resume would hold a certificate for nobody
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((TlsAcceptor::from(Arc::new(config)), Arc::new(authorities)))
}

/// Serves until `stop`, then lets answers end.
pub async fn serve(
    server: Arc<ApiServer>,
    beside: Option<Arc<dyn Beside>>,
    listener: TcpListener,
    (tls, authorities): (TlsAcceptor, Arc<Authorities>),
    stop: CancellationToken,
) {
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
        let (authorities, beside) = (authorities.clone(), beside.clone());
        connections.spawn(async move {
            let shaken = tokio::select! {
                () = stop.cancelled() => return,
                shaken = tokio::time::timeout(FIRST_REQUEST, tls.accept(stream)) => shaken,
            };
            match shaken {
                Ok(Ok(stream)) => converse(server, beside, authorities, stream, peer, stop).await,
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
async fn converse(
    server: Arc<ApiServer>,
    beside: Option<Arc<dyn Beside>>,
    authorities: Arc<Authorities>,
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    stop: CancellationToken,
) {
    let tls = stream.get_ref().1;
    let protocol = Protocol::of(tls.alpn_protocol());
    let shown = tls.peer_certificates().and_then(|chain| {
        let proof = authorities.proof(chain)?;
        let until = pki::not_after(chain.first()?).ok()?;
        Some((proof, until))
    });
    let other = Arc::new(Peer::new(peer.ip(), shown));
    let shared = Arc::new(Shared {
        server,
        beside,
        peer: other,
        bodies: Budget::of_connection(),
    });
    let answer = |request, ongoing| {
        let shared = shared.clone();
        async move { receive(&shared, request, ongoing).await }
    };
    let activity = Activity::start();
    let served = serving::serve(stream, protocol, &activity, answer, stop.cancelled());
    if let Err(error) = served.await {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// What the requests of a connection share.
struct Shared {
    server: Arc<ApiServer>,
    beside: Option<Arc<dyn Beside>>,
    peer: Arc<Peer>,
    bodies: Arc<Budget>,
}

/// Answers one request.
async fn receive(
    shared: &Shared,
    mut request: http::Request<Incoming>,
    ongoing: Ongoing,
) -> Response<Answer<Body, Option<Place>>> {
    let wants_upgrade = request.headers().contains_key(http::header::UPGRADE);
    let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let payload = Payload::Coming {
        body,
        connection: shared.bodies.clone(),
    };
    let server = &shared.server;
    if let Some(beside) = &shared.beside
        && beside.serves(parts.uri.path())
    {
        let by = Instant::now() + server.limits.request_timeout;
        let response = beside
            .clone()
            .answer(parts, payload, upgrade, shared.peer.clone())
            .await;
        return response.map(|body| ongoing.answer(body, None, Some(by)));
    }
    let answered = server.answer(parts, payload, upgrade, None, Some(&shared.peer)).await;
    let by = answered.within.map(|within| Instant::now() + within);
    answered.response.map(|body| ongoing.answer(body, answered.place, by))
}
