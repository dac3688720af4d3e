//! A certificate authority on disk and what it issues.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};

use crate::{PkiError, Request, Subject, ec_private_key_pem, write_pair};

/// How long an authority is valid: ten years, as kubeadm's and k3s's.
const AUTHORITY_DAYS: i64 = 3650;
/// Clocks differ: what is issued now is valid from a little earlier.
const SKEW: Duration = Duration::minutes(5);

/// Whom a certificate names: a Kubernetes user and its groups.
#[derive(Debug, Clone, Default)]
pub struct Identity<'a> {
    /// The user's name (`CN`).
    pub common_name: &'a str,
    /// The user's groups (`O`), in this order.
    pub organizations: &'a [&'a str],
}

impl Identity<'_> {
    pub(crate) fn distinguished_name(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        for organization in self.organizations {
            name.push(DnType::OrganizationName, *organization);
        }
        if !self.common_name.is_empty() {
            name.push(DnType::CommonName, self.common_name);
        }
        name
    }
}

/// What a certificate is for.
#[derive(Debug, Clone)]
pub enum Usage {
    /// A client proves with it who it is: extended key usage `clientAuth`.
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
    pub fn issue(
        &self,
        who: &Identity<'_>,
        usage: &Usage,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<(String, String), PkiError> {
        let pair = KeyPair::generate()?;
        let mut params = leaf(who, usage)?;
        set_life(&mut params, lifetime, now);
        let certificate = params.signed_by(&pair, &self.issuer)?;
        let key = ec_private_key_pem(&pair.serialize_der(), pair.der_bytes());
        Ok((certificate.pem(), key.unwrap_or_else(|| pair.serialize_pem())))
    }

    /// Issues a certificate for the key of a request. What else the request asks for does not count: whom the certificate names and
    /// what it is for is the caller's to say.
    pub fn issue_for(
        &self,
        request: Request,
        who: &Identity<'_>,
        usage: &Usage,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<String, PkiError> {
        let mut params = leaf(who, usage)?;
        set_life(&mut params, lifetime, now);
        let key = request.into_inner().public_key;
        Ok(params.signed_by(&key, &self.issuer)?.pem())
    }

    /// Makes `<name>.crt` and `<name>.key` in `dir` unless they are there, fit `usage` and are not due for renewal.
    /// Says whether it wrote them.
    pub fn ensure(
        &self,
        dir: &Path,
        name: &str,
        who: &Identity<'_>,
        usage: &Usage,
        lifetime: Duration,
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
        let (certificate, private) = self.issue(who, usage, lifetime, now)?;
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

/// A certificate that names `who`, without its times.
fn leaf(who: &Identity<'_>, usage: &Usage) -> Result<CertificateParams, PkiError> {
    let mut params = match usage {
        Usage::Client => CertificateParams::default(),
        Usage::Server(names) => CertificateParams::new(names.clone())?,
    };
    params.distinguished_name = who.distinguished_name();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![match usage {
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Usage::Server(_) => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn set_life(params: &mut CertificateParams, lifetime: Duration, now: OffsetDateTime) {
    // a short life begins not much before now: it is by the whole of it that renewal is due
    params.not_before = now - SKEW.min(lifetime / 12);
    params.not_after = now + lifetime;
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

/// The last second of a DER certificate's life, since 1970.
///
/// # Errors
/// When it does not parse.
pub fn not_after(der: &[u8]) -> Result<i64, PkiError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|e| PkiError::Parse {
        what: "certificate".into(),
        detail: e.to_string(),
    })?;
    Ok(parsed.validity().not_after.timestamp())
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Common names.
    pub subject: String,
    /// The common names of the authority that signed it.
    pub issuer: String,
    /// By Go's names: `ClientAuth`, `ServerAuth`; of an authority `CertSign`.
    pub usages: Vec<&'static str>,
    /// From when it is valid.
    pub not_before: OffsetDateTime,
    /// The last second at which it is valid.
    pub not_after: OffsetDateTime,
}

impl Facts {
    /// Reads all certificates of a PEM text.
    ///
    /// # Errors
    /// When one does not parse.
    pub fn of(pem: &str) -> Result<Vec<Facts>, PkiError> {
        let bad = |detail: String| PkiError::Parse {
            what: "file".into(),
            detail,
        };
        let facts = |der: CertificateDer<'_>| {
            let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|e| bad(e.to_string()))?;
            let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(|e| bad(e.to_string()));
            let mut usages = Vec::new();
            if parsed.is_ca() {
                usages.push("CertSign");
            }
            if let Ok(Some(extended)) = parsed.extended_key_usage() {
                usages.extend(extended.value.client_auth.then_some("ClientAuth"));
                usages.extend(extended.value.server_auth.then_some("ServerAuth"));
            }
            Ok(Facts {
                subject: Subject::of(parsed.subject())?.common_name,
                issuer: Subject::of(parsed.issuer())?.common_name,
                usages,
                not_before: at(parsed.validity().not_before.timestamp())?,
                not_after: at(parsed.validity().not_after.timestamp())?,
            })
        };
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(|der| facts(der.map_err(|e| bad(e.to_string()))?))
            .collect()
    }
}

/// Whether a certificate is not valid any more.
pub fn has_expired(pem: &str, now: OffsetDateTime) -> Result<bool, PkiError> {
    with_parsed(pem, |certificate| {
        now.unix_timestamp() >= certificate.validity().not_after.timestamp()
    })
}

/// When a certificate is to be renewed: between seven and nine tenths of its life, as upstream's kubelet has it. `chance` of 0 to 1
/// chooses, so that those who were issued together are not renewed together.
pub fn renewal_time(pem: &str, chance: f64) -> Result<OffsetDateTime, PkiError> {
    let (begin, end) = with_parsed(pem, |certificate| {
        let validity = certificate.validity();
        (validity.not_before.timestamp(), validity.not_after.timestamp())
    })?;
    let share = 0.2f64.mul_add(chance.clamp(0.0, 1.0), 0.7);
    let at = begin + ((end - begin) as f64 * share) as i64;
    OffsetDateTime::from_unix_timestamp(at).map_err(|e| PkiError::Parse {
        what: "end of a certificate".into(),
        detail: e.to_string(),
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
        let ensure = |usage: &Usage, now| {
            ca.ensure(dir.path(), "api", &who, usage, Duration::days(365), now)
                .unwrap()
        };
        assert!(ensure(&names(&["localhost", "127.0.0.1"]), now));
        assert!(!ensure(&names(&["localhost", "127.0.0.1"]), now));
        assert!(ensure(&names(&["localhost", "127.0.0.1", "10.0.0.1"]), now));
        assert!(!ensure(&names(&["localhost"]), now + Duration::days(200)));
        assert!(ensure(&names(&["localhost"]), now + Duration::days(300)));
    }

    #[test]
    fn a_certificate_for_the_key_of_a_request_names_whom_the_caller_says_and_is_renewed_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let ca = Authority::load_or_create(dir.path(), "client-ca", now).unwrap();
        let (key, request) = crate::key_and_request().unwrap();
        let who = Identity {
            common_name: "system:node:a",
            organizations: &["system:nodes"],
        };
        let request = || Request::from_der(&request).unwrap();
        let day = Duration::hours(24);
        let pem = ca.issue_for(request(), &who, &Usage::Client, day, now).unwrap();
        let subject = with_parsed(&pem, |c| crate::Subject::of(c.subject()).unwrap()).unwrap();
        assert_eq!(
            (subject.common_name, subject.organizations),
            ("system:node:a".into(), vec!["system:nodes".into()])
        );
        let facts = Facts::of(&format!("{pem}{}", ca.certificate())).unwrap();
        assert_eq!(
            (facts[0].subject.as_str(), &facts[0].usages[..]),
            ("system:node:a", &["ClientAuth"][..])
        );
        assert_eq!(
            (&facts[0].issuer, &facts[1].usages[..]),
            (&facts[1].subject, &["CertSign"][..])
        );
        assert_eq!(facts[0].not_after, now + day);
        let ours = KeyPair::from_pem(&key).unwrap();
        let theirs = with_parsed(&pem, |c| c.public_key().raw.to_vec()).unwrap();
        assert_eq!(theirs, ours.subject_public_key_info());
        let at = |chance| renewal_time(&pem, chance).unwrap() - now;
        assert!(at(0.0) > day * 0.69 && at(0.0) < day * 0.71, "{}", at(0.0));
        assert!(at(1.0) > day * 0.89 && at(1.0) < day * 0.91, "{}", at(1.0));
        // a life of a minute is not over at once
        let short = ca
            .issue_for(request(), &who, &Usage::Client, Duration::minutes(1), now)
            .unwrap();
        assert!(renewal_time(&short, 0.0).unwrap() > now + Duration::seconds(30));
        assert!(!needs_renewal(&short, now).unwrap());
        let expired = |seconds| has_expired(&short, now + Duration::seconds(seconds)).unwrap();
        assert!(!expired(59) && expired(60));
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
