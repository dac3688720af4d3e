//! ReplicaSets and ReplicationControllers: as many pods of a template as are wanted.

mod rank;

mod reconcile;

use std::sync::Arc;
use std::time::Duration;

use api::object::Object;
use client::Cache;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::expectations::Expectations;
use crate::informers::BY_CONTROLLER;
use crate::meta::{controller_reference, is_deleting, key_of, namespace, reference, selector, uid};
use crate::ownership::{Fit, affected_owners, claim_as};
use crate::pods::{PodControl, from_template, has_ended, is_active, is_terminal, slow_start};
pub(crate) use rank::pods_to_delete;
use reconcile::Plan;

/// Which of the two kinds an instance works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    ReplicaSet,
    ReplicationController,
}

impl Flavor {
    fn component(self) -> &'static str {
        match self {
            Flavor::ReplicaSet => "replicaset-controller",
            Flavor::ReplicationController => "replication-controller",
        }
    }

    fn kind(self) -> (&'static str, &'static str) {
        match self {
            Flavor::ReplicaSet => ("apps/v1", "ReplicaSet"),
            Flavor::ReplicationController => ("v1", "ReplicationController"),
        }
    }

    /// A ReplicationController is a ReplicaSet with a plain map for a selector.
    fn decode(self, object: &Object) -> Result<ReplicaSet, Error> {
        match self {
            Flavor::ReplicaSet => decode(object),
            Flavor::ReplicationController => {
                let mut tree: Value = decode(object)?;
                let labels = tree["spec"]["selector"].take();
                tree["spec"]["selector"] = json!({"matchLabels": labels});
                tree["apiVersion"] = json!("apps/v1");
                tree["kind"] = json!("ReplicaSet");
                serde_json::from_value(tree).map_err(|source| Error::Decode {
                    key: object.key(),
                    source,
                })
            }
        }
    }

    fn owner_reference(self, set: &ReplicaSet) -> OwnerReference {
        let (api_version, kind) = self.kind();
        OwnerReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            ..controller_reference(set)
        }
    }

    fn event_reference(self, set: &ReplicaSet) -> ObjectReference {
        let (api_version, kind) = self.kind();
        ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
            ..reference(set)
        }
    }
}

#[derive(Clone)]
struct Controller {
    ctx: Context,
    flavor: Flavor,
    sets: Cache,
    pods: Cache,
    control: PodControl,
    expectations: Expectations,
}

pub(crate) async fn run(ctx: Context, flavor: Flavor) -> Result<(), Error> {
    let sets = match flavor {
        Flavor::ReplicaSet => ctx.informers.get::<ReplicaSet>(),
        Flavor::ReplicationController => ctx.informers.get::<ReplicationController>(),
    };
    let controller = Controller {
        control: PodControl {
            client: ctx.client.clone(),
            recorder: ctx.recorder(flavor.component()),
        },
        pods: ctx.informers.get::<Pod>(),
        expectations: Expectations::default(),
        ctx: ctx.clone(),
        flavor,
        sets,
    };
    if !ctx.synced(&[&controller.sets, &controller.pods]).await {
        return Ok(());
    }
    let queue = ctx.queue(match flavor {
        Flavor::ReplicaSet => "replicaset",
        Flavor::ReplicationController => "replicationmanager",
    });
    ctx.each_change(&controller.sets, {
        let (queue, expectations) = (queue.clone(), controller.expectations.clone());
        move |change| {
            if let (Some(old), None) = (&change.old, &change.new) {
                expectations.forget(&old.meta.uid);
            }
            if let Some(object) = change.object() {
                queue.add(object.key());
            }
        }
    });
    ctx.each_change(&controller.pods, {
        let (queue, expectations, sets) = (queue.clone(), controller.expectations.clone(), controller.sets.clone());
        let (api_version, kind) = flavor.kind();
        let group = api::gvk::split_api_version(api_version).0;
        move |change| {
            expectations.observe(&change);
            let owners = match flavor {
                Flavor::ReplicaSet => affected_owners(&change, &sets, kind, group),
                Flavor::ReplicationController => affected_by_map_selector(&change, &sets),
            };
            for key in owners {
                queue.add(key);
            }
        }
    });
    let workers = match flavor {
        Flavor::ReplicaSet => ctx.config.concurrent_replicaset_syncs,
        Flavor::ReplicationController => ctx.config.concurrent_rc_syncs,
    };
    ctx.work(queue, workers, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
    Ok(())
}

/// [`affected_owners`] for ReplicationControllers, whose selector is a map of labels.
fn affected_by_map_selector(change: &client::Change, owners: &Cache) -> Vec<String> {
    let mut keys = affected_owners(change, &owners.clone(), "ReplicationController", "");
    if let Some(pod) = change
        .new
        .as_ref()
        .filter(|p| p.meta.controller().is_none() && !p.meta.deleting)
    {
        keys.extend(crate::ownership::matching_owners(owners, pod, |owner, pod| {
            Flavor::ReplicationController
                .decode(owner)
                .ok()
                .and_then(|set| set.spec.selector.match_labels)
                .is_some_and(|labels| !labels.is_empty() && labels.iter().all(|(k, v)| pod.meta.label(k) == Some(v)))
        }));
    }
    keys
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.sets.get(key) else {
            return Ok(None);
        };
        let set = self.flavor.decode(&object)?;
        let spec = &set.spec;
        // Asked before the pods are read: what comes in between can only be newer.
        let may_act = self.expectations.satisfied(uid(&set));
        let selector = selector(key, &spec.selector)?;
        let owner = self.flavor.owner_reference(&set);
        let pods = if selector.is_empty() {
            Vec::new()
        } else {
            // pods that have ended are nobody's to take or to let go
            let fit = |pod: &Object| if has_ended(pod) { Fit::Apart } else { Fit::Yes };
            claim_as::<ReplicaSet, Pod>(&self.ctx.client, &set, owner.clone(), &selector, &self.pods, fit).await?
        };
        let pods = pods.iter().map(|p| decode::<Pod>(p)).collect::<Result<Vec<_>, _>>()?;
        let terminating = pods.iter().filter(|p| is_deleting(*p) && !is_terminal(p)).count();
        let active: Vec<Pod> = pods.into_iter().filter(is_active).collect();
        let mut failure = None;
        if may_act && !is_deleting(&set) {
            let plan = reconcile::plan(&set, &active, || self.related_pods(&object, &set), Timestamp::now());
            failure = self.act(&set, owner, plan).await;
        }
        let now = Timestamp::now();
        let message = failure.as_ref().map(ToString::to_string);
        let status = reconcile::status(&set, &active, terminating, message.as_deref(), now);
        if !set.status.as_ref().is_some_and(|old| reconcile::same(old, &status)) {
            let mut status = crate::error::tree("status", &status)?;
            if self.flavor == Flavor::ReplicationController
                && let Some(fields) = status.as_object_mut()
            {
                fields.remove("terminatingReplicas");
            }
            crate::status::put(&self.ctx.client, &object, &status).await?;
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(reconcile::next_check(&set, &active, now).map(Duration::from_secs_f64)),
        }
    }

    /// The pods of all ReplicaSets of the same owner.
    fn related_pods(&self, object: &Arc<Object>, set: &ReplicaSet) -> Vec<Pod> {
        let uids: Vec<String> = match object.meta.controller() {
            Some(owner) => {
                let siblings = self.sets.by_index(BY_CONTROLLER, &owner.uid);
                siblings.iter().map(|s| s.meta.uid.to_string()).collect()
            }
            None => vec![uid(set).to_owned()],
        };
        let pods = uids.iter().flat_map(|uid| self.pods.by_index(BY_CONTROLLER, uid));
        pods.filter_map(|p| p.decode().ok()).collect()
    }

    async fn act(&self, set: &ReplicaSet, owner: OwnerReference, plan: Plan) -> Option<Error> {
        let about = self.flavor.event_reference(set);
        let me = uid(set);
        match plan {
            Plan::Nothing => None,
            Plan::Create(count) => {
                let template = set.spec.template.clone().unwrap_or_default();
                let pod = from_template(&template, namespace(set), &owner, None);
                self.expectations.expect_creations(me, count);
                let (created, failure) = slow_start(count, |_| async {
                    match self.control.create(&pod, &about).await {
                        Ok(_) => Ok(()),
                        Err(error) if error.is_namespace_terminating() => {
                            self.expectations.creation_observed(me);
                            Ok(())
                        }
                        Err(error) => Err(error.into()),
                    }
                })
                .await;
                self.expectations.creations_observed(me, count - created);
                failure
            }
            Plan::Delete(pods) => {
                self.expectations.expect_deletions(me, pods.iter().map(key_of));
                let deletions = pods.iter().map(|pod| async {
                    let result = self.control.delete(pod, &about).await;
                    if result.is_err() {
                        self.expectations.deletion_observed(me, &key_of(pod));
                    }
                    result.err().filter(|e| !e.is_not_found() && !e.is_conflict())
                });
                let failures = futures::future::join_all(deletions).await;
                failures.into_iter().flatten().next().map(Error::from)
            }
        }
    }
}
