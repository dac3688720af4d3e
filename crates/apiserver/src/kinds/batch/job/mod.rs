//! Job.

mod indexes;
mod status;
pub mod validation;

use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count, has_condition, since, text_at};
use crate::kinds::pod_template::warnings;
use crate::kinds::warnings::{changed, field, named};
use crate::kinds::workload::{IMAGES, NAMES, SELECTOR};
use crate::kinds::{Again, Asked, Generation, Kind, workload};
use crate::tree::text;

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    prepare_create: |job, _| own_selector(job),
    pod_spec: workload::POD_SPEC,
    metadata: Asked::on_update(Again::BOTH),
    warn: |told, new, old| {
        named(told, new, old);
        if changed(new, old) {
            warn_of_spec(told, &new["spec"], "spec");
        }
    },
    orphan_by_default: true,
    open_dependents: Some(
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set \
         propagationPolicy=Orphan to suppress this warning",
    ),
    columns: COLUMNS,
    ..Kind::new("batch", "jobs", validation::validate)
};

/// The selector is made of the uid, so that no two jobs can ever share pods.
fn own_selector(job: &mut Value) {
    if job.pointer("/spec/manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    let uid = text(job, &["metadata", "uid"]).unwrap_or_default().to_owned();
    let name = text(job, &["metadata", "name"]).unwrap_or_default().to_owned();
    let own = &mut job["spec"]["selector"]["matchLabels"][CONTROLLER_UID];
    if own.is_null() {
        *own = json!(uid);
    }
    // what is said already is left for validation to refuse
    let labels = &mut job["spec"]["template"]["metadata"]["labels"];
    for (key, value) in [
        ("controller-uid", &uid),
        (CONTROLLER_UID, &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        if labels[key].is_null() {
            labels[key] = json!(value);
        }
    }
}

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Status", "string", 0, job_status),
    ("Completions", "string", 0, completions),
    ("Duration", "string", 0, duration),
    AGE,
    NAMES,
    IMAGES,
    SELECTOR,
];

fn job_status(job: &Value) -> Value {
    let word = if has_condition(job, "Complete") {
        "Complete"
    } else if has_condition(job, "Failed") {
        "Failed"
    } else if !text_at(job, "/metadata/deletionTimestamp").is_empty() {
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
    let at = |path: &str| text_at(job, path).parse::<jiff::Timestamp>().ok();
    match (at("/status/startTime"), at("/status/completionTime")) {
        (None, _) => json!(""),
        (Some(_), None) => since(text_at(job, "/status/startTime")),
        (Some(from), Some(to)) => json!(api::duration::human(to.as_second() - from.as_second())),
    }
}

/// Warns of what a job's spec asks for and hardly means; `at` is its path. For templates of CronJobs too.
pub fn warn_of_spec(told: &mut Vec<String>, spec: &Value, at: &str) {
    let number = |key: &str| spec[key].as_i64().unwrap_or(0);
    let indexed = field(spec, "completionMode") == "Indexed";
    if indexed && number("completions") > 100_000 && number("parallelism") > 10_000 {
        told.push(format!(
            "{at}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes \
             might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    warnings::pod(told, &spec["template"], &format!("{at}.template"));
}

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
