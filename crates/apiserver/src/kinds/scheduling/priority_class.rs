//! PriorityClass.

use serde_json::json;

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count, flag, text_at};
use crate::kinds::rules::{immutable, one_of};
use crate::kinds::{Check, Errors, Generation, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::One,
    columns: COLUMNS,
    ..Kind::plain("scheduling.k8s.io", "priorityclasses", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Value", "integer", 0, |c| json!(count(c, "/value"))),
    ("Global-Default", "boolean", 0, |c| json!(flag(c, "/globalDefault"))),
    AGE,
    ("PreemptionPolicy", "string", 1, |c| {
        json!(text_at(c, "/preemptionPolicy"))
    }),
];

/// The highest priority that is not the system's.
const HIGHEST_PRIORITY: i64 = 1_000_000_000;

/// The system's own priority classes.
const SYSTEM_PRIORITIES: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let (name, value, policy) = (
        root.at(&["metadata", "name"]),
        root.get("value"),
        root.get("preemptionPolicy"),
    );
    if let Some(old) = check.before() {
        if value.int().unwrap_or(0) != old.get("value").int().unwrap_or(0) {
            errors.push(value.forbidden("may not be changed in an update."));
        }
        immutable(&mut errors, &policy, &old.get("preemptionPolicy"));
        return errors;
    }
    let number = value.int().unwrap_or(0);
    if name.text().starts_with("system-") {
        let own = SYSTEM_PRIORITIES.iter().find(|(known, _)| *known == name.text());
        let why = match own {
            None => Some(format!("{} is not a known system priority class", name.text())),
            Some((_, wanted)) if *wanted != number => {
                Some(format!("value of {} PriorityClass must be {wanted}", name.text()))
            }
            Some(_) if root.get("globalDefault").is_true() => {
                Some(format!("globalDefault of {} PriorityClass must be false", name.text()))
            }
            Some(_) => None,
        };
        if let Some(why) = why {
            errors.push(name.forbidden(format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            )));
        }
    } else if number > HIGHEST_PRIORITY {
        errors.push(value.forbidden(format!(
            "maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}"
        )));
    }
    if policy.is_some() {
        one_of(&mut errors, &policy, &["PreemptLowerPriority", "Never"]);
    }
    errors
}
