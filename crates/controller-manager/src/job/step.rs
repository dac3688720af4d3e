//! One step of a Job, from what is known of it and its pods to what is to be done.
//! Pods are counted in two moves, so that none is missed or counted twice: a finished pod's uid enters
//! `uncountedTerminatedPods`, its finalizer is removed, and then its uid becomes a number.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::indexes;
use super::per_index::{Failures, PerIndex};
use super::policies::{Failure, judge_failure, success};
use crate::meta::{annotation, is_deleting, uid};
use crate::pods::{is_active, is_ready, is_terminal, phase, restarts};

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// So many uids fit into a status before they must become numbers.
const MOST_UNCOUNTED: usize = 500;
pub(super) const MOST_AT_ONCE: usize = 500;

/// A pod to create.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NewPod {
    /// `None` for Jobs without indexes.
    pub index: Option<i32>,
    /// What is to be told of the index, if its failures are limited.
    pub failures: Option<Failures>,
}

#[derive(Debug, Default)]
pub(super) struct Step {
    pub status: JobStatus,
    pub create: Vec<NewPod>,
    /// To be deleted and not counted: their finalizer goes first.
    pub discard: Vec<Pod>,
    /// To be deleted because the Job has ended; they count as failed.
    pub stop: Vec<Pod>,
    /// After the status is written.
    pub release: Vec<Pod>,
    pub requeue_seconds: Option<f64>,
    /// Type, reason, message.
    pub events: Vec<(&'static str, String, String)>,
}

pub(super) fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

pub(super) fn condition<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == type_ && c.status == "True")
}

pub(super) fn is_finished(job: &Job) -> bool {
    condition(job, "Complete").is_some() || condition(job, "Failed").is_some()
}

pub(super) fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|s| s.completion_mode.as_deref()) == Some("Indexed")
}

pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    annotation(pod, INDEX)?.parse().ok().filter(|i| *i >= 0)
}

pub(super) struct World<'a> {
    pub(super) job: &'a Job,
    pub(super) pods: &'a [Pod],
    pub(super) now: Timestamp,
    /// For Jobs that limit the failures of each index.
    pub(super) per_index: Option<PerIndex<'a>>,
    pub(super) step: Step,
}

/// `may_act`: the cache shows all pods that were made and deleted before.
pub(super) fn step(job: &Job, pods: &[Pod], may_act: bool, now: Timestamp) -> Step {
    let mut status = job.status.clone().unwrap_or_default();
    status.uncounted_terminated_pods.get_or_insert_default();
    let mut world = World {
        job,
        pods,
        now,
        per_index: None,
        step: Step {
            status,
            ..Step::default()
        },
    };
    world.run(may_act);
    world.step
}

fn conditions(status: &mut JobStatus) -> &mut Vec<JobCondition> {
    status.conditions.get_or_insert_default()
}

impl World<'_> {
    pub(super) fn spec_number(
        &self,
        f: impl Fn(&k8s_openapi::api::batch::v1::JobSpec) -> Option<i32>,
        default: i32,
    ) -> i32 {
        self.job.spec.as_ref().and_then(f).unwrap_or(default)
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.job.spec.as_ref().and_then(|s| s.suspend) == Some(true)
    }

    /// Whether only ended pods count as failed, and replacements wait for them.
    pub(super) fn waits_for_the_end(&self) -> bool {
        let spec = self.job.spec.as_ref();
        spec.is_some_and(|s| s.pod_failure_policy.is_some() || s.pod_replacement_policy.as_deref() == Some("Failed"))
    }

    fn is_failed(&self, pod: &Pod) -> bool {
        match phase(pod) {
            "Failed" => true,
            "Succeeded" => false,
            _ => is_deleting(pod) && !self.waits_for_the_end(),
        }
    }

    /// Turns uids whose pods have lost their finalizer into numbers.
    fn settle_uncounted(&mut self) {
        let held: HashSet<&str> = self.pods.iter().filter(|p| has_finalizer(p)).map(uid).collect();
        let status = &mut self.step.status;
        let Some(uncounted) = &mut status.uncounted_terminated_pods else {
            return;
        };
        let settle = |uids: &mut Option<Vec<String>>, count: &mut Option<i32>| {
            let Some(list) = uids else { return };
            let before = list.len();
            list.retain(|u| held.contains(u.as_str()));
            let settled = i32::try_from(before - list.len()).unwrap_or(0);
            if settled > 0 {
                *count = Some(count.unwrap_or(0) + settled);
            }
            if list.is_empty() {
                *uids = None;
            }
        };
        settle(&mut uncounted.succeeded, &mut status.succeeded);
        settle(&mut uncounted.failed, &mut status.failed);
    }

    fn uncounted(&mut self) -> &mut UncountedTerminatedPods {
        self.step.status.uncounted_terminated_pods.get_or_insert_default()
    }

    /// Notes finished pods and chooses whose finalizer goes. `ending`: pods being deleted count as failed.
    fn note_finished(&mut self, ending: bool, succeeded_indexes: &mut BTreeSet<i32>) {
        let indexed = is_indexed(self.job);
        let pods = self.pods;
        for pod in pods.iter().filter(|p| has_finalizer(p)) {
            let id = uid(pod).to_owned();
            let failed = self.is_failed(pod) || (ending && is_deleting(pod) && phase(pod) != "Succeeded");
            let deleting_job = is_deleting(self.job);
            if !ending && !deleting_job && self.per_index.as_ref().is_some_and(|p| p.holds(pod)) {
                continue;
            }
            if phase(pod) == "Succeeded" {
                match index_of(pod).filter(|_| indexed) {
                    Some(index) => {
                        if index < self.spec_number(|s| s.completions, 0) {
                            succeeded_indexes.insert(index);
                        }
                    }
                    None => {
                        let list = self.uncounted().succeeded.get_or_insert_default();
                        if !list.contains(&id) {
                            list.push(id);
                        }
                    }
                }
            } else if failed {
                if judge_failure(self.job, pod) != Failure::Ignore {
                    let list = self.uncounted().failed.get_or_insert_default();
                    if !list.contains(&id) {
                        list.push(id);
                    }
                }
            } else if !deleting_job {
                continue;
            }
            self.step.release.push(pod.clone());
            if self.step.release.len() >= MOST_UNCOUNTED {
                break;
            }
        }
        let uncounted = self.uncounted();
        for list in [&mut uncounted.succeeded, &mut uncounted.failed] {
            if list.as_ref().is_some_and(Vec::is_empty) {
                *list = None;
            }
        }
    }

    fn uncounted_numbers(&self) -> (i32, i32) {
        let count = |l: &Option<Vec<String>>| l.as_ref().map_or(0, |l| i32::try_from(l.len()).unwrap_or(i32::MAX));
        let uncounted = self.step.status.uncounted_terminated_pods.as_ref();
        uncounted.map_or((0, 0), |u| (count(&u.succeeded), count(&u.failed)))
    }

    fn run(&mut self, may_act: bool) {
        let completions = self.job.spec.as_ref().and_then(|s| s.completions);
        let indexed = is_indexed(self.job);
        self.settle_uncounted();
        let text = self.step.status.completed_indexes.clone().unwrap_or_default();
        let mut done = indexes::parse(&text, completions.unwrap_or(0));
        let ending =
            condition(self.job, "FailureTarget").is_some() || condition(self.job, "SuccessCriteriaMet").is_some();
        if indexed
            && self
                .job
                .spec
                .as_ref()
                .is_some_and(|s| s.backoff_limit_per_index.is_some())
        {
            let limit = completions.unwrap_or(0);
            let ended = self.pods.iter().filter(|p| has_finalizer(p) && phase(p) == "Succeeded");
            let mut succeeded = done.clone();
            succeeded.extend(ended.filter_map(index_of).filter(|i| *i < limit));
            let text = self.step.status.failed_indexes.clone().unwrap_or_default();
            let known = indexes::parse(&text, limit);
            let per_index = PerIndex::new(self.job, known, &succeeded, self.pods, |p| self.is_failed(p));
            self.step.status.failed_indexes = Some(indexes::text(&per_index.failed));
            self.per_index = Some(per_index);
        }
        self.note_finished(ending, &mut done);
        if self.step.status.start_time.is_none() && !self.is_suspended() {
            self.step.status.start_time = Some(Time(self.now));
        }
        let (uncounted_succeeded, uncounted_failed) = self.uncounted_numbers();
        let succeeded = if indexed {
            let count = i32::try_from(done.len()).unwrap_or(i32::MAX);
            self.step.status.succeeded = (count > 0).then_some(count);
            self.step.status.completed_indexes = (!done.is_empty()).then(|| indexes::text(&done));
            count
        } else {
            self.step.status.succeeded.unwrap_or(0) + uncounted_succeeded
        };
        let held = self.per_index.as_ref().map_or(0, |p| p.held_failures(self.job));
        let held = if ending {
            0
        } else {
            i32::try_from(held).unwrap_or(i32::MAX)
        };
        let failed = self.step.status.failed.unwrap_or(0) + uncounted_failed + held;
        let active: Vec<Pod> = self.pods.iter().filter(|p| is_active(p)).cloned().collect();
        let terminating = self.pods.iter().filter(|p| is_deleting(*p) && !is_terminal(p)).count();
        self.decide_end(succeeded, failed, &active, &done);
        let mut left = active.len();
        let ended = self.outcome().is_some();
        if ended {
            if may_act {
                left = 0;
                self.step.stop.clone_from(&active);
            }
        } else if may_act && !is_deleting(self.job) {
            left = self.manage(&active, terminating, succeeded, &done);
            let complete = match completions {
                None => succeeded > 0 && left == 0,
                Some(wanted) => succeeded >= wanted && left == 0,
            };
            if complete {
                let message = "Reached expected number of succeeded pods".to_owned();
                self.set("SuccessCriteriaMet", "CompletionsReached", message);
            } else {
                self.note_suspension();
            }
        }
        let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let gone: HashSet<&str> = self.step.stop.iter().chain(&self.step.discard).map(uid).collect();
        let ready = active.iter().filter(|p| is_ready(p) && !gone.contains(uid(*p))).count();
        let terminating = terminating + self.step.stop.len() + self.step.discard.len();
        self.step.status.active = (left > 0).then(|| number(left));
        self.step.status.ready = Some(number(ready));
        self.step.status.terminating = Some(number(terminating));
        if left == 0 && terminating == 0 {
            self.conclude();
        }
    }

    /// The condition that says how the Job ends, once that is decided: type, reason, message.
    fn outcome(&self) -> Option<(&'static str, String, String)> {
        let conditions = self.step.status.conditions.as_deref().unwrap_or_default();
        let find = |type_: &str| conditions.iter().find(|c| c.type_ == type_ && c.status == "True");
        let of = |end: &'static str, c: &JobCondition| {
            (
                end,
                c.reason.clone().unwrap_or_default(),
                c.message.clone().unwrap_or_default(),
            )
        };
        find("SuccessCriteriaMet")
            .map(|c| of("Complete", c))
            .or_else(|| find("FailureTarget").map(|c| of("Failed", c)))
    }

    fn set(&mut self, type_: &str, reason: &str, message: String) {
        let now = self.now;
        conditions(&mut self.step.status).push(JobCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_probe_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
        });
    }

    fn decide_end(&mut self, succeeded: i32, failed: i32, active: &[Pod], done: &BTreeSet<i32>) {
        if self.outcome().is_some() || self.is_suspended() && succeeded == 0 && failed == 0 {
            return;
        }
        let failed_pods = self.pods.iter().filter(|p| phase(p) == "Failed");
        let fail_job = failed_pods
            .filter_map(|p| match judge_failure(self.job, p) {
                Failure::FailJob(message) => Some(message),
                _ => None,
            })
            .next();
        if let Some(message) = fail_job {
            return self.set("FailureTarget", "PodFailurePolicy", message);
        }
        let limit = self.spec_number(|s| s.backoff_limit, 6);
        let on_failure = self
            .job
            .spec
            .as_ref()
            .and_then(|s| s.template.spec.as_ref())
            .and_then(|s| s.restart_policy.as_deref())
            == Some("OnFailure");
        let restarted: i32 = active.iter().map(restarts).sum();
        let too_many_restarts = on_failure && if limit == 0 { restarted > 0 } else { restarted >= limit };
        if failed > limit || too_many_restarts {
            let message = "Job has reached the specified backoff limit".to_owned();
            return self.set("FailureTarget", "BackoffLimitExceeded", message);
        }
        let deadline = self.job.spec.as_ref().and_then(|s| s.active_deadline_seconds);
        if let (Some(deadline), Some(start), false) = (deadline, &self.step.status.start_time, self.is_suspended()) {
            let left = deadline as f64 - self.now.duration_since(start.0).as_secs_f64();
            if left <= 0.0 {
                let message = "Job was active longer than specified deadline".to_owned();
                return self.set("FailureTarget", "DeadlineExceeded", message);
            }
            self.step.requeue_seconds = Some(left);
        }
        if let Some(per_index) = &self.per_index {
            let failed = per_index.failed.len();
            let at_most = self.job.spec.as_ref().and_then(|s| s.max_failed_indexes);
            let completions = usize::try_from(self.spec_number(|s| s.completions, 0)).unwrap_or(0);
            if at_most.is_some_and(|most| failed > usize::try_from(most).unwrap_or(0)) {
                let message = "Job has exceeded the specified maximal number of failed indexes".to_owned();
                return self.set("FailureTarget", "MaxFailedIndexesExceeded", message);
            }
            if failed > 0 && failed + done.len() >= completions {
                return self.set("FailureTarget", "FailedIndexes", "Job has failed indexes".to_owned());
            }
        }
        if let Some(message) = success(self.job, done).filter(|_| is_indexed(self.job)) {
            self.set("SuccessCriteriaMet", "SuccessPolicy", message);
        }
    }

    fn note_suspension(&mut self) {
        let suspended = self.is_suspended();
        let now = self.now;
        let all = conditions(&mut self.step.status);
        let found = all.iter_mut().find(|c| c.type_ == "Suspended");
        let (status, reason, message, event) = match suspended {
            true => ("True", "JobSuspended", "Job suspended", "Suspended"),
            false => ("False", "JobResumed", "Job resumed", "Resumed"),
        };
        match found {
            Some(c) if c.status == status => return,
            Some(c) => {
                c.status = status.to_owned();
                c.reason = Some(reason.to_owned());
                c.message = Some(message.to_owned());
                c.last_transition_time = Some(Time(now));
            }
            None if !suspended => return,
            None => {
                self.set("Suspended", reason, message.to_owned());
            }
        }
        // The deadline counts from the last start.
        self.step.status.start_time = (!suspended).then_some(Time(now));
        self.step.events.push(("Normal", event.to_owned(), message.to_owned()));
    }

    /// Says that the Job has ended, once every pod is counted and let go.
    fn conclude(&mut self) {
        let Some((end, reason, message)) = self.outcome() else {
            return;
        };
        let (succeeded, failed) = self.uncounted_numbers();
        let held = self.pods.iter().any(has_finalizer);
        if succeeded + failed > 0 || held || !self.step.create.is_empty() {
            return;
        }
        self.set(end, &reason, message.clone());
        if end == "Complete" {
            self.step.status.completion_time = Some(Time(self.now));
            self.step
                .events
                .push(("Normal", "Completed".to_owned(), "Job completed".to_owned()));
        } else {
            self.step.events.push(("Warning", reason, message));
        }
    }
}
