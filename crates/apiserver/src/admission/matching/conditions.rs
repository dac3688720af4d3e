//! Match conditions: expressions that must all be true of a request before something is asked about it
//! (`k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions`).

use std::sync::Arc;

use cel::{Activation, Limits, Outcome, Program, Value as Cel, View};
use serde_json::Value;

use crate::admission::Attributes;
use crate::authorization::{self, Authorizer};
use crate::http::user::User;
use crate::kinds::admissionregistration::expression::{self, ExpressionError, Setting};

/// One condition.
#[derive(Debug)]
struct Condition {
    text: Box<str>,
    program: Result<Program, ExpressionError>,
}

/// Why conditions are neither true nor false: what went wrong with each, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConditionError(String);

/// Conditions, and what becomes of a request that some of them have no answer for.
#[derive(Debug)]
pub struct Conditions {
    all: Vec<Condition>,
    /// Errors refuse the request; else they count as not true.
    fails: bool,
}

impl Conditions {
    /// Compiles the conditions in `matchConditions`.
    pub fn read(tree: &Value, fails: bool, params: bool) -> Conditions {
        let list = tree
            .get("matchConditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let setting = Setting { stored: true, params };
        let all = list.map(|condition| {
            let text = condition.get("expression").and_then(Value::as_str).unwrap_or_default();
            Condition {
                text: text.into(),
                program: expression::condition(text, setting),
            }
        });
        Conditions {
            all: all.collect(),
            fails,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether all are true.
    ///
    /// # Errors
    /// What went wrong with those that are neither true nor false, if that is to refuse the request.
    pub fn hold<'a>(&self, variables: &(impl Activation<'a> + ?Sized)) -> Result<bool, ConditionError> {
        let mut left = cel::limits::MATCH_CONDITIONS_BUDGET;
        let mut errors = Vec::new();
        for condition in &self.all {
            let program = match &condition.program {
                Ok(program) => program,
                Err(why) => {
                    errors.push(format!("compilation error: {why}"));
                    continue;
                }
            };
            let done = program.evaluate(variables, &Limits::default());
            let Some(rest) = left.checked_sub(done.cost) else {
                let why =
                    "validation failed due to running out of cost budget, no further validation rules will be run";
                return self.failed(vec![why.into()]);
            };
            left = rest;
            match done.outcome {
                Ok(Cel::Bool(true)) => {}
                // one that is false decides, whatever is wrong with others
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(other) => errors.push(format!("unexpected value: {}", other.type_name())),
                Err(fault) => errors.push(format!("expression '{}' resulted in error: {fault}", condition.text)),
            }
        }
        if errors.is_empty() {
            return Ok(true);
        }
        self.failed(errors)
    }

    fn failed(&self, mut errors: Vec<String>) -> Result<bool, ConditionError> {
        if !self.fails {
            return Ok(false);
        }
        // what is said twice is said once
        let mut said = std::collections::HashSet::new();
        errors.retain(|error| said.insert(error.clone()));
        Err(ConditionError(match errors.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }))
    }
}

/// The variables of an expression about a request.
pub struct Variables<'a> {
    /// Null where there is none.
    pub object: &'a Value,
    pub old: Option<&'a Value>,
    pub request: &'a Value,
    pub namespace: Option<&'a Value>,
    pub params: Option<&'a Value>,
    pub authorizer: Asker,
}

/// The authorizer, for a user and the resource of a request.
#[derive(Clone)]
pub struct Asker {
    authorizer: Arc<Authorizer>,
    user: Arc<User>,
    resource: cel::Check,
}

impl Asker {
    /// For the user and the resource of a request.
    pub fn of(asked: &Attributes<'_>) -> Asker {
        Asker {
            authorizer: asked.authorizer.clone(),
            user: asked.user.clone(),
            resource: cel::Check {
                group: asked.resource.group.clone(),
                resource: asked.resource.plural.clone(),
                subresource: asked.subresource.to_owned(),
                namespace: asked.namespace_asked().to_owned(),
                name: asked.known_name.to_owned(),
                ..cel::Check::default()
            },
        }
    }
}

impl cel::Authorizer for Asker {
    fn authorize(&self, check: &cel::Check) -> cel::Decision {
        let of_account;
        let user = match &check.service_account {
            None => &*self.user,
            Some((namespace, name)) => {
                of_account = User {
                    name: User::service_account_name(namespace, name),
                    groups: vec![
                        "system:serviceaccounts".into(),
                        format!("system:serviceaccounts:{namespace}"),
                    ],
                    ..User::default()
                };
                &of_account
            }
        };
        let fields = api::selectors::FieldSelector::parse(&check.field_selector);
        let attributes = authorization::Attributes {
            verb: &check.verb,
            is_resource: check.path.is_none(),
            group: &check.group,
            namespace: &check.namespace,
            resource: &check.resource,
            subresource: &check.subresource,
            name: &check.name,
            path: check.path.as_deref().unwrap_or_default(),
            // a selector that does not parse narrows nothing
            fields: fields.map_or_else(|_| Vec::new(), |f| f.terms().to_vec()),
        };
        let decision = self.authorizer.decide(user, &attributes);
        cel::Decision {
            allowed: decision.allowed,
            reason: decision.reason,
            error: None,
        }
    }
}

impl<'a> Activation<'a> for Variables<'a> {
    fn resolve(&self, name: &str) -> Option<Outcome<'a>> {
        let tree = |tree: Option<&'a Value>| tree.map_or(Ok(Cel::Null), |tree| cel::read(View::of(tree), None));
        let asker = || Arc::new(self.authorizer.clone());
        match name {
            "object" => Some(tree(Some(self.object))),
            "oldObject" => Some(tree(self.old)),
            "request" => Some(tree(Some(self.request))),
            "namespaceObject" => Some(tree(self.namespace)),
            "params" => Some(tree(self.params)),
            "authorizer" => Some(Ok(Cel::authorizer(asker()))),
            "authorizer.requestResource" => {
                let check = self.authorizer.resource.clone();
                Some(Ok(Cel::resource_check(asker(), check)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hold(expressions: &[&str], fails: bool, object: &Value) -> Result<bool, ConditionError> {
        let conditions: Vec<Value> = expressions
            .iter()
            .map(|e| json!({ "name": "x", "expression": e }))
            .collect();
        let conditions = Conditions::read(&json!({ "matchConditions": conditions }), fails, false);
        let known = |name: &str| (name == "object").then(|| cel::read(View::of(object), None));
        conditions.hold(&known)
    }

    #[test]
    fn a_condition_that_is_false_decides_before_one_that_fails() {
        let object = json!({ "a": 1 });
        assert_eq!(hold(&[], true, &object), Ok(true));
        assert_eq!(hold(&["object.a == 1", "true"], true, &object), Ok(true));
        assert_eq!(hold(&["object.b == 1", "object.a == 2"], true, &object), Ok(false));
        assert_eq!(hold(&["object.b == 1", "true"], false, &object), Ok(false));
        let why = hold(&["object.b == 1", "true"], true, &object).unwrap_err();
        assert_eq!(why.0, "expression 'object.b == 1' resulted in error: no such key: b");
    }

    #[test]
    fn conditions_share_a_budget() {
        let object = json!({ "l": vec![0; 1000] });
        let dear = "object.l.all(a, object.l.all(b, a == b || a != b)) || true";
        let why = hold(&[dear; 4], true, &object).unwrap_err();
        assert!(why.0.contains("cost"), "{why}");
        assert_eq!(hold(&[dear; 4], false, &object), Ok(false));
    }
}
