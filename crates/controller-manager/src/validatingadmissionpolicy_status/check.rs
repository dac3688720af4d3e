//! What is wrong with a policy's expressions for each of its kinds, in upstream's words
//! (`k8s.io/apiserver/pkg/admission/plugin/policy/validating/typechecking.go`). Only validations and their messages are told of:
//! variables count as far as these read them.

use std::sync::Arc;

use api::gvk::GroupVersionKind;
use cel::admission::{self, Variables};
use cel::{Declared, Environment, Type};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicySpec, Variable};

/// A field of a policy and what is wrong with its expression.
pub(super) type Warning = (String, String);

/// What is known of objects.
#[derive(Debug)]
pub(super) enum Fields {
    Known(Arc<Declared>),
    /// Nothing: everything may be read.
    Any,
}

/// A kind that a policy is for.
#[derive(Debug)]
pub(super) struct Typed {
    pub kind: GroupVersionKind,
    pub fields: Fields,
}

/// The warnings of a policy. `params` is there when it has a kind of parameters.
pub(super) fn warnings(spec: &ValidatingAdmissionPolicySpec, kinds: &[Typed], params: Option<&Fields>) -> Vec<Warning> {
    let variables = spec.variables.as_deref().unwrap_or_default();
    let environments: Vec<_> = kinds
        .iter()
        .map(|typed| (&typed.kind, environment(&typed.fields, params, variables)))
        .collect();
    let mut warnings = Vec::new();
    let mut check = |field: String, expression: &str| {
        let wrong = environments.iter().filter_map(|(kind, environment)| {
            let issues = environment.compile(expression).err()?;
            Some(format!(
                "{}/{}, Kind={}: {issues}\n",
                kind.group, kind.version, kind.kind
            ))
        });
        let wrong: Vec<String> = wrong.collect();
        if !wrong.is_empty() {
            warnings.push((field, wrong.join("\n")));
        }
    };
    for (n, validation) in spec.validations.iter().flatten().enumerate() {
        check(format!("spec.validations[{n}].expression"), &validation.expression);
        if let Some(message) = validation.message_expression.as_deref().filter(|text| !text.is_empty()) {
            check(format!("spec.validations[{n}].messageExpression"), message);
        }
    }
    warnings
}

/// What expressions read when the object is of a kind. `authorizer.requestResource` is not among it, in upstream's check neither.
fn environment(object: &Fields, params: Option<&Fields>, variables: &[Variable]) -> Environment {
    let mut environment = Environment::stored()
        .with_declared("namespaceObject", &Arc::new(admission::namespace()))
        .with_declared("request", &Arc::new(admission::request()))
        .with_variable("authorizer", admission::authorizer());
    let read = [
        ("object", Some(object)),
        ("oldObject", Some(object)),
        ("params", params),
    ];
    for (name, fields) in read {
        environment = match fields {
            Some(Fields::Known(declared)) => environment.with_declared(name, declared),
            Some(Fields::Any) => environment.with_variable(name, Type::Dyn),
            None => environment,
        };
    }
    let mut known = Variables::default();
    for variable in variables {
        let scope = environment.clone().with_declared("variables", &known.declared());
        let compiled = scope.compile(&variable.expression);
        known.add(
            &variable.name,
            compiled.as_ref().map_or(&Type::Dyn, |checked| checked.output()),
        );
    }
    environment.with_declared("variables", &known.declared())
}

#[cfg(test)]
mod tests {
    use cel::Schema;
    use serde_json::json;

    use super::*;

    fn typed(kind: &str, spec: &serde_json::Value) -> Typed {
        let schema = json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": spec } } });
        let declared = Declared::from_schema(&Schema::from_openapi(&schema), true, &format!("{kind}1")).unwrap();
        Typed {
            kind: GroupVersionKind::new("x.test", "v1", kind),
            fields: Fields::Known(Arc::new(declared)),
        }
    }

    fn told(spec: &serde_json::Value, params: Option<&Fields>) -> Vec<Warning> {
        let kinds = [
            typed("One", &json!({ "size": { "type": "integer" } })),
            typed(
                "Two",
                &json!({ "size": { "type": "string" }, "more": { "type": "boolean" } }),
            ),
        ];
        warnings(&serde_json::from_value(spec.clone()).unwrap(), &kinds, params)
    }

    #[test]
    fn an_expression_is_told_of_for_each_kind_that_it_is_wrong_for() {
        let validations = json!([
            { "expression": "object.spec.size == 1" },
            { "expression": "object.spec.more", "messageExpression": "oldObject.spec.nope" },
            { "expression": "object.metadata.name != '' && request.operation == 'CREATE'", "messageExpression": "" },
        ]);
        let told = told(&json!({ "validations": validations }), None);
        let nope = |kind: &str| {
            format!(
                "x.test/v1, Kind={kind}: ERROR: <input>:1:15: undefined field 'nope'\n | oldObject.spec.nope\n | ..............^\n"
            )
        };
        let wanted = [
            (
                "spec.validations[0].expression",
                "x.test/v1, Kind=Two: ERROR: <input>:1:18: found no matching overload for '_==_' applied to '(string, int)'\n | object.spec.size == 1\n | .................^\n".to_owned(),
            ),
            (
                "spec.validations[1].expression",
                "x.test/v1, Kind=One: ERROR: <input>:1:12: undefined field 'more'\n | object.spec.more\n | ...........^\n".to_owned(),
            ),
            ("spec.validations[1].messageExpression", format!("{}\n{}", nope("One"), nope("Two"))),
        ];
        let told: Vec<(&str, String)> = told
            .iter()
            .map(|(field, warning)| (&**field, warning.clone()))
            .collect();
        assert_eq!(told, wanted);
    }

    #[test]
    fn variables_count_by_what_reads_them_and_unknown_parameters_by_nothing() {
        let spec = json!({
            "variables": [{ "name": "wrong", "expression": "object.spec.nope" }, { "name": "size", "expression": "object.spec.size" }],
            "validations": [{ "expression": "variables.wrong == 1 && params.any.field && variables.size != true" }],
        });
        let told = told(&spec, Some(&Fields::Any));
        let [(field, warning)] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(field, "spec.validations[0].expression");
        assert_eq!(warning.matches("found no matching overload for '_!=_'").count(), 2);
        assert!(!warning.contains("undefined"));
    }
}
