//! ClusterRole. `authorization::escalation` refuses those that grant more than their author has.

use crate::kinds::rbac::{of_rbac, rules};
use crate::kinds::rules::label_selector;
use crate::kinds::{Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = of_rbac("clusterroles", validate);

fn validate(check: &Check) -> Errors {
    let mut errors = rules(check, false);
    let Some(aggregation) = check.root().get("aggregationRule").present() else {
        return errors;
    };
    let selectors = aggregation.get("clusterRoleSelectors");
    if selectors.list().is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(selectors.required(why));
    }
    for selector in selectors.items() {
        let count = errors.len();
        label_selector(&mut errors, &selector);
        if errors.len() > count {
            errors.push(selector.wrong(serde_json::Value::Null, "invalid label selector."));
        }
    }
    errors
}
