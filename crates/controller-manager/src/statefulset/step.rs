//! One step of a StatefulSet, from its pods and claims to what is to be done, in order.

use std::ops::Range;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::claims::{Claims, are_right, are_stale};
use super::pods::{has_identity, ordinal, unborn};
use crate::deployment::scaled;
use crate::history::REVISION_HASH;
use crate::meta::{is_deleting, label};
use crate::pods::{is_available, is_ready, is_terminal, phase, seconds_to_available};

/// Which template a pod to be made is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Template {
    Current,
    Update,
}

#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Create(i32, Template),
    /// A pod that does not start may lack a claim.
    EnsureClaims(Pod),
    /// Gives the claims of a pod, and the pod its labels, what the set wants of them.
    Correct(Pod),
    /// Gives the claims of a pod beyond the wanted number the owners that the set wants.
    OwnClaims(Pod),
    Delete(Pod),
}

#[derive(Debug, Default)]
pub(super) struct Step {
    pub actions: Vec<Action>,
    pub status: StatefulSetStatus,
    pub requeue_seconds: Option<f64>,
}

/// The names of the two revisions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Revisions<'a> {
    pub current: &'a str,
    pub update: &'a str,
}

/// What a step is decided from.
pub(super) struct View<'a> {
    pub set: &'a StatefulSet,
    pub pods: &'a [Pod],
    pub claims: Claims<'a>,
    pub revisions: Revisions<'a>,
    pub now: Timestamp,
}

/// Pods by their place: wanted ordinals with the pods there are, and pods beyond, highest ordinal first.
struct Slots<'a> {
    replicas: Vec<(i32, Option<&'a Pod>)>,
    condemned: Vec<&'a Pod>,
}

/// The ordinals that a set wants pods of.
pub(super) fn ordinals(set: &StatefulSet) -> Range<i32> {
    let start = set.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0);
    start..start.saturating_add(set.spec.replicas.unwrap_or(1))
}

fn is_running_and_ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && is_ready(pod)
}

/// Whether pods of older revisions are replaced, and from which place on.
fn rolling(set: &StatefulSet) -> (bool, Option<i32>) {
    let strategy = set.spec.update_strategy.clone().unwrap_or_default();
    let rolls = strategy.type_.as_deref() != Some("OnDelete");
    (rolls, strategy.rolling_update.map(|r| r.partition.unwrap_or(0)))
}

impl View<'_> {
    fn min_ready(&self) -> i32 {
        self.set.spec.min_ready_seconds.unwrap_or(0)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        is_deleting(pod) || !is_available(pod, self.min_ready(), self.now)
    }

    fn slots(&self) -> Slots<'_> {
        let wanted = ordinals(self.set);
        let mut replicas: Vec<(i32, Option<&Pod>)> = wanted.clone().map(|at| (at, None)).collect();
        let mut condemned: Vec<(i32, &Pod)> = Vec::new();
        for pod in self.pods {
            match ordinal(self.set, pod) {
                Some(at) if wanted.contains(&at) => {
                    if let Some(slot) = usize::try_from(at - wanted.start)
                        .ok()
                        .and_then(|i| replicas.get_mut(i))
                    {
                        slot.1 = Some(pod);
                    }
                }
                Some(at) => condemned.push((at, pod)),
                None => {}
            }
        }
        condemned.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let condemned = condemned.into_iter().map(|(_, pod)| pod).collect();
        Slots { replicas, condemned }
    }

    fn count(&self) -> StatefulSetStatus {
        let number = |f: &dyn Fn(&Pod) -> bool| {
            let count = self.pods.iter().filter(|p| f(p)).count();
            i32::try_from(count).unwrap_or(i32::MAX)
        };
        let alive = |p: &Pod, revision: &str| !is_deleting(p) && label(p, REVISION_HASH) == Some(revision);
        let Revisions { current, update } = self.revisions;
        let old = self.set.status.clone().unwrap_or_default();
        StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            replicas: number(&|_| true),
            ready_replicas: Some(number(&is_running_and_ready)),
            available_replicas: Some(number(&|p| {
                is_running_and_ready(p) && is_available(p, self.min_ready(), self.now)
            })),
            current_replicas: Some(number(&|p| alive(p, current))),
            updated_replicas: Some(number(&|p| alive(p, update))),
            current_revision: Some(current.to_owned()),
            update_revision: Some(update.to_owned()),
            collision_count: Some(old.collision_count.unwrap_or(0)),
            conditions: old.conditions,
        }
    }

    /// The template of a new pod: a rollout under way leaves those it has not reached at the current revision.
    fn template(&self, at: i32) -> Template {
        let reached = match rolling(self.set) {
            (true, None) => self.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0),
            (_, partition) => partition.unwrap_or(0),
        };
        if at < ordinals(self.set).start.saturating_add(reached) {
            Template::Current
        } else {
            Template::Update
        }
    }

    /// What becomes of one wanted place; whether those after it have to wait if pods start in order.
    fn replica(&self, at: i32, pod: Option<&Pod>, ordered: bool, actions: &mut Vec<Action>) -> bool {
        let Some(pod) = pod else {
            if are_stale(self.set, &unborn(self.set, at), self.claims) {
                return true;
            }
            actions.push(Action::Create(at, self.template(at)));
            return true;
        };
        if is_terminal(pod) {
            if !is_deleting(pod) {
                actions.push(Action::Delete(pod.clone()));
            }
            return true;
        }
        if phase(pod) == "Pending" {
            actions.push(Action::EnsureClaims(pod.clone()));
        }
        if ordered && (is_deleting(pod) || !is_running_and_ready(pod) || self.is_unavailable(pod)) {
            return true;
        }
        if !has_identity(pod) || !are_right(self.set, pod, self.claims) {
            actions.push(Action::Correct(pod.clone()));
        }
        false
    }

    fn actions(&self, status: &mut StatefulSetStatus) -> Vec<Action> {
        let policy = self.set.spec.pod_management_policy.as_deref();
        let ordered = policy != Some("Parallel");
        let slots = self.slots();
        let mut actions = Vec::new();
        for (at, pod) in &slots.replicas {
            if self.replica(*at, *pod, ordered, &mut actions) && ordered {
                return actions;
            }
        }
        for pod in &slots.condemned {
            if !are_right(self.set, pod, self.claims) {
                actions.push(Action::OwnClaims((*pod).clone()));
            }
        }
        let mut in_order = slots.replicas.iter().filter_map(|(_, pod)| *pod);
        let unavailable = in_order.find(|p| self.is_unavailable(p));
        // a place without a pod is an unavailable one too, and no pod beyond is it
        let none_missing = slots.replicas.iter().all(|(_, pod)| pod.is_some());
        let first_unavailable = unavailable.or_else(|| {
            let beyond = slots.condemned.iter().rev().find(|p| self.is_unavailable(p)).copied();
            beyond.filter(|_| none_missing)
        });
        for pod in &slots.condemned {
            if is_deleting(*pod) {
                if ordered {
                    return actions;
                }
                continue;
            }
            let is_first = first_unavailable.is_some_and(|f| f.metadata.uid == pod.metadata.uid);
            if ordered && !is_first && (!is_running_and_ready(pod) || self.is_unavailable(pod)) {
                return actions;
            }
            actions.push(Action::Delete((*pod).clone()));
            if ordered {
                return actions;
            }
        }
        self.update(&slots, ordered, status, &mut actions);
        actions
    }

    /// How many pods a rollout may leave unavailable: at least one.
    fn max_unavailable(&self) -> usize {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let wanted = self.set.spec.replicas.unwrap_or(1);
        let most = rolling.and_then(|r| scaled(r.max_unavailable.as_ref()?, wanted, false));
        usize::try_from(most.unwrap_or(1)).unwrap_or(0).max(1)
    }

    /// Replaces pods of older revisions from the highest place down to the partition, as many as may be unavailable. Pods that start in
    /// no order and are unavailable anyway are replaced first, whatever their number.
    fn update(&self, slots: &Slots<'_>, ordered: bool, status: &mut StatefulSetStatus, actions: &mut Vec<Action>) {
        let (true, partition) = rolling(self.set) else {
            return;
        };
        let least = usize::try_from(partition.unwrap_or(0)).unwrap_or(0);
        let is_old = |pod: &Pod| label(pod, REVISION_HASH) != Some(self.revisions.update) && !is_deleting(pod);
        let unavailable = |pod: &Pod| self.is_unavailable(pod);
        // a place without a pod is unavailable too
        let missing = slots
            .replicas
            .iter()
            .filter(|(_, pod)| pod.is_none_or(unavailable))
            .count();
        let budget = self.max_unavailable().saturating_sub(missing);
        let from_the_top = || {
            let places = slots.replicas.iter().skip(least).rev();
            places.filter_map(|(_, pod)| *pod).filter(|pod| is_old(pod))
        };
        let mut replaced: Vec<&Pod> = Vec::new();
        if !ordered {
            replaced.extend(from_the_top().filter(|pod| unavailable(pod)));
        }
        let next = from_the_top().filter(|pod| ordered || !unavailable(pod));
        replaced.extend(next.take(budget));
        for pod in replaced {
            actions.push(Action::Delete(pod.clone()));
            status.current_replicas = status.current_replicas.map(|n| (n - 1).max(0));
        }
    }

    /// A rollout is over when every wanted pod is of the new revision and ready: it becomes the current one.
    fn complete(&self, status: &mut StatefulSetStatus) {
        let wanted = self.set.spec.replicas.unwrap_or(1);
        let all = [Some(status.replicas), status.ready_replicas, status.updated_replicas];
        if rolling(self.set).0 && all.iter().all(|n| *n == Some(wanted)) {
            status.current_replicas = status.updated_replicas;
            status.current_revision.clone_from(&status.update_revision);
        }
    }
}

/// What is to be done now, and the status to be told whether that succeeds or not. A set that is being deleted only tells.
pub(super) fn step(view: &View<'_>) -> Step {
    let mut status = view.count();
    let actions = if is_deleting(view.set) {
        Vec::new()
    } else {
        view.actions(&mut status)
    };
    view.complete(&mut status);
    // zeroes are not written
    for number in [
        &mut status.ready_replicas,
        &mut status.current_replicas,
        &mut status.updated_replicas,
    ] {
        *number = number.filter(|n| *n != 0);
    }
    let waits = view.pods.iter();
    Step {
        actions,
        status,
        requeue_seconds: waits
            .filter_map(|p| seconds_to_available(p, view.min_ready(), view.now))
            .filter(|s| *s > 0.0)
            .min_by(f64::total_cmp),
    }
}
