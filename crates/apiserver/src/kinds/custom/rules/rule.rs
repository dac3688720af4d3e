//! One validation rule: as it is written, and compiled.

use std::cell::OnceCell;
use std::sync::Arc;

use api::schema::structural::{Node, field_path};
use cel::{Checked, Declared, Environment, Fault, Issues, Program, Schema, Type};
use serde_json::Value;

use super::KEYWORD;
use super::known::Accepted;
use crate::expressions;

/// The name of object types in messages.
const TYPE: &str = "selfType";

/// The kind of error that a rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Invalid,
    Forbidden,
    Required,
    Duplicate,
}

impl Reason {
    fn read(name: &str) -> Option<Reason> {
        let all = [Reason::Invalid, Reason::Forbidden, Reason::Required, Reason::Duplicate];
        all.into_iter().find(|reason| reason.name() == name)
    }

    /// The reason as definitions write it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Invalid => "FieldValueInvalid",
            Reason::Forbidden => "FieldValueForbidden",
            Reason::Required => "FieldValueRequired",
            Reason::Duplicate => "FieldValueDuplicate",
        }
    }
}

/// A rule as it is written.
#[derive(Debug)]
pub(super) struct Written {
    pub rule: Box<str>,
    pub message: Box<str>,
    pub message_expression: Box<str>,
    pub reason: Option<Reason>,
    pub field_path: Box<str>,
    pub optional_old_self: Option<bool>,
}

/// Why a rule or the expression of its message does not compile, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub(super) enum RuleError {
    #[error("compilation failed: {0}")]
    Text(Issues),
    #[error("cel expression must evaluate to a bool")]
    Type,
    /// It was right until its constants were computed.
    #[error("program instantiation failed: {0}")]
    Instantiation(Fault),
    #[error("messageExpression compilation failed: {0}")]
    MessageText(Issues),
    #[error("messageExpression must evaluate to a string")]
    MessageType,
    #[error("messageExpression instantiation failed: {0}")]
    MessageInstantiation(Fault),
}

/// A compiled rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub written: Written,
    /// The program; none of an empty rule. Else the reason why it does not compile.
    pub program: Result<Option<Program>, RuleError>,
    pub uses_old_self: bool,
    /// The most that one evaluation may cost.
    pub cost: u64,
    /// The program of the message; none when there is no expression for it.
    pub message: Result<Option<Program>, RuleError>,
    pub message_cost: u64,
    /// The field that errors name, from the place of the rule on.
    pub field: Box<str>,
}

/// The rules that stand at a place of a schema.
pub(super) fn written(openapi: &Value) -> Vec<Written> {
    let rules = openapi.get(KEYWORD).and_then(Value::as_array).into_iter().flatten();
    let text =
        |rule: &Value, key: &str| -> Box<str> { rule.get(key).and_then(Value::as_str).unwrap_or_default().into() };
    let all = rules.map(|rule| Written {
        rule: text(rule, "rule"),
        message: text(rule, "message"),
        message_expression: text(rule, "messageExpression"),
        reason: Reason::read(&text(rule, "reason")),
        field_path: text(rule, "fieldPath"),
        optional_old_self: rule.get("optionalOldSelf").and_then(Value::as_bool),
    });
    all.collect()
}

/// The variables of the rules at one place.
pub(super) struct Scope {
    declared: Arc<Declared>,
    /// New expressions and stored ones, each with an `oldSelf` that is there and one that may be missing.
    environments: [OnceCell<Environment>; 4],
}

impl Scope {
    /// The scope of rules for such data; `None` when expressions do not see it.
    pub fn new(schema: &Schema) -> Option<Scope> {
        Some(Scope {
            declared: Arc::new(Declared::from_schema(schema, false, TYPE)?),
            environments: Default::default(),
        })
    }

    /// How often such data may occur in one object, at most.
    pub fn cardinality(&self) -> u64 {
        self.declared.max_cardinality()
    }

    fn environment(&self, stored: bool, optional: bool) -> &Environment {
        let place = usize::from(stored) * 2 + usize::from(optional);
        self.environments[place].get_or_init(|| {
            let base = if stored {
                expressions::for_stored()
            } else {
                expressions::for_new()
            };
            let of = self.declared.of.clone();
            let old = if optional { Type::optional(of) } else { of };
            base.clone()
                .with_declared("self", &self.declared)
                .with_variable("oldSelf", old)
        })
    }
}

impl Rule {
    /// Compiles a rule that stands at `openapi`. `accepted` are the expressions that were
    /// accepted before.
    pub fn compile(written: Written, scope: &Scope, openapi: &Value, accepted: Accepted<'_>) -> Rule {
        let mut rule = Rule {
            program: Ok(None),
            uses_old_self: false,
            cost: 0,
            message: Ok(None),
            message_cost: 0,
            field: Box::default(),
            written,
        };
        rule.fill(scope, openapi, accepted);
        rule
    }

    fn fill(&mut self, scope: &Scope, openapi: &Value, accepted: Accepted<'_>) {
        let written = &self.written;
        if written.rule.trim().is_empty() {
            return;
        }
        let optional = written.optional_old_self == Some(true);
        let environment = scope.environment(accepted.rule(&written.rule), optional);
        let checked = match check(environment, &written.rule, &Type::Bool) {
            Ok(checked) => checked,
            Err(Unfit::Text(issues)) => {
                self.program = Err(RuleError::Text(issues));
                return;
            }
            Err(Unfit::Type) => {
                self.program = Err(RuleError::Type);
                return;
            }
        };
        self.uses_old_self = checked.reads("oldSelf");
        match environment.plan(&checked) {
            Ok(program) => self.program = Ok(Some(program)),
            Err(fault) => {
                self.program = Err(RuleError::Instantiation(fault));
                return;
            }
        }
        self.cost = environment.estimate(&checked).max;
        if !written.message_expression.is_empty() {
            let environment = scope.environment(accepted.message(&written.message_expression), optional);
            match message(environment, &written.message_expression) {
                Ok((program, cost)) => {
                    self.message = Ok(Some(program));
                    self.message_cost = cost;
                }
                Err(why) => {
                    self.message = Err(why);
                    return;
                }
            }
        }
        if !written.field_path.is_empty() {
            let node = Node::compile(openapi);
            if let Ok((path, _)) = field_path::resolve(&node, &written.field_path, true) {
                self.field = path.into();
            }
        }
    }
}

enum Unfit {
    Text(Issues),
    Type,
}

fn check(environment: &Environment, text: &str, wanted: &Type) -> Result<Checked, Unfit> {
    let checked = environment.compile(text).map_err(Unfit::Text)?;
    if checked.output() == wanted {
        Ok(checked)
    } else {
        Err(Unfit::Type)
    }
}

fn message(environment: &Environment, text: &str) -> Result<(Program, u64), RuleError> {
    let checked = check(environment, text, &Type::String).map_err(|unfit| match unfit {
        Unfit::Text(issues) => RuleError::MessageText(issues),
        Unfit::Type => RuleError::MessageType,
    })?;
    let program = environment.plan(&checked);
    let program = program.map_err(RuleError::MessageInstantiation)?;
    Ok((program, environment.estimate(&checked).max))
}
