//! One step of a StatefulSet, from its pods to what is to be made and deleted, in order.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::pods::ordinal;
use crate::deployment::scaled;
use crate::history::REVISION_HASH;
use crate::meta::{is_deleting, label};
use crate::pods::{is_available, is_ready, phase, seconds_to_available};

/// Which template a pod to be made is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Template {
    Current,
    Update,
}

#[derive(Debug, Default)]
pub(super) struct Step {
    pub create: Vec<(i32, Template)>,
    pub delete: Vec<Pod>,
    /// Among those to delete: pods that ended and are made anew.
    pub ended: Vec<String>,
    /// Among those to delete: pods beyond the wanted number.
    pub condemned: Vec<String>,
    pub status: StatefulSetStatus,
    pub requeue_seconds: Option<f64>,
}

/// The names of the two revisions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Revisions<'a> {
    pub current: &'a str,
    pub update: &'a str,
}

struct Slots<'a> {
    /// Wanted ordinals with their pods.
    replicas: Vec<(i32, Option<&'a Pod>)>,
    /// Pods beyond, highest ordinal first.
    condemned: Vec<&'a Pod>,
}

fn is_of(pod: &Pod, revision: &str) -> bool {
    label(pod, REVISION_HASH) == Some(revision)
}

fn is_running_and_ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && is_ready(pod)
}

fn slots<'a>(set: &StatefulSet, pods: &'a [Pod]) -> Slots<'a> {
    let spec = set.spec.as_ref();
    let start = spec
        .and_then(|s| s.ordinals.as_ref())
        .and_then(|o| o.start)
        .unwrap_or(0);
    let end = start.saturating_add(spec.and_then(|s| s.replicas).unwrap_or(1));
    let mut replicas: Vec<(i32, Option<&Pod>)> = (start..end).map(|i| (i, None)).collect();
    let mut condemned: Vec<(i32, &Pod)> = Vec::new();
    for pod in pods {
        match ordinal(set, pod) {
            Some(at) if (start..end).contains(&at) => {
                if let Some(slot) = usize::try_from(at - start).ok().and_then(|i| replicas.get_mut(i)) {
                    slot.1 = Some(pod);
                }
            }
            Some(at) => condemned.push((at, pod)),
            None => {}
        }
    }
    condemned.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    Slots {
        replicas,
        condemned: condemned.into_iter().map(|(_, pod)| pod).collect(),
    }
}

fn strategy(set: &StatefulSet) -> (bool, Option<i32>, usize) {
    let strategy = set
        .spec
        .as_ref()
        .and_then(|s| s.update_strategy.clone())
        .unwrap_or_default();
    let rolling = strategy.type_.as_deref().unwrap_or("RollingUpdate") == "RollingUpdate";
    let update = strategy.rolling_update.unwrap_or_default();
    let replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let unavailable = update
        .max_unavailable
        .and_then(|m| scaled(&m, replicas, true))
        .unwrap_or(1);
    (
        rolling,
        update.partition,
        usize::try_from(unavailable).unwrap_or(1).max(1),
    )
}

fn count(
    set: &StatefulSet,
    pods: &[Pod],
    revisions: Revisions<'_>,
    min_ready: i32,
    now: Timestamp,
) -> StatefulSetStatus {
    let old = set.status.clone().unwrap_or_default();
    let number = |f: &dyn Fn(&Pod) -> bool| i32::try_from(pods.iter().filter(|p| f(p)).count()).unwrap_or(i32::MAX);
    let alive = |p: &Pod, revision: &str| !is_deleting(p) && is_of(p, revision);
    StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: number(&|_| true),
        ready_replicas: Some(number(&is_running_and_ready)).filter(|n| *n != 0),
        available_replicas: Some(number(&|p| is_running_and_ready(p) && is_available(p, min_ready, now))),
        current_replicas: Some(number(&|p| alive(p, revisions.current))).filter(|n| *n != 0),
        updated_replicas: Some(number(&|p| alive(p, revisions.update))).filter(|n| *n != 0),
        current_revision: Some(revisions.current.to_owned()),
        update_revision: Some(revisions.update.to_owned()),
        collision_count: old.collision_count,
        conditions: old.conditions,
    }
}

/// A rollout is over when every pod is of the new revision and ready: it becomes the current one.
fn complete(set: &StatefulSet, status: &mut StatefulSetStatus) {
    let (rolling, _, _) = strategy(set);
    let updated = status.updated_replicas.unwrap_or(0);
    if rolling && updated == status.replicas && status.ready_replicas.unwrap_or(0) == status.replicas {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
}

pub(super) fn step(set: &StatefulSet, pods: &[Pod], revisions: Revisions<'_>, now: Timestamp) -> Step {
    let min_ready = set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
    let mut step = Step {
        status: count(set, pods, revisions, min_ready, now),
        requeue_seconds: pods
            .iter()
            .filter_map(|p| seconds_to_available(p, min_ready, now))
            .filter(|s| *s > 0.0)
            .min_by(f64::total_cmp),
        ..Step::default()
    };
    if !is_deleting(set) && act(&mut step, set, pods, revisions, min_ready, now) {
        let made = i32::try_from(step.create.len()).unwrap_or(0);
        step.status.replicas += made;
        for (_, template) in &step.create {
            let counter = match template {
                Template::Current => &mut step.status.current_replicas,
                Template::Update => &mut step.status.updated_replicas,
            };
            *counter = Some(counter.unwrap_or(0) + 1);
        }
        if revisions.current == revisions.update {
            step.status.current_replicas = step.status.updated_replicas.max(step.status.current_replicas);
            step.status.updated_replicas = step.status.current_replicas;
        }
    }
    complete(set, &mut step.status);
    step
}

/// Says whether pods are made.
fn act(
    step: &mut Step,
    set: &StatefulSet,
    pods: &[Pod],
    revisions: Revisions<'_>,
    min_ready: i32,
    now: Timestamp,
) -> bool {
    let parallel = set.spec.as_ref().and_then(|s| s.pod_management_policy.as_deref()) == Some("Parallel");
    let slots = slots(set, pods);
    let (rolling, partition, unavailable) = strategy(set);
    let start = slots.replicas.first().map_or(0, |(at, _)| *at);
    let current_replicas = set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0);
    let template = |at: i32| {
        let keeps = match partition {
            // A rollout under way leaves those it has not reached at the current revision.
            None => at < start + current_replicas,
            Some(partition) => at < start + partition,
        };
        if rolling && keeps {
            Template::Current
        } else {
            Template::Update
        }
    };
    for (at, pod) in &slots.replicas {
        let Some(pod) = pod else {
            step.create.push((*at, template(*at)));
            if parallel {
                continue;
            }
            return true;
        };
        if matches!(phase(pod), "Failed" | "Succeeded") {
            if !is_deleting(*pod) {
                step.ended.extend(pod.metadata.name.clone());
                step.delete.push((*pod).clone());
            }
            if parallel {
                continue;
            }
            return false;
        }
        if !parallel && (is_deleting(*pod) || !is_running_and_ready(pod) || !is_available(pod, min_ready, now)) {
            return false;
        }
    }
    let first_unhealthy = slots
        .replicas
        .iter()
        .filter_map(|(_, p)| *p)
        .chain(slots.condemned.iter().rev().copied())
        .find(|p| !is_running_and_ready(p) || is_deleting(*p));
    for pod in &slots.condemned {
        if is_deleting(*pod) {
            if parallel {
                continue;
            }
            return !step.create.is_empty();
        }
        let is_first = first_unhealthy.is_some_and(|f| f.metadata.uid == pod.metadata.uid);
        if !parallel && !is_running_and_ready(pod) && !is_first {
            return !step.create.is_empty();
        }
        step.condemned.extend(pod.metadata.name.clone());
        step.delete.push((*pod).clone());
        if !parallel {
            return !step.create.is_empty();
        }
    }
    if rolling && step.create.is_empty() {
        update(
            step,
            &slots,
            revisions,
            start + partition.unwrap_or(0),
            unavailable,
            min_ready,
            now,
        );
    }
    !step.create.is_empty()
}

/// Replaces pods of older revisions from the highest ordinal down to the partition, one after the other.
fn update(
    step: &mut Step,
    slots: &Slots<'_>,
    revisions: Revisions<'_>,
    partition: i32,
    unavailable: usize,
    min_ready: i32,
    now: Timestamp,
) {
    let healthy = |p: &Pod| !is_deleting(p) && is_running_and_ready(p) && is_available(p, min_ready, now);
    let mut missing = slots.replicas.iter().filter(|(_, p)| !p.is_some_and(healthy)).count();
    for (at, pod) in slots.replicas.iter().rev() {
        let Some(pod) = pod.filter(|_| *at >= partition) else {
            continue;
        };
        if !is_of(pod, revisions.update) && !is_deleting(pod) {
            // A pod that serves nobody may go at once; a healthy one only if few enough are missing.
            if healthy(pod) {
                if missing >= unavailable {
                    return;
                }
                missing += 1;
            }
            step.delete.push(pod.clone());
            if unavailable == 1 {
                return;
            }
        } else if !healthy(pod) && unavailable == 1 {
            return;
        }
    }
}
