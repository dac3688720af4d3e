//! Connections to kubelets and to what pods and services serve: one HTTP/1.1 request each, upgraded or streamed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use crate::egress::{self, Way};
use crate::http::status::{ApiError, Result};
use crate::server::body::{self, Body};

/// Opens connections to kubelets as the API server.
#[derive(Clone)]
pub struct KubeletClient {
    roots: Arc<RootCertStore>,
    /// Shows our own certificate.
    tls: Arc<ArcSwap<ClientConfig>>,
    /// For backends whose certificates nobody here can know.
    unverified: TlsConnector,
}

/// Where to connect.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    /// A kubelet, which proves who it is by its certificate. Others are taken as they come, and asked as the client did.
    pub known: bool,
    /// The way to it, where it is not the direct one.
    pub way: Option<Way>,
}

/// How long a connection may take, as with Go's transport.
const DIAL: Duration = Duration::from_secs(30);

/// Headers that are of one connection and not passed on.
const HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::TRAILER,
];

impl Endpoint {
    async fn dial(&self) -> std::io::Result<egress::Stream> {
        if let Some(way) = &self.way {
            return way.connect(&self.host, self.port).await;
        }
        let stream = tokio::time::timeout(DIAL, TcpStream::connect((self.host.as_str(), self.port))).await;
        let stream = stream.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        Ok(Either::Left(stream))
    }
}

impl KubeletClient {
    /// All arguments are PEM: the authority of the kubelets' certificates, and our own certificate and key.
    pub fn new(authority: &str, certificate: &str, key: &str) -> Result<KubeletClient> {
        let mut roots = RootCertStore::empty();
        for der in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots
                .add(der.map_err(ApiError::internal)?)
                .map_err(ApiError::internal)?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unverified = configuration()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pki::AcceptAny(provider)))
            .with_no_client_auth();
        Ok(KubeletClient {
            tls: Arc::new(ArcSwap::from_pointee(known(&roots, certificate, key)?)),
            roots,
            unverified: TlsConnector::from(Arc::new(unverified)),
        })
    }

    /// Connections made from now on show this certificate, both in PEM.
    ///
    /// # Errors
    /// For what is no certificate or no key; what was shown before is then shown further on.
    pub fn show(&self, certificate: &str, key: &str) -> Result<()> {
        // a new configuration, so that no session is resumed that was begun with the old certificate
        self.tls.store(Arc::new(known(&self.roots, certificate, key)?));
        Ok(())
    }

    fn known(&self) -> TlsConnector {
        TlsConnector::from(self.tls.load_full())
    }

    /// Connects to where a kubelet should be, and sees that it is the node's own: behind another router the same address may be
    /// another's.
    ///
    /// # Errors
    /// When it does not answer, or has not the node's name.
    pub async fn is_at(&self, node: &str, place: &Endpoint) -> std::io::Result<()> {
        let name = ServerName::try_from(node.to_owned()).map_err(std::io::Error::other)?;
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
        self.known().connect(name, stream).await.map(drop)
    }

    /// Passes a request on and the answer back; both ways for good when the other side switches protocols.
    pub async fn forward(
        &self,
        to: &Endpoint,
        method: Method,
        path_and_query: &str,
        headers: &HeaderMap,
        body: Bytes,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<Body>> {
        let unreachable = |e: &dyn std::fmt::Display| {
            ApiError::internal(format!("error dialing backend: dial tcp {}:{}: {e}", to.host, to.port))
        };
        let stream = to.dial().await;
        let stream = stream.map_err(|e| unreachable(&format_args!("connect: {}", api::go::io_error(&e))))?;
        let uri: Uri = path_and_query
            .parse()
            .map_err(|e| ApiError::bad_request(format!("path {path_and_query:?}: {e}")))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        for (name, value) in headers {
            // credentials are for us and nobody behind us
            if !HOP.contains(name) && name != header::AUTHORIZATION && name != header::CONTENT_LENGTH {
                request.headers_mut().append(name, value.clone());
            }
        }
        let host = match headers.get(header::HOST).filter(|_| !to.known) {
            Some(asked) => asked.clone(),
            None => format!("{}:{}", to.host, to.port).parse().map_err(ApiError::internal)?,
        };
        request.headers_mut().insert(header::HOST, host);
        if upgrade.is_some() {
            request
                .headers_mut()
                .insert(header::CONNECTION, http::HeaderValue::from_static("Upgrade"));
        }
        if to.tls {
            let ip: std::result::Result<IpAddr, _> = to.host.parse();
            let name = match ip {
                Ok(ip) => ServerName::IpAddress(ip.into()),
                Err(_) => ServerName::try_from(to.host.clone()).map_err(ApiError::internal)?,
            };
            let tls = if to.known {
                self.known()
            } else {
                self.unverified.clone()
            };
            let stream = tls.connect(name, stream).await.map_err(|e| unreachable(&e))?;
            exchange(stream, request, upgrade).await
        } else {
            exchange(stream, request, upgrade).await
        }
    }
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn configuration() -> Result<Builder> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ApiError::internal)
}

/// Knows kubelets by their authority, and is known to them by this certificate.
fn known(roots: &Arc<RootCertStore>, certificate: &str, key: &str) -> Result<ClientConfig> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<std::result::Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(ApiError::internal)?;
    configuration()?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain.map_err(ApiError::internal)?, key)
        .map_err(ApiError::internal)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, upgrade: Option<OnUpgrade>) -> Result<Response<Body>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |e: hyper::Error| ApiError::internal(format!("error trying to reach the backend: {e}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend ended");
        }
    });
    let mut response = sender.send_request(request).await.map_err(failed)?;
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        let Some(upgrade) = upgrade else {
            return Err(ApiError::internal("the backend switched protocols without being asked"));
        };
        let theirs = hyper::upgrade::on(&mut response);
        tokio::spawn(join(upgrade, theirs));
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::TRANSFER_ENCODING);
    // the connection lives as long as its answer is read
    Ok(Response::from_parts(parts, body::forwarded(body, sender)))
}

/// Passes on what comes, both ways, until one side ends.
pub async fn join(ours: OnUpgrade, theirs: OnUpgrade) {
    let (ours, theirs) = match tokio::try_join!(ours, theirs) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a connection could not be upgraded");
            return;
        }
    };
    let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
    if let Err(error) = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await {
        tracing::debug!(%error, "an upgraded connection ended");
    }
}
