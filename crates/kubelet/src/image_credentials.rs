//! Logins to registries in pull secrets: which of them fit an image, in which order they are tried. Upstream:
//! `pkg/credentialprovider`.

use base64::Engine;
use cri::v1;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::pull_records::PullSecret;

/// Docker Hub, as `docker login` writes it.
const DEFAULT_REGISTRY: &str = "index.docker.io";

/// A login and the Secret it is from.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    pub auth: v1::AuthConfig,
    pub from: PullSecret,
}

/// A pull secret that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("image pull secret {secret:?}: {source}")]
pub struct LoginError {
    secret: String,
    source: EntryError,
}

/// What is wrong with a pull secret.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("auth of {0:?} is not readable")]
    Auth(String),
}

/// The logins that fit the image, the most specific first.
pub fn logins(image: &str, secrets: &[Secret]) -> Result<Vec<Login>, LoginError> {
    let mut all: Vec<(String, Login)> = Vec::new();
    for secret in secrets {
        entries(secret, &mut all).map_err(|source| LoginError {
            secret: secret.metadata.name.clone().unwrap_or_default(),
            source,
        })?;
    }
    let name = full_name(image);
    let mut fit: Vec<(String, Login)> = all
        .into_iter()
        .filter(|(registry, _)| matches(registry, &name))
        .collect();
    // As upstream: by the registry's name and path, backwards, so that a longer path goes first.
    fit.sort_by(|(a, _), (b, _)| b.cmp(a));
    Ok(fit.into_iter().map(|(_, login)| login).collect())
}

fn entries(secret: &Secret, all: &mut Vec<(String, Login)>) -> Result<(), EntryError> {
    let data = |key: &str| {
        secret
            .data
            .as_ref()?
            .get(key)
            .map(|b| b.0.as_slice())
            .filter(|b| !b.is_empty())
    };
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes);
    let found = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => match data(".dockerconfigjson") {
            Some(bytes) => read(bytes)?["auths"].take(),
            None => return Ok(()),
        },
        Some("kubernetes.io/dockercfg") => match data(".dockercfg") {
            Some(bytes) => read(bytes)?,
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    for (registry, entry) in found.as_object().into_iter().flatten() {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let (mut username, mut password) = (text("username"), text("password"));
        if !text("auth").is_empty() {
            (username, password) = decode(&text("auth")).ok_or_else(|| EntryError::Auth(registry.clone()))?;
        }
        let (namespace, name, uid) = (
            secret.metadata.namespace.clone(),
            secret.metadata.name.clone(),
            secret.metadata.uid.clone(),
        );
        let from = PullSecret {
            uid: uid.unwrap_or_default(),
            namespace: namespace.unwrap_or_default(),
            name: name.unwrap_or_default(),
            credential_hash: hash(&username, &password, &text("email")),
        };
        let auth = v1::AuthConfig {
            username,
            password,
            ..v1::AuthConfig::default()
        };
        all.push((place(registry), Login { auth, from }));
    }
    Ok(())
}

/// `user:password` in Base64, with padding or without.
fn decode(auth: &str) -> Option<(String, String)> {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Of the login as upstream writes it down, so that its records and ours say the same.
fn hash(username: &str, password: &str, email: &str) -> String {
    let fields = [("username", username), ("password", password), ("email", email)];
    let fields: Vec<String> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("\"{name}\":{}", Value::from(value)))
        .collect();
    // Go escapes what means something in HTML.
    let text = format!("{{{}}}", fields.join(","))
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026");
    Sha256::digest(text.as_bytes())
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Host and path of a registry's entry. The paths of the registry's own API mean the host.
fn place(registry: &str) -> String {
    let bare = registry
        .strip_prefix("https://")
        .or_else(|| registry.strip_prefix("http://"))
        .unwrap_or(registry);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path
        .strip_prefix("v1/")
        .or_else(|| path.strip_prefix("v2/"))
        .unwrap_or(path);
    let host = if matches!(host, "docker.io" | "registry-1.docker.io") {
        DEFAULT_REGISTRY
    } else {
        host
    };
    if path.is_empty() {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    }
}

fn full_name(image: &str) -> String {
    match image.split_once('/') {
        Some(("docker.io", path)) => format!("{DEFAULT_REGISTRY}/{path}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => image.to_owned(),
        _ => format!("{DEFAULT_REGISTRY}/{image}"),
    }
}

/// Labels of the host may hold `*`; the port must be the same; the path is a prefix.
fn matches(registry: &str, image: &str) -> bool {
    let (want_host, want_path) = registry.split_once('/').unwrap_or((registry, ""));
    let (host, path) = image.split_once('/').unwrap_or((image, ""));
    let split = |host: &str| -> (Vec<String>, String) {
        let (name, port) = host.split_once(':').unwrap_or((host, ""));
        (name.split('.').map(str::to_owned).collect(), port.to_owned())
    };
    let ((want, want_port), (have, port)) = (split(want_host), split(host));
    want_port == port
        && want.len() == have.len()
        && want.iter().zip(&have).all(|(want, have)| label_matches(want, have))
        && path.starts_with(want_path)
}

/// `*` stands for any text; costs at most the product of the two lengths.
fn label_matches(pattern: &str, label: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = label.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(json: &str) -> Secret {
        let content = k8s_openapi::ByteString(json.as_bytes().to_vec());
        Secret {
            type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
            data: Some([(".dockerconfigjson".to_owned(), content)].into()),
            ..Default::default()
        }
    }

    #[test]
    fn logins_fit_registries_by_host_and_path() {
        let secrets = [secret(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"*.corp.io/team":{"username":"x","password":"y"},
            "r.corp.io":{"username":"z","password":"z"},"127.0.0.1:5000":{"username":"l","password":"l"}}}"#,
        )];
        let users = |image: &str| -> Vec<String> {
            let found = logins(image, &secrets).unwrap();
            found.into_iter().map(|l| l.auth.username).collect()
        };
        assert_eq!(users("nginx"), ["u"]);
        assert_eq!(users("docker.io/a/b:1"), ["u"]);
        assert_eq!(users("r.corp.io/team/app:1"), ["z", "x"]);
        assert_eq!(users("r.corp.io/other/app"), ["z"]);
        assert_eq!(users("127.0.0.1:5000/a"), ["l"]);
        assert!(users("127.0.0.1:5001/a").is_empty());
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_said_and_not_skipped() {
        for wrong in [
            "{",
            r#"{"auths":{"a.io":{"auth":"%"}}}"#,
            r#"{"auths":{"a.io":{"auth":"dXA="}}}"#,
        ] {
            assert!(logins("a.io/x", &[secret(wrong)]).is_err(), "{wrong}");
        }
        let mut other = secret("{");
        other.type_ = Some("Opaque".to_owned());
        assert_eq!(logins("a.io/x", &[other]).unwrap(), Vec::new());
    }

    #[test]
    fn a_login_is_known_again_by_its_hash() {
        // Of `{"username":"bob","password":"a\u003cb"}`.
        let text = r#"{"username":"bob","password":"a\u003cb"}"#;
        let want = Sha256::digest(text.as_bytes())
            .iter()
            .fold(String::new(), |t, b| format!("{t}{b:02x}"));
        assert_eq!(hash("bob", "a<b", ""), want);
    }

    #[test]
    fn stars_match_within_a_label() {
        for (pattern, label, fits) in [
            ("*", "abc", true),
            ("a*c", "abc", true),
            ("a*", "b", false),
            ("*b*", "abc", true),
            ("a", "ab", false),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(label_matches(pattern, label), fits, "{pattern} {label}");
        }
    }
}
