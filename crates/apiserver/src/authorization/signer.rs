//! Who may approve, sign and attest for a signer.

use crate::authorization::{Attributes, Authorizer};
use crate::http::user::User;

/// Whether the user may do so for the signer itself, or for all signers of its domain.
pub fn may_sign(authorizer: &Authorizer, user: &User, verb: &str, signer: &str) -> bool {
    let allowed = |name: &str| {
        let asked = Attributes {
            verb,
            is_resource: true,
            group: "certificates.k8s.io",
            resource: "signers",
            name,
            ..Attributes::default()
        };
        authorizer.allows(user, &asked)
    };
    let domain = signer.split('/').next().unwrap_or_default();
    allowed(signer) || allowed(&format!("{domain}/*"))
}
