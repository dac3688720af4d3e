//! The certificate that a server shows, which may be replaced while it serves.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why a certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The PEM of the certificate is broken.
    #[error("serving certificate: {0}")]
    Certificate(rustls_pki_types::pem::Error),
    /// The PEM has no certificate in it.
    #[error("serving certificate: there is none in the file")]
    Empty,
    /// The PEM of the key is broken, or has no key in it.
    #[error("key of the serving certificate: {0}")]
    Key(rustls_pki_types::pem::Error),
    /// The key is of a kind that is not known, or of another certificate.
    #[error("serving certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// The certificate in use.
#[derive(Debug)]
pub struct Certificate(ArcSwapOption<CertifiedKey>);

impl Certificate {
    /// From PEM.
    ///
    /// # Errors
    /// For what is no certificate or no key, and a key of another certificate.
    pub fn new(certificate: &str, key: &str) -> Result<Arc<Certificate>, CertificateError> {
        Ok(Arc::new(Certificate(ArcSwapOption::from_pointee(certified(
            certificate,
            key,
        )?))))
    }

    /// None yet: connections fail until it is replaced.
    pub fn missing() -> Arc<Certificate> {
        Arc::new(Certificate(ArcSwapOption::empty()))
    }

    /// Connections made from now on see the new certificate.
    ///
    /// # Errors
    /// As `new`; what was shown before is then shown further on.
    pub fn replace(&self, certificate: &str, key: &str) -> Result<(), CertificateError> {
        self.0.store(Some(Arc::new(certified(certificate, key)?)));
        Ok(())
    }
}

fn certified(certificate: &str, key: &str) -> Result<CertifiedKey, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(CertificateError::Certificate)?;
    if chain.is_empty() {
        return Err(CertificateError::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(CertificateError::Key)?;
    let provider: CryptoProvider = rustls::crypto::ring::default_provider();
    Ok(CertifiedKey::from_der(chain, key, &provider)?)
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}
