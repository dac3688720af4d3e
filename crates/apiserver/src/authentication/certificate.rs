//! Client certificates: the common name is the user, organizations are its groups.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::http::user::User;

/// The user that a verified client certificate names; `None` when it names nobody.
pub fn user(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
    (!name.is_empty()).then(|| User::new(name, &groups))
}
