//! StatefulSets: pods with names, ordinals and claims that outlive them.

mod claims;
mod pods;
mod step;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use api::object::Object;
use client::{Cache, Patch};
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::error::{decode, tree};
use crate::history::{self, REVISION_HASH};
use crate::meta::{controller_reference, label, name, namespace, reference, selector, uid};
use crate::ownership::{Fit, affected_owners, claim_as};
use crate::pods::PodControl;
use claims::Owners;
use step::{Action, Revisions, Template, View};

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
    let queue = ctx.queue("statefulset");
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
        let spec = &set.spec;
        let selector = selector(key, &spec.selector)?;
        if selector.is_empty() {
            return Ok(None);
        }
        let fit = |pod: &Object| match pods::is_member(name(&set), &pod.meta.name) {
            true => Fit::Yes,
            false => Fit::No,
        };
        let owner = controller_reference(&set);
        let pods = claim_as::<StatefulSet, Pod>(&self.ctx.client, &set, owner, &selector, &self.pods, fit).await?;
        let pods = pods.iter().map(|p| decode(p)).collect::<Result<Vec<Pod>, _>>()?;
        let known = history::revisions(&self.revisions, uid(&set))?;
        let owner = history::Owner {
            reference: controller_reference(&set),
            namespace: namespace(&set),
            template: &spec.template,
            collisions: set.status.as_ref().and_then(|s| s.collision_count),
            hash_label: history::HASH,
            annotations: set.metadata.annotations.as_ref(),
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
        let claim = |claim: &str| self.claim(namespace(&set), claim);
        let step = step::step(&View {
            set: &set,
            pods: &pods,
            claims: &claim,
            revisions,
            now: Timestamp::now(),
        });
        let failure = self.perform(&set, step.actions, current, &update).await;
        if differ(set.status.as_ref(), &step.status) {
            crate::status::put(&self.ctx.client, &object, &step.status).await?;
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

    fn claim(&self, namespace: &str, name: &str) -> Option<PersistentVolumeClaim> {
        let object = self.claims.get(&format!("{namespace}/{name}"))?;
        decode(&object).ok()
    }

    async fn perform(
        &self,
        set: &StatefulSet,
        actions: Vec<Action>,
        current: &ControllerRevision,
        update: &ControllerRevision,
    ) -> Result<(), Error> {
        for action in actions {
            match action {
                Action::Delete(pod) => self.delete(set, &pod).await?,
                Action::Create(ordinal, template) => {
                    let revision = match template {
                        Template::Current => current,
                        Template::Update => update,
                    };
                    self.create(set, &pods::pod(set, ordinal, revision)?).await?;
                }
                Action::EnsureClaims(pod) => {
                    self.ensure_claims(set, &pod).await?;
                    let owned = self.own_claims(set, &pod).await;
                    self.told("update", &pod, set, owned)?;
                }
                Action::OwnClaims(pod) => self.own_claims(set, &pod).await?,
                Action::Correct(pod) => {
                    let corrected = self.correct(set, &pod).await;
                    if corrected.is_ok() {
                        self.tell("update", &pod, set, None);
                    }
                    self.told("update", &pod, set, corrected)?;
                }
            }
        }
        Ok(())
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let params = client::DeleteParams::uid(uid(pod));
        let deleted = self.ctx.client.delete::<Pod>(namespace(pod), name(pod), &params).await;
        match deleted {
            // another pod has the name now
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) if !error.is_not_found() => self.told("delete", pod, set, Err(error.into())),
            _ => {
                self.tell("delete", pod, set, None);
                Ok(())
            }
        }
    }

    async fn create(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let claims = self.ensure_claims(set, pod).await;
        self.told("create", pod, set, claims)?;
        match self.ctx.client.create(pod).await {
            Ok(_) => {}
            // the cache does not show it yet, or one of another owner must go first
            Err(error) if error.is_already_exists() => return Err(error.into()),
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => return self.told("create", pod, set, Err(error.into())),
        }
        let owned = self.own_claims(set, pod).await;
        self.told("update", pod, set, owned)?;
        self.tell("create", pod, set, None);
        Ok(())
    }

    /// Writes the labels that say which pod it is, and its claims' owners.
    async fn correct(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        self.own_claims(set, pod).await?;
        if !pods::has_identity(pod) {
            let ordinal = pods::ordinal(set, pod).unwrap_or_default().to_string();
            let labels = json!({pods::POD_NAME: name(pod), pods::POD_INDEX: ordinal});
            let patch = json!({"metadata": {"uid": uid(pod), "labels": labels}});
            let _: Pod = self
                .ctx
                .client
                .patch(namespace(pod), name(pod), &Patch::Merge(patch))
                .await?;
        }
        Ok(())
    }

    /// Passes an outcome on; a failure is an event. Lost races are tried again and are none.
    fn told(&self, verb: &str, pod: &Pod, set: &StatefulSet, outcome: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &outcome
            && !error.is_race()
        {
            self.tell(verb, pod, set, Some(error));
        }
        outcome
    }

    fn tell(&self, verb: &str, pod: &Pod, set: &StatefulSet, error: Option<&Error>) {
        let (about, title) = (reference(set), title(verb));
        let (pod, set) = (name(pod), name(set));
        let recorder = &self.control.recorder;
        match error {
            None => {
                let message = format!("{title} Pod {pod} in StatefulSet {set} successful");
                recorder.normal(&about, &format!("Successful{title}"), message);
            }
            Some(error) => {
                let message = format!("{title} Pod {pod} in StatefulSet {set} failed error: {error}");
                recorder.warning(&about, &format!("Failed{title}"), message);
            }
        }
    }

    /// Makes the claims of a pod that are missing. One that is being deleted must be gone first.
    async fn ensure_claims(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let Some(ordinal) = pods::ordinal(set, pod) else {
            return Ok(());
        };
        let (about, recorder) = (reference(set), &self.control.recorder);
        let mut failures = Vec::new();
        for claim in pods::claims(set, ordinal) {
            let (claim_name, pod, set) = (name(&claim), name(pod), name(set));
            if let Some(there) = self.claims.get(&crate::meta::key_of(&claim)) {
                if there.meta.deleting {
                    failures.push(format!("pvc {claim_name} is being deleted"));
                }
                continue;
            }
            match self.ctx.client.create(&claim).await {
                Ok(_) => {
                    let message = format!("Create Claim {claim_name} Pod {pod} in StatefulSet {set} success");
                    recorder.normal(&about, "SuccessfulCreate", message);
                }
                Err(error) => {
                    failures.push(format!("failed to create PVC {claim_name}: {error}"));
                    if !error.is_already_exists() {
                        let message = format!(
                            "Create Claim {claim_name} for Pod {pod} in StatefulSet {set} failed error: {error}"
                        );
                        recorder.warning(&about, "FailedCreate", message);
                    }
                }
            }
        }
        match failures.as_slice() {
            [] => Ok(()),
            [one] => Err(Error::State(one.clone())),
            all => Err(Error::State(format!("[{}]", all.join(", ")))),
        }
    }

    /// Gives a pod's claims the owners that the retention policy wants.
    async fn own_claims(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        for claim_name in pods::claim_names(set, pod) {
            let Some(object) = self.claims.get(&format!("{}/{claim_name}", namespace(set))) else {
                continue;
            };
            let Owners::Wrong { owners, conflicting } = claims::owners(set, pod, &decode(&object)?) else {
                continue;
            };
            if conflicting {
                let message = format!(
                    "PersistentVolumeClaim {claim_name} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim"
                );
                self.control
                    .recorder
                    .warning(&reference(set), "ConflictingController", message);
            }
            // the controller's role lets it update claims and not patch them
            let mut whole: Value = decode(&object)?;
            whole["metadata"]["ownerReferences"] = tree("owners", &owners)?;
            let path = crate::status::path_of(&object)?;
            let written = self
                .ctx
                .client
                .json::<Value>(Method::PUT, &path, &[], Some(&whole))
                .await;
            if let Err(error) = written {
                if error.is_conflict() {
                    return Err(error.into());
                }
                let message = format!("could not update claim {claim_name} for delete policy ownerRefs: {error}");
                return Err(Error::State(message));
            }
        }
        Ok(())
    }
}

/// A verb as the reasons of events have it.
fn title(verb: &str) -> &'static str {
    match verb {
        "create" => "Create",
        "delete" => "Delete",
        _ => "Update",
    }
}

/// Whether a status says something new. Counting names that were taken is no news.
fn differ(old: Option<&StatefulSetStatus>, new: &StatefulSetStatus) -> bool {
    let mut old = old.cloned().unwrap_or_default();
    old.collision_count = new.collision_count;
    old != *new
}
