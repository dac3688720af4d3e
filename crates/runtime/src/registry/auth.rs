//! Proof of who pulls: what a registry's challenge asks for, and the token services.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cri::v1;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::error::PullError;
use super::http::{Http, Outgoing};

/// What proves to a registry who pulls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user's name and password, for the token service or, where the registry asks so, for itself.
    Password {
        /// The user's name.
        username: String,
        /// The password.
        password: String,
    },
    /// Exchanged for a token at the registry's token service.
    Identity(String),
    /// A bearer token as it is.
    Registry(String),
}

impl Credentials {
    /// Of the ways to say it the first that is there; nothing where all are empty.
    pub fn from_parts(username: &str, password: &str, auth: &str, identity: &str, registry: &str) -> Option<Self> {
        if !registry.is_empty() {
            return Some(Self::Registry(registry.to_owned()));
        }
        if !identity.is_empty() {
            return Some(Self::Identity(identity.to_owned()));
        }
        if !username.is_empty() {
            return Some(Self::Password {
                username: username.to_owned(),
                password: password.to_owned(),
            });
        }
        let decoded = STANDARD.decode(auth.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(Self::Password {
            username: username.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        })
    }

    /// The credentials of a pull that the kubelet asks for; none if all fields are empty.
    pub fn from_cri(auth: &v1::AuthConfig) -> Option<Self> {
        Self::from_parts(
            &auth.username,
            &auth.password,
            &auth.auth,
            &auth.identity_token,
            &auth.registry_token,
        )
    }
}

/// `WWW-Authenticate`: the scheme in lower case and its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    scheme: String,
    pub(crate) parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.is_empty() {
            return None;
        }
        let mut parameters = Vec::new();
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
            let value;
            (value, rest) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => after.split_once(',').unwrap_or((after, "")),
            };
            parameters.push((name, value.trim().to_owned()));
        }
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            parameters,
        })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

#[derive(Debug, Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

pub(crate) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The `Authorization` that answers a registry's challenges, for pulling from `repository`.
pub async fn answer(
    http: &Http,
    challenges: &[String],
    repository: &str,
    credentials: Option<&Credentials>,
) -> Result<String, PullError> {
    let parsed: Vec<Challenge> = challenges.iter().filter_map(|c| Challenge::parse(c)).collect();
    if let Some(Credentials::Registry(token)) = credentials {
        return Ok(format!("Bearer {token}"));
    }
    if let Some(bearer) = parsed.iter().find(|c| c.scheme == "bearer") {
        return token(http, bearer, repository, credentials).await;
    }
    match (parsed.iter().any(|c| c.scheme == "basic"), credentials) {
        (true, Some(Credentials::Password { username, password })) => Ok(basic(username, password)),
        (true, _) => Err(PullError::Authorize("no basic auth credentials".to_owned())),
        (false, _) => Err(PullError::Authorize(
            "the registry asks for no known kind of proof".to_owned(),
        )),
    }
}

async fn token(
    http: &Http,
    challenge: &Challenge,
    repository: &str,
    credentials: Option<&Credentials>,
) -> Result<String, PullError> {
    let realm = challenge
        .get("realm")
        .ok_or_else(|| PullError::Authorize("the challenge names no realm".to_owned()))?;
    let service = challenge.get("service").unwrap_or_default();
    let own = format!("repository:{repository}:pull");
    let scope = challenge.get("scope").unwrap_or(&own);
    let outgoing = match credentials {
        Some(Credentials::Identity(identity)) => Outgoing {
            url: realm.to_owned(),
            form: Some(format!(
                "grant_type=refresh_token&service={}&client_id=skiff&scope={}&refresh_token={}",
                encode(service),
                encode(scope),
                encode(identity)
            )),
            ..Outgoing::default()
        },
        other => {
            let joint = if realm.contains('?') { '&' } else { '?' };
            let authorization = match other {
                Some(Credentials::Password { username, password }) => Some(basic(username, password)),
                _ => None,
            };
            Outgoing {
                url: format!("{realm}{joint}service={}&scope={}", encode(service), encode(scope)),
                authorization,
                ..Outgoing::default()
            }
        }
    };
    let answer = http.send(&outgoing).await?;
    if !answer.status.is_success() {
        return Err(PullError::Authorize(format!(
            "failed to fetch {} token: unexpected status: {}",
            if credentials.is_some() { "oauth" } else { "anonymous" },
            answer.status
        )));
    }
    let text = answer.text(1 << 20).await?;
    let token: Token = serde_json::from_slice(&text).map_err(|e| PullError::Authorize(format!("token: {e}")))?;
    let token = if token.token.is_empty() {
        token.access_token
    } else {
        token.token
    };
    if token.is_empty() {
        return Err(PullError::Authorize("the token service gave no token".to_owned()));
    }
    Ok(format!("Bearer {token}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_have_quoted_parameters() {
        let challenge =
            Challenge::parse(r#"Bearer realm="https://auth/token",service="reg",scope="repository:a/b:pull,push""#);
        let challenge = challenge.unwrap();
        assert_eq!(challenge.scheme, "bearer");
        assert_eq!(challenge.get("realm"), Some("https://auth/token"));
        assert_eq!(challenge.get("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(Challenge::parse("Basic realm=x").unwrap().get("realm"), Some("x"));
    }

    #[test]
    fn credentials_may_be_one_word() {
        let word = STANDARD.encode("u:p:q");
        assert_eq!(
            Credentials::from_parts("", "", &word, "", ""),
            Some(Credentials::Password {
                username: "u".into(),
                password: "p:q".into()
            })
        );
        assert_eq!(Credentials::from_parts("", "", "", "", ""), None);
    }
}
