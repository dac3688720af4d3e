//! Rules of where a pod may run: affinity, tolerations, spreading over topologies.

use std::collections::{HashMap, HashSet};

use api::names;
use serde_json::Value;

use crate::kinds::rules::{label_selector, one_of_or_none, positive, problems, qualified_name};
use crate::kinds::{Cursor, Errors};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// `spec.affinity`.
pub fn affinity(errors: &mut Errors, at: &Cursor) {
    let node = at.get("nodeAffinity");
    if let Some(required) = node.get(REQUIRED).present() {
        node_selector(errors, &required);
    }
    for term in node.get(PREFERRED).items() {
        weight(errors, &term);
        node_term(errors, &term.get("preference"), true);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = at.get(kind);
        for term in pods.get(REQUIRED).items() {
            pod_term(errors, &term);
        }
        for term in pods.get(PREFERRED).items() {
            weight(errors, &term);
            pod_term(errors, &term.get("podAffinityTerm"));
        }
    }
}

fn weight(errors: &mut Errors, term: &Cursor) {
    let weight = term.get("weight");
    let n = weight.int().unwrap_or(0);
    if !(1..=100).contains(&n) {
        errors.push(weight.wrong(n, "must be in the range 1-100"));
    }
}

/// A `NodeSelector`.
pub fn node_selector(errors: &mut Errors, at: &Cursor) {
    let terms = at.get("nodeSelectorTerms");
    if terms.list().is_empty() {
        errors.push(terms.required("must have at least one node selector term"));
    }
    for term in terms.items() {
        node_term(errors, &term, false);
    }
}

fn node_term(errors: &mut Errors, term: &Cursor, any_value: bool) {
    for expression in term.get("matchExpressions").items() {
        let (operator, values) = (expression.get("operator"), expression.get("values"));
        let count = values.list().len();
        match operator.text() {
            "In" | "NotIn" if count == 0 => {
                errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "Gt" | "Lt" if count != 1 => {
                errors.push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.push(operator.wrong(other, "not a valid selector operator")),
        }
        qualified_name(errors, &expression.get("key"));
        for value in values.items().filter(|_| !any_value) {
            problems(errors, &value, names::label_value_errors(value.text()));
        }
    }
    for field in term.get("matchFields").items() {
        let (operator, values, key) = (field.get("operator"), field.get("values"), field.get("key"));
        match operator.text() {
            "In" | "NotIn" if values.list().len() != 1 => {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(values.required(why));
            }
            "In" | "NotIn" => {}
            other => errors.push(operator.wrong(other, "not a valid selector operator")),
        }
        if key.text() != "metadata.name" {
            errors.push(key.wrong(key.text(), "not a valid field selector key"));
            continue;
        }
        for value in values.items() {
            problems(errors, &value, names::dns1123_subdomain_errors(value.text()));
        }
    }
}

fn pod_term(errors: &mut Errors, term: &Cursor) {
    label_selector(errors, &term.get("labelSelector"));
    label_selector(errors, &term.get("namespaceSelector"));
    for namespace in term.get("namespaces").items() {
        let at = namespace.named(format!("{}.namespace", term.path));
        problems(errors, &at, names::dns1123_label_errors(namespace.text()));
    }
    label_keys(errors, term);
    let key = term.get("topologyKey");
    if key.text().is_empty() {
        errors.push(key.required("can not be empty"));
    }
    qualified_name(errors, &key);
}

/// `matchLabelKeys` and `mismatchLabelKeys` of a term.
fn label_keys(errors: &mut Errors, term: &Cursor) {
    let (matching, mismatching) = (term.get("matchLabelKeys"), term.get("mismatchLabelKeys"));
    let selector = term.get("labelSelector");
    for list in [&matching, &mismatching] {
        if list.list().is_empty() {
            continue;
        }
        if !selector.is_some() {
            errors.push(list.forbidden("must not be specified when labelSelector is not set"));
            continue;
        }
        for key in list.items() {
            qualified_name(errors, &key);
        }
    }
    let mut seen: HashSet<&str> = selector.get("matchLabels").entries().map(|(key, _)| key).collect();
    // of a key that stands twice the last place counts
    let places = matching.list().iter().enumerate();
    let places: HashMap<&str, usize> = places.filter_map(|(i, k)| Some((k.as_str()?, i))).collect();
    for expression in selector.get("matchExpressions").items() {
        let key = expression.get("key").text();
        if let Some(i) = places.get(key).filter(|_| seen.contains(key)) {
            let at = term.named(format!("{}[{i}]", term.path));
            errors.push(at.wrong(key, "exists in both matchLabelKeys and labelSelector"));
        }
        seen.insert(key);
    }
    let unwanted: HashSet<&Value> = mismatching.list().iter().collect();
    for key in matching.items() {
        if unwanted.contains(key.value) {
            errors.push(key.invalid("exists in both matchLabelKeys and mismatchLabelKeys"));
        }
    }
}

/// `spec.tolerations`.
pub fn tolerations(errors: &mut Errors, list: &Cursor) {
    for toleration in list.items() {
        let [key, operator, value, effect] = ["key", "operator", "value", "effect"].map(|f| toleration.get(f));
        if !key.text().is_empty() {
            qualified_name(errors, &key);
        } else if operator.text() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(operator.wrong(operator.text(), why));
        }
        if toleration.get("tolerationSeconds").is_some() && effect.text() != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(effect.wrong(effect.text(), why));
        }
        match operator.text() {
            "Equal" | "" => {
                let found = names::label_value_errors(value.text());
                if !found.is_empty() {
                    errors.push(operator.wrong(value.text(), found.join(";")));
                }
            }
            "Exists" => {
                if !value.text().is_empty() {
                    errors.push(operator.wrong(value.text(), "value must be empty when `operator` is 'Exists'"));
                }
            }
            "Lt" | "Gt" => errors.push(operator.not_supported(&["Equal", "Exists", "Lt", "Gt"])),
            _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
        }
        if !effect.text().is_empty() {
            one_of_or_none(errors, &effect, &EFFECTS);
        }
    }
}

/// `spec.topologySpreadConstraints`.
pub fn spread(errors: &mut Errors, list: &Cursor) {
    let all: Vec<Cursor> = list.items().collect();
    let pair = |c: &Cursor| {
        [
            c.get("topologyKey").text().to_owned(),
            c.get("whenUnsatisfiable").text().to_owned(),
        ]
    };
    // the last place of each pair: one that stands before it is a duplicate
    let last: HashMap<[String; 2], usize> = all.iter().enumerate().map(|(i, c)| (pair(c), i)).collect();
    for (i, constraint) in all.iter().enumerate() {
        positive(errors, &constraint.get("maxSkew"));
        let (key, action) = (constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        if key.text().is_empty() {
            errors.push(key.required("can not be empty"));
        }
        if !matches!(action.text(), "DoNotSchedule" | "ScheduleAnyway") {
            errors.push(action.not_supported(&["DoNotSchedule", "ScheduleAnyway"]));
        }
        if last.get(&pair(constraint)).is_some_and(|last| *last > i) {
            let at = constraint.get("{topologyKey, whenUnsatisfiable}");
            errors.push(at.duplicate(format!("{{{}, {}}}", key.text(), action.text())));
        }
        let least = constraint.get("minDomains");
        if least.is_some() {
            positive(errors, &least);
            if action.text() != "DoNotSchedule" {
                let why = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                    action.text()
                );
                errors.push(least.invalid(why));
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of_or_none(errors, &constraint.get(policy), &["Honor", "Ignore"]);
        }
        label_keys(errors, constraint);
        label_selector(errors, &constraint.get("labelSelector"));
    }
}
