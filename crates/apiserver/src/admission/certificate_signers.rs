//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign for a signer, and what may
//! not be asked of one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pki::{PkiError, Subject};
use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::authorization;
use crate::http::status::Result;
use crate::http::user::MASTERS;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Guards the signers of certificates.
pub struct CertificateSigners;

impl Plugin for CertificateSigners {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.resource.is(GROUP, "certificatesigningrequests")
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
        let refuse = |why: &str| Err(asked.resource.forbidden(asked.name, why));
        let verb = match (asked.subresource, asked.operation) {
            ("approval", Operation::Update) => "approve",
            ("status", Operation::Update) if changes_outcome(tree, old) => "sign",
            ("", Operation::Create) if signer_of(tree) == CLIENT_SIGNER => {
                return match subject_of(tree) {
                    Err(why) => refuse(&format!("failed to parse CSR: {why}")),
                    Ok(subject) if subject.organizations.iter().any(|o| o == MASTERS) => refuse(&format!(
                        "use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
                    )),
                    Ok(_) => Ok(()),
                };
            }
            _ => return Ok(()),
        };
        let signer = old.map(signer_of).unwrap_or_default();
        if trusted(asked, verb, signer) {
            return Ok(());
        }
        refuse(&format!(
            "user not permitted to {verb} requests with signerName {signer:?}"
        ))
    }
}

fn signer_of(tree: &Value) -> &str {
    tree.pointer("/spec/signerName")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn changes_outcome(new: &Value, old: Option<&Value>) -> bool {
    ["/status/certificate", "/status/conditions"]
        .iter()
        .any(|path| new.pointer(path) != old.and_then(|old| old.pointer(path)))
}

/// For the signer itself or for all signers of its domain.
fn trusted(attributes: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let allowed = |name: &str| {
        let asked = authorization::Attributes {
            verb,
            is_resource: true,
            group: GROUP,
            resource: "signers",
            name,
            ..authorization::Attributes::default()
        };
        attributes.authorizer.allows(attributes.user, &asked)
    };
    let domain = signer.split('/').next().unwrap_or_default();
    allowed(signer) || allowed(&format!("{domain}/*"))
}

/// Whom a signing request is to name.
///
/// # Errors
/// Why it cannot be read whole.
pub fn subject_of(tree: &Value) -> Result<Subject, String> {
    let request = tree
        .pointer("/spec/request")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let pem = STANDARD.decode(request).map_err(|e| e.to_string())?;
    Subject::of_request(&pem).map_err(|error| match error {
        PkiError::Parse { detail, .. } => detail,
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_signer_writes_is_signing() {
        let old = json!({ "status": { "conditions": [] } });
        assert!(!changes_outcome(&old, Some(&old)));
        let signed = json!({ "status": { "conditions": [], "certificate": "x" } });
        assert!(changes_outcome(&signed, Some(&old)));
        assert!(changes_outcome(&signed, None));
    }

    #[test]
    fn a_request_that_cannot_be_read_names_nobody_rather_than_somebody_harmless() {
        let of = |request: &str| subject_of(&json!({ "spec": { "request": request } }));
        for broken in ["", "%", "aGVsbG8="] {
            assert!(of(broken).is_err(), "{broken:?}");
        }
    }
}
