//! Columns of what makes pods.

use serde_json::{Value, json};

use super::BuiltinColumn;
use super::cells::{
    AGE, NAME, container_images, container_names, count, flag, has_condition, int_or, labels, length, list, or,
    selector, since, text,
};

const CONTAINERS: &str = "/spec/template/spec/containers";
const NAMES: BuiltinColumn = ("Containers", "string", 1, |t| container_names(t, CONTAINERS));
const IMAGES: BuiltinColumn = ("Images", "string", 1, |t| container_images(t, CONTAINERS));
const SELECTOR: BuiltinColumn = ("Selector", "string", 1, |t| selector(t, "/spec/selector", "<none>"));

const DEPLOYMENTS: &[BuiltinColumn] = &[
    NAME,
    ("Ready", "string", 0, ready_of_desired),
    ("Up-to-date", "string", 0, |d| {
        json!(count(d, "/status/updatedReplicas"))
    }),
    ("Available", "string", 0, |d| {
        json!(count(d, "/status/availableReplicas"))
    }),
    AGE,
    NAMES,
    IMAGES,
    ("Selector", "string", 1, |t| selector(t, "/spec/selector", "")),
];

const DESIRED: BuiltinColumn = ("Desired", "integer", 0, |r| json!(count(r, "/spec/replicas")));
const CURRENT: BuiltinColumn = ("Current", "integer", 0, |r| json!(count(r, "/status/replicas")));
const READY: BuiltinColumn = ("Ready", "integer", 0, |r| json!(count(r, "/status/readyReplicas")));

const REPLICA_SETS: &[BuiltinColumn] = &[NAME, DESIRED, CURRENT, READY, AGE, NAMES, IMAGES, SELECTOR];

const REPLICATION_CONTROLLERS: &[BuiltinColumn] = &[
    NAME,
    DESIRED,
    CURRENT,
    READY,
    AGE,
    NAMES,
    IMAGES,
    ("Selector", "string", 1, |t| labels(t, "/spec/selector")),
];

const STATEFUL_SETS: &[BuiltinColumn] = &[NAME, ("Ready", "string", 0, ready_of_desired), AGE, NAMES, IMAGES];

const DAEMON_SETS: &[BuiltinColumn] = &[
    NAME,
    ("Desired", "integer", 0, |d| {
        json!(count(d, "/status/desiredNumberScheduled"))
    }),
    ("Current", "integer", 0, |d| {
        json!(count(d, "/status/currentNumberScheduled"))
    }),
    ("Ready", "integer", 0, |d| json!(count(d, "/status/numberReady"))),
    ("Up-to-date", "integer", 0, |d| {
        json!(count(d, "/status/updatedNumberScheduled"))
    }),
    ("Available", "integer", 0, |d| {
        json!(count(d, "/status/numberAvailable"))
    }),
    ("Node Selector", "string", 0, |d| {
        labels(d, "/spec/template/spec/nodeSelector")
    }),
    AGE,
    NAMES,
    IMAGES,
    SELECTOR,
];

const JOBS: &[BuiltinColumn] = &[
    NAME,
    ("Status", "string", 0, job_status),
    ("Completions", "string", 0, completions),
    ("Duration", "string", 0, duration),
    AGE,
    NAMES,
    IMAGES,
    SELECTOR,
];

const JOB_CONTAINERS: &str = "/spec/jobTemplate/spec/template/spec/containers";

const CRON_JOBS: &[BuiltinColumn] = &[
    NAME,
    ("Schedule", "string", 0, |c| json!(text(c, "/spec/schedule"))),
    ("Timezone", "string", 0, |c| or(c, "/spec/timeZone", "<none>")),
    ("Suspend", "boolean", 0, |c| match c.pointer("/spec/suspend") {
        Some(Value::Bool(true)) => json!("True"),
        Some(Value::Bool(false)) => json!("False"),
        _ => json!("<unset>"),
    }),
    ("Active", "integer", 0, |c| length(c, "/status/active")),
    ("Last Schedule", "string", 0, |c| {
        match text(c, "/status/lastScheduleTime") {
            "" => json!("<none>"),
            at => since(at),
        }
    }),
    AGE,
    ("Containers", "string", 1, |c| container_names(c, JOB_CONTAINERS)),
    ("Images", "string", 1, |c| container_images(c, JOB_CONTAINERS)),
    ("Selector", "string", 1, |c| {
        selector(c, "/spec/jobTemplate/spec/selector", "<none>")
    }),
];

const CONTROLLER_REVISIONS: &[BuiltinColumn] = &[
    NAME,
    ("Controller", "string", 0, controller),
    ("Revision", "string", 0, |r| json!(count(r, "/revision"))),
    AGE,
];

const BUDGETS: &[BuiltinColumn] = &[
    NAME,
    ("Min Available", "string", 0, |b| int_or(b, "/spec/minAvailable", "N/A")),
    ("Max Unavailable", "string", 0, |b| {
        int_or(b, "/spec/maxUnavailable", "N/A")
    }),
    ("Allowed Disruptions", "integer", 0, |b| {
        json!(count(b, "/status/disruptionsAllowed"))
    }),
    AGE,
];

const AUTOSCALERS: &[BuiltinColumn] = &[
    NAME,
    ("Reference", "string", 0, |h| {
        json!(format!(
            "{}/{}",
            text(h, "/spec/scaleTargetRef/kind"),
            text(h, "/spec/scaleTargetRef/name")
        ))
    }),
    ("Targets", "string", 0, metrics),
    ("MinPods", "string", 0, |h| int_or(h, "/spec/minReplicas", "<unset>")),
    ("MaxPods", "string", 0, |h| json!(count(h, "/spec/maxReplicas"))),
    ("Replicas", "string", 0, |h| json!(count(h, "/status/currentReplicas"))),
    AGE,
];

pub fn columns(group: &str, plural: &str) -> Option<&'static [BuiltinColumn]> {
    match (group, plural) {
        ("apps", "deployments") => Some(DEPLOYMENTS),
        ("apps", "replicasets") => Some(REPLICA_SETS),
        ("", "replicationcontrollers") => Some(REPLICATION_CONTROLLERS),
        ("apps", "statefulsets") => Some(STATEFUL_SETS),
        ("apps", "daemonsets") => Some(DAEMON_SETS),
        ("apps", "controllerrevisions") => Some(CONTROLLER_REVISIONS),
        ("batch", "jobs") => Some(JOBS),
        ("batch", "cronjobs") => Some(CRON_JOBS),
        ("policy", "poddisruptionbudgets") => Some(BUDGETS),
        ("autoscaling", "horizontalpodautoscalers") => Some(AUTOSCALERS),
        _ => None,
    }
}

fn ready_of_desired(set: &Value) -> Value {
    json!(format!(
        "{}/{}",
        count(set, "/status/readyReplicas"),
        count(set, "/spec/replicas")
    ))
}

fn job_status(job: &Value) -> Value {
    let word = if has_condition(job, "Complete") {
        "Complete"
    } else if has_condition(job, "Failed") {
        "Failed"
    } else if !text(job, "/metadata/deletionTimestamp").is_empty() {
        "Terminating"
    } else if has_condition(job, "Suspended") {
        "Suspended"
    } else if has_condition(job, "FailureTarget") {
        "FailureTarget"
    } else if has_condition(job, "SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    json!(word)
}

fn completions(job: &Value) -> Value {
    let done = count(job, "/status/succeeded");
    json!(match (
        job.pointer("/spec/completions").and_then(Value::as_i64),
        count(job, "/spec/parallelism")
    ) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, at_once) if at_once > 1 => format!("{done}/1 of {at_once}"),
        (None, _) => format!("{done}/1"),
    })
}

fn duration(job: &Value) -> Value {
    let at = |path: &str| text(job, path).parse::<jiff::Timestamp>().ok();
    match (at("/status/startTime"), at("/status/completionTime")) {
        (None, _) => json!(""),
        (Some(_), None) => since(text(job, "/status/startTime")),
        (Some(from), Some(to)) => json!(api::duration::human(to.as_second() - from.as_second())),
    }
}

fn controller(revision: &Value) -> Value {
    let Some(owner) = list(revision, "/metadata/ownerReferences").find(|o| flag(o, "/controller")) else {
        return json!("<none>");
    };
    let group = text(owner, "/apiVersion")
        .split_once('/')
        .map(|(g, _)| format!(".{g}"))
        .unwrap_or_default();
    json!(format!(
        "{}{group}/{}",
        text(owner, "/kind").to_lowercase(),
        text(owner, "/name")
    ))
}

/// What an autoscaler measures, each as now/target.
fn metrics(autoscaler: &Value) -> Value {
    let current = |i: usize| {
        autoscaler
            .pointer(&format!("/status/currentMetrics/{i}"))
            .unwrap_or(&Value::Null)
    };
    let mut all = Vec::new();
    for (i, metric) in list(autoscaler, "/spec/metrics").enumerate() {
        let now = current(i);
        let known = |path: &str| or(now, path, "<unknown>").as_str().unwrap_or_default().to_owned();
        let utilization = |kind: &str| {
            let percent =
                |tree: &Value, path: &str| tree.pointer(path).and_then(Value::as_i64).map(|p| format!("{p}%"));
            let have = percent(now, &format!("/{kind}/current/averageUtilization"));
            let want = percent(metric, &format!("/{kind}/target/averageUtilization"));
            format!(
                "{}/{}",
                have.unwrap_or_else(|| "<unknown>".into()),
                want.unwrap_or_else(|| "<auto>".into())
            )
        };
        let average = |kind: &str| text(metric, &format!("/{kind}/target/averageValue")).to_owned();
        all.push(match text(metric, "/type") {
            "Resource" | "ContainerResource" => {
                let kind = if metric["type"] == "Resource" {
                    "resource"
                } else {
                    "containerResource"
                };
                let name = text(metric, &format!("/{kind}/name"));
                match average(kind) {
                    target if target.is_empty() => format!("{name}: {}", utilization(kind)),
                    target => format!("{name}: {}/{target}", known(&format!("/{kind}/current/averageValue"))),
                }
            }
            "Pods" => format!("{}/{}", known("/pods/current/averageValue"), average("pods")),
            other @ ("Object" | "External") => {
                let kind = other.to_lowercase();
                match average(&kind) {
                    target if target.is_empty() => {
                        let target = text(metric, &format!("/{kind}/target/value"));
                        format!("{}/{target}", known(&format!("/{kind}/current/value")))
                    }
                    target => format!("{}/{target} (avg)", known(&format!("/{kind}/current/averageValue"))),
                }
            }
            _ => "<unknown type>".into(),
        });
    }
    json!(match all.len() {
        0 => "<none>".into(),
        n if n > 2 => format!("{} + {} more...", all[..2].join(", "), n - 2),
        _ => all.join(", "),
    })
}
