//! DaemonSets: one pod on every node that fits.

mod failures;
mod step;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use client::Cache;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::expectations::Expectations;
use crate::history::{self, REVISION_HASH};
use crate::meta::{annotation, controller_reference, is_deleting, key_of, label, namespace, reference, selector, uid};
use crate::ownership::{affected_owners, claim};
use crate::pods::{PodControl, from_template, slow_start};
use step::Step;

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
/// A daemon that ends is made anew after a while, longer every time.
const FAILED_BACKOFF: client::Backoff = client::Backoff {
    base: Duration::from_secs(1),
    max: Duration::from_secs(900),
};

#[derive(Clone)]
struct Controller {
    ctx: Context,
    sets: Cache,
    pods: Cache,
    nodes: Cache,
    revisions: Cache,
    control: PodControl,
    expectations: Expectations,
    failures: failures::Failures,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        sets: ctx.informers.get::<DaemonSet>(),
        pods: ctx.informers.get::<Pod>(),
        nodes: ctx.informers.get::<Node>(),
        revisions: ctx.informers.get::<ControllerRevision>(),
        control: PodControl {
            client: ctx.client.clone(),
            recorder: ctx.recorder("daemonset-controller"),
        },
        expectations: Expectations::default(),
        failures: failures::Failures::default(),
        ctx: ctx.clone(),
    };
    let c = &controller;
    if !ctx.synced(&[&c.sets, &c.pods, &c.nodes, &c.revisions]).await {
        return Ok(());
    }
    let queue = ctx.queue("daemonset");
    ctx.each_change(&c.sets, {
        let (queue, c) = (queue.clone(), controller.clone());
        move |change| {
            if let (Some(gone), None) = (&change.old, &change.new) {
                c.expectations.forget(&gone.meta.uid);
                c.failures.forget(&gone.meta.uid);
            }
            if let Some(object) = change.object() {
                queue.add(object.key());
            }
        }
    });
    ctx.each_change(&c.pods, {
        let (queue, c) = (queue.clone(), controller.clone());
        move |change| {
            c.expectations.observe(&change);
            for key in affected_owners(&change, &c.sets, "DaemonSet", "apps") {
                queue.add(key);
            }
        }
    });
    ctx.each_change(&c.revisions, {
        let (queue, c) = (queue.clone(), controller.clone());
        move |change| {
            for key in affected_owners(&change, &c.sets, "DaemonSet", "apps") {
                queue.add(key);
            }
        }
    });
    ctx.each_change(&c.nodes, {
        let (queue, sets) = (queue.clone(), c.sets.clone());
        move |change| {
            // Heartbeats change neither labels nor taints.
            let judged = |o: &std::sync::Arc<api::object::Object>| {
                let taints = o.decode::<Node>().ok().and_then(|n| n.spec).and_then(|s| s.taints);
                (o.meta.labels.clone(), taints)
            };
            let same = match (&change.old, &change.new) {
                (Some(old), Some(new)) => judged(old) == judged(new),
                _ => false,
            };
            if !same {
                for set in sets.list() {
                    queue.add(set.key());
                }
            }
        }
    });
    let workers = ctx.config.concurrent_daemonset_syncs;
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
        let set: DaemonSet = decode(&object)?;
        let spec = &set.spec;
        let selector = selector(key, &spec.selector)?;
        if selector.is_empty() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.control.recorder.warning(&reference(&set), "SelectingAll", message);
            return Ok(None);
        }
        if is_deleting(&set) {
            return Ok(None);
        }
        let revisions = history::revisions(&self.revisions, uid(&set))?;
        let owner = history::Owner {
            reference: controller_reference(&set),
            namespace: namespace(&set),
            template: &spec.template,
            collisions: set.status.as_ref().and_then(|s| s.collision_count),
            hash_label: REVISION_HASH,
            annotations: set.metadata.annotations.as_ref(),
        };
        let current = match history::current(&self.ctx.client, &owner, &revisions).await? {
            Some(revision) => revision,
            None => {
                let mut status = set.status.clone().unwrap_or_default();
                status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                crate::status::put(&self.ctx.client, &object, &status).await?;
                return Ok(None);
            }
        };
        let hash = history::hash(&current).to_owned();
        let may_act = self.expectations.satisfied(uid(&set));
        let pods = claim::<DaemonSet, Pod>(&self.ctx.client, &set, &selector, &self.pods).await?;
        let pods = pods.iter().map(|p| decode(p)).collect::<Result<Vec<Pod>, _>>()?;
        let nodes = self.nodes.list();
        let nodes = nodes.iter().map(|n| decode(n)).collect::<Result<Vec<Node>, _>>()?;
        let mut step = step::step(&set, &nodes, &pods, &hash, may_act, Timestamp::now());
        let failure = self.perform(&set, &hash, &mut step).await;
        if set.status.as_ref() != Some(&step.status) {
            crate::status::put(&self.ctx.client, &object, &step.status).await?;
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        let mut live: HashSet<String> = pods
            .iter()
            .filter_map(|p| label(p, REVISION_HASH))
            .map(str::to_owned)
            .collect();
        live.insert(hash);
        let limit = spec.revision_history_limit.unwrap_or(10);
        history::truncate(&self.ctx.client, &revisions, &live, limit).await?;
        Ok(step.requeue_seconds.map(Duration::from_secs_f64))
    }

    async fn perform(&self, set: &DaemonSet, hash: &str, step: &mut Step) -> Option<Error> {
        let (me, about) = (uid(set), reference(set));
        for (pod, failed) in std::mem::take(&mut step.ended) {
            let node = crate::pods::node_name(&pod);
            // whoever rejects pods is not asked again at once
            let wait = if failed {
                self.failures.wait(me, node, FAILED_BACKOFF)
            } else {
                Duration::ZERO
            };
            if !wait.is_zero() {
                step.delete.retain(|p| uid(p) != uid(&pod));
                let known = step.requeue_seconds.unwrap_or(f64::MAX);
                step.requeue_seconds = Some(known.min(wait.as_secs_f64()));
                continue;
            }
            let (what, reason) = match failed {
                true => ("failed", "FailedDaemonPod"),
                false => ("succeeded", "SucceededDaemonPod"),
            };
            let verb = if failed { "kill" } else { "delete" };
            let message = format!(
                "Found {what} daemon pod {} on node {node}, will try to {verb} it",
                key_of(&pod)
            );
            match failed {
                true => self.control.recorder.warning(&about, reason, message),
                false => self.control.recorder.normal(&about, reason, message),
            }
        }
        self.expectations.expect_deletions(me, step.delete.iter().map(key_of));
        let deletions = step.delete.iter().map(|pod| {
            let about = &about;
            async move {
                let error = self.control.delete(pod, about).await.err()?;
                self.expectations.deletion_observed(me, &key_of(pod));
                (!error.is_not_found()).then(|| Error::from(error))
            }
        });
        let failure = futures::future::join_all(deletions).await.into_iter().flatten().next();
        let wanted = step.create.len();
        self.expectations.expect_creations(me, wanted);
        let (created, error) = slow_start(wanted, |i| {
            let pod = pod_of(set, hash, &step.create[i]);
            let about = &about;
            async move {
                match self.control.create(&pod, about).await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(Error::from(error)),
                }
            }
        })
        .await;
        self.expectations.creations_observed(me, wanted - created);
        failure.or(error.filter(|e| !matches!(e, Error::Client(e) if e.is_namespace_terminating())))
    }
}

fn pod_of(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let template = set.spec.template.clone();
    let mut pod = from_template(&template, namespace(set), &controller_reference(set), None);
    step::pin(pod.spec.get_or_insert_default(), node);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_HASH.to_owned(), hash.to_owned());
    if let Some(generation) = annotation(set, TEMPLATE_GENERATION) {
        labels.insert("pod-template-generation".to_owned(), generation.to_owned());
    }
    pod
}
