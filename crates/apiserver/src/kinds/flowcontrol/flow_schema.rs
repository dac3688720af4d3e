//! FlowSchema.

use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count, list_at, or, text_at};
use crate::kinds::flowcontrol::{conditions, of_flowcontrol, without_empty};
use crate::kinds::rules::{problems, require};
use crate::kinds::{Check, Cursor, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    columns: COLUMNS,
    ..of_flowcontrol("flowschemas", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("PriorityLevel", "string", 0, |f| {
        json!(text_at(f, "/spec/priorityLevelConfiguration/name"))
    }),
    ("MatchingPrecedence", "string", 0, |f| {
        json!(count(f, "/spec/matchingPrecedence"))
    }),
    ("DistinguisherMethod", "string", 0, |f| {
        or(f, "/spec/distinguisherMethod/type", "<none>")
    }),
    AGE,
    ("MissingPL", "string", 0, |f| {
        let dangling = list_at(f, "/status/conditions").find(|c| c["type"] == "Dangling");
        json!(dangling.map_or("?", |c| text_at(c, "/status")))
    }),
];

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

/// Returns everything in which an object breaks the rules of its kind.
pub fn validate(check: &Check) -> Errors {
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

/// The specification of a flow schema that every server has, so that nobody is shut out.
pub fn fixed_schema(name: &str) -> Option<Value> {
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
            // upstream shows its own struct, which has no names for JSON
            let shown = json!({ "Type": kind.text() });
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
