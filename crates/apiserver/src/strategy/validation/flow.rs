//! Rules of FlowSchemas and PriorityLevelConfigurations.

use api::names;
use serde_json::{Value, json};

use super::Check;
use crate::strategy::validation::common::{Errors, problems, require};
use crate::strategy::validation::cursor::Cursor;

const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];
/// What stands beside a level of `v1beta3` whose zero shares are meant.
const ZERO_SHARES: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
const MOST_QUEUES: i64 = 10_000_000;
/// Bits of the hash that deals requests to queues.
const HASH_BITS: f64 = 60.0;

pub fn flow_schema(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if !check.is_status() {
        let name = root.at(&["metadata", "name"]);
        let spec = root.get("spec");
        schema_spec(&mut errors, &spec, name.text());
        if fixed_schema(name.text()).is_some_and(|fixed| without_empty(spec.value) != fixed) {
            errors.push(spec.invalid(format!("spec of '{}' must equal the fixed value", name.text())));
        }
    }
    conditions(&mut errors, &root);
    errors
}

pub fn priority_level(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if !check.is_status() {
        let name = root.at(&["metadata", "name"]);
        let annotations = root.at(&["metadata", "annotations"]);
        if annotations.get(ZERO_SHARES).is_some() {
            errors.push(annotations.forbidden(format!("annotation '{ZERO_SHARES}' is forbidden")));
        }
        let spec = root.get("spec");
        level_spec(&mut errors, &spec, name.text());
        let mut has = without_empty(spec.value);
        let (fixed, but) = match name.text() {
            "exempt" => {
                has.as_object_mut().map(|spec| spec.remove("exempt"));
                (json!({ "type": "Exempt" }), " except the 'spec.exempt' field")
            }
            "catch-all" => (fixed_level(), ""),
            _ => (has.clone(), ""),
        };
        if has != fixed {
            errors.push(spec.invalid(format!("spec of '{}'{but} must equal the fixed value", name.text())));
        }
    }
    conditions(&mut errors, &root);
    errors
}

/// The specification of a flow schema that every server has, so that nobody is shut out.
fn fixed_schema(name: &str) -> Option<Value> {
    let (precedence, groups): (u32, &[&str]) = match name {
        "exempt" => (1, &["system:masters"]),
        "catch-all" => (10_000, &["system:unauthenticated", "system:authenticated"]),
        _ => return None,
    };
    let subject = |group: &&str| json!({ "kind": "Group", "group": { "name": group } });
    let subjects: Vec<Value> = groups.iter().map(subject).collect();
    let all = ["*"];
    let mut spec = json!({
        "priorityLevelConfiguration": { "name": name },
        "matchingPrecedence": precedence,
        "rules": [{
            "subjects": subjects,
            "resourceRules": [{ "verbs": all, "apiGroups": all, "resources": all, "namespaces": all, "clusterScope": true }],
            "nonResourceRules": [{ "verbs": all, "nonResourceURLs": all }],
        }],
    });
    if name == "catch-all" {
        spec["distinguisherMethod"] = json!({ "type": "ByUser" });
    }
    Some(spec)
}

fn fixed_level() -> Value {
    json!({ "type": "Limited", "limited": {
        "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": { "type": "Reject" },
    } })
}

/// The tree without what stands for nothing.
fn without_empty(tree: &Value) -> Value {
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

fn conditions(errors: &mut Errors, root: &Cursor) {
    let mut seen = std::collections::HashSet::new();
    for condition in root.at(&["status", "conditions"]).items() {
        let kind = condition.get("type");
        if !seen.insert(kind.text()) {
            errors.push(kind.duplicate(kind.text()));
        }
        require(errors, &kind);
    }
}

fn schema_spec(errors: &mut Errors, spec: &Cursor, name: &str) {
    const LAST: i64 = 10_000;
    let precedence = spec.get("matchingPrecedence");
    match precedence.int().unwrap_or(0) {
        n if n <= 0 => errors.push(precedence.wrong(n, "must be a positive value")),
        n if n > LAST => errors.push(precedence.invalid(format!("must not be greater than {LAST}"))),
        1 if name != "exempt" => {
            errors.push(precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1"));
        }
        _ => {}
    }
    if let Some(method) = spec.get("distinguisherMethod").present() {
        const METHODS: [&str; 2] = ["ByNamespace", "ByUser"];
        let kind = method.get("type");
        if !METHODS.contains(&kind.text()) {
            let shown = json!({ "type": kind.text() });
            errors.push(api::field::FieldError::not_supported(
                kind.path.to_string(),
                shown,
                &METHODS,
            ));
        }
    }
    let level = spec.at(&["priorityLevelConfiguration", "name"]);
    if level.text().is_empty() {
        errors.push(level.required("must reference a priority level"));
    } else {
        problems(errors, &level, names::dns1123_subdomain_errors(level.text()));
    }
    for rule in spec.get("rules").items() {
        rule_errors(errors, &rule);
    }
}

fn rule_errors(errors: &mut Errors, rule: &Cursor) {
    let subjects = rule.get("subjects");
    if subjects.list().is_empty() {
        errors.push(subjects.required("subjects must contain at least one value"));
    }
    for subject in subjects.items() {
        subject_errors(errors, &subject);
    }
    let (resources, others) = (rule.get("resourceRules"), rule.get("nonResourceRules"));
    if resources.list().is_empty() && others.list().is_empty() {
        errors.push(rule.required("at least one of resourceRules and nonResourceRules has to be non-empty"));
    }
    for resource in resources.items() {
        verbs(errors, &resource);
        alone(
            errors,
            &resource.get("apiGroups"),
            "resource rules must supply at least one api group",
            "api groups",
        );
        alone(
            errors,
            &resource.get("resources"),
            "resource rules must supply at least one resource",
            "resources",
        );
        let namespaces = resource.get("namespaces");
        if namespaces.list().is_empty() && !resource.get("clusterScope").is_true() {
            let why = "resource rules that are not cluster scoped must supply at least one namespace";
            errors.push(namespaces.required(why));
        } else if has_all(&namespaces) {
            several(errors, &namespaces, "namespaces");
        } else {
            for namespace in namespaces.items() {
                let found = names::dns1123_label_errors(namespace.text()).into_iter();
                let intro = "each member of this list must be '*' or a DNS-1123 label; ";
                problems(errors, &namespace, found.map(|why| format!("{intro}{why}")));
            }
        }
    }
    for other in others.items() {
        verbs(errors, &other);
        let urls = other.get("nonResourceURLs");
        if urls.list().is_empty() {
            errors.push(urls.required("nonResourceURLs must contain at least one value"));
        } else if has_all(&urls) {
            several(errors, &urls, "non-resource URLs");
        } else {
            for url in urls.items() {
                errors.extend(url_problem(url.text()).map(|why| url.invalid(why)));
            }
        }
    }
}

fn has_all(list: &Cursor) -> bool {
    list.list().iter().any(|v| v == "*")
}

fn several(errors: &mut Errors, list: &Cursor, what: &str) {
    if list.list().len() > 1 {
        errors.push(list.invalid(format!("if '*' is present, must not specify other {what}")));
    }
}

/// A list that has something, and nothing beside `*`.
fn alone(errors: &mut Errors, list: &Cursor, empty: &str, what: &str) {
    if list.list().is_empty() {
        errors.push(list.required(empty));
    } else if has_all(list) {
        several(errors, list, what);
    }
}

fn verbs(errors: &mut Errors, rule: &Cursor) {
    let verbs = rule.get("verbs");
    alone(errors, &verbs, "verbs must contain at least one value", "verbs");
    if !has_all(&verbs) && verbs.items().any(|verb| !VERBS.contains(&verb.text())) {
        errors.push(verbs.not_supported(&VERBS));
    }
}

fn url_problem(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        url if !url.starts_with('/') => Some("must start with slash"),
        url if url.contains(' ') => Some("must not contain white-space"),
        url if url.contains("//") => Some("must not contain double slash"),
        url if stars > 1 || (stars == 1 && !url.ends_with("/*")) => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

fn subject_errors(errors: &mut Errors, subject: &Cursor) {
    const KINDS: [(&str, &str); 3] = [
        ("Group", "group"),
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
    ];
    let kind = subject.get("kind");
    if !KINDS.iter().any(|(name, _)| *name == kind.text()) {
        errors.push(kind.not_supported(&KINDS.map(|(name, _)| name)));
        return;
    }
    for (name, field) in KINDS {
        let part = subject.get(field);
        if name != kind.text() {
            if part.is_some() {
                errors.push(part.forbidden(format!("{field} is forbidden when subject kind is not '{name}'")));
            }
        } else if !part.is_some() {
            errors.push(part.required(&format!("{field} is required when subject kind is '{name}'")));
        } else {
            let own = part.get("name");
            if require(errors, &own) && name == "ServiceAccount" && own.text() != "*" {
                problems(errors, &own, names::dns1123_subdomain_errors(own.text()));
            }
            if name == "ServiceAccount" {
                let namespace = part.get("namespace");
                if namespace.text().is_empty() {
                    errors.push(namespace.required("must specify namespace for service account"));
                } else {
                    problems(errors, &namespace, names::dns1123_label_errors(namespace.text()));
                }
            }
        }
    }
}

fn level_spec(errors: &mut Errors, spec: &Cursor, name: &str) {
    let (kind, limited, exempt) = (spec.get("type"), spec.get("limited"), spec.get("exempt"));
    if (name == "exempt") != (kind.text() == "Exempt") {
        errors.push(kind.wrong(kind.text(), "must be 'Exempt' if and only if `name` is 'exempt'"));
    }
    match kind.text() {
        "Exempt" => {
            if limited.is_some() {
                errors.push(limited.forbidden("must be nil if the type is not Limited"));
            }
            shares(errors, &exempt);
        }
        "Limited" => {
            if exempt.is_some() {
                errors.push(exempt.forbidden("must be nil if the type is Limited"));
            }
            if limited.is_some() {
                limits(errors, &limited);
            } else {
                errors.push(limited.required("must not be empty when type is Limited"));
            }
        }
        "" => errors.push(kind.required("")),
        _ => errors.push(kind.not_supported(&["Exempt", "Limited"])),
    }
}

fn shares(errors: &mut Errors, at: &Cursor) {
    let nominal = at.get("nominalConcurrencyShares");
    if nominal.int().is_some_and(|n| n < 0) {
        errors.push(nominal.invalid("must be a non-negative integer"));
    }
    let lendable = at.get("lendablePercent");
    if lendable.int().is_some_and(|n| !(0..=100).contains(&n)) {
        errors.push(lendable.invalid("must be between 0 and 100, inclusive"));
    }
}

fn limits(errors: &mut Errors, limited: &Cursor) {
    shares(errors, limited);
    let borrowing = limited.get("borrowingLimitPercent");
    if borrowing.int().is_some_and(|n| n < 0) {
        errors.push(borrowing.invalid("if specified, must be a non-negative integer"));
    }
    let response = limited.get("limitResponse");
    let (kind, queuing) = (response.get("type"), response.get("queuing"));
    match kind.text() {
        "Reject" if queuing.is_some() => {
            errors.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited"));
        }
        "Reject" => {}
        "Queue" if !queuing.is_some() => {
            errors.push(queuing.required("must not be empty if limited.limitResponse.type is Limited"));
        }
        "Queue" => queues(errors, &queuing),
        "" => errors.push(kind.required("")),
        _ => errors.push(kind.not_supported(&["Queue", "Reject"])),
    }
}

fn queues(errors: &mut Errors, queuing: &Cursor) {
    let number = |field: &'static str| queuing.get(field).int().unwrap_or(0);
    let (length, queues, hand) = (number("queueLengthLimit"), number("queues"), number("handSize"));
    if length <= 0 {
        errors.push(queuing.get("queueLengthLimit").wrong(length, "must be positive"));
    }
    if queues <= 0 {
        errors.push(queuing.get("queues").wrong(queues, "must be positive"));
    } else if queues > MOST_QUEUES {
        errors.push(
            queuing
                .get("queues")
                .wrong(queues, format!("must not be greater than {MOST_QUEUES}")),
        );
    }
    let at = queuing.get("handSize");
    let bits = ((queues as f64).log2() * hand as f64).ceil();
    if hand <= 0 {
        errors.push(at.wrong(hand, "must be positive"));
    } else if hand > queues {
        errors.push(at.wrong(hand, format!("should not be greater than queues ({queues})")));
    } else if bits > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.push(at.wrong(hand, why));
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
        assert_eq!(found(priority_level, "a", queue(64, 8)), none);
        let at = "spec.limited.limitResponse.queuing.handSize: Invalid value";
        assert_eq!(
            found(priority_level, "a", queue(5, 9)),
            [format!("{at}: 9: should not be greater than queues (5)")]
        );
        let entropy = "required entropy bits of deckSize 1024 and handSize 8 should not be greater than 60";
        assert_eq!(
            found(priority_level, "a", queue(1024, 8)),
            [format!("{at}: 8: {entropy}")]
        );
        let exempt = found(priority_level, "a", json!({ "type": "Exempt" }));
        assert_eq!(
            exempt,
            ["spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'"]
        );
        let odd = found(priority_level, "a", json!({ "type": "Foo" }));
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
            found(flow_schema, "a", spec)
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
        assert_eq!(found(flow_schema, "exempt", fixed_schema("exempt").unwrap()), none);
        assert_eq!(found(priority_level, "catch-all", fixed_level()), none);
        let shares = json!({ "type": "Exempt", "exempt": { "nominalConcurrencyShares": 5, "lendablePercent": 0 } });
        assert_eq!(found(priority_level, "exempt", shares), none);
        let mut other = fixed_schema("catch-all").unwrap();
        other["matchingPrecedence"] = json!(9999);
        let told = found(flow_schema, "catch-all", other).pop().unwrap();
        assert!(
            told.ends_with("spec of 'catch-all' must equal the fixed value"),
            "{told}"
        );
    }
}
