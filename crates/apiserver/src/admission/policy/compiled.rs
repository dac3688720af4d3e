//! A policy and a binding, compiled.

use api::selectors::{LabelSelector, SelectorError};
use cel::{Program, Type};
use serde_json::Value;

use super::mutation::Mutation;
use crate::admission::Attributes;
use crate::admission::matching::{Conditions, Criteria};
use crate::http::status::Result;
use crate::kinds::admissionregistration::expression::ExpressionError;
use crate::kinds::admissionregistration::scope::{Purpose, Scope};
use crate::tree::text;

/// A kind of parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamKind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

/// A variable of a policy.
#[derive(Debug)]
pub struct Variable {
    pub name: String,
    pub program: Result<Program, ExpressionError>,
    /// An expression names it; others are not evaluated.
    pub used: bool,
}

/// What a policy demands.
#[derive(Debug)]
pub struct Validation {
    pub text: Box<str>,
    pub message: Box<str>,
    pub reason: &'static str,
    pub program: Result<Program, ExpressionError>,
    pub message_program: Option<Result<Program, ExpressionError>>,
}

/// An annotation for audit that a policy makes.
#[derive(Debug)]
pub struct AuditAnnotation {
    pub key: String,
    pub text: Box<str>,
    pub program: Result<Program, ExpressionError>,
}

/// A policy.
#[derive(Debug)]
pub struct Policy {
    pub name: String,
    /// Errors deny the request; else they count for nothing.
    pub fails: bool,
    pub params: Option<ParamKind>,
    pub criteria: Criteria,
    pub conditions: Conditions,
    pub variables: Vec<Variable>,
    pub validations: Vec<Validation>,
    pub annotations: Vec<AuditAnnotation>,
    pub mutations: Vec<Mutation>,
    /// It is asked again when something changes after it.
    pub again: bool,
}

fn items<'a>(spec: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    spec.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn string(tree: &Value, path: &[&str]) -> String {
    text(tree, path).unwrap_or_default().to_owned()
}

impl Policy {
    /// Compiles a stored policy. What does not compile is kept as such: who asks is told.
    pub fn read(tree: &Value) -> Policy {
        let spec = &tree["spec"];
        let params = spec.get("paramKind").filter(|kind| kind.is_object()).map(|kind| {
            let version = string(kind, &["apiVersion"]);
            let (group, version) = api::gvk::split_api_version(&version);
            ParamKind {
                group: group.into(),
                version: version.into(),
                kind: string(kind, &["kind"]),
            }
        });
        let fails = text(spec, &["failurePolicy"]) != Some("Ignore");
        let mut scope = Scope::new(params.is_some(), true);
        let variables = items(spec, "variables").map(|variable| {
            let name = string(variable, &["name"]);
            let program = scope.variable(&name, text(variable, &["expression"]).unwrap_or_default(), true);
            Variable {
                used: is_named(spec, &name),
                name,
                program,
            }
        });
        let variables = variables.collect();
        let validations = items(spec, "validations").map(|validation| {
            let expression = text(validation, &["expression"]).unwrap_or_default();
            let message = text(validation, &["messageExpression"]).filter(|text| !text.is_empty());
            Validation {
                text: expression.into(),
                message: text(validation, &["message"]).unwrap_or_default().into(),
                reason: match text(validation, &["reason"]) {
                    Some("Forbidden") => "Forbidden",
                    Some("Unauthorized") => "Unauthorized",
                    Some("RequestEntityTooLarge") => "RequestEntityTooLarge",
                    _ => "Invalid",
                },
                program: scope.compile(expression, true, Purpose::Decision, &[Type::Bool]),
                message_program: message.map(|text| scope.compile(text, true, Purpose::Message, &[Type::String])),
            }
        });
        let validations = validations.collect();
        let annotations = items(spec, "auditAnnotations").map(|annotation| {
            let expression = text(annotation, &["valueExpression"]).unwrap_or_default();
            AuditAnnotation {
                key: string(annotation, &["key"]),
                text: expression.into(),
                program: scope.compile(expression, true, Purpose::Decision, &[Type::String, Type::Null]),
            }
        });
        let annotations = annotations.collect();
        let mutations = items(spec, "mutations")
            .map(|mutation| Mutation::read(mutation, &scope))
            .collect();
        Policy {
            name: string(tree, &["metadata", "name"]),
            fails,
            criteria: Criteria::read(&spec["matchConstraints"], "resourceRules"),
            conditions: Conditions::read(spec, fails, params.is_some()),
            params,
            variables,
            validations,
            annotations,
            mutations,
            again: text(spec, &["reinvocationPolicy"]) == Some("IfNeeded"),
        }
    }
}

/// Whether an expression of a policy may read a variable: whether one has its name in it.
fn is_named(spec: &Value, name: &str) -> bool {
    let all: [(&str, &[&str]); 6] = [
        ("variables", &["expression"]),
        ("validations", &["expression"]),
        ("validations", &["messageExpression"]),
        ("auditAnnotations", &["valueExpression"]),
        ("mutations", &["jsonPatch", "expression"]),
        ("mutations", &["applyConfiguration", "expression"]),
    ];
    all.iter()
        .any(|(list, key)| items(spec, list).any(|item| text(item, key).is_some_and(|text| text.contains(name))))
}

/// How parameters are found.
#[derive(Debug)]
pub struct ParamRef {
    pub name: String,
    pub namespace: String,
    /// The labels that they bear, where they are not named.
    pub selector: Option<Result<LabelSelector, SelectorError>>,
    /// A binding without any denies.
    pub denies_without: bool,
}

/// A binding.
#[derive(Debug)]
pub struct Binding {
    pub name: String,
    pub policy: String,
    /// `None` where it is for all that the policy is for.
    criteria: Option<Criteria>,
    pub params: Option<ParamRef>,
    pub actions: Vec<String>,
}

impl Binding {
    /// Returns whether it is for a request that its policy is for.
    pub fn concerns(&self, asked: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<bool> {
        match &self.criteria {
            Some(criteria) => Ok(criteria.matches(asked, object, old)?.is_some()),
            None => Ok(true),
        }
    }

    /// Reads a stored binding.
    pub fn read(tree: &Value) -> Binding {
        let spec = &tree["spec"];
        let params = spec.get("paramRef").filter(|reference| reference.is_object());
        Binding {
            name: string(tree, &["metadata", "name"]),
            policy: string(spec, &["policyName"]),
            criteria: spec
                .get("matchResources")
                .filter(|resources| resources.is_object())
                .map(|resources| Criteria::read(resources, "resourceRules")),
            params: params.map(|reference| ParamRef {
                name: string(reference, &["name"]),
                namespace: string(reference, &["namespace"]),
                selector: reference
                    .get("selector")
                    .filter(|selector| selector.is_object())
                    .map(LabelSelector::from_tree),
                denies_without: text(reference, &["parameterNotFoundAction"]) == Some("Deny"),
            }),
            actions: items(spec, "validationActions")
                .filter_map(|a| a.as_str().map(Into::into))
                .collect(),
        }
    }
}
