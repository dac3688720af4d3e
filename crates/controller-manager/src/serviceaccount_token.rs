//! Secrets of type `kubernetes.io/service-account-token`: filled with a token of their account, deleted with it.

use std::time::Duration;

use api::object::Object;
use client::{Cache, Client, DeleteParams};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde::Deserialize;

use crate::Error;
use crate::config::{AccountToken, TokenOf};
use crate::context::{Context, split_key};
use crate::error::decode;
use crate::informers::BY_NAMESPACE;
use crate::meta::{annotation, is_deleting, name, namespace, uid};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Work {
    /// A Secret, by its key.
    Secret(String),
    /// An account that was deleted: namespace, name, uid.
    AccountGone(String, String, String),
    /// A Secret that was deleted: its key, its account and that one's uid if it knew it.
    SecretGone(String, String, String),
}

#[derive(Clone)]
struct Controller {
    ctx: Context,
    secrets: Cache,
    accounts: Cache,
    token: AccountToken,
}

/// Of a Secret, what says whether it is one of these.
#[derive(Deserialize)]
struct Typed {
    #[serde(default, rename = "type")]
    type_: String,
}

fn is_token(object: &Object) -> bool {
    object.decode::<Typed>().is_ok_and(|secret| secret.type_ == TYPE)
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let Some(token) = ctx.config.account_token.clone() else {
        return Ok(());
    };
    let controller = Controller {
        secrets: ctx.informers.get::<Secret>(),
        accounts: ctx.informers.get::<ServiceAccount>(),
        token,
        ctx: ctx.clone(),
    };
    if !ctx.synced(&[&controller.secrets, &controller.accounts]).await {
        return Ok(());
    }
    let queue = ctx.queue("serviceaccount_tokens_secret");
    ctx.each_change(&controller.secrets, {
        let queue = queue.clone();
        move |change| {
            let Some(object) = change.object().filter(|o| is_token(o)) else {
                return;
            };
            if change.new.is_some() {
                queue.add(Work::Secret(object.key()));
            } else if let Ok(secret) = object.decode::<Secret>() {
                let text = |key: &str| annotation(&secret, key).unwrap_or_default().to_owned();
                queue.add(Work::SecretGone(object.key(), text(ACCOUNT), text(ACCOUNT_UID)));
            }
        }
    });
    ctx.each_change(&controller.accounts, {
        let queue = queue.clone();
        move |change| {
            if let (Some(gone), None) = (change.old, change.new) {
                let meta = &gone.meta;
                queue.add(Work::AccountGone(
                    meta.namespace.to_string(),
                    meta.name.to_string(),
                    meta.uid.to_string(),
                ));
            }
        }
    });
    let workers = ctx.config.concurrent_serviceaccount_syncs;
    ctx.work(queue, workers, move |work| {
        let controller = controller.clone();
        async move {
            match work {
                Work::Secret(key) => controller.fill(&key).await?,
                Work::AccountGone(namespace, name, uid) => controller.delete_all(&namespace, &name, &uid).await?,
                Work::SecretGone(key, account, uid) => controller.forget(&key, &account, &uid).await?,
            }
            Ok(None::<Duration>)
        }
    })
    .await;
    Ok(())
}

/// Whether a Secret is of this account; without a uid it is of any of the name.
fn is_of(secret: &Secret, account: &str, account_uid: &str) -> bool {
    let known = annotation(secret, ACCOUNT_UID).unwrap_or_default();
    annotation(secret, ACCOUNT) == Some(account) && (known.is_empty() || known == account_uid)
}

/// What a Secret lacks is written into it; whether it lacked anything.
fn complete(secret: &mut Secret, account: &ServiceAccount, root_ca: &str, token: &AccountToken) -> Result<bool, Error> {
    let own_namespace = namespace(secret).to_owned();
    let secret_name = name(secret).to_owned();
    let data = secret.data.get_or_insert_default();
    let empty = |value: Option<&ByteString>| value.is_none_or(|v| v.0.is_empty());
    let lacks_ca = !root_ca.is_empty() && data.get("ca.crt").is_none_or(|ca| ca.0 != root_ca.as_bytes());
    let lacks_namespace = empty(data.get("namespace"));
    let lacks_token = empty(data.get("token"));
    if lacks_ca {
        data.insert("ca.crt".to_owned(), ByteString(root_ca.as_bytes().to_vec()));
    }
    if lacks_namespace {
        data.insert("namespace".to_owned(), ByteString(own_namespace.clone().into_bytes()));
    }
    if lacks_token {
        let of = TokenOf {
            namespace: &own_namespace,
            account: name(account),
            uid: uid(account),
            secret: &secret_name,
        };
        data.insert("token".to_owned(), ByteString(token(&of)?.into_bytes()));
    }
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT.to_owned(), name(account).to_owned());
    annotations.insert(ACCOUNT_UID.to_owned(), uid(account).to_owned());
    Ok(lacks_ca || lacks_namespace || lacks_token)
}

impl Controller {
    fn client(&self) -> &Client {
        &self.ctx.client
    }

    /// Completes a Secret; one whose account is not there is deleted.
    async fn fill(&self, key: &str) -> Result<(), Error> {
        let Some(object) = self.secrets.get(key) else {
            return Ok(());
        };
        let mut secret: Secret = decode(&object)?;
        let account_name = annotation(&secret, ACCOUNT).unwrap_or_default().to_owned();
        if account_name.is_empty() {
            return Ok(());
        }
        let account = match self.accounts.get(&format!("{}/{account_name}", namespace(&secret))) {
            Some(account) if is_of(&secret, &account_name, &account.meta.uid) => Some(decode(&account)?),
            // the cache may be behind: an account and its Secret are often made together
            _ => match self.client().get(namespace(&secret), &account_name).await {
                Ok(account) => Some(account).filter(|a: &ServiceAccount| is_of(&secret, &account_name, uid(a))),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error.into()),
            },
        };
        let Some(account) = account else {
            return self.delete(&secret).await;
        };
        if is_deleting(&secret) || !complete(&mut secret, &account, &self.ctx.config.root_ca, &self.token)? {
            return Ok(());
        }
        match self.client().update(&secret).await {
            // whoever changed it brings it here again
            Err(error) if !error.is_conflict() && !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn delete(&self, secret: &Secret) -> Result<(), Error> {
        let params = DeleteParams::uid(uid(secret));
        let deleted = self
            .client()
            .delete::<Secret>(namespace(secret), name(secret), &params)
            .await;
        match deleted {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn delete_all(&self, namespace: &str, account: &str, account_uid: &str) -> Result<(), Error> {
        let again = self.accounts.get(&format!("{namespace}/{account}"));
        if again.is_some_and(|there| *there.meta.uid == *account_uid) {
            return Ok(());
        }
        for object in self.secrets.by_index(BY_NAMESPACE, namespace) {
            if !is_token(&object) {
                continue;
            }
            let secret: Secret = decode(&object)?;
            if is_of(&secret, account, account_uid) {
                self.delete(&secret).await?;
            }
        }
        Ok(())
    }

    /// An account does not name a Secret any more that is gone.
    async fn forget(&self, key: &str, account: &str, account_uid: &str) -> Result<(), Error> {
        let (namespace, secret) = split_key(key);
        if self.secrets.get(key).is_some() {
            return Ok(());
        }
        let Some(object) = self.accounts.get(&format!("{namespace}/{account}")) else {
            return Ok(());
        };
        let mut account: ServiceAccount = decode(&object)?;
        let named = account.secrets.get_or_insert_default();
        let before = named.len();
        named.retain(|reference| reference.name.as_deref() != Some(secret));
        if named.len() == before || !account_uid.is_empty() && account_uid != uid(&account) {
            return Ok(());
        }
        match self.client().update(&account).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_gets_what_it_lacks_and_keeps_its_token() {
        let token: AccountToken =
            Arc::new(|of: &TokenOf<'_>| Ok(format!("{}/{}/{}/{}", of.namespace, of.account, of.uid, of.secret)));
        let account: ServiceAccount =
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa", "namespace": "n", "uid": "u"}})).unwrap();
        let mut secret: Secret = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "type": TYPE,
            "metadata": {"name": "s", "namespace": "n", "annotations": {ACCOUNT: "sa"}}}))
        .unwrap();
        assert!(complete(&mut secret, &account, "CA", &token).unwrap());
        let text =
            |secret: &Secret, key: &str| String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap();
        assert_eq!(text(&secret, "token"), "n/sa/u/s");
        assert_eq!(
            (text(&secret, "namespace"), text(&secret, "ca.crt")),
            ("n".to_owned(), "CA".to_owned())
        );
        assert_eq!(annotation(&secret, ACCOUNT_UID), Some("u"));
        assert!(!complete(&mut secret, &account, "CA", &token).unwrap());
        let data = secret.data.as_mut().unwrap();
        data.insert("token".to_owned(), ByteString(b"kept".to_vec()));
        assert!(complete(&mut secret, &account, "new CA", &token).unwrap());
        assert_eq!(
            (text(&secret, "token"), text(&secret, "ca.crt")),
            ("kept".to_owned(), "new CA".to_owned())
        );
        assert!(is_of(&secret, "sa", "u") && !is_of(&secret, "sa", "another") && !is_of(&secret, "other", "u"));
    }
}
