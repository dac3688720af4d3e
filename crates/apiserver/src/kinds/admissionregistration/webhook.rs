//! Webhooks of a configuration, mutating and validating ones (`pkg/apis/admissionregistration/validation`).

use std::collections::HashSet;

use api::names;
use serde_json::Value;

use super::match_conditions::match_conditions;
use super::resource_rule::{rule_with_operations, warn_of_excluded};
use super::{static_name, warn_of_static_name};
use crate::kinds::rules::{Errors, label_selector, one_of_or_none};
use crate::kinds::webhook_client::client_config;
use crate::kinds::{Check, Cursor};

const REVIEWS: &str = "v1, v1beta1";
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];

/// What a change may leave as it was, though it is not right.
struct Leniency<'a> {
    conditions: bool,
    side_effects: bool,
    reviews: bool,
    names: bool,
    selectors: bool,
    known: HashSet<&'a str>,
}

/// Everything in which a configuration breaks the rules.
pub fn validate(check: &Check, mutating: bool) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let lenient = Leniency::of(check);
    let mut seen = HashSet::new();
    for hook in root.get("webhooks").items() {
        webhook(&mut errors, &hook, &lenient, mutating);
        review_versions(&mut errors, &hook.get("admissionReviewVersions"), lenient.reviews);
        let name = hook.get("name");
        if !lenient.names && !name.text().is_empty() && !seen.insert(name.text()) {
            errors.push(name.duplicate(name.text()));
        }
    }
    static_name(&mut errors, check);
    errors
}

/// Warns of names and rules that are of no effect.
pub fn warn(told: &mut Vec<String>, new: &Value, old: Option<&Value>) {
    warn_of_static_name(told, new, old);
    let root = Cursor::root(new);
    for hook in root.get("webhooks").items() {
        for rule in hook.get("rules").items() {
            warn_of_excluded(told, &rule);
        }
    }
}

fn has_known_review(hook: &Cursor) -> bool {
    let versions = hook.get("admissionReviewVersions");
    versions.items().any(|v| matches!(v.text(), "v1" | "v1beta1"))
}

impl<'a> Leniency<'a> {
    fn of(check: &Check<'a>) -> Leniency<'a> {
        let Some(old) = check.before() else {
            return Leniency {
                conditions: false,
                side_effects: false,
                reviews: false,
                names: false,
                selectors: false,
                known: HashSet::new(),
            };
        };
        let (hooks, news): (Vec<Cursor>, Vec<Cursor>) = (
            old.get("webhooks").items().collect(),
            check.root().get("webhooks").items().collect(),
        );
        let same =
            |(new, old): (&Cursor, &Cursor)| new.get("matchConditions").value == old.get("matchConditions").value;
        let mut names = HashSet::new();
        let expressions = hooks.iter().flat_map(|hook| hook.get("matchConditions").items());
        Leniency {
            conditions: hooks.len() == news.len() && news.iter().zip(&hooks).all(same),
            side_effects: !hooks
                .iter()
                .all(|h| NO_SIDE_EFFECTS.contains(&h.get("sideEffects").text())),
            reviews: !hooks
                .iter()
                .all(|h| has_known_review(h) || h.get("admissionReviewVersions").list().is_empty()),
            names: !hooks.iter().all(|h| names.insert(h.get("name").text())),
            selectors: hooks.iter().any(|hook| {
                let mut errors = Errors::new();
                label_selector(&mut errors, &hook.get("namespaceSelector"));
                label_selector(&mut errors, &hook.get("objectSelector"));
                !errors.is_empty()
            }),
            known: expressions
                .map(|condition| condition.get("expression").text())
                .collect(),
        }
    }
}

fn webhook(errors: &mut Errors, at: &Cursor, lenient: &Leniency, mutating: bool) {
    fully_qualified(errors, &at.get("name"));
    for rule in at.get("rules").items() {
        rule_with_operations(errors, &rule);
    }
    one_of_or_none(errors, &at.get("failurePolicy"), &["Fail", "Ignore"]);
    one_of_or_none(errors, &at.get("matchPolicy"), &["Equivalent", "Exact"]);
    let side_effects = at.get("sideEffects");
    let allowed = if lenient.side_effects {
        SIDE_EFFECTS
    } else {
        NO_SIDE_EFFECTS
    };
    match side_effects.is_some() {
        true => one_of_or_none(errors, &side_effects, allowed),
        false => errors.push(side_effects.required(&format!("must specify one of {}", allowed.join(", ")))),
    }
    let timeout = at.get("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    for key in ["namespaceSelector", "objectSelector"] {
        let mut found = Errors::new();
        label_selector(&mut found, &at.get(key));
        // values that were accepted once stay
        let stays = |field: &str| lenient.selectors && field.contains(".values[");
        errors.extend(found.into_iter().filter(|error| !stays(&error.field)));
    }
    if mutating {
        one_of_or_none(errors, &at.get("reinvocationPolicy"), &["IfNeeded", "Never"]);
    }
    client_config(errors, &at.get("clientConfig"));
    if !lenient.conditions {
        match_conditions(errors, &at.get("matchConditions"), &lenient.known, false);
    }
}

fn fully_qualified(errors: &mut Errors, at: &Cursor) {
    let name = at.text();
    if name.is_empty() {
        errors.push(at.required(""));
        return;
    }
    let found = names::dns1123_subdomain_errors(name);
    if !found.is_empty() {
        errors.push(at.invalid(found.join(",")));
    } else if name.split('.').count() < 3 {
        errors.push(at.invalid("should be a domain with at least three segments separated by dots"));
    }
}

fn review_versions(errors: &mut Errors, at: &Cursor, lenient: bool) {
    if at.list().is_empty() {
        errors.push(at.required(&format!("must specify one of {REVIEWS}")));
        return;
    }
    let mut seen = HashSet::new();
    for version in at.items() {
        if !seen.insert(version.text()) {
            errors.push(version.invalid("duplicate version"));
            continue;
        }
        let found = names::dns1035_label_errors(version.text());
        errors.extend(found.into_iter().map(|why| version.invalid(why)));
    }
    if !lenient && !seen.contains("v1") && !seen.contains("v1beta1") {
        errors.push(at.invalid(format!("must include at least one of {REVIEWS}")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hook(more: &Value) -> Value {
        let mut hook = json!({
            "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": { "url": "https://a" },
        });
        for (key, value) in more.as_object().unwrap() {
            hook[key] = value.clone();
        }
        json!({ "metadata": { "name": "c" }, "webhooks": [hook] })
    }

    fn told(new: &Value, old: Option<&Value>) -> Vec<String> {
        let check = Check {
            new,
            old,
            subresource: "",
            custom: None,
            now: 0,
        };
        validate(&check, true).into_iter().map(|e| e.to_string()).collect()
    }

    #[test]
    fn a_webhook_has_a_long_name_no_side_effects_and_a_version_of_reviews_that_is_known() {
        for (more, want) in [
            (json!({}), vec![]),
            (
                json!({ "name": "a.b" }),
                vec![
                    "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
                ],
            ),
            (
                json!({ "sideEffects": "Some" }),
                vec![
                    "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                ],
            ),
            (
                json!({ "sideEffects": null }),
                vec!["webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun"],
            ),
            (
                json!({ "admissionReviewVersions": ["v2"] }),
                vec![
                    "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
                ],
            ),
            (
                json!({ "timeoutSeconds": 31 }),
                vec![
                    "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                ],
            ),
            (
                json!({ "matchConditions": [{ "name": "x", "expression": "'a'" }, { "name": "x", "expression": "true" }] }),
                vec![
                    "webhooks[0].matchConditions[0].expression: Invalid value: \"'a'\": must evaluate to bool but got string",
                    "webhooks[0].matchConditions[1].name: Duplicate value: \"x\"",
                ],
            ),
        ] {
            assert_eq!(told(&hook(&more), None), want, "{more}");
        }
    }

    #[test]
    fn what_was_wrong_before_may_stay() {
        let old = hook(&json!({ "sideEffects": "Some", "admissionReviewVersions": ["v2"],
            "matchConditions": [{ "name": "x", "expression": "1" }] }));
        assert!(told(&old, Some(&old)).is_empty());
        assert_eq!(told(&old, None).len(), 3);
    }
}
