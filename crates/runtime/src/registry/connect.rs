//! The way to a registry: addresses by the resolver that was given, TCP, TLS with the node's trusted certificates.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::proxy::Proxy;
use super::registries::TlsFiles;

/// Finds a host's addresses. Passed in: a static program must not use libc's resolver.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Vec<IpAddr>, String>> + Send + Sync>;

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

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bad = |e: rustls::pki_types::pem::Error| format!("{}: {e}", path.display());
    let iter = CertificateDer::pem_file_iter(path).map_err(bad)?;
    iter.collect::<Result<_, _>>().map_err(bad)
}

fn roots(files: &TlsFiles) -> Result<rustls::RootCertStore, String> {
    let mut roots = rustls::RootCertStore::empty();
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let bundle = named.or_else(|| BUNDLES.iter().map(std::path::PathBuf::from).find(|p| p.exists()));
    if let Some(bundle) = bundle {
        // A bundle may hold certificates that no longer parse; the others count.
        roots.add_parsable_certificates(certificates(&bundle)?);
    }
    if let Some(path) = &files.ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(roots)
}

fn configuration(files: &TlsFiles) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = if files.insecure_skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pki::AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(files)?)
    };
    match (&files.cert_file, &files.key_file) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{}: {e}", key.display()))?;
            builder
                .with_client_auth_cert(certificates(cert)?, key)
                .map_err(|e| e.to_string())
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err("a client certificate and its key must be given together".to_owned()),
    }
}

/// A TCP connection to the first address of the host that answers.
async fn dial(host: &str, port: u16, resolve: &Resolve) -> Result<TcpStream, String> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolve(host.to_owned())
            .await
            .map_err(|e| format!("dial tcp: lookup {host}: {e}"))?,
    };
    let mut last = format!("dial tcp: lookup {host}: no such host");
    for address in addresses {
        let there = std::net::SocketAddr::new(address, port);
        last = match tokio::time::timeout(CONNECT, TcpStream::connect(there)).await {
            Ok(Ok(tcp)) => {
                tcp.set_nodelay(true).map_err(|e| e.to_string())?;
                return Ok(tcp);
            }
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                format!("dial tcp {there}: connect: connection refused")
            }
            Ok(Err(e)) => format!("dial tcp {there}: {e}"),
            Err(_) => format!("dial tcp {there}: i/o timeout"),
        };
    }
    Err(last)
}

/// A connection to the host and port of a URL, through a proxy where there is one.
pub async fn connect(
    uri: &http::Uri,
    proxy: Option<&Proxy>,
    files: &TlsFiles,
    resolve: &Resolve,
) -> Result<Box<dyn Io>, String> {
    let host = uri.host().ok_or("the URL has no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let mut tcp = match proxy {
        Some(proxy) => dial(&proxy.host, proxy.port, resolve)
            .await
            .map_err(|e| format!("proxyconnect tcp: {e}"))?,
        None => dial(&host, port, resolve).await?,
    };
    if !secure {
        return Ok(Box::new(tcp));
    }
    if let Some(proxy) = proxy {
        proxy
            .tunnel(&mut tcp, &host, port)
            .await
            .map_err(|e| format!("proxyconnect tcp: {e}"))?;
    }
    let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(configuration(files)?));
    let shaking = tokio::time::timeout(CONNECT, connector.connect(name, tcp)).await;
    let tls = shaking
        .map_err(|_| "net/http: TLS handshake timeout".to_owned())?
        .map_err(|e| format!("tls: {e}"))?;
    Ok(Box::new(tls))
}
