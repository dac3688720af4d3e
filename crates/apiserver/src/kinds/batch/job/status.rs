//! What a job's status may become. A rule is asked where what it is about changes, so that a controller can mend what was wrong
//! before. KEP-4368.

use std::collections::HashSet;

use crate::kinds::batch::job::indexes;
use crate::kinds::rules::non_negative;
use crate::kinds::{Check, Cursor, Errors};

/// A job's conditions, as far as there are rules of them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Conditions {
    complete: bool,
    failed: bool,
    failing: bool,
    succeeding: bool,
}

impl Conditions {
    fn of(status: &Cursor) -> Conditions {
        let is = |kind: &str| condition(status, kind, "True");
        Conditions {
            complete: is("Complete"),
            failed: is("Failed"),
            failing: is("FailureTarget"),
            succeeding: is("SuccessCriteriaMet"),
        }
    }

    fn finished(self) -> bool {
        self.complete || self.failed
    }
}

fn condition(status: &Cursor, kind: &str, value: &str) -> bool {
    let mut conditions = status.get("conditions").items();
    conditions.any(|c| c.get("type").text() == kind && c.get("status").text() == value)
}

/// A status, the one before it, and what the job is.
struct Change<'a> {
    spec: Cursor<'a>,
    status: Cursor<'a>,
    before: Cursor<'a>,
    now: Conditions,
    was: Conditions,
}

impl<'a> Change<'a> {
    fn of(&self, field: &'static str) -> bool {
        let (now, was) = (self.status.get(field), self.before.get(field));
        let unset = |at: &Cursor| !at.is_some() || at.value == "" || at.int() == Some(0);
        // of these Go cannot tell nothing from none
        let plain = matches!(field, "active" | "completedIndexes");
        now.value != was.value && !(plain && unset(&now) && unset(&was))
    }

    fn conditions(&self, of: fn(Conditions) -> bool) -> bool {
        of(self.now) != of(self.was)
    }

    fn count(&self, field: &'static str) -> i64 {
        self.status.get(field).int().unwrap_or(0)
    }

    fn refuse(&self, errors: &mut Errors, why: &str) {
        errors.push(self.status.get("conditions").unfit(why));
    }
}

/// Checks what a write of the status changes.
pub fn update(errors: &mut Errors, check: &Check) {
    let Some(old) = check.before() else { return };
    let root = check.root();
    let (status, before) = (root.get("status"), old.get("status"));
    let change = Change {
        spec: root.get("spec"),
        now: Conditions::of(&status),
        was: Conditions::of(&before),
        status,
        before,
    };
    counters(errors, &change.status);
    ends(errors, &change);
    finished(errors, &change);
    indexes(errors, &change);
    let terminating = change.status.get("terminating");
    let ends = change.conditions(Conditions::finished);
    if (ends || change.of("terminating")) && change.count("terminating") > 0 && change.now.finished() {
        errors.push(terminating.invalid("terminating>0 is invalid for finished job"));
    }
    let ready = change.status.get("ready");
    if (change.of("ready") || change.of("active")) && change.count("ready") > change.count("active") {
        errors.push(ready.invalid("cannot set more ready pods than active"));
    }
    succeeding(errors, &change);
    kept(errors, &change);
}

fn counters(errors: &mut Errors, status: &Cursor) {
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        non_negative(errors, &status.get(field));
    }
    let mut seen = HashSet::new();
    for list in ["succeeded", "failed"] {
        for uid in status.at(&["uncountedTerminatedPods", list]).items() {
            if uid.text().is_empty() {
                errors.push(uid.invalid("must not be empty"));
            } else if !seen.insert(uid.text()) {
                errors.push(uid.duplicate(uid.text()));
            }
        }
    }
}

/// How the ends of a job and its times go together.
fn ends(errors: &mut Errors, change: &Change) {
    let now = change.now;
    let completes = change.conditions(|c| c.complete);
    if (completes || change.conditions(|c| c.failed)) && now.complete && now.failed {
        change.refuse(errors, "cannot set Complete=True and Failed=true conditions");
    }
    if (completes || change.conditions(|c| c.failing)) && now.complete && now.failing {
        change.refuse(errors, "cannot set Complete=True and FailureTarget=true conditions");
    }
    let (start, end) = (change.status.get("startTime"), change.status.get("completionTime"));
    if completes || change.of("completionTime") {
        if end.is_some() && !now.complete {
            errors.push(end.invalid("cannot set completionTime when there is no Complete=True condition"));
        }
        if !end.is_some() && now.complete {
            errors.push(end.required("completionTime is required for Complete jobs"));
        }
    }
    // all times are written alike
    if (change.of("startTime") || change.of("completionTime"))
        && start.is_some()
        && end.is_some()
        && end.text() < start.text()
    {
        errors.push(end.invalid("must be equal to or after `startTime`"));
    }
    if (change.conditions(|c| c.failed) || change.of("failedIndexes")) && now.failed && !now.failing {
        change.refuse(
            errors,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        );
    }
    if (completes || change.conditions(|c| c.succeeding)) && now.complete && !now.succeeding {
        change.refuse(
            errors,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        );
    }
}

/// A job that is at its end has begun and has no pods left.
fn finished(errors: &mut Errors, change: &Change) {
    if !change.now.finished() {
        return;
    }
    let ends = change.conditions(Conditions::finished);
    let active = change.status.get("active");
    if (ends || change.of("active")) && change.count("active") > 0 {
        errors.push(active.invalid("active>0 is invalid for finished job"));
    }
    let start = change.status.get("startTime");
    let nothing_to_do = change.spec.get("suspend").is_true() && change.spec.get("completions").int() == Some(0);
    if (ends || change.of("startTime")) && !nothing_to_do && !start.is_some() {
        errors.push(start.required("startTime is required for finished job"));
    }
    let uncounted = change.status.get("uncountedTerminatedPods");
    let any = ["succeeded", "failed"]
        .iter()
        .any(|list| !uncounted.get(list).list().is_empty());
    if (ends || change.of("uncountedTerminatedPods")) && any {
        errors.push(uncounted.invalid("must be empty for finished job"));
    }
}

fn indexes(errors: &mut Errors, change: &Change) {
    let [completed, failed] = ["completedIndexes", "failedIndexes"].map(|field| change.status.get(field));
    let (completes, fails) = (change.of("completedIndexes"), change.of("failedIndexes"));
    let completions = change.spec.get("completions").int();
    let limited = change.spec.get("backoffLimitPerIndex").is_some();
    let mut readable = |at: &Cursor, name: &str| {
        if let Some(Err(why)) = completions.map(|completions| indexes::count(at.text(), completions)) {
            errors.push(at.invalid(format!("error parsing {name}: {why}")));
        }
    };
    if completes {
        readable(&completed, "completedIndexes");
    }
    if fails && limited && failed.is_some() {
        readable(&failed, "failedIndexes");
    }
    let indexed = change.spec.get("completionMode").text() == "Indexed";
    if completes && !completed.text().is_empty() && !indexed {
        errors.push(completed.invalid("cannot set non-empty completedIndexes when non-indexed completion mode"));
    }
    if fails && !limited && failed.is_some() {
        errors.push(failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null"));
    }
    let overlap = completions.and_then(|n| indexes::overlap(completed.text(), failed.text(), n));
    if let Some(index) = overlap.filter(|_| completes || fails) {
        errors.push(failed.invalid(format!("failedIndexes and completedIndexes overlap at index: {index}")));
    }
}

fn succeeding(errors: &mut Errors, change: &Change) {
    let now = change.now;
    if now.succeeding && now.failed {
        change.refuse(errors, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if now.succeeding && now.failing {
        change.refuse(
            errors,
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        );
    }
    if change.spec.get("successPolicy").is_some() && !now.succeeding && now.complete {
        let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        change.refuse(errors, why);
    }
}

/// What was said once stays so.
fn kept(errors: &mut Errors, change: &Change) {
    let (now, was) = (change.now, change.was);
    for (kind, was, now) in [
        ("Failed", was.failed, now.failed),
        ("Complete", was.complete, now.complete),
        ("FailureTarget", was.failing, now.failing),
    ] {
        if was && !now {
            change.refuse(errors, &format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    // a job whose pods are all its completions can be scaled down
    let same = change.spec.get("completions").value == change.spec.get("parallelism").value;
    let scaled = change.spec.get("completionMode").text() == "Indexed" && same;
    for field in ["failed", "succeeded"] {
        let before = change.before.get(field).int().unwrap_or(0);
        if change.count(field) < before && !(field == "succeeded" && scaled) {
            let at = change.status.get(field);
            errors.push(at.wrong(change.count(field), format!("cannot decrease the {field} counter")));
        }
    }
    let end = change.status.get("completionTime");
    if end.is_some() && change.before.get("completionTime").is_some() && change.of("completionTime") {
        errors.push(end.invalid("field is immutable"));
    }
    let resumes = condition(&change.before, "Suspended", "True") && condition(&change.status, "Suspended", "False");
    let start = change.status.get("startTime");
    if change.of("startTime")
        && !resumes
        && change.before.get("startTime").is_some()
        && !change.spec.get("suspend").is_true()
    {
        errors.push(start.invalid("field is immutable for unsuspended job once set"));
    }
    if was.succeeding && !now.succeeding {
        change.refuse(errors, "cannot disable the SuccessCriteriaMet=True condition");
    }
    if was.complete && !was.succeeding && now.succeeding {
        change.refuse(
            errors,
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(spec: Value, old: Value, new: Value) -> Vec<String> {
        let (old, new) = (
            json!({ "spec": spec, "status": old }),
            json!({ "spec": spec, "status": new }),
        );
        let mut errors = Errors::new();
        let check = Check {
            new: &new,
            old: Some(&old),
            subresource: "status",
            custom: None,
            now: 0,
        };
        update(&mut errors, &check);
        errors.iter().map(ToString::to_string).collect()
    }

    fn conditions(kinds: &[&str]) -> Value {
        kinds
            .iter()
            .map(|kind| json!({ "type": kind, "status": "True" }))
            .collect()
    }

    #[test]
    fn a_job_fails_or_completes_by_way_of_the_condition_that_says_it_will() {
        let (start, end) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        let done = json!({ "startTime": start, "completionTime": end,
            "conditions": conditions(&["SuccessCriteriaMet", "Complete"]) });
        assert!(found(json!({}), json!({}), done).is_empty());
        let failed = |kinds: &[&str]| {
            found(
                json!({}),
                json!({}),
                json!({ "startTime": start, "conditions": conditions(kinds) }),
            )
        };
        assert!(failed(&["FailureTarget", "Failed"]).is_empty());
        assert_eq!(
            failed(&["Failed"]),
            [
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition"
            ]
        );
    }

    #[test]
    fn what_is_wrong_already_is_not_asked_when_something_else_changes() {
        let old = json!({ "ready": 3, "conditions": conditions(&["Failed"]) });
        let mut new = old.clone();
        new["uncountedTerminatedPods"] = json!({});
        assert!(found(json!({}), old.clone(), new.clone()).is_empty());
        new["active"] = json!(1);
        assert_eq!(
            found(json!({}), old, new).len(),
            2,
            "a finished job has no pods, and not more ready than active ones"
        );
    }

    #[test]
    fn indexes_are_those_of_the_job() {
        let spec =
            json!({ "completionMode": "Indexed", "completions": 5, "parallelism": 2, "backoffLimitPerIndex": 1 });
        let status = |completed: &str, failed: &str| json!({ "completedIndexes": completed, "failedIndexes": failed });
        assert!(found(spec.clone(), json!({}), status("0-1", "3")).is_empty());
        assert_eq!(
            found(spec.clone(), json!({}), status("0-1", "1")),
            ["status.failedIndexes: Invalid value: \"1\": failedIndexes and completedIndexes overlap at index: 1"]
        );
        assert_eq!(
            found(spec, json!({}), status("7", "3")),
            ["status.completedIndexes: Invalid value: \"7\": error parsing completedIndexes: too large index: \"7\""]
        );
    }
}
