//! Bootstrap tokens: `<id>.<secret>`, kept in Secrets of kube-system, with which new nodes introduce themselves.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::http::user::User;
use crate::registry::Registry;

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP_PREFIX: &str = "system:bootstrappers:";

/// The user of a bootstrap token that exists, is meant for authentication and has not expired.
pub fn authenticate(registry: &Registry, token: &str) -> Option<User> {
    let (id, secret) = token.split_once('.')?;
    let plain = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !plain(id, 6) || !plain(secret, 16) {
        return None;
    }
    let object = registry.get("", "secrets", "kube-system", &format!("bootstrap-token-{id}"))?;
    if object.object.meta.deleting {
        return None;
    }
    let tree = object.tree().ok()?;
    if tree["type"] != SECRET_TYPE {
        return None;
    }
    let data = |key: &str| -> Option<String> {
        let encoded = tree.get("data")?.get(key).and_then(Value::as_str)?;
        String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
    };
    let expected = data("token-secret")?;
    if data("token-id")? != id || !same(expected.as_bytes(), secret.as_bytes()) {
        return None;
    }
    if let Some(expiration) = data("expiration") {
        let at: jiff::Timestamp = expiration.parse().ok()?;
        if registry.environment.now() > at {
            return None;
        }
    }
    if data("usage-bootstrap-authentication")? != "true" {
        return None;
    }
    let mut groups = vec!["system:bootstrappers".to_owned()];
    for group in data("auth-extra-groups")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|g| !g.is_empty())
    {
        if !group.starts_with(GROUP_PREFIX) {
            return None;
        }
        groups.push(group.to_owned());
    }
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    Some(User::new(format!("system:bootstrap:{id}"), &groups))
}

/// Compares in a time that does not tell where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}
