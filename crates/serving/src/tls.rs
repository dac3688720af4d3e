//! Which versions and cipher suites a server offers, by the names that Kubernetes' flags have.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, ProtocolVersion, SupportedProtocolVersion};

/// Suites that Go knows by name and that are not offered: they have no forward secrecy, or no authenticated encryption.
const REFUSED: [&str; 10] = [
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
];

static ONLY_13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

/// What a server offers.
#[derive(Clone)]
pub struct TlsSettings {
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suites = self.provider.cipher_suites.iter().map(|s| s.suite());
        f.debug_list().entries(suites).finish()
    }
}

impl Default for TlsSettings {
    fn default() -> TlsSettings {
        TlsSettings {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            versions: rustls::DEFAULT_VERSIONS,
        }
    }
}

/// Why the values of `--tls-cipher-suites` and `--tls-min-version` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A version before 1.2, which rustls does not speak.
    #[error("{0} is not supported: TLS begins at 1.2")]
    OldVersion(String),
    /// Not a version.
    #[error("unknown tls version {0:?}")]
    Version(String),
    /// A suite that upstream offers when it is asked to, and that rustls does not have.
    #[error("Cipher suite {0} is not supported: it is not safe")]
    UnsafeSuite(String),
    /// Not a suite.
    #[error("Cipher suite {0} not supported or doesn't exist")]
    Suite(String),
}

impl TlsSettings {
    /// By the values of `--tls-cipher-suites` (none: all that are safe) and `--tls-min-version` (empty: TLS 1.2). The suites of TLS
    /// 1.3 are always offered, as by every program in Go.
    ///
    /// # Errors
    /// For names that nobody knows and for what is not offered.
    pub fn new(cipher_suites: &[String], min_version: &str) -> Result<TlsSettings, TlsError> {
        let mut settings = TlsSettings::default();
        match min_version {
            "" | "VersionTLS12" => {}
            "VersionTLS13" => settings.versions = &ONLY_13,
            "VersionTLS10" | "VersionTLS11" => {
                return Err(TlsError::OldVersion(min_version.to_owned()));
            }
            other => return Err(TlsError::Version(other.to_owned())),
        }
        if cipher_suites.is_empty() {
            return Ok(settings);
        }
        let mut provider = rustls::crypto::ring::default_provider();
        let known = |name: &str| {
            provider
                .cipher_suites
                .iter()
                .map(|s| s.suite())
                .find(|s| name_of(*s) == name)
        };
        let mut wanted: Vec<CipherSuite> = Vec::new();
        for name in cipher_suites {
            // Go has a second name for these
            let full = match name.as_str() {
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => {
                    format!("{name}_SHA256")
                }
                _ => name.clone(),
            };
            match known(&full) {
                Some(suite) => wanted.push(suite),
                None if REFUSED.contains(&name.as_str()) => {
                    return Err(TlsError::UnsafeSuite(name.clone()));
                }
                None => return Err(TlsError::Suite(name.clone())),
            }
        }
        let stays = |s: &rustls::SupportedCipherSuite| {
            s.version().version == ProtocolVersion::TLSv1_3 || wanted.contains(&s.suite())
        };
        provider.cipher_suites.retain(stays);
        settings.provider = Arc::new(provider);
        Ok(settings)
    }

    /// The cryptography, with no other cipher suites than those that are offered.
    pub fn provider(&self) -> Arc<CryptoProvider> {
        self.provider.clone()
    }

    /// The versions of TLS that are offered.
    pub fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        self.versions
    }
}

/// The name in the standard, which is also Go's.
fn name_of(suite: CipherSuite) -> String {
    format!("{suite:?}").replace("TLS13_", "TLS_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(suites: &[&str], min: &str) -> Result<TlsSettings, TlsError> {
        let suites: Vec<String> = suites.iter().map(|s| (*s).to_owned()).collect();
        TlsSettings::new(&suites, min)
    }

    #[test]
    fn suites_and_versions_are_offered_by_name_or_refused() {
        let names = |s: &TlsSettings| {
            s.provider
                .cipher_suites
                .iter()
                .map(|s| name_of(s.suite()))
                .collect::<Vec<_>>()
        };
        let some = settings(
            &[
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
            ],
            "",
        )
        .unwrap();
        let mut found = names(&some);
        found.sort();
        assert_eq!(
            found,
            [
                "TLS_AES_128_GCM_SHA256",
                "TLS_AES_256_GCM_SHA384",
                "TLS_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            ]
        );
        assert_eq!(settings(&[], "VersionTLS13").unwrap().versions().len(), 1);
        assert_eq!(settings(&[], "VersionTLS12").unwrap().versions().len(), 2);
        for (suites, min, why) in [
            (vec!["TLS_RSA_WITH_AES_128_GCM_SHA256"], "", "it is not safe"),
            (vec!["TLS_X"], "", "Cipher suite TLS_X not supported or doesn't exist"),
            (vec![], "VersionTLS10", "TLS begins at 1.2"),
            (vec![], "1.2", "unknown tls version \"1.2\""),
        ] {
            let said = settings(&suites, min).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
