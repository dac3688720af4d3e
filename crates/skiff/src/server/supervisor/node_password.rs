//! A node's name is whose password the cluster keeps: a Secret `<node>.node-password.skiff` of kube-system holds its hash. It is made when
//! the name is first asked for and goes with the Node.

use std::num::NonZeroU32;

use client::{Client, DeleteParams, WatchEvent};
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::pbkdf2;
use tokio_util::sync::CancellationToken;

use crate::join::token::hex;

const NAMESPACE: &str = "kube-system";
const KEY: &str = "hash";
const SCHEME: &str = "$pbkdf2-sha256";
/// Passwords are 128 random bits: the rounds are for who puts one of their own in the file.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(19_999);
const SALT: usize = 16;

/// Why a node may not have a name.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("unable to verify password for node {0}: the hash of its Secret does not match")]
    Wrong(String),
    #[error("unable to verify password for node {0}: its Secret has no hash that can be read")]
    Unreadable(String),
    #[error("unable to verify password for node {node}: {source}")]
    Api { node: String, source: client::Error },
    #[error("unable to hash password for node {node}: {why}")]
    Hash { node: String, why: String },
}

fn secret_name(node: &str) -> String {
    format!("{node}.node-password.skiff")
}

/// Checks a node's password, or keeps it if the name has none yet. Takes milliseconds of a processor.
///
/// # Errors
/// `Wrong` for the password of another node; the others when it cannot be told.
pub async fn ensure(client: &Client, node: &str, password: &str) -> Result<(), PasswordError> {
    let api = |source| PasswordError::Api {
        node: node.to_owned(),
        source,
    };
    match client.get::<Secret>(NAMESPACE, &secret_name(node)).await {
        Ok(secret) => return verify(node, &secret, password).await,
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(api(error)),
    }
    let failed = |why: String| PasswordError::Hash {
        node: node.to_owned(),
        why,
    };
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(|e| failed(e.to_string()))?;
    let owned = password.to_owned();
    let hash = tokio::task::spawn_blocking(move || hash(&salt, ROUNDS, &owned));
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(node)),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some(
            [(
                KEY.to_owned(),
                ByteString(hash.await.map_err(|e| failed(e.to_string()))?.into_bytes()),
            )]
            .into(),
        ),
        ..Secret::default()
    };
    match client.create(&secret).await {
        Ok(_) => Ok(()),
        // another request for the same name was faster
        Err(error) if error.is_already_exists() => {
            let secret = client.get::<Secret>(NAMESPACE, &secret_name(node)).await.map_err(api)?;
            verify(node, &secret, password).await
        }
        Err(error) => Err(api(error)),
    }
}

async fn verify(node: &str, secret: &Secret, password: &str) -> Result<(), PasswordError> {
    let unreadable = || PasswordError::Unreadable(node.to_owned());
    let kept = secret
        .data
        .as_ref()
        .and_then(|data| data.get(KEY))
        .ok_or_else(unreadable)?;
    let kept = String::from_utf8(kept.0.clone()).map_err(|_| unreadable())?;
    let password = password.to_owned();
    match tokio::task::spawn_blocking(move || matches(&kept, &password)).await {
        Ok(Some(true)) => Ok(()),
        Ok(Some(false)) => Err(PasswordError::Wrong(node.to_owned())),
        Ok(None) | Err(_) => Err(unreadable()),
    }
}

/// `$pbkdf2-sha256:<rounds>:<salt>:<hash>`, the last two in hex digits.
fn hash(salt: &[u8], rounds: NonZeroU32, password: &str) -> String {
    let mut out = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), &mut out);
    format!("{SCHEME}:{rounds}:{}:{}", hex(salt), hex(&out))
}

/// Whether a password has this hash; `None` when the hash cannot be read.
fn matches(kept: &str, password: &str) -> Option<bool> {
    let mut parts = kept.split(':');
    let (scheme, rounds, salt, hash) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if scheme != SCHEME || parts.next().is_some() {
        return None;
    }
    let (salt, hash) = (unhex(salt)?, unhex(hash)?);
    let verified = pbkdf2::verify(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds.parse().ok()?,
        &salt,
        password.as_bytes(),
        &hash,
    );
    Some(verified.is_ok())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    text.len()
        .is_multiple_of(2)
        .then(|| (0..text.len()).step_by(2).map(digit).collect())?
}

/// Forgets the password of each Node that is deleted, until `stop`: its name may then be another machine's.
pub async fn forget(client: Client, stop: CancellationToken) {
    let mut nodes = client.list_watch(Client::collection::<Node>(""));
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = nodes.next() => event,
        };
        let node = match event {
            Some(WatchEvent::Deleted(node)) => node,
            Some(_) => continue,
            None => return,
        };
        let name = secret_name(&node.meta.name);
        match client
            .delete::<Secret>(NAMESPACE, &name, &DeleteParams::default())
            .await
        {
            Err(error) if !error.is_not_found() => {
                tracing::warn!(%error, secret = name, "the password of a deleted node is not forgotten");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_its_own_hash_only() {
        let kept = hash(b"salt", NonZeroU32::new(2).unwrap(), "password");
        assert_eq!(matches(&kept, "password"), Some(true));
        assert_eq!(matches(&kept, "passworD"), Some(false));
        for unreadable in [
            "",
            "$1:a:15:8:1:x",
            "$pbkdf2-sha256:0:00:00",
            "$pbkdf2-sha256:2:0:00",
            "$pbkdf2-sha256:2:00:00:",
        ] {
            assert_eq!(matches(unreadable, "password"), None, "{unreadable}");
        }
    }
}
