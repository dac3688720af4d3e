//! `describe` of the controllers of pods.

use serde_json::Value;

use super::pod::template;
use super::text::{Text, controller, date, int, items, list, selector, str_of};
use crate::error::Result;
use crate::print::go;
use crate::session::Session;

fn head(w: &mut Text, object: &Value) {
    w.pair(0, "Name", str_of(&object["metadata"]["name"]));
    w.pair(0, "Namespace", str_of(&object["metadata"]["namespace"]));
}

fn marks(w: &mut Text, object: &Value) {
    w.labels("", "Labels", &object["metadata"]["labels"]);
    w.annotations("Annotations", &object["metadata"]["annotations"]);
    if let Some(owner) = controller(object) {
        w.pair(0, "Controlled By", &owner);
    }
}

fn conditions(w: &mut Text, object: &Value) {
    if items(&object["status"]["conditions"]).next().is_some() {
        w.line(0, "Conditions:");
        w.line(1, "Type\tStatus\tReason");
        w.line(1, "----\t------\t------");
        for c in items(&object["status"]["conditions"]) {
            w.line(
                1,
                &format!(
                    "{} \t{}\t{}",
                    str_of(&c["type"]),
                    str_of(&c["status"]),
                    str_of(&c["reason"])
                ),
            );
        }
    }
}

/// `1 Running / 0 Waiting / 0 Succeeded / 0 Failed`, of the pods an object controls.
async fn pods_of(session: &Session, object: &Value, selector: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{}/pods", str_of(&object["metadata"]["namespace"]));
    let pods = list(session, &path, vec![("labelSelector", selector.to_owned())]).await?;
    let uid = &object["metadata"]["uid"];
    let ours =
        |pod: &&Value| items(&pod["metadata"]["ownerReferences"]).any(|o| o["controller"] == true && o["uid"] == *uid);
    let count = |phase: &str| {
        pods.iter()
            .filter(ours)
            .filter(|p| p["status"]["phase"] == phase)
            .count()
    };
    Ok(format!(
        "{} Running / {} Waiting / {} Succeeded / {} Failed",
        count("Running"),
        count("Pending"),
        count("Succeeded"),
        count("Failed")
    ))
}

pub(crate) async fn deployment(session: &Session, w: &mut Text, d: &Value) -> Result<()> {
    let (spec, status) = (&d["spec"], &d["status"]);
    head(w, d);
    w.pair(0, "CreationTimestamp", &date(&d["metadata"]["creationTimestamp"]));
    w.labels("", "Labels", &d["metadata"]["labels"]);
    w.annotations("Annotations", &d["metadata"]["annotations"]);
    w.pair(0, "Selector", &selector(&spec["selector"]));
    w.pair(
        0,
        "Replicas",
        &format!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            int(&spec["replicas"]),
            int(&status["updatedReplicas"]),
            int(&status["replicas"]),
            int(&status["availableReplicas"]),
            int(&status["unavailableReplicas"])
        ),
    );
    w.pair(0, "StrategyType", str_of(&spec["strategy"]["type"]));
    w.pair(0, "MinReadySeconds", &int(&spec["minReadySeconds"]).to_string());
    let rolling = &spec["strategy"]["rollingUpdate"];
    if rolling.is_object() {
        let (unavailable, surge) = (go::sprint(&rolling["maxUnavailable"]), go::sprint(&rolling["maxSurge"]));
        w.pair(
            0,
            "RollingUpdateStrategy",
            &format!("{unavailable} max unavailable, {surge} max surge"),
        );
    }
    template(w, &spec["template"]);
    conditions(w, d);
    let sets = replica_sets(session, d).await?;
    let new = newest(d, &sets);
    let (new, old): (Vec<&Value>, Vec<&Value>) = sets
        .iter()
        .partition(|rs| new.is_some_and(|n| n["metadata"]["uid"] == rs["metadata"]["uid"]));
    if !sets.is_empty() {
        w.pair(0, "OldReplicaSets", &names(&old));
        w.pair(0, "NewReplicaSet", &names(&new));
    }
    Ok(())
}

fn names(sets: &[&Value]) -> String {
    let one = |rs: &&Value| {
        format!(
            "{} ({}/{} replicas created)",
            str_of(&rs["metadata"]["name"]),
            int(&rs["status"]["replicas"]),
            int(&rs["spec"]["replicas"])
        )
    };
    match sets {
        [] => "<none>".to_owned(),
        sets => sets.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// The ReplicaSets a Deployment controls.
pub async fn replica_sets(session: &Session, d: &Value) -> Result<Vec<Value>> {
    let path = format!(
        "/apis/apps/v1/namespaces/{}/replicasets",
        str_of(&d["metadata"]["namespace"])
    );
    let mut sets = list(
        session,
        &path,
        vec![("labelSelector", selector(&d["spec"]["selector"]))],
    )
    .await?;
    let uid = &d["metadata"]["uid"];
    sets.retain(|rs| items(&rs["metadata"]["ownerReferences"]).any(|o| o["controller"] == true && o["uid"] == *uid));
    Ok(sets)
}

/// The oldest ReplicaSet with the Deployment's own template.
fn newest<'a>(d: &Value, sets: &'a [Value]) -> Option<&'a Value> {
    let same = |rs: &&Value| {
        let mut template = rs["spec"]["template"].clone();
        if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
            labels.remove("pod-template-hash");
        }
        template == d["spec"]["template"]
    };
    sets.iter().filter(same).min_by_key(|rs| {
        (
            str_of(&rs["metadata"]["creationTimestamp"]),
            str_of(&rs["metadata"]["name"]),
        )
    })
}

pub(crate) async fn replica_set(session: &Session, w: &mut Text, rs: &Value) -> Result<()> {
    head(w, rs);
    // A ReplicationController's selector is a plain map.
    let of_set = rs["kind"] == "ReplicaSet";
    let chosen = match of_set {
        true => selector(&rs["spec"]["selector"]),
        false => selector(&serde_json::json!({"matchLabels": rs["spec"]["selector"]})),
    };
    w.pair(0, "Selector", &chosen);
    marks(w, rs);
    let (current, desired) = (int(&rs["status"]["replicas"]), int(&rs["spec"]["replicas"]));
    w.pair(0, "Replicas", &format!("{current} current / {desired} desired"));
    let pods = pods_of(session, rs, &chosen).await;
    w.pair(
        0,
        "Pods Status",
        &pods.unwrap_or_else(|e| format!("error in fetching pods: {e}")),
    );
    template(w, &rs["spec"]["template"]);
    conditions(w, rs);
    Ok(())
}

pub(crate) async fn stateful_set(session: &Session, w: &mut Text, set: &Value) -> Result<()> {
    let spec = &set["spec"];
    head(w, set);
    w.pair(0, "CreationTimestamp", &date(&set["metadata"]["creationTimestamp"]));
    let chosen = selector(&spec["selector"]);
    w.pair(0, "Selector", &chosen);
    w.labels("", "Labels", &set["metadata"]["labels"]);
    w.annotations("Annotations", &set["metadata"]["annotations"]);
    for (title, field) in [
        ("Service Name", "serviceName"),
        ("Pod Management Policy", "podManagementPolicy"),
    ] {
        if !str_of(&spec[field]).is_empty() {
            w.pair(0, title, str_of(&spec[field]));
        }
    }
    let (desired, total) = (int(&spec["replicas"]), int(&set["status"]["replicas"]));
    w.pair(0, "Replicas", &format!("{desired} desired | {total} total"));
    w.pair(0, "Update Strategy", str_of(&spec["updateStrategy"]["type"]));
    let rolling = &spec["updateStrategy"]["rollingUpdate"];
    if rolling["partition"].is_number() {
        w.some(1, "Partition", &rolling["partition"]);
        w.some(1, "MaxUnavailable", &rolling["maxUnavailable"]);
    }
    let retention = &spec["persistentVolumeClaimRetentionPolicy"];
    if retention.is_object() {
        w.line(0, "Persistent Volume Claim Retention Policy:");
        w.pair(1, "WhenDeleted", str_of(&retention["whenDeleted"]));
        w.pair(1, "WhenScaled", str_of(&retention["whenScaled"]));
    }
    w.pair(0, "Pods Status", &pods_of(session, set, &chosen).await?);
    template(w, &spec["template"]);
    if items(&spec["volumeClaimTemplates"]).next().is_none() {
        w.pair(0, "Volume Claims", "<none>");
        return Ok(());
    }
    w.line(0, "Volume Claims:");
    for claim in items(&spec["volumeClaimTemplates"]) {
        w.pair(1, "Name", str_of(&claim["metadata"]["name"]));
        w.pair(1, "StorageClass", str_of(&claim["spec"]["storageClassName"]));
        w.labels("  ", "Labels", &claim["metadata"]["labels"]);
        w.labels("  ", "Annotations", &claim["metadata"]["annotations"]);
        let storage = &claim["spec"]["resources"]["requests"]["storage"];
        w.pair(1, "Capacity", storage.as_str().unwrap_or("<default>"));
        w.pair(1, "Access Modes", &go::sprint(&claim["spec"]["accessModes"]));
    }
    Ok(())
}

pub(crate) async fn daemon_set(session: &Session, w: &mut Text, set: &Value) -> Result<()> {
    let status = &set["status"];
    head(w, set);
    let chosen = selector(&set["spec"]["selector"]);
    w.pair(0, "Selector", &chosen);
    w.pair(
        0,
        "Node-Selector",
        &crate::print::table::labels(&set["spec"]["template"]["spec"]["nodeSelector"]),
    );
    w.labels("", "Labels", &set["metadata"]["labels"]);
    w.annotations("Annotations", &set["metadata"]["annotations"]);
    for (title, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        (
            "Number of Nodes Scheduled with Up-to-date Pods",
            "updatedNumberScheduled",
        ),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        w.line(0, &format!("{title}: {}", int(&status[field])));
    }
    w.pair(0, "Pods Status", &pods_of(session, set, &chosen).await?);
    template(w, &set["spec"]["template"]);
    Ok(())
}

pub(crate) fn cron_job(w: &mut Text, object: &Value) {
    let (spec, template) = (&object["spec"], &object["spec"]["jobTemplate"]["spec"]);
    super::text::head(w, object);
    w.pair(0, "Schedule", str_of(&spec["schedule"]));
    w.pair(0, "Concurrency Policy", str_of(&spec["concurrencyPolicy"]));
    w.pair(0, "Suspend", super::storage::flag(&spec["suspend"]));
    w.pair(0, "Time Zone", spec["timeZone"].as_str().unwrap_or("<unset>"));
    let number = |value: &Value, unit: &str| value.as_i64().map_or("<unset>".to_owned(), |n| format!("{n}{unit}"));
    for (title, value, unit) in [
        ("Successful Job History Limit", &spec["successfulJobsHistoryLimit"], ""),
        ("Failed Job History Limit", &spec["failedJobsHistoryLimit"], ""),
        ("Starting Deadline Seconds", &spec["startingDeadlineSeconds"], "s"),
    ] {
        w.pair(0, title, &number(value, unit));
    }
    match &template["selector"] {
        Value::Null => w.line(0, "Selector:\t<unset>"),
        tree => w.pair(0, "Selector", &selector(tree)),
    }
    w.pair(0, "Parallelism", &number(&template["parallelism"], ""));
    w.pair(0, "Completions", &number(&template["completions"], ""));
    if let Some(seconds) = template["activeDeadlineSeconds"].as_i64() {
        w.pair(0, "Active Deadline Seconds", &format!("{seconds}s"));
    }
    self::template(w, &template["template"]);
    let last = &object["status"]["lastScheduleTime"];
    let last = if last.is_null() {
        "<unset>".to_owned()
    } else {
        date(last)
    };
    w.pair(0, "Last Schedule Time", &last);
    let active: Vec<&str> = items(&object["status"]["active"]).map(|j| str_of(&j["name"])).collect();
    let active = active.join(", ");
    w.pair(0, "Active Jobs", if active.is_empty() { "<none>" } else { &active });
}

pub(crate) fn job(w: &mut Text, job: &Value) {
    let (spec, status) = (&job["spec"], &job["status"]);
    head(w, job);
    w.pair(0, "Selector", &selector(&spec["selector"]));
    marks(w, job);
    w.some(0, "Parallelism", &spec["parallelism"]);
    match spec["completions"].as_i64() {
        Some(n) => w.pair(0, "Completions", &n.to_string()),
        None => w.pair(0, "Completions", "<unset>"),
    }
    w.some(0, "Completion Mode", &spec["completionMode"]);
    w.some(0, "Suspend", &spec["suspend"]);
    w.some(0, "Backoff Limit", &spec["backoffLimit"]);
    w.some(0, "TTL Seconds After Finished", &spec["ttlSecondsAfterFinished"]);
    let (start, end) = (&status["startTime"], &status["completionTime"]);
    if start.is_string() {
        w.pair(0, "Start Time", &date(start));
    }
    if end.is_string() {
        w.pair(0, "Completed At", &date(end));
    }
    if let (Ok(from), Ok(to)) = (
        str_of(start).parse::<jiff::Timestamp>(),
        str_of(end).parse::<jiff::Timestamp>(),
    ) {
        w.pair(0, "Duration", &api::duration::human(to.as_second() - from.as_second()));
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        w.pair(0, "Active Deadline Seconds", &format!("{seconds}s"));
    }
    let ready = status["ready"]
        .as_i64()
        .map_or(String::new(), |n| format!(" ({n} Ready)"));
    w.pair(
        0,
        "Pods Statuses",
        &format!(
            "{} Active{ready} / {} Succeeded / {} Failed",
            int(&status["active"]),
            int(&status["succeeded"]),
            int(&status["failed"])
        ),
    );
    if spec["completionMode"] == "Indexed" {
        w.pair(0, "Completed Indexes", &indexes(str_of(&status["completedIndexes"])));
    }
    template(w, &spec["template"]);
}

/// At most fifty characters of `1-3,5`, cut at a comma.
fn indexes(text: &str) -> String {
    const MOST: usize = 50;
    match text {
        "" => "<none>".to_owned(),
        text if text.len() <= MOST => text.to_owned(),
        text => {
            let end = text[..MOST].rfind(',').map_or(MOST, |at| at + 1);
            format!("{}...", &text[..end])
        }
    }
}
