//! Client certificates: the common name is the user, organizations are its groups.

use std::net::IpAddr;

use jiff::Timestamp;
use pki::Subject;

use crate::http::user::User;

/// Names the certificate that a user came with.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: IpAddr,
    /// With the second after which it proves nothing: a connection may outlive it.
    shown: Option<(Proof, i64)>,
}

/// A client's certificate was valid when the connection began, and is not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client's certificate has expired")]
pub struct Expired;

impl Peer {
    /// Whether the client has shown a certificate that was signed for clients.
    pub fn has_certificate(&self) -> bool {
        self.shown.is_some()
    }

    /// `shown` is what the client's verified certificate says, and when that ends, in seconds since 1970.
    pub fn new(address: IpAddr, shown: Option<(Proof, i64)>) -> Peer {
        Peer { address, shown }
    }

    /// What the client has shown of itself.
    ///
    /// # Errors
    /// Once that has expired.
    pub fn proof(&self, now: Timestamp) -> Result<Option<&Proof>, Expired> {
        match &self.shown {
            Some((_, until)) if now.as_second() > *until => Err(Expired),
            Some((proof, _)) => Ok(Some(proof)),
            None => Ok(None),
        }
    }
}

/// What a client's certificate says, by who vouches for it.
#[derive(Debug, Clone)]
pub enum Proof {
    User(User),
    /// A proxy: who asks is named in headers.
    Proxy,
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_proves_something_until_it_expires() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let address = IpAddr::from([192, 0, 2, 1]);
        let peer = Peer::new(address, Some((Proof::User(User::new("jane", &[])), 1000)));
        assert!(matches!(peer.proof(at(1000)), Ok(Some(Proof::User(user))) if user.name == "jane"));
        assert_eq!(peer.proof(at(1001)).unwrap_err(), Expired);
        assert!(matches!(Peer::new(address, None).proof(at(1001)), Ok(None)));
    }
}
