//! One step of a Job, from what is known of it and its pods to what is to be done.
//! Pods are counted in two moves, so that none is missed or counted twice: a finished pod's uid enters
//! `uncountedTerminatedPods`, its finalizer is removed, and then its uid becomes a number.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::Backoff;
use super::indexes;
use super::per_index::{Failures, PerIndex};
use super::policies::{Failure, judge_failure, success};
use crate::meta::{annotation, is_deleting, uid};
use crate::pods::{is_active, is_ready, is_terminal, phase};

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
    /// To be deleted because the Job has ended; they count as failed if it has failed.
    pub stop: Vec<Pod>,
    /// Pods whose finalizer goes after the status is written.
    pub release: Vec<Pod>,
    pub requeue_seconds: Option<f64>,
    /// To be known to the next step.
    pub backoff: Backoff,
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

/// How a Job ends.
#[derive(Debug, Clone)]
pub(super) struct End {
    has_failed: bool,
    reason: String,
    message: String,
}

impl End {
    fn failure(reason: &str, message: impl Into<String>) -> End {
        End {
            has_failed: true,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    fn success(reason: &str, message: impl Into<String>) -> End {
        End {
            has_failed: false,
            ..End::failure(reason, message)
        }
    }
}

pub(super) struct World<'a> {
    pub(super) job: &'a Job,
    pub(super) pods: &'a [Pod],
    pub(super) now: Timestamp,
    /// For Jobs that limit the failures of each index.
    pub(super) per_index: Option<PerIndex<'a>>,
    pub(super) step: Step,
}

/// `backoff`: the failures that the step before has seen. `may_act`: the cache shows all pods that were made and deleted
/// before.
pub(super) fn step(job: &Job, pods: &[Pod], backoff: &Backoff, may_act: bool, now: Timestamp) -> Step {
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
    world.run(backoff, may_act);
    world.step
}

pub(super) fn conditions(status: &mut JobStatus) -> &mut Vec<JobCondition> {
    status.conditions.get_or_insert_default()
}

fn number(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl<'a> World<'a> {
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

    /// Whether the pod stands for work of the Job: of an indexed one only pods of its indexes do.
    fn has_a_place(&self, pod: &Pod) -> bool {
        !is_indexed(self.job) || index_of(pod).is_some_and(|i| i < self.spec_number(|s| s.completions, 0))
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
            let settled = number(before - list.len());
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

    /// The pods that have succeeded and that have failed, and are in no figure yet.
    fn newly_finished(&self) -> (Vec<&'a Pod>, Vec<&'a Pod>) {
        let uncounted = self.step.status.uncounted_terminated_pods.as_ref();
        let known = |list: Option<&Vec<String>>| -> HashSet<String> { list.into_iter().flatten().cloned().collect() };
        let succeeded = known(uncounted.and_then(|u| u.succeeded.as_ref()));
        let failed = known(uncounted.and_then(|u| u.failed.as_ref()));
        let held = || self.pods.iter().filter(|p| has_finalizer(p) && self.has_a_place(p));
        let new = |p: &&Pod, known: &HashSet<String>| !known.contains(uid(*p));
        (
            held()
                .filter(|p| phase(p) == "Succeeded" && new(p, &succeeded))
                .collect(),
            held().filter(|p| self.is_failed(p) && new(p, &failed)).collect(),
        )
    }

    /// Notes finished pods and chooses whose finalizer goes. At the end all go, and of a Job that has failed every pod that
    /// has not succeeded counts as failed.
    fn note_finished(&mut self, end: Option<&End>) {
        let indexed = is_indexed(self.job);
        let deleting_job = is_deleting(self.job);
        let uncounted = self.uncounted();
        let mut succeeded = uncounted.succeeded.take().unwrap_or_default();
        let mut failed = uncounted.failed.take().unwrap_or_default();
        let known_succeeded: HashSet<String> = succeeded.iter().cloned().collect();
        let known_failed: HashSet<String> = failed.iter().cloned().collect();
        for pod in self.pods.iter().filter(|p| has_finalizer(p)) {
            let id = uid(pod);
            let has_succeeded = phase(pod) == "Succeeded";
            let has_failed = self.is_failed(pod);
            let waits = !has_failed || self.per_index.as_ref().is_some_and(|p| p.holds(pod));
            if waits && end.is_none() && !deleting_job && !has_succeeded {
                continue;
            }
            self.step.release.push(pod.clone());
            if has_succeeded && !known_failed.contains(id) {
                if !indexed && !known_succeeded.contains(id) {
                    succeeded.push(id.to_owned());
                }
            } else if (has_failed || end.is_some_and(|e| e.has_failed))
                && !known_failed.contains(id)
                && self.has_a_place(pod)
                && judge_failure(self.job, pod) != Failure::Ignore
            {
                failed.push(id.to_owned());
            }
            if self.step.release.len() >= MOST_UNCOUNTED || succeeded.len() + failed.len() >= MOST_UNCOUNTED {
                break;
            }
        }
        let uncounted = self.uncounted();
        uncounted.succeeded = Some(succeeded).filter(|l| !l.is_empty());
        uncounted.failed = Some(failed).filter(|l| !l.is_empty());
    }

    fn uncounted_numbers(&self) -> (i32, i32) {
        let count = |l: &Option<Vec<String>>| l.as_ref().map_or(0, |l| number(l.len()));
        let uncounted = self.step.status.uncounted_terminated_pods.as_ref();
        uncounted.map_or((0, 0), |u| (count(&u.succeeded), count(&u.failed)))
    }

    /// The indexes that have succeeded. The failures of each are taken up on the way where they are limited.
    fn take_indexes(&mut self) -> BTreeSet<i32> {
        let completions = self.spec_number(|s| s.completions, 0);
        let text = self.step.status.completed_indexes.take().unwrap_or_default();
        let mut done = indexes::parse(&text, completions);
        let ended = self.pods.iter().filter(|p| has_finalizer(p) && phase(p) == "Succeeded");
        done.extend(ended.filter_map(index_of).filter(|i| *i < completions));
        let limits = |s: &k8s_openapi::api::batch::v1::JobSpec| s.backoff_limit_per_index.is_some();
        if self.job.spec.as_ref().is_some_and(limits) {
            let text = self.step.status.failed_indexes.clone().unwrap_or_default();
            let known = indexes::parse(&text, completions);
            let per_index = PerIndex::new(self.job, known, &done, self.pods, |p| self.is_failed(p));
            self.step.status.failed_indexes = Some(indexes::text(&per_index.failed));
            self.per_index = Some(per_index);
        }
        self.step.status.succeeded = Some(number(done.len())).filter(|n| *n > 0);
        self.step.status.completed_indexes = (!done.is_empty()).then(|| indexes::text(&done));
        done
    }

    fn run(&mut self, backoff: &Backoff, may_act: bool) {
        let completions = self.job.spec.as_ref().and_then(|s| s.completions);
        self.settle_uncounted();
        let (new_succeeded, new_failed) = self.newly_finished();
        let counted = new_failed
            .iter()
            .filter(|p| judge_failure(self.job, p) != Failure::Ignore);
        let (uncounted_succeeded, uncounted_failed) = self.uncounted_numbers();
        let failed = self.step.status.failed.unwrap_or(0) + number(counted.count()) + uncounted_failed;
        if self.step.status.start_time.is_none() && !self.is_suspended() {
            self.step.status.start_time = Some(Time(self.now));
        }
        self.step.backoff = backoff.after(&new_succeeded, &new_failed);
        let (mut done, mut succeeded) = (BTreeSet::new(), number(new_succeeded.len()) + uncounted_succeeded);
        if is_indexed(self.job) {
            done = self.take_indexes();
            succeeded = number(done.len());
        } else {
            succeeded += self.step.status.succeeded.unwrap_or(0);
        }
        let active: Vec<Pod> = self.pods.iter().filter(|p| is_active(p)).cloned().collect();
        let terminating = self.pods.iter().filter(|p| is_deleting(*p) && !is_terminal(p)).count();
        let mut end = self.decide_end(failed, &done);
        let mut left = active.len();
        if end.is_some() {
            left = 0;
            self.step.stop.clone_from(&active);
            // There may be pods that the cache does not show: they are let go before anything is said.
            end = end.filter(|_| may_act);
        } else {
            let manages = may_act && !is_deleting(self.job);
            if manages {
                left = self.manage(&active, terminating, succeeded, &done);
            }
            let complete = match completions {
                None => succeeded > 0 && left == 0,
                Some(wanted) => succeeded >= wanted && left == 0,
            };
            if complete {
                let message = "Reached expected number of succeeded pods";
                end = Some(End::success("CompletionsReached", message));
            } else if manages {
                self.note_suspension();
            }
        }
        let gone: HashSet<&str> = self.step.stop.iter().chain(&self.step.discard).map(uid).collect();
        let ready = active.iter().filter(|p| is_ready(p) && !gone.contains(uid(*p))).count();
        let terminating = terminating + self.step.stop.len() + self.step.discard.len();
        self.step.status.active = (left > 0).then(|| number(left));
        self.step.status.ready = Some(number(ready));
        self.step.status.terminating = Some(number(terminating));
        self.note_finished(end.as_ref());
        if let Some(end) = end {
            self.conclude(&end, terminating == 0);
        }
    }

    pub(super) fn set(&mut self, type_: &str, reason: &str, message: String) {
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

    /// What was decided before stands; failure goes before success.
    fn decide_end(&mut self, failed: i32, done: &BTreeSet<i32>) -> Option<End> {
        let decided = |type_: &str, end: fn(&str, &str) -> End| {
            let c = condition(self.job, type_)?;
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            Some(end(&text(&c.reason), &text(&c.message)))
        };
        let before = decided("SuccessCriteriaMet", |r, m| End::success(r, m))
            .or_else(|| decided("FailureTarget", |r, m| End::failure(r, m)));
        if before.is_some() {
            return before;
        }
        let judged = self.pods.iter().filter(|p| self.is_failed(p));
        let fail_job = judged
            .filter_map(|p| match judge_failure(self.job, p) {
                Failure::FailJob(message) => Some(message),
                _ => None,
            })
            .next();
        if let Some(message) = fail_job {
            return Some(End::failure("PodFailurePolicy", message));
        }
        if failed > self.spec_number(|s| s.backoff_limit, 6) || self.has_restarted_too_often() {
            let message = "Job has reached the specified backoff limit";
            return Some(End::failure("BackoffLimitExceeded", message));
        }
        let deadline = self.job.spec.as_ref().and_then(|s| s.active_deadline_seconds);
        if let (Some(deadline), Some(start), false) = (deadline, &self.step.status.start_time, self.is_suspended()) {
            let left = deadline as f64 - self.now.duration_since(start.0).as_secs_f64();
            if left <= 0.0 {
                let message = "Job was active longer than specified deadline";
                return Some(End::failure("DeadlineExceeded", message));
            }
            self.step.requeue_seconds = Some(left);
        }
        if let Some(per_index) = &self.per_index {
            let failed = per_index.failed.len();
            let at_most = self.job.spec.as_ref().and_then(|s| s.max_failed_indexes);
            let completions = usize::try_from(self.spec_number(|s| s.completions, 0)).unwrap_or(0);
            if at_most.is_some_and(|most| failed > usize::try_from(most).unwrap_or(0)) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return Some(End::failure("MaxFailedIndexesExceeded", message));
            }
            if failed > 0 && failed + done.len() >= completions {
                return Some(End::failure("FailedIndexes", "Job has failed indexes"));
            }
        }
        let met = success(self.job, done).filter(|_| is_indexed(self.job))?;
        Some(End::success("SuccessPolicy", met))
    }

    /// Containers that restart in their pods count like failed pods, while those pods live.
    fn has_restarted_too_often(&self) -> bool {
        let spec = self.job.spec.as_ref().and_then(|s| s.template.spec.as_ref());
        if spec.and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let limit = self.spec_number(|s| s.backoff_limit, 6);
        let live = self.pods.iter().filter(|p| matches!(phase(p), "Running" | "Pending"));
        let statuses = live.filter_map(|p| p.status.as_ref()).flat_map(|s| {
            let init = s.init_container_statuses.iter().flatten();
            init.chain(s.container_statuses.iter().flatten())
        });
        let restarted: i64 = statuses.map(|c| i64::from(c.restart_count)).sum();
        restarted >= i64::from(limit.max(1))
    }

    /// Says how the Job ends, and that it has ended once every pod is counted and gone.
    fn conclude(&mut self, end: &End, all_gone: bool) {
        let (decided, ended) = match end.has_failed {
            true => ("FailureTarget", "Failed"),
            false => ("SuccessCriteriaMet", "Complete"),
        };
        if condition(self.job, decided).is_none() {
            self.set(decided, &end.reason, end.message.clone());
        }
        let held = self.pods.iter().any(has_finalizer);
        if !all_gone || held || self.uncounted_numbers() != (0, 0) {
            return;
        }
        self.set(ended, &end.reason, end.message.clone());
        if end.has_failed {
            let event = ("Warning", end.reason.clone(), end.message.clone());
            self.step.events.push(event);
            return;
        }
        self.step.status.completion_time = Some(Time(self.now));
        let completions = self.job.spec.as_ref().and_then(|s| s.completions);
        if completions.is_some_and(|wanted| self.step.status.succeeded.unwrap_or(0) > wanted) {
            let message = "Too many succeeded pods running after completion count reached";
            let event = ("Warning", "TooManySucceededPods".to_owned(), message.to_owned());
            self.step.events.push(event);
        }
        let event = ("Normal", "Completed".to_owned(), "Job completed".to_owned());
        self.step.events.push(event);
    }
}
