//! Rules of what is asked about: operations, groups, versions, resources.

use serde_json::json;

use crate::kinds::Cursor;
use crate::kinds::rules::{Errors, one_of_or_none};

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];

fn has_star(at: &Cursor) -> bool {
    at.list().iter().any(|item| item == "*")
}

fn lonely_star(errors: &mut Errors, at: &Cursor, what: &str) {
    if at.list().len() > 1 && has_star(at) {
        errors.push(at.invalid(format!("if '*' is present, must not specify other {what}")));
    }
}

fn some(errors: &mut Errors, at: &Cursor) {
    if at.list().is_empty() {
        errors.push(at.required(""));
    }
}

/// A rule with operations; of resources with subresources where these may be named.
pub fn rule_with_operations(errors: &mut Errors, at: &Cursor) {
    let operations = at.get("operations");
    some(errors, &operations);
    lonely_star(errors, &operations, "operations");
    for operation in operations.items() {
        if !OPERATIONS.contains(&operation.text()) {
            errors.push(operation.not_supported(OPERATIONS));
        }
    }
    let groups = at.get("apiGroups");
    some(errors, &groups);
    lonely_star(errors, &groups, "API groups");
    let versions = at.get("apiVersions");
    some(errors, &versions);
    lonely_star(errors, &versions, "API versions");
    for version in versions.items().filter(|version| version.text().is_empty()) {
        errors.push(version.required(""));
    }
    resources(errors, &at.get("resources"));
    one_of_or_none(errors, &at.get("scope"), SCOPES);
}

fn resources(errors: &mut Errors, at: &Cursor) {
    some(errors, at);
    let (mut with_all, mut of_all) = (Vec::new(), Vec::new());
    let (mut double, mut single, mut plain) = (false, false, false);
    for item in at.items() {
        let text = item.text();
        if text.is_empty() {
            errors.push(item.required(""));
            continue;
        }
        double |= text == "*/*";
        single |= text == "*";
        let Some((resource, subresource)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if with_all.contains(&resource) {
            errors.push(item.invalid(format!("if '{resource}/*' is present, must not specify {text}")));
        }
        if of_all.contains(&subresource) {
            errors.push(item.invalid(format!("if '*/{subresource}' is present, must not specify {text}")));
        }
        if subresource == "*" {
            with_all.push(resource);
        }
        if resource == "*" {
            of_all.push(subresource);
        }
    }
    if at.list().len() > 1 && double {
        errors.push(at.invalid("if '*/*' is present, must not specify other resources"));
    }
    if single && plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(at.invalid(why));
    }
}

/// The virtual resources that webhooks are never asked of: one that fails would lock everybody out.
const EXCLUDED: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// Warns of a rule that names what webhooks are never asked of.
pub fn warn_of_excluded(told: &mut Vec<String>, at: &Cursor) {
    let (groups, resources) = (at.get("apiGroups"), at.get("resources"));
    if has_star(&groups) || has_star(&resources) {
        return;
    }
    for group in groups.list() {
        for resource in resources.list() {
            let named = EXCLUDED
                .iter()
                .find(|(g, r)| *group == json!(g) && *resource == json!(r));
            let Some((group, resource)) = named else { continue };
            let text = format!(
                "{}: {resource}.{group} is excluded from admission webhooks; this rule will have no effect",
                at.path
            );
            if !told.contains(&text) {
                told.push(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn told(resources: &[&str], more: &Value) -> Vec<String> {
        let mut rule = json!({ "operations": ["*"], "apiGroups": ["a"], "apiVersions": ["a"], "resources": resources, "scope": "*" });
        for (key, value) in more.as_object().unwrap() {
            rule[key] = value.clone();
        }
        let mut errors = Errors::new();
        rule_with_operations(&mut errors, &Cursor::of(Some(&rule), "r"));
        errors.into_iter().map(|e| e.to_string()).collect()
    }

    #[test]
    fn stars_stand_alone() {
        for (resources, want) in [
            (&["*"][..], vec![]),
            (
                &["*", "*/*"],
                vec![
                    r#"r.resources: Invalid value: ["*","*/*"]: if '*/*' is present, must not specify other resources"#,
                ],
            ),
            (
                &["*", "a"],
                vec![
                    r#"r.resources: Invalid value: ["*","a"]: if '*' is present, must not specify other resources without subresources"#,
                ],
            ),
            (
                &["a/*", "a/x"],
                vec![r#"r.resources[1]: Invalid value: "a/x": if 'a/*' is present, must not specify a/x"#],
            ),
            (
                &["*/x", "a/x"],
                vec![r#"r.resources[1]: Invalid value: "a/x": if '*/x' is present, must not specify a/x"#],
            ),
            (&[], vec!["r.resources: Required value"]),
        ] {
            assert_eq!(told(resources, &json!({})), want, "{resources:?}");
        }
        assert_eq!(
            told(&["a"], &json!({ "operations": ["*", "x"] })),
            [
                r#"r.operations: Invalid value: ["*","x"]: if '*' is present, must not specify other operations"#,
                r#"r.operations[1]: Unsupported value: "x": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE""#,
            ]
        );
    }

    #[test]
    fn who_names_a_review_is_told_that_it_has_no_effect() {
        let rule = json!({ "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews", "tokenreviews"] });
        let mut told = Vec::new();
        warn_of_excluded(&mut told, &Cursor::of(Some(&rule), "webhooks[0].rules[0]"));
        assert_eq!(
            told,
            [
                "webhooks[0].rules[0]: tokenreviews.authentication.k8s.io is excluded from admission webhooks; this rule will have no effect"
            ]
        );
    }
}
