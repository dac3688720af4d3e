//! Deployments: rolls pods from one template to the next through ReplicaSets.

mod conditions;
mod revision;
mod rollout;
mod sizes;
#[cfg(test)]
mod tests;

pub(crate) use sizes::scaled;

use std::time::Duration;

use api::object::Object;
use client::{Cache, DeleteParams, EventRecorder, Patch};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::informers::BY_CONTROLLER;
use crate::meta::{is_deleting, name, namespace, reference, selector, uid};
use crate::ownership::{affected_owners, claim, controller_key, is_controlled_by};
use crate::pods::is_terminal;
use conditions::{PROGRESSING, condition};
use revision::{REVISION, same_template};
use rollout::{Change, Step};

#[derive(Clone)]
struct Controller {
    ctx: Context,
    deployments: Cache,
    sets: Cache,
    pods: Cache,
    recorder: EventRecorder,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        deployments: ctx.informers.get::<Deployment>(),
        sets: ctx.informers.get::<ReplicaSet>(),
        pods: ctx.informers.get::<Pod>(),
        recorder: ctx.recorder("deployment-controller"),
        ctx: ctx.clone(),
    };
    if !ctx
        .synced(&[&controller.deployments, &controller.sets, &controller.pods])
        .await
    {
        return Ok(());
    }
    let queue = ctx.queue("deployment");
    ctx.each_change(&controller.deployments, {
        let queue = queue.clone();
        move |change| {
            if let Some(object) = change.object() {
                queue.add(object.key());
            }
        }
    });
    ctx.each_change(&controller.sets, {
        let (queue, deployments) = (queue.clone(), controller.deployments.clone());
        move |change| {
            for key in affected_owners(&change, &deployments, "Deployment", "apps") {
                queue.add(key);
            }
        }
    });
    ctx.each_change(&controller.pods, {
        let (queue, sets) = (queue.clone(), controller.sets.clone());
        move |change| {
            // Recreate waits for the last old pod; its ReplicaSet's status need not change any more then.
            let Some(pod) = change
                .old
                .filter(|_| change.new.as_ref().is_none_or(|p| p.meta.deleting))
            else {
                return;
            };
            let set = controller_key(&pod, "ReplicaSet", "apps").and_then(|key| sets.get(&key));
            if let Some(key) = set.and_then(|set| controller_key(&set, "Deployment", "apps")) {
                queue.add(key);
            }
        }
    });
    let workers = ctx.config.concurrent_deployment_syncs;
    ctx.work(queue, workers, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
    Ok(())
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.deployments.get(key) else {
            return Ok(None);
        };
        let deployment: Deployment = decode(&object)?;
        let spec = &deployment.spec;
        let about = reference(&deployment);
        let selector = selector(key, &spec.selector)?;
        if selector.is_empty() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.warning(&about, "SelectingAll", message);
            return Ok(None);
        }
        let sets = claim::<Deployment, ReplicaSet>(&self.ctx.client, &deployment, &selector, &self.sets).await?;
        let sets = sets.iter().map(|s| decode(s)).collect::<Result<Vec<ReplicaSet>, _>>()?;
        let busy: Vec<String> = sets
            .iter()
            .map(|s| uid(s).to_owned())
            .filter(|uid| {
                let pods = self.pods.by_index(BY_CONTROLLER, uid);
                pods.iter().any(|p| p.decode::<Pod>().is_ok_and(|p| !is_terminal(&p)))
            })
            .collect();
        let versions = sets
            .iter()
            .map(|s| (name(s).to_owned(), s.metadata.resource_version.clone()))
            .collect();
        let now = Timestamp::now();
        let step = rollout::step(&deployment, sets, &busy, now)?;
        if !is_deleting(&deployment) {
            self.perform(&deployment, &object, &about, &step, versions, now).await?;
        }
        self.put_status(&deployment, &object, &step.status, step.revision.as_deref())
            .await?;
        Ok(conditions::next_look(&deployment, &step.status, now).map(Duration::from_secs_f64))
    }

    async fn perform(
        &self,
        deployment: &Deployment,
        object: &Object,
        about: &ObjectReference,
        step: &Step,
        versions: std::collections::HashMap<String, Option<String>>,
        now: Timestamp,
    ) -> Result<(), Error> {
        if let Some(set) = &step.create {
            self.create(deployment, object, about, set, now).await?;
        }
        let namespace = namespace(deployment);
        for (set, change) in &step.changes {
            let Some(version) = versions.get(set) else { continue };
            self.change(namespace, set, version.as_deref(), change).await?;
            if let Some((from, to)) = change.replicas {
                let direction = if from < to { "up" } else { "down" };
                let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
                self.recorder.normal(about, "ScalingReplicaSet", message);
            }
        }
        for set in &step.delete {
            let deleted = self
                .ctx
                .client
                .delete::<ReplicaSet>(namespace, set, &DeleteParams::default())
                .await;
            match deleted {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    async fn change(&self, namespace: &str, set: &str, version: Option<&str>, change: &Change) -> Result<(), Error> {
        let mut patch = json!({"metadata": {"resourceVersion": version, "annotations": change.annotations}});
        if let Some(seconds) = change.min_ready_seconds {
            patch["spec"]["minReadySeconds"] = json!(seconds);
        }
        if let Some((_, to)) = change.replicas {
            patch["spec"]["replicas"] = json!(to);
        }
        let _: ReplicaSet = self.ctx.client.patch(namespace, set, &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn create(
        &self,
        deployment: &Deployment,
        object: &Object,
        about: &ObjectReference,
        set: &ReplicaSet,
        now: Timestamp,
    ) -> Result<(), Error> {
        let error = match self.ctx.client.create(set).await {
            Ok(created) => {
                let replicas = sizes::size(&created);
                if replicas > 0 {
                    let message = format!("Scaled up replica set {} from 0 to {replicas}", name(&created));
                    self.recorder.normal(about, "ScalingReplicaSet", message);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        let mut status = deployment.status.clone().unwrap_or_default();
        if error.is_already_exists() {
            let there: ReplicaSet = self.ctx.client.get(namespace(deployment), name(set)).await?;
            let template = |s: &ReplicaSet| s.spec.template.clone().unwrap_or_default();
            let ours = is_controlled_by(&there, uid(deployment)) && same_template(&template(&there), &template(set));
            if ours {
                return Ok(());
            }
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
            self.put_status(deployment, object, &status, None).await?;
        } else if !error.is_namespace_terminating() {
            let message = format!("Failed to create new replica set {:?}: {error}", name(set));
            if conditions::deadline(deployment).is_some() {
                let failed = condition(PROGRESSING, "False", "ReplicaSetCreateError", message.clone(), now);
                conditions::set(status.conditions.get_or_insert_default(), failed);
                self.put_status(deployment, object, &status, None).await?;
            }
            self.recorder.warning(about, "ReplicaSetCreateError", message);
        }
        Err(error.into())
    }

    /// The revision annotation travels with the status: as a change of the object it would make a new generation.
    async fn put_status(
        &self,
        deployment: &Deployment,
        object: &Object,
        status: &DeploymentStatus,
        revision: Option<&str>,
    ) -> Result<(), Error> {
        let known = crate::meta::annotation(deployment, REVISION);
        let revision = revision.filter(|r| known != Some(r));
        if deployment.status.as_ref() == Some(status) && revision.is_none() {
            return Ok(());
        }
        let mut whole: Value = decode(object)?;
        whole["status"] = crate::error::tree("status", status)?;
        if let Some(revision) = revision {
            whole["metadata"]["annotations"][REVISION] = json!(revision);
        }
        let path = format!("{}/status", crate::status::path_of(object)?);
        let sent: Result<Value, _> = self.ctx.client.json(http::Method::PUT, &path, &[], Some(&whole)).await;
        match sent {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}
