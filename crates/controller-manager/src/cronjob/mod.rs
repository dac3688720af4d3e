//! CronJobs: Jobs at the times of a schedule.

mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Client, DeleteParams, EventRecorder};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::informers::BY_CONTROLLER;
use crate::meta::{controller_reference, is_deleting, name, namespace, reference, uid};
use crate::metrics::ControllerMetrics;
use crate::ownership::affected_owners;
use schedule::Schedule;

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

#[derive(Clone)]
struct Controller {
    client: Client,
    cronjobs: Cache,
    jobs: Cache,
    recorder: EventRecorder,
    counted: Arc<ControllerMetrics>,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        client: ctx.client.clone(),
        cronjobs: ctx.informers.get::<CronJob>(),
        jobs: ctx.informers.get::<Job>(),
        recorder: ctx.recorder("cronjob-controller"),
        counted: ctx.counted.clone(),
    };
    if !ctx.synced(&[&controller.cronjobs, &controller.jobs]).await {
        return Ok(());
    }
    let queue = ctx.queue("cronjob");
    ctx.each_change(&controller.cronjobs, {
        let queue = queue.clone();
        move |change| {
            if let Some(object) = change.object() {
                queue.add(object.key());
            }
        }
    });
    ctx.each_change(&controller.jobs, {
        let (queue, cronjobs) = (queue.clone(), controller.cronjobs.clone());
        move |change| {
            // Jobs are never adopted: only their controller is asked.
            if change.object().is_some_and(|j| j.meta.controller().is_some()) {
                for key in affected_owners(&change, &cronjobs, "CronJob", "batch") {
                    queue.add(key);
                }
            }
        }
    });
    let workers = ctx.config.concurrent_cron_job_syncs;
    ctx.work(queue, workers, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
    Ok(())
}

/// `Complete` or `Failed`, and since when.
fn finished(job: &Job) -> Option<(&str, Option<Timestamp>)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = |c: &&k8s_openapi::api::batch::v1::JobCondition| {
        matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True"
    };
    let condition = conditions.iter().find(ended)?;
    Some((&condition.type_, condition.last_transition_time.as_ref().map(|t| t.0)))
}

/// What the time asks for.
#[derive(Debug, PartialEq)]
enum Due {
    /// Seconds until the next look; none if the schedule never comes again.
    Later(Option<f64>),
    /// A start that is too late to be made good.
    Missed(Timestamp),
    Start {
        at: Timestamp,
        too_many: bool,
    },
}

fn due(cronjob: &CronJob, schedule: &Schedule, now: Timestamp) -> Due {
    let spec = &cronjob.spec;
    let deadline = spec.starting_deadline_seconds;
    let last = cronjob.status.as_ref().and_then(|s| s.last_schedule_time.as_ref());
    let created = cronjob.metadata.creation_timestamp.as_ref();
    let mut earliest = last.or(created).map_or(now, |t| t.0);
    if let Some(deadline) = deadline
        && let Ok(limit) = now.checked_sub(jiff::SignedDuration::from_secs(deadline))
    {
        earliest = earliest.max(limit);
    }
    let next = || schedule.next(now).map(|at| at.duration_since(now).as_secs_f64() + 0.1);
    let (missed, too_many) = schedule.last_between(earliest, now);
    let Some(at) = missed else { return Due::Later(next()) };
    let too_late = deadline.is_some_and(|d| now.duration_since(at).as_secs_f64() > d as f64);
    if too_late {
        Due::Missed(at)
    } else {
        Due::Start { at, too_many }
    }
}

/// The finished Jobs beyond the limits, oldest first.
fn surplus(cronjob: &CronJob, jobs: &[Job]) -> Vec<Job> {
    let spec = &cronjob.spec;
    let limits = [
        ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
        ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
    ];
    let mut gone = Vec::new();
    for (end, limit) in limits {
        let of_end = jobs.iter().filter(|j| finished(j).is_some_and(|(e, _)| e == end));
        let mut ended: Vec<&Job> = of_end.collect();
        ended.sort_by_key(|j| {
            let started = j.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
            (started, j.metadata.name.clone())
        });
        let count = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        gone.extend(ended.into_iter().take(count).cloned());
    }
    gone
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.cronjobs.get(key) else {
            return Ok(None);
        };
        let cronjob: CronJob = decode(&object)?;
        let spec = &cronjob.spec;
        let about = reference(&cronjob);
        let jobs = self.jobs.by_index(BY_CONTROLLER, uid(&cronjob));
        let jobs = jobs.iter().map(|j| decode(j)).collect::<Result<Vec<Job>, _>>()?;
        let mut status = cronjob.status.clone().unwrap_or_default();
        self.clean_up(&cronjob, &about, &jobs).await?;
        self.note_jobs(&about, &jobs, &mut status);
        let mut again = None;
        if !is_deleting(&cronjob) && spec.suspend != Some(true) {
            let zone = spec.time_zone.as_deref();
            again = match Schedule::parse(&spec.schedule, spec.time_zone.as_deref()) {
                Ok(schedule) if schedule.next(Timestamp::now()).is_none() => {
                    let message = format!(
                        "invalid schedule: {} : time difference between two schedules is less than 1 second",
                        spec.schedule
                    );
                    self.recorder.warning(&about, "InvalidSchedule", message);
                    None
                }
                Ok(schedule) => self.run_due(&cronjob, &about, &schedule, &jobs, &mut status).await?,
                Err(_) if zone.is_some_and(|zone| schedule::zone(zone).is_err()) => {
                    let zone = zone.unwrap_or_default();
                    let message = format!("invalid timeZone: {zone:?}: unknown time zone {zone}");
                    self.recorder.warning(&about, "UnknownTimeZone", message);
                    None
                }
                Err(problem) => {
                    let message = format!("unparseable schedule: {:?} : {problem}", spec.schedule);
                    self.recorder.warning(&about, "UnparseableSchedule", message);
                    None
                }
            };
        }
        if status.active.as_ref().is_some_and(Vec::is_empty) {
            status.active = None;
        }
        if cronjob.status.clone().unwrap_or_default() != status {
            crate::status::put(&self.client, &object, &status).await?;
        }
        Ok(again.map(Duration::from_secs_f64))
    }

    async fn clean_up(&self, cronjob: &CronJob, about: &ObjectReference, jobs: &[Job]) -> Result<(), Error> {
        for job in surplus(cronjob, jobs) {
            if !is_deleting(&job) {
                self.delete(about, &job).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, about: &ObjectReference, job: &Job) -> Result<(), Error> {
        let params = DeleteParams {
            propagation_policy: Some("Background".to_owned()),
            ..DeleteParams::uid(uid(job))
        };
        match self.client.delete::<Job>(namespace(job), name(job), &params).await {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => {
                let message = format!("Deleted job: {error}");
                self.recorder.warning(about, "FailedDelete", message);
                Err(error.into())
            }
            Ok(()) => {
                let message = format!("Deleted job {}", name(job));
                self.recorder.normal(about, "SuccessfulDelete", message);
                Ok(())
            }
        }
    }

    /// Brings the list of active Jobs up to date.
    fn note_jobs(&self, about: &ObjectReference, jobs: &[Job], status: &mut CronJobStatus) {
        let active = status.active.get_or_insert_default();
        for job in jobs {
            let listed = active.iter().position(|r| r.uid.as_deref() == Some(uid(job)));
            match (finished(job), listed) {
                (None, None) if !is_deleting(job) => active.push(reference(job)),
                (Some((end, since)), listed) => {
                    if let Some(at) = listed {
                        active.remove(at);
                        let message = format!("Saw completed job: {}, condition: {end}", name(job));
                        self.recorder.normal(about, "SawCompletedJob", message);
                    }
                    let latest = status.last_successful_time.as_ref().map(|t| t.0);
                    if end == "Complete" && since > latest {
                        status.last_successful_time = since.map(Time);
                    }
                }
                _ => {}
            }
        }
        active.retain(|r| {
            let there = jobs.iter().any(|j| Some(uid(j)) == r.uid.as_deref());
            if !there {
                let missing = r.name.clone().unwrap_or_default();
                let message = format!("Active job went missing: {missing}");
                self.recorder.normal(about, "MissingJob", message);
            }
            there
        });
    }

    async fn run_due(
        &self,
        cronjob: &CronJob,
        about: &ObjectReference,
        schedule: &Schedule,
        jobs: &[Job],
        status: &mut CronJobStatus,
    ) -> Result<Option<f64>, Error> {
        let now = Timestamp::now();
        let next = schedule.next(now).map(|at| at.duration_since(now).as_secs_f64() + 0.1);
        let (at, too_many) = match due(cronjob, schedule, now) {
            Due::Later(wait) => return Ok(wait),
            Due::Missed(at) => {
                let message = format!("Missed scheduled time to start a job: {at}");
                self.recorder.warning(about, "MissSchedule", message);
                return Ok(next);
            }
            Due::Start { at, too_many } => (at, too_many),
        };
        if too_many {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.recorder.warning(about, "TooManyMissedTimes", message);
        }
        let active = status.active.clone().unwrap_or_default();
        let policy = cronjob.spec.concurrency_policy.clone();
        match policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.recorder.normal(about, "JobAlreadyActive", message);
                return Ok(next);
            }
            Some("Replace") => {
                for job in jobs.iter().filter(|j| finished(j).is_none() && !is_deleting(*j)) {
                    self.delete(about, job).await?;
                    if let Some(active) = &mut status.active {
                        active.retain(|r| r.uid.as_deref() != Some(uid(job)));
                    }
                }
            }
            _ => {}
        }
        let job = job_of(cronjob, at);
        match self.client.create(&job).await {
            Ok(created) => {
                if let Some(made) = &created.metadata.creation_timestamp {
                    self.counted.skew.observe(made.0.duration_since(at).as_secs_f64());
                }
                let message = format!("Created job {}", name(&created));
                self.recorder.normal(about, "SuccessfulCreate", message);
                status.active.get_or_insert_default().push(reference(&created));
            }
            // Made by an earlier try whose status was not written.
            Err(error) if error.is_already_exists() => {}
            Err(error) if error.is_namespace_terminating() => return Ok(None),
            Err(error) => {
                let message = format!("Error creating job: {error}");
                self.recorder.warning(about, "FailedCreate", message);
                return Err(error.into());
            }
        }
        status.last_schedule_time = Some(Time(at));
        Ok(next)
    }
}

/// The Job of one scheduled time. Its name says which, so that it is made once.
fn job_of(cronjob: &CronJob, at: Timestamp) -> Job {
    let template = cronjob.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations: BTreeMap<String, String> = meta.annotations.unwrap_or_default();
    let zone = cronjob.spec.time_zone.as_deref().and_then(|z| schedule::zone(z).ok());
    annotations.insert(SCHEDULED.to_owned(), schedule::written(at, zone));
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", name(cronjob), at.as_second() / 60)),
            namespace: Some(namespace(cronjob).to_owned()),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cronjob)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cronjob(spec: &Value, last: Option<&str>) -> CronJob {
        let mut tree = json!({"apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": "c", "namespace": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:30Z"},
            "spec": {"schedule": "*/10 * * * *", "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}},
            "status": {"lastScheduleTime": last}});
        for (k, v) in spec.as_object().unwrap() {
            tree["spec"][k] = v.clone();
        }
        serde_json::from_value(tree).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_job_is_due_once_at_its_time() {
        let schedule = Schedule::parse("*/10 * * * *", None).unwrap();
        let plain = json!({});
        let first = due(&cronjob(&plain, None), &schedule, at("2026-01-01T00:05:00Z"));
        assert_eq!(first, Due::Later(Some(300.1)));
        let start = Due::Start {
            at: at("2026-01-01T00:10:00Z"),
            too_many: false,
        };
        assert_eq!(
            due(&cronjob(&plain, None), &schedule, at("2026-01-01T00:10:00.1Z")),
            start
        );
        let done = cronjob(&plain, Some("2026-01-01T00:10:00Z"));
        assert!(matches!(
            due(&done, &schedule, at("2026-01-01T00:10:05Z")),
            Due::Later(_)
        ));
        let strict = cronjob(&json!({"startingDeadlineSeconds": 60}), None);
        assert_eq!(due(&strict, &schedule, at("2026-01-01T00:10:50Z")), start);
        assert!(matches!(
            due(&strict, &schedule, at("2026-01-01T00:12:00Z")),
            Due::Later(_)
        ));
        let job = job_of(&done, at("2026-01-01T00:10:00Z"));
        assert_eq!(job.metadata.name.as_deref(), Some("c-29453770"));
        assert_eq!(job.metadata.annotations.unwrap()[SCHEDULED], "2026-01-01T00:10:00Z");
    }

    #[test]
    fn only_so_many_finished_jobs_are_kept() {
        let job = |name: &str, end: &str, day: u32| -> Job {
            serde_json::from_value(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
                "status": {"startTime": format!("2026-01-{day:02}T00:00:00Z"), "conditions": [{"type": end, "status": "True"}]}}))
            .unwrap()
        };
        let jobs = [
            job("a", "Complete", 4),
            job("b", "Complete", 1),
            job("c", "Complete", 2),
            job("d", "Complete", 3),
            job("e", "Failed", 1),
            job("f", "Failed", 2),
        ];
        let gone: Vec<_> = surplus(&cronjob(&json!({}), None), &jobs)
            .into_iter()
            .filter_map(|j| j.metadata.name)
            .collect();
        assert_eq!(gone, ["b", "e"]);
    }
}
