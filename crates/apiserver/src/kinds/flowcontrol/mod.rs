//! Flow schemas and priority levels: the rules that both share.

pub mod flow_schema;
pub mod priority_level_configuration;

use serde_json::{Value, json};

use crate::kinds::rules::require;
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Generation, Kind, STATUS_ALONE};

/// A kind of this group, but for its columns.
const fn of_flowcontrol(plural: &'static str, validate: fn(&Check) -> Errors) -> Kind {
    Kind {
        generation: Generation::Counted,
        parts: &[STATUS_ALONE],
        metadata: Asked::on_update(Again::WHOLE).and_on_status(Again::NONE),
        ..Kind::new("flowcontrol.apiserver.k8s.io", plural, validate)
    }
}

/// The tree without what stands for nothing.
pub fn without_empty(tree: &Value) -> Value {
    match tree {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null() && **value != json!([]))
            .map(|(key, value)| (key.clone(), without_empty(value)))
            .collect(),
        Value::Array(list) => list.iter().map(without_empty).collect(),
        other => other.clone(),
    }
}

/// The rules of the conditions in a status.
pub fn conditions(errors: &mut Errors, root: &Cursor) {
    let mut seen = std::collections::HashSet::new();
    for condition in root.at(&["status", "conditions"]).items() {
        let kind = condition.get("type");
        if !seen.insert(kind.text()) {
            errors.push(kind.duplicate(kind.text()));
        }
        require(errors, &kind);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(rules: fn(&Check) -> Errors, name: &str, spec: Value) -> Vec<String> {
        let tree = json!({ "metadata": { "name": name }, "spec": spec });
        let check = Check {
            new: &tree,
            old: None,
            subresource: "",
            custom: None,
            now: 0,
        };
        rules(&check).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn levels_limit_as_upstreams_do() {
        let queue = |queues: i64, hand: i64| {
            let queuing = json!({ "queues": queues, "handSize": hand, "queueLengthLimit": 50 });
            json!({ "type": "Limited", "limited": { "limitResponse": { "type": "Queue", "queuing": queuing } } })
        };
        let none: [String; 0] = [];
        assert_eq!(found(priority_level_configuration::validate, "a", queue(64, 8)), none);
        let at = "spec.limited.limitResponse.queuing.handSize: Invalid value";
        assert_eq!(
            found(priority_level_configuration::validate, "a", queue(5, 9)),
            [format!("{at}: 9: should not be greater than queues (5)")]
        );
        let entropy = "required entropy bits of deckSize 1024 and handSize 8 should not be greater than 60";
        assert_eq!(
            found(priority_level_configuration::validate, "a", queue(1024, 8)),
            [format!("{at}: 8: {entropy}")]
        );
        let exempt = found(priority_level_configuration::validate, "a", json!({ "type": "Exempt" }));
        assert_eq!(
            exempt,
            ["spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'"]
        );
        let odd = found(priority_level_configuration::validate, "a", json!({ "type": "Foo" }));
        assert_eq!(
            odd,
            ["spec.type: Unsupported value: \"Foo\": supported values: \"Exempt\", \"Limited\""]
        );
    }

    #[test]
    fn flows_are_refused_for_what_upstream_refuses() {
        let with = |more: Value| {
            let mut spec =
                json!({ "matchingPrecedence": 1000, "priorityLevelConfiguration": { "name": "global-default" } });
            for (key, value) in more.as_object().unwrap() {
                spec[key] = value.clone();
            }
            found(flow_schema::validate, "a", spec)
        };
        let none: [String; 0] = [];
        assert_eq!(with(json!({})), none);
        assert_eq!(
            with(json!({ "matchingPrecedence": 10001 })),
            ["spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"]
        );
        assert_eq!(
            with(json!({ "rules": [{}] })),
            [
                "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ]
        );
        let subject = json!({ "kind": "User", "user": { "name": "u" }, "group": { "name": "g" } });
        let rule =
            json!({ "subjects": [subject], "nonResourceRules": [{ "verbs": ["get"], "nonResourceURLs": ["/a*"] }] });
        assert_eq!(
            with(json!({ "rules": [rule] })),
            [
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do suffix matching",
            ]
        );
        assert!(with(json!({ "distinguisherMethod": { "type": "Foo" } }))[0].contains("Unsupported value"));
    }

    #[test]
    fn what_every_server_has_is_as_it_is_everywhere() {
        let none: [String; 0] = [];
        assert_eq!(
            found(
                flow_schema::validate,
                "exempt",
                flow_schema::fixed_schema("exempt").unwrap()
            ),
            none
        );
        assert_eq!(
            found(
                priority_level_configuration::validate,
                "catch-all",
                priority_level_configuration::fixed_level()
            ),
            none
        );
        let shares = json!({ "type": "Exempt", "exempt": { "nominalConcurrencyShares": 5, "lendablePercent": 0 } });
        assert_eq!(found(priority_level_configuration::validate, "exempt", shares), none);
        let mut other = flow_schema::fixed_schema("catch-all").unwrap();
        other["matchingPrecedence"] = json!(9999);
        let told = found(flow_schema::validate, "catch-all", other).pop().unwrap();
        assert!(
            told.ends_with("spec of 'catch-all' must equal the fixed value"),
            "{told}"
        );
    }
}
