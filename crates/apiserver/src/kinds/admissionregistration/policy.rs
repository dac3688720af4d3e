//! Rules that all policies and bindings of admission keep to (`pkg/apis/admissionregistration/validation`).

use std::collections::HashSet;

use api::names;
use serde_json::Value;

use super::expression;
use super::resource_rule::rule_with_operations;
use super::scope::Scope;
use crate::kinds::Cursor;
use crate::kinds::rules::{Errors, label_selector};

/// What may be done when a policy fails.
const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];

/// A text that has to be there, and one of some.
pub fn present_one_of(errors: &mut Errors, at: &Cursor, all: &[&str]) {
    if !at.is_some() {
        errors.push(at.required(""));
    } else if !all.contains(&at.text()) {
        errors.push(at.not_supported(all));
    }
}

/// A text that has to be one of some; an empty one is absent.
pub fn required_one_of(errors: &mut Errors, at: &Cursor, all: &[&str]) {
    if at.text().is_empty() {
        errors.push(at.required(""));
    } else if !all.contains(&at.text()) {
        errors.push(at.not_supported(all));
    }
}

/// What policies of both kinds have in their specification, but for expressions.
pub fn frame(errors: &mut Errors, spec: &Cursor) {
    present_one_of(errors, &spec.get("failurePolicy"), FAILURE_POLICIES);
    if let Some(kind) = spec.get("paramKind").present() {
        param_kind(errors, &kind);
    }
    let constraints = spec.get("matchConstraints");
    if !constraints.is_some() {
        errors.push(constraints.required(""));
        return;
    }
    match_resources(errors, &constraints);
    let rules = constraints.get("resourceRules");
    if rules.list().is_empty() {
        errors.push(rules.required(""));
    }
}

fn param_kind(errors: &mut Errors, at: &Cursor) {
    let version = at.get("apiVersion");
    match version.text().matches('/').count() {
        _ if version.text().is_empty() => errors.push(version.required("")),
        0 | 1 => {
            let (group, name) = match version.text().split_once('/') {
                Some((group, name)) => (group, name),
                None => ("", version.text()),
            };
            if !group.is_empty() {
                let found = names::dns1123_subdomain_errors(group);
                if !found.is_empty() {
                    errors.push(version.wrong(group, found.join(",")));
                }
            }
            if name.is_empty() {
                errors.push(version.invalid("version must be specified"));
            } else {
                let found = names::dns1035_label_errors(name);
                if !found.is_empty() {
                    errors.push(version.wrong(name, found.join(",")));
                }
            }
        }
        _ => errors.push(version.invalid(format!("unexpected GroupVersion string: {}", version.text()))),
    }
    let kind = at.get("kind");
    let found = names::dns1035_label_errors(&kind.text().to_lowercase());
    if kind.text().is_empty() {
        errors.push(kind.required(""));
    } else if !found.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", found.join(","));
        errors.push(kind.invalid(why));
    }
}

/// Rules and selectors, where there are any.
pub fn match_resources(errors: &mut Errors, at: &Cursor) {
    if !at.is_some() {
        return;
    }
    present_one_of(errors, &at.get("matchPolicy"), &["Equivalent", "Exact"]);
    for key in ["namespaceSelector", "objectSelector"] {
        let selector = at.get(key);
        if selector.is_some() {
            label_selector(errors, &selector);
        } else {
            errors.push(selector.required(""));
        }
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        for rule in at.get(key).items() {
            let mut seen = HashSet::new();
            for name in rule.get("resourceNames").items() {
                let found = names::path_segment_errors(name.text());
                errors.extend(found.into_iter().map(|why| name.invalid(why)));
                if !seen.insert(name.text()) {
                    errors.push(name.duplicate(name.text()));
                }
            }
            rule_with_operations(errors, &rule);
        }
    }
}

/// The variables of a policy, which are added to the scope of its expressions. `known` are expressions that were accepted before.
pub fn variables(errors: &mut Errors, list: &Cursor, scope: &mut Scope, known: &HashSet<&str>) {
    for variable in list.items() {
        let (name, at) = (variable.get("name"), variable.get("expression"));
        if name.text().trim().is_empty() {
            errors.push(name.required("name is not specified"));
        } else if !is_identifier(name.text()) {
            errors.push(name.invalid("must be a valid CEL identifier"));
        }
        let text = at.text();
        if text.trim().is_empty() {
            errors.push(at.required("expression is not specified"));
        } else if let Err(why) = scope.variable(name.text(), text, known.contains(text)) {
            errors.push(expression::unfit(&at, text, &why));
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // the language's own words are escaped where they are fields
    plain && !name.starts_with(|c: char| c.is_ascii_digit()) && !cel::is_keyword(name)
}

/// What bindings of both kinds have in their specification.
pub fn binding(errors: &mut Errors, spec: &Cursor) {
    let name = spec.get("policyName");
    if name.text().is_empty() {
        errors.push(name.required(""));
    } else {
        let found = names::dns1123_subdomain_errors(name.text());
        errors.extend(found.into_iter().map(|why| name.invalid(why)));
    }
    if let Some(reference) = spec.get("paramRef").present() {
        param_ref(errors, &reference);
    }
    match_resources(errors, &spec.get("matchResources"));
}

fn param_ref(errors: &mut Errors, at: &Cursor) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (at.get("name"), at.get("selector"));
    let both = !name.text().is_empty() && selector.is_some();
    if !name.text().is_empty() {
        let found = names::path_segment_errors(name.text());
        errors.extend(found.into_iter().map(|why| name.invalid(why)));
        if both {
            errors.push(name.forbidden(EXCLUSIVE));
        }
    }
    if selector.is_some() {
        label_selector(errors, &selector);
        if both {
            errors.push(selector.forbidden(EXCLUSIVE));
        }
    }
    if name.text().is_empty() && !selector.is_some() {
        errors.push(at.required("one of name or selector must be specified"));
    }
    required_one_of(errors, &at.get("parameterNotFoundAction"), &["Deny", "Allow"]);
}

/// Whether the conditions and what they may read are as they were, so that they may stay.
pub fn has_same_conditions(spec: &Cursor, old: Option<&Value>) -> bool {
    let Some(old) = old.and_then(|old| old.get("spec")) else {
        return false;
    };
    let same = |key| old.get(key).unwrap_or(&Value::Null) == spec.get(key).value;
    same("matchConditions") && same("paramKind")
}

/// Of the rules of what mutates: there is nothing to mutate in a deletion.
pub fn mutating_operations(errors: &mut Errors, resources: &Cursor) {
    const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
    let at = resources.at(&["resourceRules", "operations"]).path;
    for rule in resources.get("resourceRules").items() {
        for operation in rule.get("operations").items() {
            if !OPERATIONS.contains(&operation.text()) {
                errors.push(operation.named(at.clone()).not_supported(OPERATIONS));
            }
        }
    }
}

/// The texts at a path in all items of a list of a policy.
pub fn texts<'a>(policy: Option<&'a Value>, list: &str, key: &str) -> HashSet<&'a str> {
    let items = policy.and_then(|policy| policy.get("spec")?.get(list)?.as_array());
    let items = items.into_iter().flatten();
    items.filter_map(|item| item.pointer(key)?.as_str()).collect()
}
