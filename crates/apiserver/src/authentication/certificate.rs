//! Client certificates: the common name is the user, organizations are its groups.

use pki::Subject;

use crate::http::user::User;

/// Names the certificate that a user came with.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// The user that a verified client certificate names; `None` when it names nobody, or in a way that is not understood.
pub fn user(der: &[u8]) -> Option<User> {
    let subject = match Subject::of_certificate(der) {
        Ok(subject) if !subject.common_name.is_empty() => subject,
        Ok(_) => return None,
        Err(error) => {
            tracing::debug!(%error, "a client certificate is not understood");
            return None;
        }
    };
    let groups: Vec<&str> = subject.organizations.iter().map(String::as_str).collect();
    let mut user = User::new(subject.common_name, &groups);
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    user.extra.insert(CREDENTIAL.into(), vec![format!("X509SHA256={hex}")]);
    Some(user)
}
