//! `rollout status`: says how far a rollout is until it is done.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::{Objects, group_kind};
use crate::error::{Result, all, fail};
use crate::print::go::quote;
use crate::select::Info;
use crate::session::{Session, duration};
use crate::watch;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    objects: Objects,
    /// Watch the status of the rollout until it's done
    #[arg(long, short, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    watch: bool,
    /// Pin to a specific revision for showing its status
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, hide_default_value = true)]
    revision: i64,
    /// The length of time to wait before ending watch, zero means never
    #[arg(long, default_value = "0s", hide_default_value = true)]
    timeout: String,
}

/// What is said, and whether that is the end.
type Progress = (String, bool);

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    if args.revision < 0 {
        return fail(format!("revision must be a positive integer: {}", args.revision));
    }
    let (infos, mut errors) = args.objects.infos(session).await?;
    if infos.is_empty() && errors.is_empty() {
        session.warn(&format!("No resources found in {} namespace.", session.namespace()?));
    }
    let limit = duration(&args.timeout)?;
    for info in &infos {
        if let Err(error) = one(session, args, info, limit).await {
            errors.push(error);
        }
    }
    all(errors)
}

/// Follows one rollout, which has the whole time for itself.
async fn one(session: &Session, args: &Args, info: &Info, limit: Option<Duration>) -> Result<()> {
    let viewer: fn(&Value, &str, i64) -> Result<Progress> = match info.ty.kind.as_str() {
        "Deployment" => deployment,
        "DaemonSet" => daemon_set,
        "StatefulSet" => stateful_set,
        _ => {
            return fail(format!(
                "no status viewer has been implemented for {}",
                group_kind(info)
            ));
        }
    };
    let following = follow(session, args, info, viewer);
    match limit {
        None => following.await,
        Some(limit) => match timeout(limit, following).await {
            Ok(done) => done,
            Err(_) => fail("timed out waiting for the condition"),
        },
    }
}

async fn follow(
    session: &Session,
    args: &Args,
    info: &Info,
    viewer: fn(&Value, &str, i64) -> Result<Progress>,
) -> Result<()> {
    watch::follow(session, info, |object| {
        let Some(object) = object else {
            return fail("object has been deleted");
        };
        let (text, done) = viewer(object, &info.name, args.revision)?;
        session.print(&text)?;
        Ok((done || !args.watch).then_some(()))
    })
    .await
}

fn number(object: &Value, at: &str) -> i64 {
    object.pointer(at).and_then(Value::as_i64).unwrap_or(0)
}

fn deployment(d: &Value, name: &str, revision: i64) -> Result<Progress> {
    let name = quote(name);
    let running = d["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str();
    let running: i64 = running.and_then(|r| r.parse().ok()).unwrap_or(0);
    if revision > 0 && revision != running {
        return fail(format!(
            "desired revision ({revision}) is different from the running revision ({running})"
        ));
    }
    if number(d, "/metadata/generation") > number(d, "/status/observedGeneration") {
        return Ok((
            "Waiting for deployment spec update to be observed...\n".to_owned(),
            false,
        ));
    }
    let conditions = d["status"]["conditions"].as_array();
    let late = |c: &Value| c["type"] == "Progressing" && c["reason"] == "ProgressDeadlineExceeded";
    if conditions.into_iter().flatten().any(late) {
        return fail(format!("deployment {name} exceeded its progress deadline"));
    }
    let of = |field: &str| number(d, &format!("/status/{field}"));
    let (wanted, updated) = (number(d, "/spec/replicas"), of("updatedReplicas"));
    let (total, available) = (of("replicas"), of("availableReplicas"));
    let waiting = format!("Waiting for deployment {name} rollout to finish:");
    Ok(if updated < wanted {
        (
            format!("{waiting} {updated} out of {wanted} new replicas have been updated...\n"),
            false,
        )
    } else if total > updated {
        (
            format!(
                "{waiting} {} old replicas are pending termination...\n",
                total - updated
            ),
            false,
        )
    } else if available < updated {
        (
            format!("{waiting} {available} of {updated} updated replicas are available...\n"),
            false,
        )
    } else {
        (format!("deployment {name} successfully rolled out\n"), true)
    })
}

fn daemon_set(d: &Value, name: &str, _: i64) -> Result<Progress> {
    let name = quote(name);
    if d["spec"]["updateStrategy"]["type"] != "RollingUpdate" {
        return fail("rollout status is only available for RollingUpdate strategy type");
    }
    if number(d, "/metadata/generation") > number(d, "/status/observedGeneration") {
        return Ok((
            "Waiting for daemon set spec update to be observed...\n".to_owned(),
            false,
        ));
    }
    let of = |field: &str| number(d, &format!("/status/{field}"));
    let (wanted, updated, available) = (
        of("desiredNumberScheduled"),
        of("updatedNumberScheduled"),
        of("numberAvailable"),
    );
    let waiting = format!("Waiting for daemon set {name} rollout to finish:");
    Ok(if updated < wanted {
        (
            format!("{waiting} {updated} out of {wanted} new pods have been updated...\n"),
            false,
        )
    } else if available < wanted {
        (
            format!("{waiting} {available} of {wanted} updated pods are available...\n"),
            false,
        )
    } else {
        (format!("daemon set {name} successfully rolled out\n"), true)
    })
}

fn stateful_set(s: &Value, _: &str, _: i64) -> Result<Progress> {
    let strategy = &s["spec"]["updateStrategy"];
    if strategy["type"] != "RollingUpdate" {
        return fail("rollout status is only available for RollingUpdate strategy type");
    }
    let of = |field: &str| number(s, &format!("/status/{field}"));
    let observed = of("observedGeneration");
    if observed == 0 || number(s, "/metadata/generation") > observed {
        return Ok((
            "Waiting for statefulset spec update to be observed...\n".to_owned(),
            false,
        ));
    }
    let (wanted, ready, updated) = (number(s, "/spec/replicas"), of("readyReplicas"), of("updatedReplicas"));
    if ready < wanted {
        return Ok((format!("Waiting for {} pods to be ready...\n", wanted - ready), false));
    }
    if strategy["rollingUpdate"].is_object() {
        let partition = number(s, "/spec/updateStrategy/rollingUpdate/partition");
        if updated < wanted - partition {
            let text = format!(
                "Waiting for partitioned roll out to finish: {updated} out of {} new pods have been updated...\n",
                wanted - partition
            );
            return Ok((text, false));
        }
        return Ok((
            format!("partitioned roll out complete: {updated} new pods have been updated...\n"),
            true,
        ));
    }
    let text = |field: &str| s["status"][field].as_str().unwrap_or_default().to_owned();
    let (update, current) = (text("updateRevision"), text("currentRevision"));
    Ok(if update != current {
        (
            format!("waiting for statefulset rolling update to complete {updated} pods at revision {update}...\n"),
            false,
        )
    } else {
        let count = of("currentReplicas");
        (
            format!("statefulset rolling update complete {count} pods at revision {current}...\n"),
            true,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deployment_goes_through_its_stages() {
        let of = |updated: i64, total: i64, available: i64| {
            json!({"metadata": {"generation": 1}, "spec": {"replicas": 2}, "status": {"observedGeneration": 1,
                "updatedReplicas": updated, "replicas": total, "availableReplicas": available}})
        };
        for (object, text) in [
            (of(1, 3, 2), "1 out of 2 new replicas have been updated"),
            (of(2, 3, 2), "1 old replicas are pending termination"),
            (of(2, 2, 1), "1 of 2 updated replicas are available"),
            (of(2, 2, 2), "successfully rolled out"),
        ] {
            assert!(deployment(&object, "x", 0).unwrap().0.contains(text));
        }
        assert!(deployment(&of(2, 2, 2), "x", 5).is_err());
    }
}
