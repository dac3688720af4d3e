//! PodCertificateRequests are forgotten once every kubelet that waited for one has its answer.

use std::time::Duration;

use client::{Cache, Client, DeleteParams};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::PodCertificateRequest;

use crate::Error;
use crate::context::{Context, split_key};
use crate::error::decode;
use crate::meta::uid;

const KEPT: SignedDuration = SignedDuration::from_mins(15);

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let requests = ctx.informers.get::<PodCertificateRequest>();
    if !ctx.synced(&[&requests]).await {
        return Ok(());
    }
    let queue = ctx.queue("podcertificaterequest_cleaner");
    ctx.each_change(&requests, {
        let queue = queue.clone();
        move |change| {
            // what changes later does not move its end
            if let (None, Some(request)) = (change.old, change.new) {
                queue.add(request.key());
            }
        }
    });
    let client = ctx.client.clone();
    ctx.work(queue, 1, move |key| {
        let (client, requests) = (client.clone(), requests.clone());
        async move { clean(&client, &requests, &key, Timestamp::now()).await }
    })
    .await;
    Ok(())
}

/// How long a request is kept still; zero when it is to go.
fn left(request: &PodCertificateRequest, now: Timestamp) -> Duration {
    let created = request.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    Duration::try_from(KEPT - now.duration_since(created)).unwrap_or_default()
}

async fn clean(client: &Client, requests: &Cache, key: &str, now: Timestamp) -> Result<Option<Duration>, Error> {
    let Some(object) = requests.get(key) else {
        return Ok(None);
    };
    let request: PodCertificateRequest = decode(&object)?;
    let left = left(&request, now);
    if !left.is_zero() {
        return Ok(Some(left));
    }
    let (namespace, name) = split_key(key);
    let params = DeleteParams::uid(uid(&request));
    match client.delete::<PodCertificateRequest>(namespace, name, &params).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_kept_for_a_quarter_of_an_hour() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let request: PodCertificateRequest = serde_json::from_value(serde_json::json!({
            "metadata": { "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "maxExpirationSeconds": 1, "nodeName": "", "nodeUID": "", "podName": "", "podUID": "",
                "serviceAccountName": "", "serviceAccountUID": "", "signerName": "", "stubPKCS10Request": "" },
        }))
        .unwrap();
        assert_eq!(left(&request, at("2026-01-01T00:14:00Z")), Duration::from_secs(60));
        assert_eq!(left(&request, at("2026-01-01T00:15:00Z")), Duration::ZERO);
        assert_eq!(left(&request, at("2026-01-02T00:00:00Z")), Duration::ZERO);
    }
}
