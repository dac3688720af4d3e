//! Whom a certificate or a signing request names: its common name and organizations, in every string type of ASN.1.

use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::PkiError;

/// A user and its groups, as a certificate has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The last one, as upstream reads it; empty when there is none.
    pub common_name: String,
    /// The groups, in the certificate's order.
    pub organizations: Vec<String>,
}

impl Subject {
    /// Reads a name.
    ///
    /// # Errors
    /// When one of its texts is of a type, or holds a character, that is not understood: it must not be taken for none.
    pub fn of(name: &X509Name<'_>) -> Result<Subject, PkiError> {
        let last = name.iter_common_name().last();
        let organizations = name.iter_organization().map(text).collect::<Result<_, _>>()?;
        Ok(Subject {
            common_name: last.map(text).transpose()?.unwrap_or_default(),
            organizations,
        })
    }

    /// Reads the subject of a DER certificate.
    ///
    /// # Errors
    /// When it does not parse or its subject is not understood.
    pub fn of_certificate(der: &[u8]) -> Result<Subject, PkiError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(unreadable)?;
        Subject::of(certificate.subject())
    }

    /// Reads the subject of a PEM signing request.
    ///
    /// # Errors
    /// When it does not parse or its subject is not understood.
    pub fn of_request(pem: &[u8]) -> Result<Subject, PkiError> {
        let block = Pem::iter_from_buffer(pem).next();
        let other = || unreadable("PEM block type must be CERTIFICATE REQUEST");
        let block = block.ok_or_else(other)?.map_err(unreadable)?;
        if block.label != "CERTIFICATE REQUEST" {
            return Err(other());
        }
        Subject::of_request_der(&block.contents)
    }

    /// Reads the subject of a DER signing request.
    ///
    /// # Errors
    /// When it does not parse or its subject is not understood.
    pub fn of_request_der(der: &[u8]) -> Result<Subject, PkiError> {
        let (_, request) = X509CertificationRequest::from_der(der).map_err(unreadable)?;
        Subject::of(&request.certification_request_info.subject)
    }
}

fn unreadable(detail: impl std::fmt::Display) -> PkiError {
    PkiError::Parse {
        what: "subject".into(),
        detail: detail.to_string(),
    }
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> Result<String, PkiError> {
    let value = attribute.attr_value();
    decode(value.tag().0, value.data)
}

/// A text by its universal tag.
fn decode(tag: u32, bytes: &[u8]) -> Result<String, PkiError> {
    const UTF8: u32 = 12;
    const NUMERIC: u32 = 18;
    const PRINTABLE: u32 = 19;
    const T61: u32 = 20;
    const IA5: u32 = 22;
    const UNIVERSAL: u32 = 28;
    const BMP: u32 = 30;
    let invalid = || unreadable("a text has characters that its type does not have");
    match tag {
        UTF8 => String::from_utf8(bytes.to_vec()).map_err(|_| invalid()),
        NUMERIC | PRINTABLE | IA5 if bytes.is_ascii() => Ok(bytes.iter().map(|b| char::from(*b)).collect()),
        NUMERIC | PRINTABLE | IA5 => Err(invalid()),
        // nearly Latin-1, and read as such everywhere
        T61 => Ok(bytes.iter().map(|b| char::from(*b)).collect()),
        BMP => {
            let (units, rest) = bytes.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            let units = units.strip_suffix(&[0]).unwrap_or(&units);
            match rest {
                [] => String::from_utf16(units).map_err(|_| invalid()),
                _ => Err(invalid()),
            }
        }
        UNIVERSAL => {
            let (units, rest) = bytes.as_chunks::<4>();
            let text = units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
            match rest {
                [] => text.collect::<Option<String>>().ok_or_else(invalid),
                _ => Err(invalid()),
            }
        }
        other => Err(unreadable(format_args!(
            "texts of ASN.1 type {other} are not understood"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::string::{BmpString, Ia5String, PrintableString, TeletexString, UniversalString};
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    fn request(organization: DnValue) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.distinguished_name.push(DnType::OrganizationName, organization);
        let key = KeyPair::generate().unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap().into_bytes()
    }

    #[test]
    fn a_group_is_read_in_every_type_of_text() {
        let group = "system:masters";
        for value in [
            DnValue::Utf8String(group.into()),
            DnValue::PrintableString(PrintableString::try_from(group).unwrap()),
            DnValue::TeletexString(TeletexString::try_from(group).unwrap()),
            DnValue::Ia5String(Ia5String::try_from(group).unwrap()),
            DnValue::BmpString(BmpString::try_from(group).unwrap()),
            DnValue::UniversalString(UniversalString::try_from(group).unwrap()),
        ] {
            let subject = Subject::of_request(&request(value.clone())).unwrap();
            assert_eq!(subject.organizations, [group], "{value:?}");
            assert_eq!(subject.common_name, "jane");
        }
    }

    #[test]
    fn a_text_that_is_not_understood_is_an_error() {
        for (tag, bytes) in [
            (12, &b"\xff"[..]),
            (19, b"\xe4"),
            (30, b"\0a\0"),
            (28, b"\0\0\0"),
            (4, b"a"),
        ] {
            assert!(decode(tag, bytes).is_err(), "{tag}");
        }
        assert_eq!(decode(20, b"d\xe4ve").unwrap(), "däve");
        assert_eq!(decode(30, b"\0a\0\0").unwrap(), "a");
        assert!(Subject::of_request(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}
