//! CronJob.

use serde_json::{Value, json};

use crate::kinds::batch::job::validation::job_spec;
use crate::kinds::batch::{job, schedule};
use crate::kinds::columns::{
    AGE, BuiltinColumn, NAME, container_images, container_names, length, or, selector_text, since, text_at,
};
use crate::kinds::rules::{non_negative, one_of};
use crate::kinds::warnings::{changed, named};
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Generation, Kind};
use crate::tree::text;

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    pod_spec: &["spec", "jobTemplate", "spec", "template", "spec"],
    metadata: Asked::DEFAULT.and_on_status(Again::NONE),
    warn: |told, new, old| {
        named(told, new, old);
        if changed(new, old) {
            job::warn_of_spec(told, &new["spec"]["jobTemplate"]["spec"], "spec.jobTemplate.spec");
        }
        if old.is_some() && text(new, &["spec", "schedule"]).is_some_and(|s| s.contains("TZ")) {
            told.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_owned(),
            );
        }
    },
    columns: COLUMNS,
    ..Kind::new("batch", "cronjobs", validate)
};

const JOB_CONTAINERS: &str = "/spec/jobTemplate/spec/template/spec/containers";

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Schedule", "string", 0, |c| json!(text_at(c, "/spec/schedule"))),
    ("Timezone", "string", 0, |c| or(c, "/spec/timeZone", "<none>")),
    ("Suspend", "boolean", 0, |c| match c.pointer("/spec/suspend") {
        Some(Value::Bool(true)) => json!("True"),
        Some(Value::Bool(false)) => json!("False"),
        _ => json!("<unset>"),
    }),
    ("Active", "integer", 0, |c| length(c, "/status/active")),
    ("Last Schedule", "string", 0, |c| {
        match text_at(c, "/status/lastScheduleTime") {
            "" => json!("<none>"),
            at => since(at),
        }
    }),
    AGE,
    ("Containers", "string", 1, |c| container_names(c, JOB_CONTAINERS)),
    ("Images", "string", 1, |c| container_images(c, JOB_CONTAINERS)),
    ("Selector", "string", 1, |c| {
        selector_text(c, "/spec/jobTemplate/spec/selector", "<none>")
    }),
];

/// Where systems keep time zones; without it any name of the right form is taken.
const ZONES: &str = "/usr/share/zoneinfo";

/// What a CronJob appends to its name for its jobs.
const CRON_NAME: usize = 52;

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        return errors;
    }
    let spec = root.get("spec");
    let old = check.before();
    schedule_of(&mut errors, &spec, old.as_ref());
    non_negative(&mut errors, &spec.get("startingDeadlineSeconds"));
    let zone = spec.get("timeZone");
    if old
        .as_ref()
        .is_none_or(|o| o.at(&["spec", "timeZone"]).value != zone.value)
    {
        time_zone(&mut errors, &zone);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    one_of(&mut errors, &spec.get("concurrencyPolicy"), &policies);
    let inner = spec.at(&["jobTemplate", "spec"]);
    job_spec(&mut errors, &inner);
    let selector = inner.get("selector");
    if selector.is_some() {
        errors.push(selector.invalid("`selector` will be auto-generated"));
    }
    let manual = inner.get("manualSelector");
    if manual.is_true() {
        errors.push(manual.not_supported(&["nil", "false"]));
    }
    non_negative(&mut errors, &spec.get("successfulJobsHistoryLimit"));
    non_negative(&mut errors, &spec.get("failedJobsHistoryLimit"));
    let name = root.at(&["metadata", "name"]);
    if old.is_none() && name.text().len() > CRON_NAME {
        errors.push(name.invalid(format!("must be no more than {CRON_NAME} characters")));
    }
    errors
}

fn schedule_of(errors: &mut Errors, spec: &Cursor, old: Option<&Cursor>) {
    let at = spec.get("schedule");
    if at.text().is_empty() {
        errors.push(at.required(""));
        return;
    }
    if let Err(why) = schedule::check(at.text()) {
        errors.push(at.invalid(why));
    }
    let had_zone = old.is_some_and(|o| o.at(&["spec", "schedule"]).text().contains("TZ"));
    if !at.text().contains("TZ") {
        return;
    }
    if !had_zone {
        errors.push(at.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"));
    } else if spec.get("timeZone").is_some() {
        errors.push(at.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule"));
    }
}

fn time_zone(errors: &mut Errors, at: &Cursor) {
    if !at.is_some() {
        return;
    }
    let name = at.text();
    if name.is_empty() {
        errors.push(at.invalid("timeZone must be nil or non-empty string"));
        return;
    }
    let fits = |part: &str| {
        (1..=14).contains(&part.len())
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b'+'))
    };
    let unknown = format!("unknown time zone {name}");
    if !name.split('/').all(fits) {
        errors.push(at.invalid(unknown));
        return;
    }
    if name.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(at.invalid(why));
    }
    let known = std::path::Path::new(ZONES);
    if name != "UTC" && known.is_dir() && !known.join(name).is_file() {
        errors.push(at.invalid(unknown));
    }
}
