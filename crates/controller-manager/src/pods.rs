//! Pods as controllers see them: ready, available, active; made from templates and deleted, with events.

use std::future::Future;

use api::object::Object;
use client::{Client, DeleteParams, EventRecorder};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ObjectReference, PersistentVolumeClaimVolumeSource, Pod, PodCondition, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::Error;
use crate::meta::{is_deleting, name, namespace, uid};

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn node_name(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}

/// `Succeeded` or `Failed`.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether a pod is terminal, by the little that says so.
pub(crate) fn has_ended(pod: &Object) -> bool {
    #[derive(Deserialize)]
    struct Phased {
        #[serde(default)]
        status: Phase,
    }
    #[derive(Deserialize, Default)]
    struct Phase {
        #[serde(default)]
        phase: String,
    }
    let pod = pod.decode::<Phased>();
    pod.is_ok_and(|pod| matches!(pod.status.phase.as_str(), "Succeeded" | "Failed"))
}

/// Whether nothing of the pod runs any more. Upstream: `IsPodTerminated`.
pub(crate) fn is_terminated(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let lists = status.map(|s| {
        [
            &s.init_container_statuses,
            &s.container_statuses,
            &s.ephemeral_container_statuses,
        ]
    });
    let mut all = lists.into_iter().flatten().flat_map(|list| list.iter().flatten());
    let runs = |state: &ContainerState| state.terminated.is_none() && state.waiting.is_none();
    is_terminal(pod) || is_deleting(pod) && !all.any(|s| s.state.as_ref().is_none_or(runs))
}

pub(crate) fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten())
}

/// The name of the claim that is made for a pod's `ephemeral` volume.
pub(crate) fn ephemeral_claim(pod: &Pod, volume: &Volume) -> Option<String> {
    volume.ephemeral.as_ref()?;
    Some(made_claim(name(pod), &volume.name))
}

fn made_claim(pod: &str, volume: &str) -> String {
    format!("{pod}-{volume}")
}

/// Of a pod what says which claims it has. Every new pod is asked: the rest of it is not read.
#[derive(Deserialize)]
struct Claiming {
    #[serde(default)]
    spec: ClaimingSpec,
}

#[derive(Deserialize, Default)]
struct ClaimingSpec {
    #[serde(default)]
    volumes: Vec<ClaimingVolume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClaimingVolume {
    name: String,
    persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    ephemeral: Option<IgnoredAny>,
}

fn claiming(pod: &Object) -> impl Iterator<Item = ClaimingVolume> {
    let pod: Option<Claiming> = pod.decode().ok();
    pod.into_iter().flat_map(|pod| pod.spec.volumes)
}

/// The keys of the claims that a pod names or that are made for it.
pub(crate) fn claims_of(pod: &Object) -> Vec<String> {
    let meta = &pod.meta;
    claiming(pod)
        .filter_map(|volume| match (volume.persistent_volume_claim, volume.ephemeral) {
            (Some(claim), _) => Some(format!("{}/{}", meta.namespace, claim.claim_name)),
            (None, Some(_)) => Some(format!("{}/{}", meta.namespace, made_claim(&meta.name, &volume.name))),
            (None, None) => None,
        })
        .collect()
}

/// Whether claims are to be made for the pod.
pub(crate) fn has_ephemeral(pod: &Object) -> bool {
    claiming(pod).any(|volume| volume.ephemeral.is_some())
}

/// Neither ended nor being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleting(pod)
}

pub(crate) fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == type_)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// When the pod became ready, if it is.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready")
        .filter(|c| c.status == "True")
        .and_then(|c| c.last_transition_time.as_ref())
        .map(|t| t.0)
}

/// Ready for at least so many seconds.
pub(crate) fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod) && seconds_to_available(pod, min_ready_seconds, now).is_none_or(|s| s <= 0.0)
}

/// Seconds until a ready pod is available; `None` if it is not ready or that does not depend on time.
pub(crate) fn seconds_to_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<f64> {
    if min_ready_seconds == 0 {
        return None;
    }
    let since = ready_since(pod)?;
    Some(f64::from(min_ready_seconds) - now.duration_since(since).as_secs_f64())
}

/// The most restarts of any container.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let containers = status.container_statuses.iter().flatten();
    containers.map(|c| c.restart_count).max().unwrap_or(0)
}

/// A pod of a template for its controller. `fixed` names it; otherwise the server does, after `owner-`.
pub(crate) fn from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    owner: &OwnerReference,
    fixed: Option<String>,
) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            generate_name: fixed.is_none().then(|| format!("{}-", owner.name)),
            name: fixed,
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Creates and deletes pods in the name of one controller, and tells it in events.
#[derive(Clone)]
pub(crate) struct PodControl {
    pub client: Client,
    pub recorder: EventRecorder,
}

impl PodControl {
    /// A refusal because the namespace is going away is an error without an event.
    pub(crate) async fn create(&self, pod: &Pod, owner: &ObjectReference) -> Result<Pod, client::Error> {
        let created = self.client.create(pod).await;
        match &created {
            Ok(pod) => self
                .recorder
                .normal(owner, "SuccessfulCreate", format!("Created pod: {}", name(pod))),
            Err(error) if error.is_namespace_terminating() => {}
            Err(error) => self
                .recorder
                .warning(owner, "FailedCreate", format!("Error creating: {error}")),
        }
        created
    }

    pub(crate) async fn delete(&self, pod: &Pod, owner: &ObjectReference) -> Result<(), client::Error> {
        let deleted = self
            .client
            .delete::<Pod>(namespace(pod), name(pod), &DeleteParams::uid(uid(pod)))
            .await;
        match &deleted {
            Ok(()) => self
                .recorder
                .normal(owner, "SuccessfulDelete", format!("Deleted pod: {}", name(pod))),
            Err(error) if error.is_not_found() => {}
            Err(error) => self
                .recorder
                .warning(owner, "FailedDelete", format!("Error deleting: {error}")),
        }
        deleted
    }
}

/// Does `count` things in batches of 1, 2, 4, ...; stops after a batch with a failure. Gives the successes and the first failure.
pub(crate) async fn slow_start<F, Fut>(count: usize, f: F) -> (usize, Option<Error>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), Error>>,
{
    let (mut done, mut batch) = (0, 1);
    let mut next = 0;
    while next < count {
        let end = count.min(next + batch);
        let results = futures::future::join_all((next..end).map(&f)).await;
        next = end;
        let mut failure = None;
        for result in results {
            match result {
                Ok(()) => done += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if failure.is_some() {
            return (done, failure);
        }
        batch *= 2;
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn a_failing_batch_ends_a_slow_start() {
        let tried = Cell::new(0);
        let (done, error) = slow_start(100, |i| {
            tried.set(tried.get() + 1);
            async move { if i == 4 { Err(Error::State("no".into())) } else { Ok(()) } }
        })
        .await;
        assert_eq!((done, tried.get(), error.is_some()), (6, 7, true));
        assert_eq!(slow_start(9, |_| async { Ok(()) }).await.0, 9);
    }

    #[test]
    fn a_pod_is_available_after_being_ready_long_enough() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let pod: Pod = serde_json::from_value(serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:01:40Z"}]}}))
        .unwrap();
        assert!(is_available(&pod, 0, at(100)));
        assert!(!is_available(&pod, 10, at(109)));
        assert!(is_available(&pod, 10, at(110)));
    }
}
