//! Tokens in k3s's forms: `K10<digest of the authority>::<user>:<secret>`, the same with a bootstrap token in place of user and secret,
//! and the short ones that are the secret or the bootstrap token alone.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

const PREFIX: &str = "K10";
/// Hex digits of a digest.
const DIGITS: usize = 64;

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("token must not be empty")]
    Empty,
    #[error("invalid token CA hash length")]
    HashLength,
    #[error("invalid token format")]
    Format,
}

/// By what a client is known to the server.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// The user is empty in a short token.
    Password { user: String, secret: String },
    /// kubeadm's form.
    Bootstrap { id: String, secret: String },
}

/// A token as a user gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The digest of the cluster's authority, unless the token is a short one.
    pub ca_hash: Option<String>,
    pub credentials: Credentials,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { user, .. } => write!(f, "{user}:***"),
            Credentials::Bootstrap { id, .. } => write!(f, "{id}.***"),
        }
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.credentials)
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { user, secret } => write!(f, "{user}:{secret}"),
            Credentials::Bootstrap { id, secret } => write!(f, "{id}.{secret}"),
        }
    }
}

impl Credentials {
    /// The value of an `Authorization` header. A password goes with `user`, whatever the token says: the part that asks decides
    /// whether it is an agent or a server.
    pub fn header(&self, user: &str) -> String {
        use base64::Engine;
        match self {
            Credentials::Password { secret, .. } => {
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{secret}"));
                format!("Basic {pair}")
            }
            Credentials::Bootstrap { .. } => format!("Bearer {self}"),
        }
    }
}

/// `abcdef.0123456789abcdef`, taken apart.
pub fn bootstrap(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.split_once('.')?;
    let plain = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (plain(id, 6) && plain(secret, 16)).then_some((id, secret))
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<JoinToken, TokenError> {
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        let Some(rest) = text.strip_prefix(PREFIX) else {
            let credentials = match bootstrap(text) {
                Some((id, secret)) => Credentials::Bootstrap {
                    id: id.into(),
                    secret: secret.into(),
                },
                None => Credentials::Password {
                    user: String::new(),
                    secret: text.into(),
                },
            };
            return Ok(JoinToken {
                ca_hash: None,
                credentials,
            });
        };
        let (hash, rest) = rest.split_once("::").unwrap_or(("", rest));
        if !hash.is_empty() && hash.len() != DIGITS {
            return Err(TokenError::HashLength);
        }
        let credentials = match bootstrap(rest) {
            Some((id, secret)) => Credentials::Bootstrap {
                id: id.into(),
                secret: secret.into(),
            },
            None => match rest.split_once(':') {
                Some((user, secret)) if !secret.is_empty() => Credentials::Password {
                    user: user.into(),
                    secret: secret.into(),
                },
                _ => return Err(TokenError::Format),
            },
        };
        Ok(JoinToken {
            ca_hash: (!hash.is_empty()).then(|| hash.to_owned()),
            credentials,
        })
    }
}

/// The token by which others join the cluster of this authority (PEM).
pub fn whole(authority: &str, credentials: &Credentials) -> String {
    format!("{PREFIX}{}::{credentials}", ca_hash(authority))
}

/// The digest of an authority: of its PEM text as it stands, as k3s has it.
pub fn ca_hash(authority: &str) -> String {
    hex(&Sha256::digest(authority.as_bytes()))
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, secret: &str) -> Credentials {
        Credentials::Password {
            user: user.into(),
            secret: secret.into(),
        }
    }

    #[test]
    fn tokens_are_read_in_every_form() {
        let hash = "0".repeat(64);
        let boot = Credentials::Bootstrap {
            id: "abcdef".into(),
            secret: "0123456789abcdef".into(),
        };
        for (text, ca_hash, credentials) in [
            (format!("K10{hash}::server:s:x"), Some(&hash), password("server", "s:x")),
            (format!("K10{hash}::node:s"), Some(&hash), password("node", "s")),
            (format!("K10{hash}::abcdef.0123456789abcdef"), Some(&hash), boot.clone()),
            ("K10::node:s".into(), None, password("node", "s")),
            ("K10node:s".into(), None, password("node", "s")),
            ("secret".into(), None, password("", "secret")),
            ("a:b".into(), None, password("", "a:b")),
            ("abcdef.0123456789abcdef".into(), None, boot.clone()),
            (
                "abcdef.0123456789abcdeF".into(),
                None,
                password("", "abcdef.0123456789abcdeF"),
            ),
        ] {
            let token: JoinToken = text.parse().unwrap();
            assert_eq!(
                (token.ca_hash.as_ref(), token.credentials),
                (ca_hash, credentials),
                "{text}"
            );
        }
        for (text, error) in [
            ("".to_owned(), TokenError::Empty),
            ("K10abc::node:s".into(), TokenError::HashLength),
            (format!("K10{hash}::node"), TokenError::Format),
            (format!("K10{hash}::node:"), TokenError::Format),
        ] {
            assert_eq!(text.parse::<JoinToken>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_whole_token_is_read_back_and_a_secret_is_not_shown() {
        let text = whole("authority", &password("server", "secret"));
        let token: JoinToken = text.parse().unwrap();
        assert_eq!(token.ca_hash, Some(ca_hash("authority")));
        assert_eq!(token.credentials.to_string(), "server:secret");
        assert_eq!(format!("{token:?}"), "server:***");
        assert_eq!(token.credentials.header("node"), "Basic bm9kZTpzZWNyZXQ=");
    }
}
