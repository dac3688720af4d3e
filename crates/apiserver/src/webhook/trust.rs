//! Whom a server that users configure must prove to be: the authorities of its configuration, or those that the machine knows.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, VerifierBuilderError, WebPkiServerVerifier};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Where distributions keep the certificates of public authorities.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why there is no configuration of connections.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TrustError {
    /// A bundle holds no certificate.
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    NoCertificate,
    /// The library has none of the versions of TLS.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The library cannot check certificates against the authorities.
    #[error(transparent)]
    Verifier(#[from] VerifierBuilderError),
}

/// Who vouches for a server, and who asks it.
#[derive(Default)]
pub struct Trust<'a> {
    /// In PEM; an empty one stands for the authorities that the machine knows.
    pub bundle: &'a [u8],
    /// Any certificate will do.
    pub any: bool,
    /// What proves to the server who asks.
    pub own: Option<Arc<dyn ResolvesClientCert>>,
}

/// The configuration of connections to a server.
///
/// # Errors
/// When the bundle holds no certificate.
pub fn configuration(trust: Trust<'_>, protocols: &[&str]) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust.any {
        true => Arc::new(pki::AcceptAny(provider.clone())),
        false => Arc::new(Verifier::of(trust.bundle, &provider)?),
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder?.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match trust.own {
        Some(own) => builder.with_client_cert_resolver(own),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

fn of_bundle(bundle: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok).collect();
    if found.is_empty() {
        return Err(TrustError::NoCertificate);
    }
    Ok(found)
}

fn of_machine() -> Vec<CertificateDer<'static>> {
    let bundle = BUNDLES.iter().find(|path| Path::new(path).exists());
    let read = bundle.and_then(|path| CertificateDer::pem_file_iter(path).ok());
    read.into_iter().flatten().filter_map(Result::ok).collect()
}

/// Checks as Go does: a certificate that the bundle itself holds needs nobody who vouches for it.
#[derive(Debug)]
struct Verifier {
    /// `None` where no authority is known.
    inner: Option<Arc<WebPkiServerVerifier>>,
    authorities: Vec<CertificateDer<'static>>,
    supported: rustls::crypto::WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn of(bundle: &[u8], provider: &Arc<rustls::crypto::CryptoProvider>) -> Result<Verifier, TrustError> {
        let authorities = match bundle.is_empty() {
            true => of_machine(),
            false => of_bundle(bundle)?,
        };
        let mut roots = RootCertStore::empty();
        // a bundle may hold certificates that vouch for nobody; the others count
        roots.add_parsable_certificates(authorities.iter().cloned());
        let inner = match roots.is_empty() {
            true => None,
            false => {
                let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
                Some(built?)
            }
        };
        Ok(Verifier {
            inner,
            authorities,
            supported: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let verified = inner.verify_server_cert(certificate, between, name, ocsp, now);
        let Err(error) = verified else { return verified };
        let own = self
            .authorities
            .iter()
            .any(|known| known.as_ref() == certificate.as_ref());
        if !own || !is_current(certificate, now) {
            return Err(error);
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        rustls::client::verify_server_name(&parsed, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.supported)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.supported)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.supported.supported_schemes()
    }
}

fn is_current(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return false;
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
}

/// What Go says of a handshake that failed; `host` is the name that was to be proved.
pub fn problem(error: &std::io::Error, host: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let unverified = |why: String| format!("tls: failed to verify certificate: x509: {why}");
    match inner {
        Some(Error::InvalidCertificate(why)) => unverified(match why {
            // an authority's certificate that nobody vouches for is told as something of its own
            CertificateError::UnknownIssuer | CertificateError::BadSignature | CertificateError::Other(_) => {
                "certificate signed by unknown authority".into()
            }
            CertificateError::ExpiredContext { time, not_after } => format!(
                "certificate has expired or is not yet valid: current time {} is after {}",
                shown(time.as_secs()),
                shown(not_after.as_secs())
            ),
            CertificateError::NotValidYetContext { time, not_before } => format!(
                "certificate has expired or is not yet valid: current time {} is before {}",
                shown(time.as_secs()),
                shown(not_before.as_secs())
            ),
            CertificateError::NotValidForNameContext { presented, .. } => other_name(host, presented),
            CertificateError::NotValidForName => other_name(host, &[]),
            other => other.to_string(),
        }),
        Some(Error::InvalidMessage(_)) => "http: server gave HTTP response to HTTPS client".into(),
        Some(Error::AlertReceived(alert)) => {
            let words = format!("{alert:?}");
            let mut text = String::new();
            for c in words.chars() {
                if c.is_uppercase() && !text.is_empty() {
                    text.push(' ');
                }
                text.extend(c.to_lowercase());
            }
            format!("remote error: tls: {text}")
        }
        Some(other) => format!("tls: {other}"),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => "EOF".into(),
        None => api::go::io_error(error),
    }
}

fn shown(seconds: u64) -> String {
    let at = i64::try_from(seconds)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok());
    at.map(crate::registry::format_time).unwrap_or_default()
}

/// The names are shown as rustls shows them: `DnsName("a")`, `IpAddress(1.2.3.4)`.
fn other_name(host: &str, presented: &[String]) -> String {
    let inside = |text: &String| {
        let (_, rest) = text.split_once('(')?;
        Some(rest.trim_end_matches(')').trim_matches('"').to_owned())
    };
    if host.parse::<std::net::IpAddr>().is_ok() {
        let of_ips = presented.iter().filter(|p| p.starts_with("Ip")).filter_map(inside);
        let ips: Vec<String> = of_ips.collect();
        if ips.is_empty() {
            return format!("cannot validate certificate for {host} because it doesn't contain any IP SANs");
        }
        return format!("certificate is valid for {}, not {host}", ips.join(", "));
    }
    let names: Vec<String> = presented
        .iter()
        .filter(|p| p.starts_with("Dns"))
        .filter_map(inside)
        .collect();
    if names.is_empty() {
        return format!("certificate is not valid for any names, but wanted to match {host}");
    }
    format!("certificate is valid for {}, not {host}", names.join(", "))
}
