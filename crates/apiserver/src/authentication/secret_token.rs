//! Tokens that Secrets of type `kubernetes.io/service-account-token` keep. They have no end of their own: they are good until the
//! Secret or the account is deleted.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::authentication::Known;
use crate::authentication::bootstrap_token::same;
use crate::authentication::service_account::{TokenIssuer, service_account_user};
use crate::http::status::Result;
use crate::http::user::User;
use crate::registry::Registry;
use crate::registry::managed::WriteOptions;
use crate::registry::own::Own;

/// Who issues them.
pub(super) const ISSUER: &str = "kubernetes/serviceaccount";
const CLAIM: &str = "kubernetes.io/serviceaccount/";
/// Labels of the Secret: the day its token was used last, and since when it is to be refused.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Whose token a Secret keeps.
#[derive(Debug, Clone, Copy)]
pub struct SecretToken<'a> {
    pub namespace: &'a str,
    pub account: &'a str,
    pub uid: &'a str,
    pub secret: &'a str,
}

impl TokenIssuer {
    /// The token for a Secret to keep.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn issue_for_secret(&self, of: &SecretToken<'_>) -> Result<String> {
        let claim = |name: &str| format!("{CLAIM}{name}");
        self.sign(&json!({
            "iss": ISSUER,
            "sub": User::service_account_name(of.namespace, of.account),
            claim("namespace"): of.namespace,
            claim("secret.name"): of.secret,
            claim("service-account.name"): of.account,
            claim("service-account.uid"): of.uid,
        }))
    }
}

/// The Secret that keeps a token which was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    namespace: String,
    name: String,
}

/// The user of a token whose signature is right: for the API server's own audiences alone, as long as the Secret has it and the account
/// is there.
pub(super) fn known(
    registry: &Registry,
    token: &str,
    claims: &Value,
    own: &[String],
    asked: &[String],
) -> Option<Known> {
    let claim = |name: &str| {
        let text = claims.get(format!("{CLAIM}{name}"))?.as_str()?;
        Some(text).filter(|text| !text.is_empty())
    };
    let (namespace, name) = (claim("namespace")?, claim("service-account.name")?);
    let (uid, secret_name) = (claim("service-account.uid")?, claim("secret.name")?);
    let audiences: Vec<String> = own.iter().filter(|a| asked.contains(a)).cloned().collect();
    if claims["sub"] != User::service_account_name(namespace, name) || audiences.is_empty() {
        return None;
    }
    let secret = registry.get("", "secrets", namespace, secret_name)?;
    let account = registry.get("", "serviceaccounts", namespace, name)?;
    let meta = &account.object.meta;
    if secret.object.meta.deleting || meta.deleting || *meta.uid != *uid {
        return None;
    }
    let tree = secret.tree().ok()?;
    let kept = STANDARD.decode(tree["data"]["token"].as_str()?).ok()?;
    let refused = secret
        .object
        .meta
        .label(INVALID_SINCE)
        .is_some_and(|since| !since.is_empty());
    if refused || !same(&kept, token.as_bytes()) {
        return None;
    }
    let mut user = service_account_user(namespace, name);
    user.uid = uid.to_owned();
    let keeper = Keeper {
        namespace: namespace.to_owned(),
        name: secret_name.to_owned(),
    };
    Some(Known {
        user,
        audiences,
        keeper: Some(keeper),
    })
}

/// Notes on a Secret the day that its token is used; once a day is enough.
pub(super) async fn note_use(registry: &Arc<Registry>, keeper: &Keeper) -> Result<()> {
    let day = |hours: i64| {
        let at = registry.environment.now().as_second() + hours * 3600;
        let at = jiff::Timestamp::from_second(at).unwrap_or_default();
        at.strftime("%Y-%m-%d").to_string()
    };
    let (today, tomorrow) = (day(0), day(24));
    let stored = registry.get("", "secrets", &keeper.namespace, &keeper.name);
    let noted = stored.as_ref().and_then(|secret| secret.object.meta.label(LAST_USED));
    // another server's clock may be ahead
    if stored.is_none() || noted.is_some_and(|day| day == today || day == tomorrow) {
        return Ok(());
    }
    let secret = Own {
        registry,
        group: "",
        plural: "secrets",
        namespace: &keeper.namespace,
        name: &keeper.name,
        options: WriteOptions::own(""),
    };
    let noted = secret.swap(|tree| {
        if !tree["metadata"]["labels"].is_object() {
            tree["metadata"]["labels"] = json!({});
        }
        tree["metadata"]["labels"][LAST_USED] = json!(today);
        Ok(())
    });
    noted.await.map(|_| ())
}
