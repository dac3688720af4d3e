//! One step of a Deployment, from what is known of it and its ReplicaSets to what is to be done.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::conditions::{self, PROGRESSING, TIMED_OUT, condition, deadline, find};
use super::revision::{
    DESIRED_REPLICAS, HASH_LABEL, REVISION, find_new, missing_annotations, replicas_annotations, revision,
};
use super::sizes::{available, desired, is_rolling, max_surge, max_unavailable, new_size, proportion, size};
use crate::Error;
use crate::meta::{annotation, controller_reference, hash_of, is_deleting, name};

/// The longest name of a ReplicaSet (a DNS subdomain).
const LONGEST_NAME: usize = 253;

/// What changes of an existing ReplicaSet.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Change {
    pub annotations: BTreeMap<String, String>,
    pub min_ready_seconds: Option<i32>,
    /// From and to.
    pub replicas: Option<(i32, i32)>,
}

/// What one step wants done, in this order, and the status that is true then.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub create: Option<ReplicaSet>,
    pub changes: Vec<(String, Change)>,
    pub delete: Vec<String>,
    pub status: DeploymentStatus,
    pub revision: Option<String>,
}

/// A Deployment's world while a step is being worked out.
struct World<'a> {
    deployment: &'a Deployment,
    /// By age, oldest first; the last may be the one to create.
    sets: Vec<ReplicaSet>,
    new: Option<usize>,
    step: Step,
    progressing: Option<(&'static str, &'static str, String)>,
    now: Timestamp,
}

fn by_age(sets: &mut [ReplicaSet]) {
    let created = |s: &ReplicaSet| s.metadata.creation_timestamp.as_ref().map(|t| t.0);
    sets.sort_by(|a, b| created(a).cmp(&created(b)).then_with(|| name(a).cmp(name(b))));
}

/// `old_pods`: uids of ReplicaSets that have pods that have not ended.
pub(super) fn step(
    deployment: &Deployment,
    mut sets: Vec<ReplicaSet>,
    old_pods: &[String],
    now: Timestamp,
) -> Result<Step, Error> {
    by_age(&mut sets);
    let mut world = World {
        deployment,
        new: find_new(deployment, &sets),
        sets,
        step: Step::default(),
        progressing: None,
        now,
    };
    let paused = deployment.spec.paused == Some(true);
    if is_deleting(deployment) {
        return Ok(world.finish(false));
    }
    world.note_pause(paused);
    world.sync_new();
    if paused || world.is_scaling_event() {
        world.scale();
        if paused {
            world.clean_up();
        }
        return Ok(world.finish(false));
    }
    if is_rolling(deployment) {
        world.create_new()?;
        world.roll();
    } else {
        world.recreate(old_pods)?;
    }
    Ok(world.finish(true))
}

impl World<'_> {
    fn old(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|i| Some(*i) != self.new).collect()
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(size).sum()
    }

    fn change(&mut self, at: usize) -> &mut Change {
        let set = name(&self.sets[at]).to_owned();
        let found = self.step.changes.iter().position(|(n, _)| *n == set);
        let index = found.unwrap_or_else(|| {
            self.step.changes.push((set, Change::default()));
            self.step.changes.len() - 1
        });
        &mut self.step.changes[index].1
    }

    /// Pausing and resuming restart the clock of the progress deadline.
    fn note_pause(&mut self, paused: bool) {
        let status = self.deployment.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let reason = find(&conditions, PROGRESSING).and_then(|c| c.reason.as_deref());
        if deadline(self.deployment).is_none() || reason == Some(TIMED_OUT) {
            return;
        }
        let was_paused = reason == Some("DeploymentPaused");
        if paused && !was_paused {
            self.progressing = Some(("Unknown", "DeploymentPaused", "Deployment is paused".to_owned()));
        } else if !paused && was_paused {
            self.progressing = Some(("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned()));
        }
    }

    fn next_revision(&self) -> i64 {
        self.old().iter().map(|i| revision(&self.sets[*i])).max().unwrap_or(0) + 1
    }

    /// Brings annotations and revision of the existing current ReplicaSet up to date.
    fn sync_new(&mut self) {
        let Some(new) = self.new else { return };
        let missing = missing_annotations(self.deployment, &self.sets[new], self.next_revision(), true);
        let min_ready = self.deployment.spec.min_ready_seconds.unwrap_or(0);
        let differs = self.sets[new].spec.min_ready_seconds.unwrap_or(0) != min_ready;
        let set = &mut self.sets[new];
        set.metadata.annotations.get_or_insert_default().extend(missing.clone());
        self.step.revision = annotation(&self.sets[new], REVISION).map(str::to_owned);
        if !missing.is_empty() || differs {
            let change = self.change(new);
            change.annotations.extend(missing);
            change.min_ready_seconds = differs.then_some(min_ready);
        }
        let status = self.deployment.status.clone().unwrap_or_default();
        let known = find(status.conditions.as_deref().unwrap_or_default(), PROGRESSING).is_some();
        if deadline(self.deployment).is_some() && !known && self.progressing.is_none() {
            let message = format!("Found new replica set {:?}", name(&self.sets[new]));
            self.progressing = Some(("True", "FoundNewReplicaSet", message));
        }
    }

    fn create_new(&mut self) -> Result<(), Error> {
        if self.new.is_some() {
            return Ok(());
        }
        let deployment = self.deployment;
        let spec = &deployment.spec;
        let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
        let hash = hash_of(&spec.template, collisions)?;
        let mut template = spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector.clone();
        selector
            .match_labels
            .get_or_insert_default()
            .insert(HASH_LABEL.to_owned(), hash.clone());
        let base = name(deployment);
        let base = &base[..base.len().min(LONGEST_NAME - 1 - hash.len())];
        let replicas = new_size(deployment, self.total(), 0);
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{base}-{hash}")),
                namespace: deployment.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![controller_reference(deployment)]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: spec.min_ready_seconds.filter(|s| *s != 0),
                selector,
                template: Some(template),
            },
            status: None,
        };
        let revision = self.next_revision();
        set.metadata.annotations = Some(missing_annotations(deployment, &set, revision, false));
        self.step.revision = Some(revision.to_string());
        if deadline(deployment).is_some() {
            let message = format!("Created new replica set {:?}", name(&set));
            self.progressing = Some(("True", "NewReplicaSetCreated", message));
        }
        self.step.create = Some(set.clone());
        self.new = Some(self.sets.len());
        self.sets.push(set);
        Ok(())
    }

    /// Whether the wanted number changed since an active ReplicaSet last heard of it.
    fn is_scaling_event(&self) -> bool {
        self.sets.iter().filter(|s| size(s) > 0).any(|set| {
            let known = annotation(set, DESIRED_REPLICAS).and_then(|d| d.parse::<i32>().ok());
            known.is_some_and(|known| known != desired(self.deployment))
        })
    }

    /// `force`: also when only the annotations are not up to date.
    fn resize(&mut self, at: usize, to: i32, force: bool) -> bool {
        let from = size(&self.sets[at]);
        let wanted = replicas_annotations(self.deployment);
        let annotated = wanted.iter().all(|(k, v)| annotation(&self.sets[at], k) == Some(v));
        if from == to && (!force || annotated) {
            return false;
        }
        let set = &mut self.sets[at];
        set.metadata.annotations.get_or_insert_default().extend(wanted.clone());
        set.spec.replicas = Some(to);
        let change = self.change(at);
        change.annotations.extend(wanted);
        if from != to {
            let first = change.replicas.map_or(from, |(first, _)| first);
            change.replicas = Some((first, to));
        }
        from != to
    }

    /// Shares a change of the wanted number among the active ReplicaSets.
    fn scale(&mut self) {
        let wanted = desired(self.deployment);
        let active: Vec<usize> = (0..self.sets.len()).filter(|i| size(&self.sets[*i]) > 0).collect();
        let latest = self.new.or_else(|| self.old().last().copied());
        let Some(latest) = latest else { return };
        if active.len() < 2 {
            let only = active.first().copied().unwrap_or(latest);
            self.resize(only, wanted, false);
            return;
        }
        let saturated = self.new.is_some_and(|new| {
            let set = &self.sets[new];
            let known = annotation(set, DESIRED_REPLICAS).and_then(|d| d.parse::<i32>().ok());
            size(set) == wanted && known == Some(wanted) && available(set) == wanted
        });
        if saturated {
            for at in self.old() {
                if size(&self.sets[at]) > 0 {
                    self.resize(at, 0, false);
                }
            }
            return;
        }
        if !is_rolling(self.deployment) {
            return;
        }
        let allowed = if wanted > 0 {
            wanted + max_surge(self.deployment)
        } else {
            0
        };
        let to_add = allowed - self.total();
        let mut order = active;
        // Larger first; of one size the newer first when growing, the older first when shrinking. Positions are by age.
        order.sort_by(|a, b| {
            size(&self.sets[*b])
                .cmp(&size(&self.sets[*a]))
                .then_with(|| if to_add > 0 { b.cmp(a) } else { a.cmp(b) })
        });
        let mut added = 0;
        let mut sizes = Vec::new();
        for at in &order {
            let share = proportion(self.deployment, &self.sets[*at], to_add, added);
            sizes.push(size(&self.sets[*at]) + share);
            added += share;
        }
        if let Some(first) = sizes.first_mut().filter(|_| to_add != 0) {
            *first = (*first + to_add - added).max(0);
        }
        for (at, to) in order.into_iter().zip(sizes) {
            self.resize(at, to, true);
        }
    }

    /// Grows the new ReplicaSet as far as the surge allows, or shrinks old ones as far as availability allows.
    fn roll(&mut self) {
        let Some(new) = self.new else { return };
        let (wanted, current) = (desired(self.deployment), size(&self.sets[new]));
        if current != wanted && self.step.create.is_none() {
            let to = if current > wanted {
                wanted
            } else {
                new_size(self.deployment, self.total(), current)
            };
            if self.resize(new, to, false) {
                return;
            }
        }
        if self.shrink_old(new) {
            return;
        }
        if conditions::is_complete(self.deployment, &self.deployment.status.clone().unwrap_or_default()) {
            self.clean_up();
        }
    }

    fn shrink_old(&mut self, new: usize) -> bool {
        let old: Vec<usize> = self.old().into_iter().filter(|i| size(&self.sets[*i]) > 0).collect();
        if old.is_empty() {
            return false;
        }
        let least = desired(self.deployment) - max_unavailable(self.deployment);
        let new_unavailable = size(&self.sets[new]) - available(&self.sets[new]);
        let mut budget = self.total() - least - new_unavailable;
        let mut shrunk = false;
        if budget <= 0 {
            return false;
        }
        // Pods that serve nobody go first: they cost no availability.
        for at in &old {
            let unhealthy = (size(&self.sets[*at]) - available(&self.sets[*at])).max(0).min(budget);
            if unhealthy > 0 {
                budget -= unhealthy;
                let to = size(&self.sets[*at]) - unhealthy;
                shrunk |= self.resize(*at, to, false);
            }
        }
        let all_available: i32 = self.sets.iter().map(available).sum();
        let mut spare = all_available - least;
        for at in &old {
            let take = size(&self.sets[*at]).min(spare);
            if take > 0 {
                spare -= take;
                let to = size(&self.sets[*at]) - take;
                shrunk |= self.resize(*at, to, false);
            }
        }
        shrunk
    }

    fn recreate(&mut self, old_pods: &[String]) -> Result<(), Error> {
        let mut shrunk = false;
        for at in self.old() {
            if size(&self.sets[at]) > 0 {
                shrunk |= self.resize(at, 0, false);
            }
        }
        if shrunk {
            return Ok(());
        }
        let new_uid = self.new.and_then(|i| self.sets[i].metadata.uid.clone());
        let counted = self
            .old()
            .iter()
            .any(|i| self.sets[*i].status.as_ref().is_some_and(|s| s.replicas > 0));
        if counted || old_pods.iter().any(|uid| Some(uid) != new_uid.as_ref()) {
            return Ok(());
        }
        self.create_new()?;
        if let Some(new) = self.new
            && self.step.create.is_none()
        {
            self.resize(new, desired(self.deployment), false);
        }
        if conditions::is_complete(self.deployment, &self.deployment.status.clone().unwrap_or_default()) {
            self.clean_up();
        }
        Ok(())
    }

    /// Forgets the oldest revisions beyond the limit.
    fn clean_up(&mut self) {
        let limit = self.deployment.spec.revision_history_limit.unwrap_or(10);
        if limit == i32::MAX {
            return;
        }
        let mut old: Vec<&ReplicaSet> = self
            .old()
            .into_iter()
            .map(|i| &self.sets[i])
            .filter(|s| !is_deleting(*s))
            .collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|s| revision(s));
        let idle = |s: &&ReplicaSet| {
            let status = s.status.clone().unwrap_or_default();
            status.replicas == 0
                && size(s) == 0
                && s.metadata.generation.unwrap_or(0) <= status.observed_generation.unwrap_or(0)
        };
        let gone: Vec<String> = old
            .into_iter()
            .take(surplus)
            .filter(idle)
            .map(|s| name(s).to_owned())
            .collect();
        self.step.delete = gone;
    }

    fn finish(mut self, rollout: bool) -> Step {
        let old = self.deployment.status.clone().unwrap_or_default();
        let mut known = old.conditions.unwrap_or_default();
        if let Some((status, reason, message)) = self.progressing.take() {
            conditions::set(&mut known, condition(PROGRESSING, status, reason, message, self.now));
        }
        let mut status = conditions::count(self.deployment, known, &self.sets, self.new, self.now);
        if rollout {
            conditions::judge_progress(self.deployment, &mut status, &self.sets, self.new, self.now);
        }
        self.step.status = status;
        self.step
    }
}
