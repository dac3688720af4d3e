//! Rules of Jobs.

use std::collections::HashSet;

use api::field::FieldError;
use api::selectors::LabelSelector;
use serde_json::Value;

use crate::kinds::batch::job::{indexes, status};
use crate::kinds::rules::{immutable, label_selector, non_negative, qualified_name};
use crate::kinds::{Check, Cursor, Errors, pod_template};
use crate::tree::keep;

const RULES: usize = 20;

const PATTERNS: usize = 20;

const EXIT_CODES: usize = 255;

const INDEXES_TEXT: usize = 64 << 10;

/// Pods of an indexed job at once, and indexes that may fail.
const INDEXED_LIMIT: i64 = 100_000;

/// Completions above which a job with limits per index must be careful.
const MANY_COMPLETIONS: i64 = 100_000;

const MANY_LIMIT: i64 = 10_000;

const MANAGER_LENGTH: usize = 63;

/// Returns everything in which an object breaks the rules of its kind.
pub fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let spec = root.get("spec");
    if check.is_status() {
        status::update(&mut errors, check);
        return errors;
    }
    let old = check.before();
    generated_selector(&mut errors, &root, old.as_ref());
    whole_spec(&mut errors, &spec);
    indexed_names(&mut errors, &root);
    let Some(old) = old else { return errors };
    let before = old.get("spec");
    // upstream asks the rules of a changed job twice
    whole_spec(&mut errors, &spec);
    completions(&mut errors, &spec, &before);
    immutable(&mut errors, &spec.get("selector"), &before.get("selector"));
    template_update(&mut errors, &spec, &before, &old);
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        immutable(&mut errors, &spec.get(field), &before.get(field));
    }
    errors
}

/// The pods of an indexed job are named by their index.
fn indexed_names(errors: &mut Errors, root: &Cursor) {
    let spec = root.get("spec");
    let Some(count) = spec.get("completions").int().filter(|n| *n > 0) else {
        return;
    };
    let name = root.at(&["metadata", "name"]);
    let longest = format!("{}-{}", name.text(), count - 1);
    if spec.get("completionMode").text() == "Indexed" && !api::names::dns1123_label_errors(&longest).is_empty() {
        let why = format!("will not able to create pod with invalid DNS label: {longest}");
        errors.push(name.invalid(why));
    }
}

fn generated_selector(errors: &mut Errors, root: &Cursor, old: Option<&Cursor>) {
    let spec = root.get("spec");
    if spec.get("manualSelector").is_true() || !spec.get("selector").is_some() {
        return;
    }
    let (uid, name) = (
        root.at(&["metadata", "uid"]).text(),
        root.at(&["metadata", "name"]).text(),
    );
    let labels = spec.at(&["template", "metadata", "labels"]);
    const PREFIXED: [&str; 2] = ["batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];
    let all = [
        ("controller-uid", uid),
        ("job-name", name),
        (PREFIXED[0], uid),
        (PREFIXED[1], name),
    ];
    // jobs of old have no labels with a domain
    let had = |old: &Cursor| {
        PREFIXED
            .iter()
            .all(|key| old.at(&["spec", "template", "metadata", "labels", key]).is_some())
    };
    let expected = if old.is_none_or(had) { all.as_slice() } else { &all[..2] };
    for &(key, value) in expected {
        let found = labels.value.get(key).and_then(Value::as_str);
        if found.is_none() {
            errors.push(labels.key(key).required(&format!("must be '{value}'")));
        } else if found != Some(value) {
            errors.push(
                labels
                    .key(key)
                    .wrong(labels.value.clone(), format!("must be '{value}'")),
            );
        }
    }
    let selector = spec.get("selector");
    let get = |key: &str| expected.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
    if LabelSelector::from_tree(selector.value).is_ok_and(|s| !s.matches(get)) {
        errors.push(selector.invalid("`selector` not auto-generated"));
    }
}

fn whole_spec(errors: &mut Errors, spec: &Cursor) {
    job_spec(errors, spec);
    let selector = spec.get("selector");
    if selector.is_some() {
        label_selector(errors, &selector);
    } else {
        errors.push(selector.required(""));
    }
    let labels = spec.at(&["template", "metadata", "labels"]);
    let get = |key: &str| labels.value.get(key).and_then(Value::as_str);
    let matches = selector.is_some() && LabelSelector::from_tree(selector.value).map_or(true, |s| s.matches(get));
    if !matches {
        errors.push(labels.invalid("`selector` does not match template `labels`"));
    }
}

/// The part of the rules that a CronJob's template shares.
pub fn job_spec(errors: &mut Errors, spec: &Cursor) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        non_negative(errors, &spec.get(field));
    }
    let per_index = spec.get("backoffLimitPerIndex");
    let failed = spec.get("maxFailedIndexes");
    if failed.is_some() && !per_index.is_some() {
        errors.push(per_index.required("when maxFailedIndexes is specified"));
    }
    managed_by(errors, &spec.get("managedBy"));
    let mode = spec.get("completionMode");
    if mode.is_some() && !matches!(mode.text(), "NonIndexed" | "Indexed") {
        errors.push(mode.not_supported(&["NonIndexed", "Indexed"]));
    }
    if mode.text() == "Indexed" {
        indexed(errors, spec);
    }
    if matches!(mode.text(), "" | "NonIndexed") {
        for at in [&per_index, &failed] {
            if at.is_some() {
                errors.push(at.invalid("requires indexed completion mode"));
            }
        }
    }
    let failure = spec.get("podFailurePolicy");
    if failure.is_some() {
        failure_policy(errors, &failure, spec);
    }
    let success = spec.get("successPolicy");
    if success.is_some() {
        if mode.text() == "Indexed" {
            success_policy(errors, &success, spec);
        } else {
            errors.push(success.invalid("requires indexed completion mode"));
        }
    }
    let replacement = spec.get("podReplacementPolicy");
    if failure.is_some() {
        if replacement.is_some() && replacement.text() != "Failed" {
            errors.push(replacement.not_supported(&["Failed"]));
        }
    } else if replacement.is_some() && !matches!(replacement.text(), "Failed" | "TerminatingOrFailed") {
        errors.push(replacement.not_supported(&["Failed", "TerminatingOrFailed"]));
    }
    pod_template::template(errors, &spec.get("template"));
    let restart = spec.at(&["template", "spec", "restartPolicy"]);
    match restart.text() {
        "" | "Always" => errors.push(restart.required("valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if failure.is_some() => {
            errors.push(restart.invalid("only \"Never\" is supported when podFailurePolicy is specified"));
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(restart.not_supported(&["OnFailure", "Never"])),
    }
}

fn managed_by(errors: &mut Errors, at: &Cursor) {
    if !at.is_some() {
        return;
    }
    match at.text().split_once('/') {
        None if at.text().is_empty() => errors.push(at.required("")),
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            let found = api::names::dns1123_subdomain_errors(host);
            errors.extend(found.into_iter().map(|p| at.wrong(host, p)));
        }
        _ => errors.push(at.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")")),
    }
    if at.text().len() > MANAGER_LENGTH {
        errors.push(FieldError::too_long(&at.path, MANAGER_LENGTH));
    }
}

fn indexed(errors: &mut Errors, spec: &Cursor) {
    let [completions, parallelism, failed] =
        ["completions", "parallelism", "maxFailedIndexes"].map(|field| spec.get(field));
    let mode = "when completion mode is Indexed";
    if !completions.is_some() {
        errors.push(completions.required(mode));
    }
    if parallelism.int().is_some_and(|n| n > INDEXED_LIMIT) {
        errors.push(parallelism.invalid(format!("must be less than or equal to {INDEXED_LIMIT} {mode}")));
    }
    if let (Some(all), Some(n)) = (completions.int(), failed.int())
        && n > all
    {
        errors.push(failed.invalid("must be less than or equal to completions"));
    }
    if failed.int().is_some_and(|n| n > INDEXED_LIMIT) {
        errors.push(failed.invalid(format!("must be less than or equal to {INDEXED_LIMIT}")));
    }
    if completions.int().is_some_and(|n| n > MANY_COMPLETIONS) && spec.get("backoffLimitPerIndex").is_some() {
        if !failed.is_some() {
            errors.push(failed.required(&format!(
                "must be specified when completions is above {MANY_COMPLETIONS}"
            )));
        }
        for at in [&parallelism, &failed] {
            if at.int().is_some_and(|n| n > MANY_LIMIT) {
                errors.push(at.invalid(format!(
                    "must be less than or equal to {MANY_LIMIT} when completions are above {MANY_COMPLETIONS} and used \
                     with backoff limit per index"
                )));
            }
        }
    }
}

fn failure_policy(errors: &mut Errors, policy: &Cursor, spec: &Cursor) {
    const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
    let rules = policy.get("rules");
    if rules.list().len() > RULES {
        errors.push(FieldError::too_many(&rules.path, rules.list().len(), RULES));
    }
    let template = spec.at(&["template", "spec"]);
    let containers: HashSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| template.get(list).items())
        .map(|c| c.get("name").text())
        .collect();
    for rule in rules.items() {
        let action = rule.get("action");
        match action.text() {
            "" => errors.push(action.required(&format!("valid values: {}", go_list(&ACTIONS)))),
            "FailIndex" if !spec.get("backoffLimitPerIndex").is_some() => {
                errors.push(action.invalid("requires the backoffLimitPerIndex to be set"));
            }
            text if !ACTIONS.contains(&text) => errors.push(action.not_supported(&ACTIONS)),
            _ => {}
        }
        let codes = rule.get("onExitCodes");
        if codes.is_some() {
            exit_codes(errors, &codes, &containers);
        }
        let conditions = rule.get("onPodConditions");
        if conditions.list().len() > PATTERNS {
            errors.push(FieldError::too_many(
                &conditions.path,
                conditions.list().len(),
                PATTERNS,
            ));
        }
        for pattern in conditions.items() {
            const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
            qualified_name(errors, &pattern.get("type"));
            let status = pattern.get("status");
            if status.text().is_empty() {
                errors.push(status.required(&format!("valid values: {}", go_list(&STATUSES))));
            } else if !STATUSES.contains(&status.text()) {
                errors.push(status.not_supported(&STATUSES));
            }
        }
        let why = match (codes.is_some(), !conditions.list().is_empty()) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(rule.unfit(why));
    }
}

/// `["a" "b"]`
fn go_list(values: &[&str]) -> String {
    let shown: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
    format!("[{}]", shown.join(" "))
}

fn exit_codes(errors: &mut Errors, codes: &Cursor, containers: &HashSet<&str>) {
    let operator = codes.get("operator");
    if operator.text().is_empty() {
        errors.push(operator.required(&format!("valid values: {}", go_list(&["In", "NotIn"]))));
    } else if !matches!(operator.text(), "In" | "NotIn") {
        errors.push(operator.not_supported(&["In", "NotIn"]));
    }
    let container = codes.get("containerName");
    if container.is_some() && !containers.contains(container.text()) {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(container.invalid(why));
    }
    let values = codes.get("values");
    if values.list().is_empty() {
        errors.push(values.invalid("at least one value is required"));
    } else if values.list().len() > EXIT_CODES {
        errors.push(FieldError::too_many(&values.path, values.list().len(), EXIT_CODES));
    }
    let mut seen = HashSet::new();
    for value in values.items() {
        let n = value.int().unwrap_or(0);
        if operator.text() == "In" && n == 0 {
            errors.push(value.invalid("must not be 0 for the In operator"));
        }
        if !seen.insert(n) {
            errors.push(value.duplicate(n));
        }
    }
    if !values.list().iter().filter_map(Value::as_i64).is_sorted() {
        errors.push(values.invalid("must be ordered"));
    }
}

fn success_policy(errors: &mut Errors, policy: &Cursor, spec: &Cursor) {
    let all = spec.get("completions").int().unwrap_or(0);
    let rules = policy.get("rules");
    if rules.list().is_empty() {
        errors.push(rules.required("at least one rules must be specified when the successPolicy is specified"));
    }
    if rules.list().len() > RULES {
        errors.push(FieldError::too_many(&rules.path, rules.list().len(), RULES));
    }
    for rule in rules.items() {
        let (indexes, count) = (rule.get("succeededIndexes"), rule.get("succeededCount"));
        if !indexes.is_some() && !count.is_some() {
            errors.push(rule.required("at least one of succeededCount or succeededIndexes must be specified"));
        }
        let mut named = 0;
        if indexes.is_some() {
            if indexes.text().len() > INDEXES_TEXT {
                errors.push(FieldError::too_long(&indexes.path, INDEXES_TEXT));
            }
            match indexes::count(indexes.text(), all) {
                Ok(n) => named = n,
                Err(why) => errors.push(indexes.invalid(format!("error parsing succeededIndexes: {why}"))),
            }
        }
        non_negative(errors, &count);
        let Some(n) = count.int() else { continue };
        if n > all {
            let why = format!("must be less than or equal to {all} (the number of specified completions)");
            errors.push(count.invalid(why));
        }
        if indexes.is_some() && n > named {
            errors.push(count.invalid(format!(
                "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
            )));
        }
    }
}

/// Of an indexed job the number of pods may change together with how many run at once.
fn completions(errors: &mut Errors, spec: &Cursor, before: &Cursor) {
    let (now, was) = (spec.get("completions"), before.get("completions"));
    if spec.get("completionMode").text() != "Indexed" {
        immutable(errors, &now, &was);
    } else if now.value != was.value && now.is_some() && now.value != spec.get("parallelism").value {
        errors.push(now.invalid("can only be modified in tandem with spec.parallelism"));
    }
}

/// A job that is suspended and has not begun may still be told where to run and with what.
fn template_update(errors: &mut Errors, spec: &Cursor, before: &Cursor, old: &Cursor) {
    let template = spec.get("template");
    let mut allowed = before.get("template").value.clone();
    let begun = old.at(&["status", "startTime"]).is_some();
    let conditions = old.at(&["status", "conditions"]);
    let rests = |c: Cursor| c.get("type").text() == "Suspended" && c.get("status").text() == "True";
    let idle = old.at(&["status", "active"]).int().unwrap_or(0) == 0;
    // a job that waits and has no pods
    let waits = before.get("suspend").is_true() && (!begun || conditions.items().any(rests)) && idle;
    let now = template.value;
    if waits {
        if let (Some(to), Some(from)) = (allowed.get_mut("spec"), now.get("spec")) {
            for field in ["nodeSelector", "tolerations", "schedulingGates"] {
                keep(to, from, field);
            }
            let affinity = from.get("affinity").and_then(|a| a.get("nodeAffinity"));
            match affinity {
                Some(value) => to["affinity"]["nodeAffinity"] = value.clone(),
                None => {
                    if let Some(a) = to.get_mut("affinity").and_then(Value::as_object_mut) {
                        a.remove("nodeAffinity");
                        if a.is_empty() {
                            to.as_object_mut().map(|t| t.remove("affinity"));
                        }
                    }
                }
            }
        }
        if let (Some(to), Some(from)) = (allowed.get_mut("metadata"), now.get("metadata")) {
            keep(to, from, "labels");
            keep(to, from, "annotations");
        }
    }
    if waits {
        for list in ["containers", "initContainers"] {
            let (Some(to), Some(from)) = (
                allowed
                    .pointer_mut(&format!("/spec/{list}"))
                    .and_then(Value::as_array_mut),
                now.pointer(&format!("/spec/{list}")).and_then(Value::as_array),
            ) else {
                continue;
            };
            for (to, from) in to.iter_mut().zip(from).filter(|(to, from)| to["name"] == from["name"]) {
                keep(to, from, "resources");
            }
        }
    }
    // of a job that waits upstream compares the pods' specification alone
    let (at, before) = match waits {
        true => (template.get("spec"), allowed.get("spec").cloned().unwrap_or_default()),
        false => (template, allowed),
    };
    if *at.value != before {
        errors.push(at.invalid("field is immutable"));
    }
}
