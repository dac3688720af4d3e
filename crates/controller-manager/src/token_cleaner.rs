//! Bootstrap tokens go when they expire.

use std::time::Duration;

use client::{Cache, Client, DeleteParams, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::Error;
use crate::context::{Context, split_key};
use crate::error::decode;
use crate::meta::uid;

pub(crate) const NAMESPACE: &str = "kube-system";
pub(crate) const TYPE: &str = "bootstrap.kubernetes.io/token";
/// What the names of tokens that can be used begin with; the type is looked at when one is due.
pub(crate) const NAME: &str = "bootstrap-token-";

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let secrets = ctx.informers.get::<Secret>();
    if !ctx.synced(&[&secrets]).await {
        return Ok(());
    }
    let queue = WorkQueue::default();
    ctx.each_change(&secrets, {
        let queue = queue.clone();
        move |change| {
            let token = |meta: &api::object::Meta| &*meta.namespace == NAMESPACE && meta.name.starts_with(NAME);
            if let Some(secret) = change.new.filter(|secret| token(&secret.meta)) {
                queue.add(secret.key());
            }
        }
    });
    let client = ctx.client.clone();
    ctx.work(queue, 1, move |key| {
        let (client, secrets) = (client.clone(), secrets.clone());
        async move { clean(&client, &secrets, &key, Timestamp::now()).await }
    })
    .await;
    Ok(())
}

/// How long a token is valid still; `None` when it does not expire. What cannot be read has expired, as upstream has it.
fn left(secret: &Secret, now: Timestamp) -> Option<Duration> {
    if secret.type_.as_deref() != Some(TYPE) {
        return None;
    }
    let text = secret
        .data
        .as_ref()?
        .get("expiration")
        .filter(|text| !text.0.is_empty())?;
    let at = std::str::from_utf8(&text.0)
        .ok()
        .and_then(|text| text.parse::<Timestamp>().ok());
    let left = at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    Some(left.unwrap_or_default())
}

async fn clean(client: &Client, secrets: &Cache, key: &str, now: Timestamp) -> Result<Option<Duration>, Error> {
    let Some(object) = secrets.get(key) else {
        return Ok(None);
    };
    let secret: Secret = decode(&object)?;
    match left(&secret, now) {
        None => return Ok(None),
        Some(left) if !left.is_zero() => return Ok(Some(left)),
        Some(_) => {}
    }
    let (namespace, name) = split_key(key);
    match client
        .delete::<Secret>(namespace, name, &DeleteParams::uid(uid(&secret)))
        .await
    {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn a_token_is_kept_until_it_expires() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let secret = |kind: &str, expiration: Option<&str>| Secret {
            type_: Some(kind.into()),
            data: Some(
                expiration
                    .map(|text| ("expiration".to_owned(), ByteString(text.into())))
                    .into_iter()
                    .collect(),
            ),
            ..Secret::default()
        };
        let minute = Duration::from_secs(60);
        assert_eq!(left(&secret(TYPE, Some("2027-01-15T08:01:00Z")), now), Some(minute));
        assert_eq!(
            left(&secret(TYPE, Some("2027-01-15T09:01:00+01:00")), now),
            Some(minute)
        );
        assert_eq!(
            left(&secret(TYPE, Some("2027-01-15T07:59:00Z")), now),
            Some(Duration::ZERO)
        );
        assert_eq!(left(&secret(TYPE, Some("soon")), now), Some(Duration::ZERO));
        assert_eq!(left(&secret(TYPE, Some("")), now), None);
        assert_eq!(left(&secret(TYPE, None), now), None);
        assert_eq!(left(&secret("Opaque", Some("soon")), now), None);
    }
}
