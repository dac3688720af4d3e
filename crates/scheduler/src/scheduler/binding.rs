//! What follows from a decision: a pod is bound to its node, or refused, and its events and metrics say so.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Patch, SeriesRecorder, Told};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Scheduler;
use crate::claim_binding::{self, BindError};
use crate::cycle::Failure;
use crate::framework::ClusterEvent;
use crate::metrics::{Outcome, Point};
use crate::plugins::volume_binding;
use crate::pod::PodInfo;
use crate::preemption::Preemption;
use crate::queue::Queued;
use crate::storage::ClaimPlan;

/// What events say of pods that got a node, and of those that did not.
const SCHEDULED: Told<'static> = Told {
    type_: "Normal",
    reason: "Scheduled",
    action: "Binding",
    related: None,
};
const FAILED: Told<'static> = Told {
    type_: "Warning",
    reason: "FailedScheduling",
    action: "Scheduling",
    related: None,
};

/// How a binding ended.
pub(super) struct Bound {
    queued: Queued,
    error: Option<BindError>,
    begun: Instant,
    /// The claims that were to be bound before the pod.
    claims: Vec<String>,
}

impl Scheduler {
    /// Reserve, and Bind in the background.
    pub(super) fn bind(&mut self, queued: Queued, node: &str, begun: Instant) {
        let reserving = Instant::now();
        let pod = queued.pod.clone();
        self.snapshot.withdraw_nomination(pod.uid());
        self.snapshot.add_pod(&pod, node);
        self.assumed.insert(pod.uid().into(), pod.clone());
        let place = self.snapshot.node(node).filter(|_| !pod.claims.is_empty());
        let plans = place
            .and_then(|n| volume_binding::plan(&self.snapshot, &pod, n))
            .unwrap_or_default();
        for plan in &plans {
            let volume = match plan {
                ClaimPlan::Volume { volume, .. } => Some(volume.clone()),
                ClaimPlan::Provision { .. } => None,
            };
            self.snapshot.storage.assumed.insert(plan.claim().to_owned(), volume);
        }
        self.counted.point(Point::Reserve, "Success", reserving.elapsed());
        let (counted, started) = (self.counted.clone(), self.started);
        let (claims, statuses) = (self.claims.clone(), self.statuses.clone());
        let (client, events, bindings) = (self.client.clone(), self.events.clone(), self.bindings.clone());
        let node = node.to_owned();
        tokio::spawn(async move {
            let _working = counted.binding();
            let status = |well: bool| if well { "Success" } else { "Error" };
            let bound = async {
                // a refusal that is written late would stand in the status of a pod that has a node
                statuses.written(&pod).await;
                if !plans.is_empty() {
                    // its volumes may take long: who looks for room sees where the pod will be
                    statuses.nominate(&pod, &node).await;
                }
                let binding = Instant::now();
                let claimed = claim_binding::bind(&client, &claims, &plans, &node).await;
                counted.point(Point::PreBind, status(claimed.is_ok()), binding.elapsed());
                claimed?;
                let binding = Instant::now();
                let bound = bind_pod(&client, &pod, &node).await;
                counted.point(Point::Bind, status(bound.is_ok()), binding.elapsed());
                bound?;
                Ok::<_, BindError>(())
            };
            let bound = bound.await;
            if bound.is_ok() {
                let now = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                counted.attempted(Outcome::Scheduled, begun.elapsed());
                counted.scheduled(queued.attempts, Duration::from_millis(queued.since_first(now)));
                let message = format!("Successfully assigned {} to {node}", pod.key);
                events.tell(&reference(&pod), &SCHEDULED, message);
            }
            // after shutdown nobody waits for the result
            let _ = bindings.send(Bound {
                queued,
                error: bound.err(),
                begun,
                claims: plans.iter().map(|p| p.claim().to_owned()).collect(),
            });
        });
    }

    /// What to do after a binding.
    pub(super) fn settle(&mut self, bound: Bound) {
        let Some(error) = bound.error else { return };
        self.counted.attempted(Outcome::Error, bound.begun.elapsed());
        for claim in &bound.claims {
            self.snapshot.storage.assumed.remove(claim);
        }
        let pod = &bound.queued.pod;
        let uid: Box<str> = pod.uid().into();
        if self.assumed.remove(&uid).is_none() {
            // the watch has told meanwhile what became of it
            return;
        }
        self.snapshot.remove_pod(&uid);
        self.wake(&ClusterEvent::PodRemoved(pod));
        let newest = self
            .pods
            .get(&pod.key)
            .filter(|o| o.meta.uid == uid && !o.meta.deleting);
        let Some(newest) = newest else { return };
        match PodInfo::of(&newest) {
            Ok(newest) if newest.node_name.is_empty() => {
                tracing::warn!(pod = %pod.key, %error, "binding failed; trying again");
                let note = format!("binding rejected: {error}");
                self.events.tell(&reference(pod), &FAILED, note);
                let mut queued = bound.queued;
                queued.pod = Arc::new(newest);
                self.queue.failed(queued);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "pod cannot be read"),
        }
    }

    /// PostFilter and the report of a failure.
    pub(super) fn refuse(&mut self, mut queued: Queued, failure: &Failure, begun: Instant) {
        let pod = queued.pod.clone();
        let mut message = failure.message();
        let preemption = if failure.nodes == 0 {
            None
        } else if failure.whole.is_some() {
            // a pod that is refused as a whole never came to the plugin of resource claims, which then has nothing to look at
            message.push_str(" not found");
            None
        } else {
            self.counted.preempts();
            let preempting = Instant::now();
            let preempted = self.decider.preempt(&self.snapshot, &pod, failure);
            let status = if preempted.is_ok() { "Success" } else { "Unschedulable" };
            self.counted.point(Point::PostFilter, status, preempting.elapsed());
            match preempted {
                Ok(preemption) => {
                    self.counted.preempted(preemption.victims.len());
                    Some(preemption)
                }
                Err(why) => {
                    message.push_str(&format!(" preemption: {why}"));
                    None
                }
            }
        };
        if let Some(preemption) = &preemption {
            self.snapshot.nominate(pod.clone(), &preemption.node);
        }
        self.events.tell(&reference(&pod), &FAILED, message.clone());
        let nominated = preemption.as_ref().map(|p| p.node.to_string());
        let generation = pod.object.meta.generation;
        if queued.message != message || queued.generation != generation || nominated.is_some() {
            self.statuses.refused(&pod, &message, nominated.as_deref());
        }
        if let Some(preemption) = preemption {
            tokio::spawn(evict(self.client.clone(), self.events.clone(), pod, preemption));
        }
        queued.refused_by = failure.plugins();
        queued.message = message;
        queued.generation = generation;
        self.counted.attempted(Outcome::Unschedulable, begun.elapsed());
        self.queue.refused(queued);
    }
}

fn reference(pod: &PodInfo) -> core::ObjectReference {
    core::ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.namespace().into()),
        name: Some(pod.name().into()),
        uid: Some(pod.uid().into()),
        resource_version: Some(pod.object.meta.resource_version.to_string()),
        ..core::ObjectReference::default()
    }
}

async fn bind_pod(client: &Client, pod: &PodInfo, node: &str) -> Result<(), client::Error> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid() },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    client
        .create_subresource::<core::Pod, Value>(pod.namespace(), pod.name(), "binding", &binding)
        .await?;
    Ok(())
}

/// Makes the victims leave.
async fn evict(client: Client, events: SeriesRecorder, pod: Arc<PodInfo>, preemption: Preemption) {
    for victim in preemption.victims {
        let disruption = json!({
            "metadata": { "uid": victim.uid() },
            "status": { "conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": "default-scheduler: preempting to accommodate a higher priority pod",
                "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            }] },
        });
        let patch = Patch::Strategic(disruption);
        let told = client
            .patch_status::<core::Pod>(victim.namespace(), victim.name(), &patch)
            .await;
        let deleted = match told {
            Ok(_) => {
                let uid = DeleteParams::uid(victim.uid());
                client
                    .delete::<core::Pod>(victim.namespace(), victim.name(), &uid)
                    .await
            }
            Err(error) => Err(error),
        };
        match deleted {
            Ok(()) => {
                let message = format!("Preempted by pod {} on node {}", pod.uid(), preemption.node);
                let told = Told {
                    type_: "Normal",
                    reason: "Preempted",
                    action: "Preempting",
                    related: Some(&reference(&pod)),
                };
                events.tell(&reference(&victim), &told, message);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => tracing::warn!(pod = %victim.key, %error, "cannot be preempted"),
        }
    }
}
