//! A PKCS #10 certificate signing request, read for approval and signing.

use rcgen::{CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};

use crate::PkiError;

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
        let bad = |detail: String| PkiError::Parse {
            what: "certificate signing request".into(),
            detail,
        };
        let inner = CertificateSigningRequestParams::from_pem(pem)?;
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let (_, parsed) = x509_parser::prelude::FromDer::from_der(&block.contents)
            .map_err(|e: x509_parser::nom::Err<x509_parser::error::X509Error>| bad(e.to_string()))?;
        let parsed: x509_parser::certification_request::X509CertificationRequest<'_> = parsed;
        let subject = &parsed.certification_request_info.subject;
        let texts = |of: &mut dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>>| {
            of.filter_map(|a| a.as_str().ok().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let common_name = texts(&mut subject.iter_common_name()).pop().unwrap_or_default();
        let organizations = texts(&mut subject.iter_organization());
        Ok(Request {
            inner,
            common_name,
            organizations,
        })
    }

    pub fn common_name(&self) -> &str {
        &self.common_name
    }

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
    pub fn set_usages<'a>(&mut self, usages: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
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
                other => return Err(other.to_owned()),
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
