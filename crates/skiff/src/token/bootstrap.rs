//! Bootstrap tokens as the API keeps them: Secrets of kube-system, by kubeadm's keys.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::TokenCommandError;
use crate::join::token::bootstrap;

/// The namespace of bootstrap tokens.
pub const NAMESPACE: &str = "kube-system";
/// The type of their secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const USAGE: &str = "usage-bootstrap-";
const GROUP: &str = "system:bootstrappers:";
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A line of the list.
pub type TableRow = [String; 6];

/// A token by which machines join, in a secret of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    pub id: String,
    pub secret: String,
    pub description: String,
    /// Without, it is valid for ever.
    pub expires: Option<Timestamp>,
    pub usages: Vec<String>,
    pub groups: Vec<String>,
}

/// The name of a token's secret.
pub fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// The id of a token, or of its first part alone.
pub fn id_of(text: &str) -> Option<&str> {
    let plain = |s: &str| s.len() == 6 && s.bytes().all(|b| ALPHABET.contains(&b));
    bootstrap(text)
        .map(|(id, _)| id)
        .or_else(|| plain(text).then_some(text))
}

/// When a token of this life ends; zero is for ever.
pub fn expiration(now: Timestamp, ttl: Duration) -> Option<Timestamp> {
    let ttl = (!ttl.is_zero()).then_some(ttl)?;
    let end = now.as_second().saturating_add_unsigned(ttl.as_secs());
    Some(Timestamp::from_second(end).unwrap_or(Timestamp::MAX))
}

/// A token that nobody can guess.
///
/// # Errors
/// When the system gives no random numbers.
pub fn random() -> Result<String, TokenCommandError> {
    let mut text = String::new();
    while text.len() < 22 {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes).map_err(TokenCommandError::Random)?;
        // all letters are equally likely: 252 is the largest multiple of 36 in a byte
        let letters = bytes.iter().filter(|b| **b < 252);
        text.extend(letters.map(|b| char::from(ALPHABET[usize::from(b % 36)])));
    }
    Ok(format!("{}.{}", &text[..6], &text[6..22]))
}

impl BootstrapToken {
    /// # Errors
    /// For groups and usages that no such token may have.
    pub fn check(&self) -> Result<(), TokenCommandError> {
        if let Some(other) = self.groups.iter().find(|g| !g.starts_with(GROUP)) {
            return Err(TokenCommandError::Group(other.clone()));
        }
        let known = |u: &&String| matches!(u.as_str(), "signing" | "authentication");
        match self.usages.iter().find(|u| !known(u)) {
            Some(other) => Err(TokenCommandError::Usage(other.clone())),
            None => Ok(()),
        }
    }

    /// The secret that holds the token.
    pub fn to_secret(&self) -> Secret {
        let mut data: BTreeMap<String, String> = BTreeMap::new();
        let mut put = |key: &str, value: &str| data.insert(key.to_owned(), value.to_owned());
        put("token-id", &self.id);
        put("token-secret", &self.secret);
        if !self.description.is_empty() {
            put("description", &self.description);
        }
        if let Some(expires) = self.expires {
            put("expiration", &expires.to_string());
        }
        for usage in &self.usages {
            put(&format!("{USAGE}{usage}"), "true");
        }
        if !self.groups.is_empty() {
            put("auth-extra-groups", &self.groups.join(","));
        }
        let data = data
            .into_iter()
            .map(|(key, value)| (key, ByteString(value.into_bytes())));
        Secret {
            metadata: ObjectMeta {
                name: Some(secret_name(&self.id)),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(SECRET_TYPE.to_owned()),
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    /// The token of a Secret; `None` when it has none that can be read.
    pub fn of_secret(secret: &Secret) -> Option<BootstrapToken> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| data.get(key).and_then(|v| String::from_utf8(v.0.clone()).ok());
        let (id, value) = (text("token-id")?, text("token-secret")?);
        bootstrap(&format!("{id}.{value}"))?;
        if secret.metadata.name.as_deref() != Some(secret_name(&id).as_str()) {
            return None;
        }
        let expires = match text("expiration").filter(|t| !t.is_empty()) {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        let usages = data.iter().filter(|(_, value)| value.0 == b"true");
        let usages = usages.filter_map(|(key, _)| key.strip_prefix(USAGE)).map(str::to_owned);
        let groups = text("auth-extra-groups").unwrap_or_default();
        Some(BootstrapToken {
            id,
            secret: value,
            description: text("description").unwrap_or_default(),
            expires,
            usages: usages.collect(),
            groups: groups.split(',').filter(|g| !g.is_empty()).map(str::to_owned).collect(),
        })
    }

    /// All of them with their secrets, for programs.
    pub fn tree(tokens: &[BootstrapToken]) -> Value {
        let one = |token: &BootstrapToken| {
            let mut tree = json!({ "token": format!("{}.{}", token.id, token.secret) });
            let mut put = |key: &str, value: Value| tree[key] = value;
            if !token.description.is_empty() {
                put("description", json!(token.description));
            }
            if let Some(expires) = token.expires {
                put("expires", json!(expires.to_string()));
            }
            if !token.usages.is_empty() {
                put("usages", json!(token.usages));
            }
            if !token.groups.is_empty() {
                put("groups", json!(token.groups));
            }
            tree
        };
        tokens.iter().map(one).collect()
    }

    /// A line of the list, without the secret.
    pub fn row(&self, now: Timestamp) -> TableRow {
        let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
        let (ttl, expires) = match self.expires {
            Some(at) => (short(at.as_second() - now.as_second()), at.to_string()),
            None => ("<forever>".to_owned(), "<never>".to_owned()),
        };
        [
            self.id.clone(),
            ttl,
            expires,
            or_none(self.usages.join(",")),
            or_none(self.description.clone()),
            or_none(self.groups.join(",")),
        ]
    }
}

/// A time in its largest unit.
fn short(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400..31_536_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

/// Columns of ten letters at least, with three between them.
pub fn table(rows: &[TableRow]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count() + 3)
            .max()
            .unwrap_or(0)
            .max(10)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            out.push_str(&format!("{cell:<width$}"));
        }
        out.push_str(&row[5]);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> BootstrapToken {
        BootstrapToken {
            id: "abcdef".into(),
            secret: "0123456789abcdef".into(),
            description: "for a test".into(),
            expires: Some(Timestamp::from_second(1_800_000_000).unwrap()),
            usages: vec!["authentication".into(), "signing".into()],
            groups: vec!["system:bootstrappers:a".into()],
        }
    }

    #[test]
    fn a_token_is_read_back_from_its_secret() {
        let token = token();
        assert_eq!(BootstrapToken::of_secret(&token.to_secret()), Some(token.clone()));
        let endless = BootstrapToken {
            expires: None,
            ..token.clone()
        };
        assert_eq!(BootstrapToken::of_secret(&endless.to_secret()), Some(endless));
        let mut other = token.to_secret();
        other.metadata.name = Some("bootstrap-token-other1".into());
        assert_eq!(BootstrapToken::of_secret(&other), None);
    }

    #[test]
    fn random_tokens_have_the_form_and_differ() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert!(bootstrap(&one).is_some() && bootstrap(&two).is_some());
        assert_ne!(one, two);
        assert_eq!(
            (id_of("abcdef"), id_of("abcdef.0123456789abcdef"), id_of("abc")),
            (Some("abcdef"), Some("abcdef"), None)
        );
    }

    #[test]
    fn groups_and_usages_are_those_of_bootstrappers() {
        assert!(token().check().is_ok());
        assert!(
            BootstrapToken {
                groups: vec!["system:masters".into()],
                ..token()
            }
            .check()
            .is_err()
        );
        assert!(
            BootstrapToken {
                usages: vec!["all".into()],
                ..token()
            }
            .check()
            .is_err()
        );
    }

    #[test]
    fn the_list_shows_no_secret() {
        let now = Timestamp::from_second(1_799_990_000).unwrap();
        let shown = table(&[token().row(now)]);
        let want =
            "abcdef    2h        2027-01-15T08:00:00Z   authentication,signing   for a test   system:bootstrappers:a\n";
        assert_eq!(shown, want);
        assert_eq!(
            (short(59), short(-2), short(90_000)),
            ("59s".into(), "<invalid>".into(), "1d".into())
        );
        let ends = |ttl| expiration(now, Duration::from_secs(ttl));
        assert_eq!((ends(0), ends(10_000)), (None, token().expires));
    }
}
