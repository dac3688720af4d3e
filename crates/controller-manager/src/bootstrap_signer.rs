//! The signatures by which whoever holds a bootstrap token knows that `kube-public/cluster-info` is his cluster's: nodes that join by
//! kubeadm read it before they trust anybody.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::{Cache, Client};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use ring::hmac;

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::informers::BY_NAMESPACE;
use crate::token_cleaner::{NAME, NAMESPACE, TYPE};

const MAP: &str = "kube-public/cluster-info";
/// What is signed, and what the keys of the signatures begin with.
const CONTENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let (secrets, maps) = (ctx.informers.get::<Secret>(), ctx.informers.get::<ConfigMap>());
    if !ctx.synced(&[&secrets, &maps]).await {
        return Ok(());
    }
    let queue = ctx.queue("bootstrap_signer_queue");
    ctx.each_change(&secrets, {
        let queue = queue.clone();
        move |change| {
            let token = |meta: &api::object::Meta| &*meta.namespace == NAMESPACE && meta.name.starts_with(NAME);
            if change.object().is_some_and(|secret| token(&secret.meta)) {
                queue.add(MAP.to_owned());
            }
        }
    });
    ctx.each_change(&maps, {
        let queue = queue.clone();
        move |change| {
            if change.new.is_some_and(|map| map.key() == MAP) {
                queue.add(MAP.to_owned());
            }
        }
    });
    let client = ctx.client.clone();
    ctx.work(queue, 1, move |_| {
        let (client, secrets, maps) = (client.clone(), secrets.clone(), maps.clone());
        async move { sign(&client, &secrets, &maps, Timestamp::now()).await }
    })
    .await;
    Ok(())
}

async fn sign(client: &Client, secrets: &Cache, maps: &Cache, now: Timestamp) -> Result<Option<Duration>, Error> {
    let Some(map) = maps.get(MAP) else { return Ok(None) };
    let mut map: ConfigMap = decode(&map)?;
    let mut tokens = BTreeMap::new();
    for object in secrets.by_index(BY_NAMESPACE, NAMESPACE) {
        if object.meta.name.starts_with(NAME)
            && let Some((id, secret)) = token(&decode(&object)?, now)
        {
            tokens.insert(id, secret);
        }
    }
    if !renew(map.data.get_or_insert_default(), &tokens) {
        return Ok(None);
    }
    match client.update(&map).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
        _ => Ok(None),
    }
}

/// Puts the signatures into the map that these tokens make, and takes all others out. Says whether that changed anything.
fn renew(data: &mut BTreeMap<String, String>, tokens: &BTreeMap<String, String>) -> bool {
    let Some(content) = data.get(CONTENT) else { return false };
    let wanted: BTreeMap<String, String> = tokens
        .iter()
        .map(|(id, secret)| (format!("{SIGNATURE}{id}"), signature(content, id, secret)))
        .collect();
    let is_signature = |key: &String| key.starts_with(SIGNATURE);
    let there = data.iter().filter(|(key, _)| is_signature(key));
    if there.eq(&wanted) {
        return false;
    }
    data.retain(|key, _| !is_signature(key));
    data.extend(wanted);
    true
}

/// A JSON Web Signature without its content (RFC 7515, appendix F), by HMAC with SHA-256.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = serde_json::json!({ "alg": "HS256", "kid": id }).to_string();
    let header = URL_SAFE_NO_PAD.encode(header);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
}

/// The id and the secret of a token that may sign.
fn token(secret: &Secret, now: Timestamp) -> Option<(String, String)> {
    let text = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        let value = value.and_then(|value| String::from_utf8(value.0.clone()).ok());
        value.filter(|value| !value.is_empty())
    };
    let (id, value) = (text("token-id")?, text("token-secret")?);
    let named = secret.metadata.name.as_deref().and_then(|name| name.strip_prefix(NAME));
    let expired = text("expiration").is_some_and(|at| at.parse::<Timestamp>().map_or(true, |at| at < now));
    let signs = text("usage-bootstrap-signing").as_deref() == Some("true");
    let whole = secret.type_.as_deref() == Some(TYPE) && named == Some(&*id) && !expired;
    (whole && signs).then_some((id, value))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_map_has_the_signatures_of_the_tokens_and_no_others() {
        let mut data = BTreeMap::from([
            (CONTENT.to_owned(), "a kubeconfig\n".to_owned()),
            ("other".into(), "kept".into()),
        ]);
        let token = |id: &str| BTreeMap::from([(id.to_owned(), "0123456789abcdef".to_owned())]);
        assert!(renew(&mut data, &token("abcdef")));
        assert_eq!(
            data.keys().collect::<Vec<_>>(),
            [SIGNATURE.to_owned() + "abcdef", CONTENT.into(), "other".into()]
                .iter()
                .collect::<Vec<_>>()
        );
        assert!(!renew(&mut data, &token("abcdef")));
        assert!(renew(&mut data, &token("ghijkl")));
        assert!(!data.contains_key("jws-kubeconfig-abcdef"));
        data.insert(CONTENT.into(), "another".into());
        assert!(renew(&mut data, &token("ghijkl")));
        assert!(renew(&mut data, &BTreeMap::new()));
        assert_eq!(data.len(), 2);
        data.remove(CONTENT);
        assert!(!renew(&mut data, &token("ghijkl")));
    }

    #[test]
    fn a_signature_is_the_one_that_kubeadm_computes() {
        // of upstream's test of the same, `TestComputeDetachedSignature`
        let found = signature(
            "Hello from the other side. I must have called a thousand times.",
            "joshua",
            "my voice is my passcode",
        );
        assert_eq!(
            found,
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }

    #[test]
    fn a_token_signs_while_it_is_valid_and_meant_to() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let of = |key: &str, value: &str| {
            let mut secret = Secret {
                type_: Some(TYPE.into()),
                ..Secret::default()
            };
            secret.metadata.name = Some("bootstrap-token-abcdef".into());
            let mut data = json!({ "token-id": "abcdef", "token-secret": "s", "usage-bootstrap-signing": "true" });
            data[key] = value.into();
            let text = |value: &serde_json::Value| ByteString(value.as_str().unwrap().into());
            let fields = data.as_object().unwrap().iter();
            secret.data = Some(fields.map(|(key, value)| (key.clone(), text(value))).collect());
            token(&secret, now)
        };
        let found = Some(("abcdef".to_owned(), "s".to_owned()));
        assert_eq!(of("description", "any"), found);
        assert_eq!(of("expiration", "2027-01-15T08:01:00Z"), found);
        for (key, value) in [
            ("expiration", "2027-01-15T07:59:00Z"),
            ("expiration", "soon"),
            ("usage-bootstrap-signing", "false"),
            ("token-id", "ghijkl"),
            ("token-secret", ""),
        ] {
            assert_eq!(of(key, value), None, "{key}: {value}");
        }
    }
}
