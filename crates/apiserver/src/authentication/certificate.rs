//! Client certificates: the common name is the user, organizations are its groups.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::http::user::User;

/// Names the certificate that a user came with.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// The user that a verified client certificate names; `None` when it names nobody.
pub fn user(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
    if name.is_empty() {
        return None;
    }
    let mut user = User::new(name, &groups);
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    user.extra.insert(CREDENTIAL.into(), vec![format!("X509SHA256={hex}")]);
    Some(user)
}
