//! Jobs: pods that run to completion, each counted exactly once.

mod backoff;
mod indexes;
mod manage;
mod per_index;
mod policies;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::object::Object;
use client::{Cache, Patch};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use serde_json::{Value, json};

use crate::Error;
use crate::context::{Context, split_key};
use crate::error::decode;
use crate::expectations::Expectations;
use crate::informers::BY_CONTROLLER;
use crate::meta::{controller_reference, key_of, name, namespace, reference, selector, uid};
use crate::ownership::{affected_owners, claim, controller_key};
use crate::pods::{PodControl, from_template, slow_start};
use backoff::Backoff;
use per_index::{FAILURES, IGNORED_FAILURES};
use step::{FINALIZER, INDEX, NewPod, Step, has_finalizer, is_finished};

/// The server cuts what is longer, to have room for its five characters.
const LONGEST_GENERATE_NAME: usize = 58;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Work {
    Job(String),
    /// A pod whose finalizer nobody counts by any more.
    Orphan(String),
}

#[derive(Clone)]
struct Controller {
    ctx: Context,
    jobs: Cache,
    pods: Cache,
    control: PodControl,
    expectations: Expectations,
    /// By uid: the version of the last status written. An older one in the cache would count twice.
    written: Arc<Mutex<HashMap<String, u64>>>,
    /// By uid: of Jobs that run.
    memories: Arc<Mutex<HashMap<String, Memory>>>,
}

/// What is known of a Job that the API does not show.
#[derive(Debug, Clone, Default)]
struct Memory {
    backoff: Backoff,
    /// Pods whose finalizer was removed, though the cache may still show it: they would be counted twice.
    released: HashSet<String>,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        jobs: ctx.informers.get::<Job>(),
        pods: ctx.informers.get::<Pod>(),
        control: PodControl {
            client: ctx.client.clone(),
            recorder: ctx.recorder("job-controller"),
        },
        expectations: Expectations::default(),
        written: Arc::default(),
        memories: Arc::default(),
        ctx: ctx.clone(),
    };
    if !ctx.synced(&[&controller.jobs, &controller.pods]).await {
        return Ok(());
    }
    let queue = ctx.queue("job");
    ctx.each_change(&controller.jobs, {
        let (queue, c) = (queue.clone(), controller.clone());
        move |change| {
            if let (Some(gone), None) = (&change.old, &change.new) {
                c.expectations.forget(&gone.meta.uid);
                c.written
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&*gone.meta.uid);
                c.memories().remove(&*gone.meta.uid);
                for pod in c.pods.by_index(BY_CONTROLLER, &gone.meta.uid) {
                    queue.add(Work::Orphan(pod.key()));
                }
            }
            if let Some(object) = change.object() {
                queue.add(Work::Job(object.key()));
            }
        }
    });
    ctx.each_change(&controller.pods, {
        let (queue, c) = (queue.clone(), controller.clone());
        move |change| {
            c.expectations.observe(&change);
            let ended = |pod: &Option<Arc<Object>>| pod.as_ref().is_some_and(|pod| is_tracked_end(pod));
            if ended(&change.old) != ended(&change.new) {
                c.ctx.counted.jobs.tracked(ended(&change.new));
            }
            for key in affected_owners(&change, &c.jobs, "Job", "batch") {
                queue.add(Work::Job(key));
            }
            let tracked = change
                .new
                .filter(|p| p.meta.finalizers.iter().any(|f| &**f == FINALIZER));
            if let Some(pod) = tracked
                && controller_key(&pod, "Job", "batch").is_none_or(|key| c.jobs.get(&key).is_none())
            {
                queue.add(Work::Orphan(pod.key()));
            }
        }
    });
    let workers = ctx.config.concurrent_job_syncs;
    ctx.work(queue, workers, move |work| {
        let controller = controller.clone();
        async move {
            match work {
                Work::Job(key) => controller.sync(&key).await,
                Work::Orphan(key) => controller.release_orphan(&key).await,
            }
        }
    })
    .await;
    Ok(())
}

impl Controller {
    fn memories(&self) -> MutexGuard<'_, HashMap<String, Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sync(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.jobs.get(key) else {
            return Ok(None);
        };
        let job: Job = decode(&object)?;
        let Some(spec) = &job.spec else { return Ok(None) };
        let me = uid(&job);
        let managed_here = spec
            .managed_by
            .as_deref()
            .is_none_or(|m| m == "kubernetes.io/job-controller");
        if is_finished(&job) || !managed_here {
            self.memories().remove(me);
            return Ok(None);
        }
        let known = self
            .written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(me)
            .copied();
        if known.is_some_and(|v| v > object.meta.resource_version) {
            // The newer version is on its way and brings the key back.
            return Ok(None);
        }
        let may_act = self.expectations.satisfied(me);
        let selector = match &spec.selector {
            Some(s) => selector(key, s)?,
            None => return Ok(None),
        };
        let pods = claim::<Job, Pod>(&self.ctx.client, &job, &selector, &self.pods).await?;
        let mut pods = pods.iter().map(|p| decode(p)).collect::<Result<Vec<Pod>, _>>()?;
        let backoff = {
            let mut memories = self.memories();
            let memory = memories.entry(me.to_owned()).or_default();
            let shown: HashSet<&str> = pods.iter().filter(|p| has_finalizer(p)).map(uid).collect();
            memory.released.retain(|id| shown.contains(id.as_str()));
            for pod in pods.iter_mut().filter(|p| memory.released.contains(uid(*p))) {
                pod.metadata
                    .finalizers
                    .iter_mut()
                    .for_each(|f| f.retain(|f| f != FINALIZER));
            }
            memory.backoff.clone()
        };
        let step = step::step(&job, &pods, &backoff, may_act, Timestamp::now());
        let action = match (step.stop.len() + step.discard.len(), step.create.len()) {
            (0, 0) if may_act => "tracking",
            (0, 0) => "reconciling",
            (0, _) => "pods_created",
            _ => "pods_deleted",
        };
        let begun = Instant::now();
        let done = self.perform(&job, &object, step).await;
        let counted = &self.ctx.counted.jobs;
        counted.synced(mode(&job), action, done.is_ok(), begun.elapsed());
        done
    }

    /// Counts what a status says that was not said before.
    fn count(&self, job: &Job, step: &Step) {
        let (counted, mode) = (&self.ctx.counted.jobs, mode(job));
        let number = |of: fn(&JobStatus) -> Option<i32>| {
            let before = job.status.as_ref().and_then(of).unwrap_or(0);
            let more = of(&step.status).unwrap_or(0) - before;
            u64::try_from(more).unwrap_or(0)
        };
        counted.pods(mode, number(|s| s.succeeded), number(|s| s.failed));
        for (type_, well) in [("Complete", true), ("Failed", false)] {
            let conditions = step.status.conditions.iter().flatten();
            let mut ended = conditions.filter(|c| c.type_ == type_ && c.status == "True");
            if let Some(condition) = ended.next() {
                counted.finished(mode, condition.reason.as_deref().unwrap_or_default(), well);
            }
        }
        let failed = step.release.iter().filter(|pod| crate::pods::phase(pod) == "Failed");
        for action in failed.filter_map(|pod| policies::action(job, pod)) {
            counted.policy(action);
        }
    }

    async fn perform(
        &self,
        job: &Job,
        object: &api::object::Object,
        mut step: Step,
    ) -> Result<Option<Duration>, Error> {
        let about = reference(job);
        // The Job has not ended while pods of it run.
        if let Some(error) = self.delete(job, &step.stop, false).await {
            return Err(error);
        }
        let mut failure = self.delete(job, &step.discard, true).await;
        let wanted = step.create.len();
        let (created, error) = self.create(job, &step.create).await;
        failure = failure.or(error);
        if created < wanted {
            let left = step.status.active.unwrap_or(0) - i32::try_from(wanted - created).unwrap_or(0);
            step.status.active = (left > 0).then_some(left);
        }
        if job.status.as_ref() != Some(&step.status) {
            let mut whole: Value = decode(object)?;
            whole["status"] = crate::error::tree("status", &step.status)?;
            let path = format!("{}/status", crate::status::path_of(object)?);
            let written: Result<Value, _> = self.ctx.client.json(http::Method::PUT, &path, &[], Some(&whole)).await;
            match written {
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error.into()),
                Ok(new) => {
                    self.count(job, &step);
                    let version = new["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok());
                    let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                    written.insert(uid(job).to_owned(), version.unwrap_or(0));
                }
            }
        }
        self.memories().entry(uid(job).to_owned()).or_default().backoff = step.backoff;
        for (type_, reason, message) in &step.events {
            match *type_ {
                "Warning" => self.control.recorder.warning(&about, reason, message.clone()),
                _ => self.control.recorder.normal(&about, reason, message.clone()),
            }
        }
        for pod in &step.release {
            self.release(pod, uid(job)).await?;
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(step.requeue_seconds.map(Duration::from_secs_f64)),
        }
    }

    async fn delete(&self, job: &Job, pods: &[Pod], uncounted: bool) -> Option<Error> {
        let me = uid(job);
        self.expectations.expect_deletions(me, pods.iter().map(key_of));
        let about = reference(job);
        let deletions = pods.iter().map(|pod| {
            let about = &about;
            async move {
                if uncounted && let Err(error) = self.release(pod, me).await {
                    self.expectations.deletion_observed(me, &key_of(pod));
                    return Some(error);
                }
                let error = self.control.delete(pod, about).await.err()?;
                self.expectations.deletion_observed(me, &key_of(pod));
                (!error.is_not_found()).then(|| error.into())
            }
        });
        futures::future::join_all(deletions).await.into_iter().flatten().next()
    }

    async fn create(&self, job: &Job, pods: &[NewPod]) -> (usize, Option<Error>) {
        let (me, about) = (uid(job), reference(job));
        self.expectations.expect_creations(me, pods.len());
        let (created, failure) = slow_start(pods.len(), |i| {
            let pod = pod_of(job, pods[i]);
            let about = &about;
            async move {
                match self.control.create(&pod, about).await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(Error::from(error)),
                }
            }
        })
        .await;
        self.expectations.creations_observed(me, pods.len() - created);
        let failure = failure.filter(|e| !matches!(e, Error::Client(e) if e.is_namespace_terminating()));
        (created, failure)
    }

    /// Removes the finalizer of a pod of a Job.
    async fn release(&self, pod: &Pod, job: &str) -> Result<(), Error> {
        if !has_finalizer(pod) {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": uid(pod), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        let patched = self
            .ctx
            .client
            .patch::<Pod>(namespace(pod), name(pod), &Patch::Strategic(patch))
            .await;
        match patched {
            // A conflict means another pod of this name: the one meant is gone.
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => {
                if let Some(memory) = self.memories().get_mut(job) {
                    memory.released.insert(uid(pod).to_owned());
                }
                Ok(())
            }
        }
    }

    async fn release_orphan(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.pods.get(key) else {
            return Ok(None);
        };
        let pod: Pod = decode(&object)?;
        if let Some(owner) = controller_key(&object, "Job", "batch") {
            let (in_namespace, owner_name) = split_key(&owner);
            let wanted = object.meta.controller().map(|o| o.uid.to_string()).unwrap_or_default();
            match self.ctx.client.get::<Job>(in_namespace, owner_name).await {
                Ok(job) if uid(&job) == wanted && !is_finished(&job) => return Ok(None),
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        } else if object.meta.controller().is_some() {
            return Ok(None);
        }
        let owner = object.meta.controller().map(|o| o.uid.to_string()).unwrap_or_default();
        self.release(&pod, &owner).await?;
        Ok(None)
    }
}

/// The completion mode, which Jobs without one have too.
fn mode(job: &Job) -> &str {
    let mode = job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref());
    mode.unwrap_or("NonIndexed")
}

/// Whether a pod has ended and has the finalizer that it is counted by.
fn is_tracked_end(pod: &Object) -> bool {
    let has_it = pod.meta.finalizers.iter().any(|f| &**f == FINALIZER);
    has_it && decode::<Pod>(pod).is_ok_and(|pod| crate::pods::is_terminal(&pod))
}

/// The index stays in the names of pods, however long that of the Job is.
fn generate_name(job: &str, index: &str) -> String {
    let end = format!("-{index}-");
    let most = LONGEST_GENERATE_NAME.saturating_sub(end.len());
    format!("{}{end}", job.get(..most).unwrap_or(job))
}

/// A pod of the Job; one with an index knows it by annotation, label, host name and environment.
fn pod_of(job: &Job, new: NewPod) -> Pod {
    let template = job.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let mut pod = from_template(&template, namespace(job), &controller_reference(job), None);
    pod.metadata
        .finalizers
        .get_or_insert_default()
        .push(FINALIZER.to_owned());
    let Some(index) = new.index else { return pod };
    let text = index.to_string();
    let meta = &mut pod.metadata;
    meta.generate_name = Some(generate_name(name(job), &text));
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), text.clone());
    if let Some(failures) = new.failures {
        annotations.insert(FAILURES.to_owned(), failures.counted.to_string());
        if failures.ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), failures.ignored.to_string());
        }
    }
    meta.labels.get_or_insert_default().insert(INDEX.to_owned(), text);
    let Some(spec) = &mut pod.spec else { return pod };
    spec.hostname = Some(format!("{}-{index}", name(job)));
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    for container in containers {
        let env = container.env.get_or_insert_default();
        if env.iter().any(|e| e.name == "JOB_COMPLETION_INDEX") {
            continue;
        }
        env.push(EnvVar {
            name: "JOB_COMPLETION_INDEX".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    api_version: None,
                    field_path: format!("metadata.labels['{INDEX}']"),
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        });
    }
    pod
}
