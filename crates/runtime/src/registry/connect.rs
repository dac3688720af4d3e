//! The way to a registry: addresses by the resolver that was given, TCP, TLS with the node's trusted certificates.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::proxy::{Proxy, TunnelError};
use super::registries::TlsFiles;

/// A host's addresses, the best first, or why it has none.
pub type Resolved = Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>>;

/// Finds a host's addresses. Passed in: a static program must not use libc's resolver.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<'static, Resolved> + Send + Sync>;

/// Why there is no connection to a registry, in the words of Go's `net/http`, which users know from containerd.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the URL has no host")]
    NoHost,
    #[error("dial tcp: lookup {host}: {source}")]
    Lookup {
        host: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("dial tcp: lookup {0}: no such host")]
    NoAddress(String),
    #[error("dial tcp {0}: connect: connection refused")]
    Refused(SocketAddr),
    #[error("dial tcp {0}: i/o timeout")]
    Silent(SocketAddr),
    #[error("dial tcp {address}: {source}")]
    Dial {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Socket(#[from] std::io::Error),
    /// The proxy itself cannot be reached.
    #[error("proxyconnect tcp: {0}")]
    Proxy(Box<ConnectError>),
    /// The proxy does not lead to the host.
    #[error("proxyconnect tcp: {0}")]
    Tunnel(#[from] TunnelError),
    /// A file with certificates or a key is not as it should be.
    #[error("{}: {source}", path.display())]
    Pem {
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    #[error("{}: {source}", path.display())]
    Authority { path: PathBuf, source: rustls::Error },
    #[error("a client certificate and its key must be given together")]
    HalfIdentity,
    #[error(transparent)]
    Settings(#[from] rustls::Error),
    #[error(transparent)]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
    #[error("net/http: TLS handshake timeout")]
    SlowHandshake,
    #[error("tls: {0}")]
    Handshake(std::io::Error),
}

/// Where distributions keep the certificates of public authorities.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const CONNECT: Duration = Duration::from_secs(30);

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let bad = |source| ConnectError::Pem {
        path: path.to_owned(),
        source,
    };
    let iter = CertificateDer::pem_file_iter(path).map_err(bad)?;
    iter.collect::<Result<_, _>>().map_err(bad)
}

fn roots(files: &TlsFiles) -> Result<rustls::RootCertStore, ConnectError> {
    let mut roots = rustls::RootCertStore::empty();
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = named.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|p| p.exists()));
    if let Some(bundle) = bundle {
        // A bundle may hold certificates that no longer parse; the others count.
        roots.add_parsable_certificates(certificates(&bundle)?);
    }
    if let Some(path) = &files.ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|source| ConnectError::Authority {
                path: path.clone(),
                source,
            })?;
        }
    }
    Ok(roots)
}

fn configuration(files: &TlsFiles) -> Result<rustls::ClientConfig, ConnectError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = if files.insecure_skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pki::AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(files)?)
    };
    match (&files.cert_file, &files.key_file) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|source| ConnectError::Pem {
                path: key.clone(),
                source,
            })?;
            Ok(builder.with_client_auth_cert(certificates(cert)?, key)?)
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(ConnectError::HalfIdentity),
    }
}

/// A TCP connection to the first address of the host that answers.
async fn dial(host: &str, port: u16, resolve: &Resolve) -> Result<TcpStream, ConnectError> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolve(host.to_owned()).await.map_err(|source| ConnectError::Lookup {
            host: host.to_owned(),
            source,
        })?,
    };
    let mut last = ConnectError::NoAddress(host.to_owned());
    for address in addresses {
        let address = SocketAddr::new(address, port);
        last = match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => ConnectError::Refused(address),
            Ok(Err(source)) => ConnectError::Dial { address, source },
            Err(_) => ConnectError::Silent(address),
        };
    }
    Err(last)
}

/// A connection to the host and port of a URL, through a proxy where there is one.
pub(crate) async fn connect(
    uri: &http::Uri,
    proxy: Option<&Proxy>,
    files: &TlsFiles,
    resolve: &Resolve,
) -> Result<Box<dyn Io>, ConnectError> {
    let host = uri.host().ok_or(ConnectError::NoHost)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let mut tcp = match proxy {
        Some(proxy) => dial(&proxy.host, proxy.port, resolve)
            .await
            .map_err(|e| ConnectError::Proxy(Box::new(e)))?,
        None => dial(&host, port, resolve).await?,
    };
    if !secure {
        return Ok(Box::new(tcp));
    }
    if let Some(proxy) = proxy {
        proxy.tunnel(&mut tcp, &host, port).await?;
    }
    let name = ServerName::try_from(host)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(configuration(files)?));
    let shaking = tokio::time::timeout(CONNECT, connector.connect(name, tcp)).await;
    let tls = shaking
        .map_err(|_| ConnectError::SlowHandshake)?
        .map_err(ConnectError::Handshake)?;
    Ok(Box::new(tls))
}
