//! A pod that was chosen for disruption and is still there, not being deleted, is taken to stay: its condition becomes
//! false after two minutes. Upstream: `syncStalePodDisruption`.

use std::time::Duration;

use client::{Cache, Client};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::DELETION_TIMEOUT_SECONDS;
use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::meta::is_deleting;
use crate::pods::{condition, is_terminal};

const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// Works until shutdown.
pub(super) async fn run(ctx: &Context, pods: &Cache) {
    let queue = ctx.queue("stale_pod_disruption");
    ctx.each_change(pods, {
        let queue = queue.clone();
        move |change| {
            let Some(object) = change.new else { return };
            // Almost no pod has the condition: the bytes are asked before they are read.
            let named = memchr::memmem::find(&object.bytes, DISRUPTION_TARGET.as_bytes()).is_some();
            if named && decode::<Pod>(&object).is_ok_and(|pod| seconds_left(&pod, Timestamp::now()).is_some()) {
                queue.add(object.key());
            }
        }
    });
    let (client, pods) = (ctx.client.clone(), pods.clone());
    ctx.work(queue, 1, move |key| {
        let (client, pods) = (client.clone(), pods.clone());
        async move { sync(&client, &pods, &key).await }
    })
    .await;
}

/// Seconds until the condition is stale, at least 0; `None` if it never is.
fn seconds_left(pod: &Pod, now: Timestamp) -> Option<f64> {
    let target = condition(pod, DISRUPTION_TARGET).filter(|c| c.status == "True")?;
    // The kubelet may take any time to end a pod it has chosen.
    if is_deleting(pod) || is_terminal(pod) || target.reason.as_deref() == Some("TerminationByKubelet") {
        return None;
    }
    let since = target
        .last_transition_time
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    Some((DELETION_TIMEOUT_SECONDS - now.duration_since(since).as_secs_f64()).max(0.0))
}

async fn sync(client: &Client, pods: &Cache, key: &str) -> Result<Option<Duration>, Error> {
    let Some(object) = pods.get(key) else { return Ok(None) };
    let pod: Pod = decode(&object)?;
    let now = Timestamp::now();
    match seconds_left(&pod, now) {
        None => return Ok(None),
        Some(left) if left > 0.0 => return Ok(Some(Duration::from_secs_f64(left))),
        Some(_) => {}
    }
    let mut status = pod.status.unwrap_or_default();
    for found in status
        .conditions
        .iter_mut()
        .flatten()
        .filter(|c| c.type_ == DISRUPTION_TARGET)
    {
        *found = PodCondition {
            type_: DISRUPTION_TARGET.to_owned(),
            status: "False".to_owned(),
            last_transition_time: Some(Time(now)),
            observed_generation: found.observed_generation.and(pod.metadata.generation),
            ..PodCondition::default()
        };
    }
    crate::status::put(client, &object, &status).await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_that_nobody_deletes_is_no_target_after_two_minutes() {
        let pod = |state: &str, reason: &str, phase: &str, meta: serde_json::Value| -> Pod {
            serde_json::from_value(
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": {"phase": phase,
                "conditions": [{"type": "DisruptionTarget", "status": state, "reason": reason,
                    "lastTransitionTime": "1970-01-01T00:01:40Z"}]}}),
            )
            .unwrap()
        };
        let at = |s| Timestamp::from_second(s).unwrap();
        let left = |pod: Pod, now| seconds_left(&pod, at(now));
        assert_eq!(
            left(pod("True", "EvictionByEvictionAPI", "Running", json!({})), 130),
            Some(90.0)
        );
        assert_eq!(
            left(pod("True", "EvictionByEvictionAPI", "Running", json!({})), 500),
            Some(0.0)
        );
        for (what, pod) in [
            ("over", pod("False", "", "Running", json!({}))),
            (
                "the kubelet's",
                pod("True", "TerminationByKubelet", "Running", json!({})),
            ),
            ("ended", pod("True", "EvictionByEvictionAPI", "Failed", json!({}))),
            (
                "going",
                pod(
                    "True",
                    "EvictionByEvictionAPI",
                    "Running",
                    json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
                ),
            ),
        ] {
            assert_eq!(left(pod, 500), None, "{what}");
        }
    }
}
