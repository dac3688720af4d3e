//! MutatingAdmissionPolicy.

use std::collections::HashSet;

use cel::Type;

use super::match_conditions::match_conditions;
use super::policy::{self, required_one_of};
use super::scope::{Purpose, Scope};
use crate::kinds::admissionregistration::{of_admission, param_kind, static_name, warn_of_static_name};
use crate::kinds::columns::{AGE, BuiltinColumn, NAME, length};
use crate::kinds::{Check, Cursor, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    columns: COLUMNS,
    warn: warn_of_static_name,
    ..of_admission("mutatingadmissionpolicies", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Mutations", "integer", 0, |p| length(p, "/spec/mutations")),
    ("ParamKind", "string", 0, param_kind),
    AGE,
];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let (spec, old) = (root.get("spec"), check.old);
    policy::frame(&mut errors, &spec);
    policy::mutating_operations(&mut errors, &spec.get("matchConstraints"));
    let has_params = spec.get("paramKind").is_some();
    if !policy::has_same_conditions(&spec, old) {
        let known = policy::texts(old, "matchConditions", "/expression");
        match_conditions(&mut errors, &spec.get("matchConditions"), &known, has_params);
    }
    let mut scope = Scope::new(has_params, true);
    policy::variables(&mut errors, &spec.get("variables"), &mut scope, &HashSet::new());
    let mutations = spec.get("mutations");
    if mutations.list().is_empty() {
        errors.push(mutations.required("mutations must contain at least one item"));
    }
    // upstream looks both kinds of expressions up among those of configurations
    let known = policy::texts(old, "mutations", "/applyConfiguration/expression");
    for mutation in mutations.items() {
        self::mutation(&mut errors, &mutation, &scope, &known);
    }
    required_one_of(&mut errors, &spec.get("reinvocationPolicy"), &["IfNeeded", "Never"]);
    static_name(&mut errors, check);
    errors
}

fn mutation(errors: &mut Errors, at: &Cursor, scope: &Scope, known: &HashSet<&str>) {
    const PATCH: (&str, &str) = ("JSONPatch", "jsonPatch");
    const CONFIGURATION: (&str, &str) = ("ApplyConfiguration", "applyConfiguration");
    let kind = at.get("patchType");
    let (own, other, returns) = match kind.text() {
        "" => return errors.push(kind.required("")),
        "JSONPatch" => (PATCH, CONFIGURATION, Type::list(Type::object("JSONPatch"))),
        "ApplyConfiguration" => (CONFIGURATION, PATCH, Type::object("Object")),
        _ => return errors.push(kind.not_supported(&["ApplyConfiguration", "JSONPatch"])),
    };
    let part = at.get(own.1);
    let expression = part.get("expression");
    let text = expression.text().trim();
    if !part.is_some() {
        errors.push(part.required(&format!("must be specified when patchType is {}", own.0)));
    } else if text.is_empty() {
        errors.push(expression.required(""));
    } else {
        let stored = known.contains(expression.text());
        if let Err(why) = scope.compile(text, stored, Purpose::Mutation, &[returns]) {
            errors.push(expression.wrong(text, why));
        }
    }
    let part = at.get(other.1);
    if part.is_some() {
        let why = format!("must not be specified when patchType is {}", own.0);
        errors.push(part.wrong(format!("{{{}}}", other.1), why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(spec: Value) -> Vec<String> {
        let mut policy = json!({
            "metadata": { "name": "p" },
            "spec": {
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "matchConstraints": {
                    "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                    "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "*" }],
                },
                "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": "[JSONPatch{op: 'remove', path: '/x'}]" } }],
            },
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            policy["spec"][key] = value.clone();
        }
        let check = Check {
            new: &policy,
            old: None,
            subresource: "",
            custom: None,
            now: 0,
        };
        validate(&check).into_iter().map(|e| e.to_string()).collect()
    }

    #[test]
    fn a_mutation_has_the_expression_of_its_patch_type() {
        let mutations = |mutation: Value| json!({ "mutations": [mutation] });
        for (spec, want) in [
            (json!({}), vec![]),
            (
                json!({ "mutations": [] }),
                vec!["spec.mutations: Required value: mutations must contain at least one item"],
            ),
            (
                mutations(json!({})),
                vec!["spec.mutations[0].patchType: Required value"],
            ),
            (
                mutations(json!({ "patchType": "JSONPatch", "jsonPatch": { "expression": "Object{}" } })),
                vec![
                    "spec.mutations[0].jsonPatch.expression: Invalid value: \"Object{}\": must evaluate to list(JSONPatch) but got Object",
                ],
            ),
            (
                mutations(json!({ "patchType": "ApplyConfiguration", "jsonPatch": { "expression": "[]" } })),
                vec![
                    "spec.mutations[0].applyConfiguration: Required value: must be specified when patchType is ApplyConfiguration",
                    "spec.mutations[0].jsonPatch: Invalid value: \"{jsonPatch}\": must not be specified when patchType is ApplyConfiguration",
                ],
            ),
            (
                json!({ "reinvocationPolicy": "x" }),
                vec!["spec.reinvocationPolicy: Unsupported value: \"x\": supported values: \"IfNeeded\", \"Never\""],
            ),
        ] {
            assert_eq!(told(spec.clone()), want, "{spec}");
        }
    }
}
