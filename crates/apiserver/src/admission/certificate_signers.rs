//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction and ClusterTrustBundleAttest: who may approve, sign and
//! attest for a signer, and what may not be asked of one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pki::{PkiError, Subject};
use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::authorization::signer::may_sign;
use crate::http::status::Result;
use crate::http::user::MASTERS;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Guards the signers of certificates: four plugins that can be switched on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateSigners {
    Approval,
    Signing,
    Attest,
    SubjectRestriction,
}

impl CertificateSigners {
    fn refuse_unless(self, asked: &Attributes<'_>, verb: &str, old: Option<&Value>) -> Result<()> {
        let signer = old.map(signer_of).unwrap_or_default();
        if may_sign(asked.authorizer, asked.user, verb, signer) {
            return Ok(());
        }
        let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
        Err(asked.resource.forbidden(asked.name, &why))
    }
}

impl Plugin for CertificateSigners {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        let request = asked.resource.is(GROUP, "certificatesigningrequests");
        match self {
            CertificateSigners::Approval => {
                request && asked.subresource == "approval" && asked.operation == Operation::Update
            }
            CertificateSigners::Signing => {
                request && asked.subresource == "status" && asked.operation == Operation::Update
            }
            CertificateSigners::Attest => asked.resource.is(GROUP, "clustertrustbundles"),
            CertificateSigners::SubjectRestriction => asked.is(GROUP, "certificatesigningrequests", Operation::Create),
        }
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
        let refuse = |why: &str| Err(asked.resource.forbidden(asked.name, why));
        match self {
            CertificateSigners::Approval => self.refuse_unless(asked, "approve", old),
            CertificateSigners::Signing if changes_outcome(tree, old) => self.refuse_unless(asked, "sign", old),
            CertificateSigners::Signing => Ok(()),
            CertificateSigners::Attest => {
                let signer = signer_of(tree);
                let attests = attests(asked.operation, tree, old);
                if !attests || may_sign(asked.authorizer, asked.user, "attest", signer) {
                    return Ok(());
                }
                refuse(&format!("user not permitted to attest for signerName {signer:?}"))
            }
            CertificateSigners::SubjectRestriction if signer_of(tree) != CLIENT_SIGNER => Ok(()),
            CertificateSigners::SubjectRestriction => match subject_of(tree) {
                Err(why) => refuse(&format!("failed to parse CSR: {why}")),
                Ok(subject) if subject.organizations.iter().any(|o| o == MASTERS) => refuse(&format!(
                    "use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
                )),
                Ok(_) => Ok(()),
            },
        }
    }
}

fn signer_of(tree: &Value) -> &str {
    tree.pointer("/spec/signerName")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether a bundle of a signer changes; its owners and finalizers may, for the garbage collector.
fn attests(operation: Operation, new: &Value, old: Option<&Value>) -> bool {
    let writes = matches!(operation, Operation::Create | Operation::Update);
    writes && !signer_of(new).is_empty() && !old.is_some_and(|old| only_changes_owners(new, old))
}

/// Whether two objects are the same but for owners, finalizers and the fields that say who wrote them.
fn only_changes_owners(new: &Value, old: &Value) -> bool {
    let rest = |tree: &Value| {
        let mut tree = tree.clone();
        if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| !matches!(key.as_str(), "ownerReferences" | "finalizers" | "managedFields"));
        }
        tree
    };
    rest(new) == rest(old)
}

fn changes_outcome(new: &Value, old: Option<&Value>) -> bool {
    ["/status/certificate", "/status/conditions"]
        .iter()
        .any(|path| new.pointer(path) != old.and_then(|old| old.pointer(path)))
}

/// Why the request in a CertificateSigningRequest cannot be read whole.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// It is no base64.
    #[error(transparent)]
    Base64(#[from] base64::DecodeError),
    /// It is no request: where it is wrong.
    #[error("{0}")]
    Parse(String),
    /// It cannot be used for another reason.
    #[error(transparent)]
    Pki(PkiError),
}

/// Returns whom a signing request is to name.
///
/// # Errors
/// When the request cannot be read whole.
pub fn subject_of(tree: &Value) -> Result<Subject, SubjectError> {
    let request = tree
        .pointer("/spec/request")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let pem = STANDARD.decode(request)?;
    Subject::of_request(&pem).map_err(|error| match error {
        PkiError::Parse { detail, .. } => SubjectError::Parse(detail),
        other => SubjectError::Pki(other),
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
    fn only_who_changes_what_a_bundle_says_attests_to_it() {
        let bundle =
            json!({ "metadata": { "name": "b" }, "spec": { "signerName": "example.com/s", "trustBundle": "x" } });
        let plain = json!({ "spec": { "trustBundle": "x" } });
        let mut owned = bundle.clone();
        owned["metadata"]["finalizers"] = json!(["example.com/f"]);
        let mut other = bundle.clone();
        other["spec"]["trustBundle"] = json!("y");
        for (operation, new, old, wanted) in [
            (Operation::Create, &bundle, None, true),
            (Operation::Create, &plain, None, false),
            (Operation::Update, &other, Some(&bundle), true),
            (Operation::Update, &owned, Some(&bundle), false),
            (Operation::Delete, &Value::Null, Some(&bundle), false),
        ] {
            assert_eq!(attests(operation, new, old), wanted, "{operation:?} {new}");
        }
    }

    #[test]
    fn a_request_that_cannot_be_read_names_nobody_rather_than_somebody_harmless() {
        let of = |request: &str| subject_of(&json!({ "spec": { "request": request } }));
        for broken in ["", "%", "aGVsbG8="] {
            assert!(of(broken).is_err(), "{broken:?}");
        }
    }
}
