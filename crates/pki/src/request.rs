//! A PKCS #10 certificate signing request, read for approval and signing.

use rcgen::{
    CertificateParams, CertificateSigningRequest, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::CertificateSigningRequestDer;

use crate::{Identity, PkiError, Subject, ec_private_key_pem};

/// A usage of `spec.usages` that Kubernetes does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("usage {0:?} is not known")]
pub struct UnknownUsage(pub String);

/// A request whose own signature was verified when it was read.
pub struct Request {
    inner: CertificateSigningRequestParams,
    common_name: String,
    organizations: Vec<String>,
}

impl Request {
    /// Reads a PEM request.
    ///
    /// # Errors
    /// When it does not parse, asks for extensions that are not known, or its signature is wrong.
    pub fn from_pem(pem: &str) -> Result<Request, PkiError> {
        let inner = CertificateSigningRequestParams::from_pem(pem)?;
        let subject = Subject::of_request(pem.as_bytes())?;
        Ok(Request::of(inner, subject))
    }

    /// Reads a DER request.
    ///
    /// # Errors
    /// As `from_pem`.
    pub fn from_der(der: &[u8]) -> Result<Request, PkiError> {
        let inner = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))?;
        let subject = Subject::of_request_der(der)?;
        Ok(Request::of(inner, subject))
    }

    fn of(inner: CertificateSigningRequestParams, subject: Subject) -> Request {
        Request {
            inner,
            common_name: subject.common_name,
            organizations: subject.organizations,
        }
    }

    /// The user that the certificate shall name, or empty.
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// The groups that it shall name.
    pub fn organizations(&self) -> &[String] {
        &self.organizations
    }

    /// DNS names and addresses asked for.
    pub fn alternative_names(&self) -> Vec<String> {
        let names = self.inner.params.subject_alt_names.iter();
        names
            .map(|name| match name {
                SanType::DnsName(dns) => dns.as_str().to_owned(),
                SanType::IpAddress(ip) => ip.to_string(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    /// Sets what the certificate may be used for, in the words of `spec.usages`.
    ///
    /// # Errors
    /// The first usage that is not known.
    pub fn set_usages<'a>(&mut self, usages: impl IntoIterator<Item = &'a str>) -> Result<(), UnknownUsage> {
        let params = &mut self.inner.params;
        params.key_usages.clear();
        params.extended_key_usages.clear();
        for usage in usages {
            match usage {
                "signing" | "digital signature" => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
                "content commitment" => params.key_usages.push(KeyUsagePurpose::ContentCommitment),
                "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
                "key agreement" => params.key_usages.push(KeyUsagePurpose::KeyAgreement),
                "data encipherment" => params.key_usages.push(KeyUsagePurpose::DataEncipherment),
                "client auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth),
                "server auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
                "code signing" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning),
                "email protection" => params
                    .extended_key_usages
                    .push(ExtendedKeyUsagePurpose::EmailProtection),
                "timestamping" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::TimeStamping),
                other => return Err(UnknownUsage(other.to_owned())),
            }
        }
        Ok(())
    }

    pub(crate) fn into_inner(self) -> CertificateSigningRequestParams {
        self.inner
    }

    /// Whether the subject was understood whole by the signer too.
    pub fn subject_is_plain(&self) -> bool {
        let name = &self.inner.params.distinguished_name;
        name.iter()
            .all(|(kind, _)| matches!(kind, DnType::CommonName | DnType::OrganizationName))
    }
}

/// A new key, as PEM, and a DER request for a certificate of it that asks for no name: whoever signs it knows who asks.
///
/// # Errors
/// When the system gives no random numbers.
pub fn key_and_request() -> Result<(String, Vec<u8>), PkiError> {
    let (pair, request) = request_for(&Identity::default(), Vec::new())?;
    Ok((pair.serialize_pem(), request.der().to_vec()))
}

/// A new key and a request for a certificate of it that names `who`, and the DNS names and addresses of a server; both as PEM.
///
/// # Errors
/// When the system gives no random numbers, and for what is no DNS name.
pub fn key_and_request_for(who: &Identity<'_>, names: Vec<String>) -> Result<(String, String), PkiError> {
    let (pair, request) = request_for(who, names)?;
    let key = ec_private_key_pem(&pair.serialize_der(), pair.der_bytes());
    Ok((key.unwrap_or_else(|| pair.serialize_pem()), request.pem()?))
}

fn request_for(who: &Identity<'_>, names: Vec<String>) -> Result<(KeyPair, CertificateSigningRequest), PkiError> {
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = who.distinguished_name();
    let request = params.serialize_request(&pair)?;
    Ok((pair, request))
}
