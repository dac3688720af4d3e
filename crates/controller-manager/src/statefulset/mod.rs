//! StatefulSets: pods with names, ordinals and claims that outlive them.

mod pods;
mod step;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use client::{Cache, Patch, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim, Pod};
use serde_json::json;

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::history::{self, REVISION_HASH};
use crate::meta::{controller_reference, is_deleting, label, name, namespace, reference, selector, uid};
use crate::ownership::{affected_owners, claim};
use crate::pods::PodControl;
use step::{Revisions, Step, Template};

#[derive(Clone)]
struct Controller {
    ctx: Context,
    sets: Cache,
    pods: Cache,
    claims: Cache,
    revisions: Cache,
    control: PodControl,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        sets: ctx.informers.get::<StatefulSet>(),
        pods: ctx.informers.get::<Pod>(),
        claims: ctx.informers.get::<PersistentVolumeClaim>(),
        revisions: ctx.informers.get::<ControllerRevision>(),
        control: PodControl {
            client: ctx.client.clone(),
            recorder: ctx.recorder("statefulset-controller"),
        },
        ctx: ctx.clone(),
    };
    let c = &controller;
    if !ctx.synced(&[&c.sets, &c.pods, &c.claims, &c.revisions]).await {
        return Ok(());
    }
    let queue = WorkQueue::default();
    ctx.each_change(&c.sets, {
        let queue = queue.clone();
        move |change| {
            if let Some(object) = change.object() {
                queue.add(object.key());
            }
        }
    });
    for dependents in [&c.pods, &c.revisions] {
        let (queue, sets) = (queue.clone(), c.sets.clone());
        ctx.each_change(dependents, move |change| {
            for key in affected_owners(&change, &sets, "StatefulSet", "apps") {
                queue.add(key);
            }
        });
    }
    let workers = ctx.config.concurrent_statefulset_syncs;
    ctx.work(queue, workers, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
    Ok(())
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.sets.get(key) else {
            return Ok(None);
        };
        let set: StatefulSet = decode(&object)?;
        let Some(spec) = &set.spec else { return Ok(None) };
        let selector = selector(key, &spec.selector)?;
        if selector.is_empty() {
            return Ok(None);
        }
        let pods = claim::<StatefulSet, Pod>(&self.ctx.client, &set, &selector, &self.pods).await?;
        let pods = pods.iter().map(|p| decode(p)).collect::<Result<Vec<Pod>, _>>()?;
        let known = history::revisions(&self.revisions, uid(&set))?;
        if is_deleting(&set) {
            return Ok(None);
        }
        let owner = history::Owner {
            reference: controller_reference(&set),
            namespace: namespace(&set),
            template: &spec.template,
            collisions: set.status.as_ref().and_then(|s| s.collision_count),
        };
        let Some(update) = history::current(&self.ctx.client, &owner, &known).await? else {
            let mut status = set.status.clone().unwrap_or_default();
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
            crate::status::put(&self.ctx.client, &object, &status).await?;
            return Ok(None);
        };
        let current = set.status.as_ref().and_then(|s| s.current_revision.as_deref());
        let current = current
            .and_then(|c| known.iter().find(|r| name(*r) == c))
            .unwrap_or(&update);
        let revisions = Revisions {
            current: name(current),
            update: name(&update),
        };
        let step = step::step(&set, &pods, revisions, Timestamp::now());
        let failure = self.perform(&set, &step, current, &update).await;
        let mut status = step.status.clone();
        if failure.is_err() {
            // What was not made is not counted; the next step counts again.
            status = step::step(&set, &pods, revisions, Timestamp::now()).status;
            status.replicas -= i32::try_from(step.create.len()).unwrap_or(0);
        }
        if set.status.as_ref() != Some(&status) {
            crate::status::put(&self.ctx.client, &object, &status).await?;
        }
        failure?;
        let mut live: HashSet<String> = pods
            .iter()
            .filter_map(|p| label(p, REVISION_HASH))
            .map(str::to_owned)
            .collect();
        live.extend([revisions.current.to_owned(), revisions.update.to_owned()]);
        let limit = spec.revision_history_limit.unwrap_or(10);
        history::truncate(&self.ctx.client, &known, &live, limit).await?;
        Ok(step.requeue_seconds.map(Duration::from_secs_f64))
    }

    async fn perform(
        &self,
        set: &StatefulSet,
        step: &Step,
        current: &ControllerRevision,
        update: &ControllerRevision,
    ) -> Result<(), Error> {
        let about = reference(set);
        for pod in &step.delete {
            let pod_name = name(pod);
            if step.ended.iter().any(|n| n == pod_name) {
                let message = format!(
                    "StatefulSet {}/{} is recreating failed Pod {pod_name}",
                    namespace(set),
                    name(set)
                );
                self.control.recorder.warning(&about, "RecreatingFailedPod", message);
            }
            if step.condemned.iter().any(|n| n == pod_name) {
                self.own_claims(set, pod, true).await?;
            }
            let deleted = self
                .ctx
                .client
                .delete::<Pod>(namespace(pod), pod_name, &client::DeleteParams::uid(uid(pod)))
                .await;
            self.tell(&about, "delete", pod_name, set, deleted.as_ref().err());
            match deleted {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
                _ => {}
            }
        }
        for (ordinal, template) in &step.create {
            let revision = match template {
                Template::Current => current,
                Template::Update => update,
            };
            self.ensure_claims(set, &about, *ordinal).await?;
            let pod = pods::pod(set, *ordinal, revision)?;
            match self.ctx.client.create(&pod).await {
                Ok(_) => self.tell(&about, "create", name(&pod), set, None),
                // The cache does not show it yet, or one of another owner must go first.
                Err(error) if error.is_already_exists() => {}
                Err(error) if error.is_namespace_terminating() => return Ok(()),
                Err(error) => {
                    self.tell(&about, "create", name(&pod), set, Some(&error));
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn tell(&self, about: &ObjectReference, verb: &str, pod: &str, set: &StatefulSet, error: Option<&client::Error>) {
        let (title, set) = (if verb == "create" { "Create" } else { "Delete" }, name(set));
        match error {
            None => {
                let message = format!("{verb} Pod {pod} in StatefulSet {set} successful");
                self.control
                    .recorder
                    .normal(about, &format!("Successful{title}"), message);
            }
            Some(error) if error.is_not_found() => {}
            Some(error) => {
                let message = format!("{verb} Pod {pod} in StatefulSet {set} failed error: {error}");
                self.control.recorder.warning(about, &format!("Failed{title}"), message);
            }
        }
    }

    async fn ensure_claims(&self, set: &StatefulSet, about: &ObjectReference, ordinal: i32) -> Result<(), Error> {
        let pod = format!("{}-{ordinal}", name(set));
        for claim in pods::claims(set, ordinal) {
            let key = crate::meta::key_of(&claim);
            if let Some(there) = self.claims.get(&key) {
                if there.meta.deleting {
                    return Err(Error::State(format!("pvc {key} is being deleted")));
                }
                continue;
            }
            match self.ctx.client.create(&claim).await {
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    let message = format!(
                        "create Claim {} for Pod {pod} in StatefulSet {} failed error: {error}",
                        name(&claim),
                        name(set)
                    );
                    self.control.recorder.warning(about, "FailedCreate", message);
                    return Err(error.into());
                }
                Ok(_) => {
                    let message = format!(
                        "create Claim {} Pod {pod} in StatefulSet {} success",
                        name(&claim),
                        name(set)
                    );
                    self.control.recorder.normal(about, "SuccessfulCreate", message);
                }
            }
        }
        Ok(())
    }

    /// Gives a pod's claims the owners that the retention policy wants.
    async fn own_claims(&self, set: &StatefulSet, pod: &Pod, condemned: bool) -> Result<(), Error> {
        let Some(ordinal) = pods::ordinal(set, pod).filter(|_| pods::claims_go(set).1) else {
            return Ok(());
        };
        for claim in pods::claims(set, ordinal) {
            let Some(there) = self.claims.get(&crate::meta::key_of(&claim)) else {
                continue;
            };
            let there: PersistentVolumeClaim = decode(&there)?;
            let old = there.metadata.owner_references.clone().unwrap_or_default();
            let new = pods::claim_owners(set, Some(pod), condemned, &old);
            if new != old {
                let version = there.metadata.resource_version.clone();
                let patch = json!({"metadata": {"resourceVersion": version, "ownerReferences": new}});
                let _: PersistentVolumeClaim = self
                    .ctx
                    .client
                    .patch(namespace(set), name(&there), &Patch::Merge(patch))
                    .await?;
            }
        }
        Ok(())
    }
}
