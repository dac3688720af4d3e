//! A claim stays as long as a pod that has a node uses it.

use std::time::Duration;

use client::{Cache, Client, ListParams, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use super::{Need, need, queue_if_needed, set};
use crate::Error;
use crate::context::{Context, split_key};
use crate::error::decode;
use crate::informers::BY_NAMESPACE;
use crate::meta;
use crate::pods::{claims_of, ephemeral_claim, volumes};

const FINALIZER: &str = "kubernetes.io/pvc-protection";

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let (claims, pods) = (ctx.informers.get::<PersistentVolumeClaim>(), ctx.informers.get::<Pod>());
    if !ctx.synced(&[&claims, &pods]).await {
        return Ok(());
    }
    let queue = WorkQueue::default();
    ctx.each_change(&claims, {
        let queue = queue.clone();
        move |change| queue_if_needed(&queue, change.new.as_deref(), FINALIZER)
    });
    ctx.each_change(&pods, {
        let (queue, claims) = (queue.clone(), claims.clone());
        move |change| {
            let (old, new) = (change.old.as_deref(), change.new.as_deref());
            // A pod that goes on lets go of nothing, unless another has taken its name.
            let replaced = old.zip(new).is_some_and(|(old, new)| old.meta.uid != new.meta.uid);
            let gone = new.is_none_or(|n| n.meta.deleting) || replaced;
            for pod in [old, new].into_iter().flatten().filter(|_| gone) {
                for key in claims_of(pod) {
                    queue_if_needed(&queue, claims.get(&key).as_deref(), FINALIZER);
                }
            }
        }
    });
    let client = ctx.client.clone();
    ctx.work(queue, 1, move |key| {
        let (client, claims, pods) = (client.clone(), claims.clone(), pods.clone());
        async move { sync(&client, &claims, &pods, &key).await }
    })
    .await;
    Ok(())
}

async fn sync(client: &Client, claims: &Cache, pods: &Cache, key: &str) -> Result<Option<Duration>, Error> {
    let Some(object) = claims.get(key) else {
        return Ok(None);
    };
    match need(&object, FINALIZER) {
        Need::Nothing => return Ok(None),
        Need::Add => return set(client, &object, FINALIZER, true).await,
        Need::Judge => {}
    }
    let claim: PersistentVolumeClaim = decode(&object)?;
    let (namespace, _) = split_key(key);
    for pod in pods.by_index(BY_NAMESPACE, namespace) {
        if uses(&decode(&pod)?, &claim) {
            return Ok(None);
        }
    }
    // The cache may not know yet of a pod that has just got its node: the server is asked before something is lost.
    let live = client.list::<Pod>(namespace, &ListParams::default()).await?;
    if live.items.iter().any(|pod| uses(pod, &claim)) {
        return Ok(None);
    }
    set(client, &object, FINALIZER, false).await
}

/// The kubelet has let go of the pod's volumes, or was told to forget them.
fn is_shut_down(pod: &Pod) -> bool {
    meta::is_deleting(pod) && pod.metadata.deletion_grace_period_seconds == Some(0)
}

/// Whether the pod keeps the claim. One without a node does not: the kubelet starts no pod on a claim that is deleted.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let placed = pod
        .spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .is_some_and(|n| !n.is_empty());
    let name = meta::name(claim);
    let own = || meta::controller_of(claim).is_some_and(|owner| owner.uid == meta::uid(pod));
    placed
        && volumes(pod).any(|v| {
            v.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == name)
                || !is_shut_down(pod) && ephemeral_claim(pod, v).as_deref() == Some(name) && own()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_used_by_placed_pods_that_name_it_or_that_it_was_made_for() {
        let pod = |node: &str, volume: serde_json::Value, extra: serde_json::Value| -> Pod {
            let mut meta = json!({"name": "p", "namespace": "n", "uid": "u"});
            meta.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta,
                "spec": {"nodeName": node, "containers": [], "volumes": [volume]}}))
            .unwrap()
        };
        let claim = |name: &str, owner: &str| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true}]}}))
            .unwrap()
        };
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        let made = json!({"name": "v", "ephemeral": {}});
        let ended = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0});
        for (what, pod, claim, used) in [
            ("named", pod("node", named.clone(), json!({})), claim("c", ""), true),
            ("not placed", pod("", named.clone(), json!({})), claim("c", ""), false),
            ("another", pod("node", named.clone(), json!({})), claim("d", ""), false),
            (
                "ended but there",
                pod("node", named, ended.clone()),
                claim("c", ""),
                true,
            ),
            (
                "made for it",
                pod("node", made.clone(), json!({})),
                claim("p-v", "u"),
                true,
            ),
            (
                "made for another",
                pod("node", made.clone(), json!({})),
                claim("p-v", "x"),
                false,
            ),
            (
                "made for it, which ended",
                pod("node", made, ended),
                claim("p-v", "u"),
                false,
            ),
        ] {
            assert_eq!(uses(&pod, &claim), used, "{what}");
        }
    }
}
