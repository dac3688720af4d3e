//! A claim stays as long as a pod that has a node uses it. Its condition `Unused` says since when none names it (KEP-5541).

use std::time::Duration;

use api::object::Object;
use client::{Cache, Client, ListParams};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Need, need, queue_if_needed, set};
use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::informers::BY_NAMESPACE;
use crate::meta;
use crate::pods::{self, claims_of, ephemeral_claim, volumes};

const FINALIZER: &str = "kubernetes.io/pvc-protection";
const UNUSED: &str = "Unused";

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let (claims, pods) = (ctx.informers.get::<PersistentVolumeClaim>(), ctx.informers.get::<Pod>());
    if !ctx.synced(&[&claims, &pods]).await {
        return Ok(());
    }
    let queue = ctx.queue("pvcprotection");
    ctx.each_change(&claims, {
        let queue = queue.clone();
        move |change| {
            let claim = change.new.as_deref();
            queue_if_needed(&queue, claim, FINALIZER);
            if let Some(object) = claim
                && let Ok(claim) = object.decode::<PersistentVolumeClaim>()
                && is_told_of(&claim)
                && unused(&claim).is_none()
            {
                queue.add(object.key());
            }
        }
    });
    ctx.each_change(&pods, {
        let (queue, claims) = (queue.clone(), claims.clone());
        move |change| {
            let (old, new) = (change.old.as_deref(), change.new.as_deref());
            // A pod that goes on lets go of nothing, unless another has taken its name.
            let replaced = old.zip(new).is_some_and(|(old, new)| old.meta.uid != new.meta.uid);
            let gone = new.is_none_or(|n| n.meta.deleting) || replaced;
            let keys: Vec<String> = [old, new].into_iter().flatten().flat_map(claims_of).collect();
            let ended = |pod: Option<&Object>| pod.is_none_or(is_terminated);
            if !keys.is_empty() && (replaced || ended(old) != ended(new)) {
                keys.into_iter()
                    .filter(|key| claims.get(key).is_some())
                    .for_each(|key| queue.add(key));
            }
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
    let claim: PersistentVolumeClaim = decode(&object)?;
    if !object.meta.deleting && is_told_of(&claim) && tell_use(client, pods, &object, &claim).await? {
        // the next version of the claim comes back
        return Ok(None);
    }
    match need(&object, FINALIZER) {
        Need::Nothing => return Ok(None),
        Need::Add => return set(client, &object, FINALIZER, true).await,
        Need::Judge => {}
    }
    if any_pod(client, pods, &claim, uses).await? {
        return Ok(None);
    }
    set(client, &object, FINALIZER, false).await
}

/// Whether a pod has the claim in some way.
async fn any_pod(
    client: &Client,
    pods: &Cache,
    claim: &PersistentVolumeClaim,
    has: fn(&Pod, &PersistentVolumeClaim) -> bool,
) -> Result<bool, Error> {
    let namespace = meta::namespace(claim);
    for pod in pods.by_index(BY_NAMESPACE, namespace) {
        if has(&decode(&pod)?, claim) {
            return Ok(true);
        }
    }
    // The cache may not know yet of a pod that has just got its node: the server is asked before something is lost.
    let live = client.list::<Pod>(namespace, &ListParams::default()).await?;
    Ok(live.items.iter().any(|pod| has(pod, claim)))
}

/// Whether a claim is one whose use is told of.
fn is_told_of(claim: &PersistentVolumeClaim) -> bool {
    api::features::enabled("PersistentVolumeClaimUnusedSinceTime")
        && claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
}

/// What the claim says of its use: `True` for none.
fn unused(claim: &PersistentVolumeClaim) -> Option<&str> {
    let conditions = claim.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|c| c.type_ == UNUSED)?;
    Some(condition.status.as_str())
}

/// Says in the claim's status whether a pod names it, if that has changed. Whether it has.
async fn tell_use(
    client: &Client,
    pods: &Cache,
    object: &Object,
    claim: &PersistentVolumeClaim,
) -> Result<bool, Error> {
    let used = any_pod(client, pods, claim, names).await?;
    let (value, reason, message) = match (used, unused(claim)) {
        (true, None | Some("True")) => ("False", "PodUsingPVC", "A pod is currently referencing this PVC"),
        (false, said) if said != Some("True") => {
            ("True", "NoPodsUsingPVC", "No pods are currently referencing this PVC")
        }
        _ => return Ok(false),
    };
    let mut status = claim.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    let condition = PersistentVolumeClaimCondition {
        type_: UNUSED.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(Timestamp::now())),
        last_probe_time: None,
    };
    match conditions.iter_mut().find(|c| c.type_ == UNUSED) {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
    crate::status::put(client, object, &status).await?;
    Ok(true)
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
    placed && (has_named(pod, claim) || !is_shut_down(pod) && has_own(pod, claim))
}

fn has_named(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let mut named = volumes(pod).filter_map(|v| v.persistent_volume_claim.as_ref());
    named.any(|c| c.claim_name == meta::name(claim))
}

/// Whether the claim was made for one of the pod's volumes.
fn has_own(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let own = meta::controller_of(claim).is_some_and(|owner| owner.uid == meta::uid(pod));
    own && volumes(pod).any(|v| ephemeral_claim(pod, v).as_deref() == Some(meta::name(claim)))
}

/// Whether the pod names the claim and has not ended: one that waits for its node counts too.
fn names(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    !pods::is_terminated(pod) && (has_named(pod, claim) || has_own(pod, claim))
}

fn is_terminated(pod: &Object) -> bool {
    pod.decode::<Pod>().is_ok_and(|pod| pods::is_terminated(&pod))
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

    #[test]
    fn a_claim_is_unused_when_no_pod_that_goes_on_names_it() {
        let pod = |status: serde_json::Value, deleted: Option<&str>| -> Pod {
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "p", "namespace": "n", "uid": "u", "deletionTimestamp": deleted}, "status": status,
                "spec": {"containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}))
            .unwrap()
        };
        let claim = |name: &str| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
        };
        let at = Some("2026-01-01T00:00:00Z");
        let running = json!({"phase": "Running", "containerStatuses": [{"name": "c", "state": {"running": {}},
            "image": "", "imageID": "", "ready": true, "restartCount": 0}]});
        for (what, pod, named) in [
            ("waits for a node", pod(json!({"phase": "Pending"}), None), true),
            ("runs", pod(running.clone(), None), true),
            ("runs and is deleted", pod(running, at), true),
            ("has no container any more", pod(json!({"phase": "Running"}), at), false),
            ("failed", pod(json!({"phase": "Failed"}), None), false),
        ] {
            assert_eq!(names(&pod, &claim("c")), named, "{what}");
            assert!(!names(&pod, &claim("d")), "{what}");
        }
    }
}
