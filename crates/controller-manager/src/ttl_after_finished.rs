//! Finished Jobs are deleted once their `ttlSecondsAfterFinished` has passed.

use std::time::Duration;

use client::{Cache, Client, DeleteParams, Preconditions};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use crate::Error;
use crate::context::{Context, split_key};
use crate::error::decode;

/// Seconds a finished Job still has; `None` if it stays.
fn seconds_left(job: &Job, now: Timestamp) -> Option<f64> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let finished = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    let at = finished.last_transition_time.as_ref()?;
    Some((f64::from(ttl) - now.duration_since(at.0).as_secs_f64()).max(0.0))
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let jobs = ctx.informers.get::<Job>();
    if !ctx.synced(&[&jobs]).await {
        return Ok(());
    }
    let queue = ctx.queue("ttl_jobs_to_delete");
    ctx.each_change(&jobs, {
        let queue = queue.clone();
        move |change| {
            let ends = |job: &Job| seconds_left(job, Timestamp::UNIX_EPOCH).is_some();
            if let Some(job) = change.new.filter(|j| j.decode::<Job>().is_ok_and(|j| ends(&j))) {
                queue.add(job.key());
            }
        }
    });
    let (workers, client) = (ctx.config.concurrent_ttl_after_finished_syncs, ctx.client.clone());
    ctx.work(queue, workers, move |key| {
        let (client, jobs) = (client.clone(), jobs.clone());
        async move { sync(&client, &jobs, &key).await }
    })
    .await;
    Ok(())
}

async fn sync(client: &Client, jobs: &Cache, key: &str) -> Result<Option<Duration>, Error> {
    let Some(object) = jobs.get(key).filter(|j| !j.meta.deleting) else {
        return Ok(None);
    };
    let now = Timestamp::now();
    match seconds_left(&decode(&object)?, now) {
        None => return Ok(None),
        Some(left) if left > 0.0 => return Ok(Some(Duration::from_secs_f64(left))),
        Some(_) => {}
    }
    // The cache may miss a longer time to live given since: the server is asked before something is lost.
    let (namespace, name) = split_key(key);
    let live: Job = match client.get(namespace, name).await {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    match seconds_left(&live, now) {
        Some(0.0) => {}
        other => return Ok(other.map(Duration::from_secs_f64)),
    }
    let params = DeleteParams {
        preconditions: Preconditions {
            uid: live.metadata.uid.clone(),
            resource_version: live.metadata.resource_version.clone(),
        },
        ..DeleteParams::propagation("Foreground")
    };
    match client.delete::<Job>(namespace, name, &params).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_time_to_live_starts_when_the_job_finishes() {
        let job = |conditions: serde_json::Value| -> Job {
            serde_json::from_value(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {},
                "spec": {"ttlSecondsAfterFinished": 60, "template": {}}, "status": {"conditions": conditions}}))
            .unwrap()
        };
        let at = |s| Timestamp::from_second(s).unwrap();
        let done = job(json!([{"type": "Complete", "status": "True", "lastTransitionTime": "1970-01-01T00:01:40Z"}]));
        assert_eq!(seconds_left(&done, at(110)), Some(50.0));
        assert_eq!(seconds_left(&done, at(500)), Some(0.0));
        assert_eq!(seconds_left(&job(json!([])), at(500)), None);
    }
}
