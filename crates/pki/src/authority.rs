//! A certificate authority on disk and what it issues.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};

use crate::{PkiError, Request, ec_private_key_pem, write_pair};

/// How long an authority is valid: ten years, as kubeadm's and k3s's.
const AUTHORITY_DAYS: i64 = 3650;
/// How long a leaf certificate is valid: one year.
const LEAF_DAYS: i64 = 365;
/// Clocks differ: what is issued now is valid from a little earlier.
const SKEW: Duration = Duration::minutes(5);

/// Whom a certificate names: a Kubernetes user and its groups.
#[derive(Debug, Clone, Default)]
pub struct Identity<'a> {
    pub common_name: &'a str,
    pub organizations: &'a [&'a str],
}

/// What a certificate is for.
#[derive(Debug, Clone)]
pub enum Usage {
    Client,
    /// Names and addresses that the server is reached by.
    Server(Vec<String>),
}

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// Reads `<name>.crt` and `<name>.key` of `dir`, or makes them.
    ///
    /// # Errors
    /// When only one of the two is there: neither is then overwritten.
    pub fn load_or_create(dir: &Path, name: &str, now: OffsetDateTime) -> Result<Authority, PkiError> {
        let crt = dir.join(format!("{name}.crt"));
        let key = dir.join(format!("{name}.key"));
        match (read(&crt)?, read(&key)?) {
            (Some(certificate), Some(key)) => Authority::from_pem(certificate, &key),
            (None, None) => {
                let pair = KeyPair::generate()?;
                let mut params = CertificateParams::default();
                params.distinguished_name = DistinguishedName::new();
                params
                    .distinguished_name
                    .push(DnType::CommonName, format!("skiff-{name}@{}", now.unix_timestamp()));
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.key_usages = vec![
                    KeyUsagePurpose::KeyCertSign,
                    KeyUsagePurpose::DigitalSignature,
                    KeyUsagePurpose::KeyEncipherment,
                ];
                params.not_before = now - SKEW;
                params.not_after = now + Duration::days(AUTHORITY_DAYS);
                let certificate = params.self_signed(&pair)?.pem();
                let pem = pair.serialize_pem();
                write_pair(&crt, &certificate, &key, &pem)?;
                Authority::from_pem(certificate, &pem)
            }
            _ => Err(PkiError::Halves { path: crt }),
        }
    }

    /// An authority from its certificate and key.
    pub fn from_pem(certificate: String, key: &str) -> Result<Authority, PkiError> {
        let issuer = Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(key)?)?;
        Ok(Authority { issuer, certificate })
    }

    /// The authority's own certificate as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Issues a certificate with a new key; both as PEM.
    pub fn issue(&self, who: &Identity<'_>, usage: &Usage, now: OffsetDateTime) -> Result<(String, String), PkiError> {
        let pair = KeyPair::generate()?;
        let mut params = match usage {
            Usage::Client => CertificateParams::default(),
            Usage::Server(names) => CertificateParams::new(names.clone())?,
        };
        params.distinguished_name = DistinguishedName::new();
        for organization in who.organizations {
            params.distinguished_name.push(DnType::OrganizationName, *organization);
        }
        params.distinguished_name.push(DnType::CommonName, who.common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![match usage {
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Usage::Server(_) => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - SKEW;
        params.not_after = now + Duration::days(LEAF_DAYS);
        let certificate = params.signed_by(&pair, &self.issuer)?;
        let key = ec_private_key_pem(&pair.serialize_der(), pair.der_bytes());
        Ok((certificate.pem(), key.unwrap_or_else(|| pair.serialize_pem())))
    }

    /// Makes `<name>.crt` and `<name>.key` in `dir` unless they are there, fit `usage` and are not due for renewal.
    /// Says whether it wrote them.
    pub fn ensure(
        &self,
        dir: &Path,
        name: &str,
        who: &Identity<'_>,
        usage: &Usage,
        now: OffsetDateTime,
    ) -> Result<bool, PkiError> {
        let crt = dir.join(format!("{name}.crt"));
        let key = dir.join(format!("{name}.key"));
        if let (Some(pem), Some(_)) = (read(&crt)?, read(&key)?)
            && !needs_renewal(&pem, now)?
            && covers(&pem, usage)?
        {
            return Ok(false);
        }
        let (certificate, private) = self.issue(who, usage, now)?;
        write_pair(&crt, &certificate, &key, &private)?;
        Ok(true)
    }

    /// Signs a certificate signing request, which must have been approved by the caller, for `lifetime`.
    pub fn sign(&self, request: Request, lifetime: Duration, now: OffsetDateTime) -> Result<String, PkiError> {
        let mut inner = request.into_inner();
        inner.params.not_before = now - SKEW;
        inner.params.not_after = now + lifetime;
        inner.params.is_ca = IsCa::ExplicitNoCa;
        Ok(inner.signed_by(&self.issuer)?.pem())
    }
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

fn with_parsed<T>(
    pem: &str,
    f: impl FnOnce(&x509_parser::certificate::X509Certificate<'_>) -> T,
) -> Result<T, PkiError> {
    let bad = |detail: String| PkiError::Parse {
        what: "file".into(),
        detail,
    };
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|e| bad(e.to_string()))?;
    Ok(f(&parsed))
}

/// Whether a certificate has less than a third of its life left.
pub fn needs_renewal(pem: &str, now: OffsetDateTime) -> Result<bool, PkiError> {
    with_parsed(pem, |certificate| {
        let begin = certificate.validity().not_before.timestamp();
        let end = certificate.validity().not_after.timestamp();
        now.unix_timestamp() > end - (end - begin) / 3
    })
}

/// Whether a certificate names everything that `usage` asks for.
fn covers(pem: &str, usage: &Usage) -> Result<bool, PkiError> {
    let Usage::Server(names) = usage else { return Ok(true) };
    let wanted = CertificateParams::new(names.clone())?.subject_alt_names;
    with_parsed(pem, |certificate| {
        let Ok(Some(found)) = certificate.subject_alternative_name() else {
            return wanted.is_empty();
        };
        let names = &found.value.general_names;
        wanted.iter().all(|want| {
            names.iter().any(|have| match (want, have) {
                (SanType::DnsName(a), x509_parser::extensions::GeneralName::DNSName(b)) => a.as_str() == *b,
                (SanType::IpAddress(std::net::IpAddr::V4(a)), x509_parser::extensions::GeneralName::IPAddress(b)) => {
                    a.octets() == *b
                }
                (SanType::IpAddress(std::net::IpAddr::V6(a)), x509_parser::extensions::GeneralName::IPAddress(b)) => {
                    a.octets() == *b
                }
                _ => false,
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_kept_until_due_or_not_covering() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let ca = Authority::load_or_create(dir.path(), "server-ca", now).unwrap();
        let again = Authority::load_or_create(dir.path(), "server-ca", now).unwrap();
        assert_eq!(ca.certificate(), again.certificate());
        let who = Identity {
            common_name: "kube-apiserver",
            organizations: &[],
        };
        let names = |list: &[&str]| Usage::Server(list.iter().map(|s| (*s).to_owned()).collect());
        let ensure = |usage: &Usage, now| ca.ensure(dir.path(), "api", &who, usage, now).unwrap();
        assert!(ensure(&names(&["localhost", "127.0.0.1"]), now));
        assert!(!ensure(&names(&["localhost", "127.0.0.1"]), now));
        assert!(ensure(&names(&["localhost", "127.0.0.1", "10.0.0.1"]), now));
        assert!(!ensure(&names(&["localhost"]), now + Duration::days(200)));
        assert!(ensure(&names(&["localhost"]), now + Duration::days(300)));
    }

    #[test]
    fn a_key_without_its_certificate_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.key"), "precious").unwrap();
        let made = Authority::load_or_create(dir.path(), "ca", OffsetDateTime::UNIX_EPOCH);
        assert!(matches!(made, Err(PkiError::Halves { .. })));
        assert_eq!(std::fs::read(dir.path().join("ca.key")).unwrap(), b"precious");
    }
}
