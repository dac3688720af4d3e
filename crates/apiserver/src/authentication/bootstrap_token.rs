//! Bootstrap tokens: `<id>.<secret>`, kept in Secrets of kube-system, with which new nodes introduce themselves.

use crate::http::user::User;
use crate::registry::Registry;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

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
    // a key that is there and cannot be read is not a key that is not there: what it restricts is not known then
    let data = |key: &str| -> Option<String> {
        let Some(encoded) = tree.get("data").and_then(|data| data.get(key)) else {
            return Some(String::new());
        };
        String::from_utf8(STANDARD.decode(encoded.as_str()?).ok()?).ok()
    };
    let expected = data("token-secret")?;
    if expected.is_empty() || data("token-id")? != id || !same(expected.as_bytes(), secret.as_bytes()) {
        return None;
    }
    let expiration = data("expiration")?;
    if !expiration.is_empty() {
        let at: jiff::Timestamp = expiration.parse().ok()?;
        if registry.environment.now() > at {
            return None;
        }
    }
    if data("usage-bootstrap-authentication")? != "true" {
        return None;
    }
    let mut groups = vec!["system:bootstrappers".to_owned()];
    let extra = data("auth-extra-groups")?;
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        if !is_group(group) {
            return None;
        }
        groups.push(group.to_owned());
    }
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    Some(User::new(format!("system:bootstrap:{id}"), &groups))
}

/// Whether a group is one that these tokens may be in.
fn is_group(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let rest = name.strip_prefix(GROUP_PREFIX).map(str::as_bytes);
    rest.is_some_and(|rest| {
        rest.len() <= 256
            && rest.iter().all(|c| plain(*c) || matches!(c, b':' | b'-'))
            && rest.last().is_some_and(|last| plain(*last))
    })
}

/// Compares in a time that does not tell where the difference is.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_groups_are_bootstrappers() {
        for (name, is) in [
            ("system:bootstrappers:a", true),
            ("system:bootstrappers:kubeadm:default-node-token", true),
            ("system:bootstrappers:", false),
            ("system:bootstrappers:a-", false),
            ("system:bootstrappers:A", false),
            (" system:bootstrappers:a", false),
            ("system:masters", false),
        ] {
            assert_eq!(is_group(name), is, "{name:?}");
        }
    }
}
