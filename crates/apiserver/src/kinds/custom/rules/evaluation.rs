//! The evaluation of rules over an object: `Validator.validate` of upstream, with its budget and its words.

use std::time::Instant;

use api::field::FieldError;
use api::schema::path::Path;
use api::schema::structural::{Additional, Node};
use cel::{Evaluation, Fault, Limits, Program, Schema, Value as Cel, View};
use serde_json::{Value, json};

use super::correlation::{Correlated, KeyedItems, Kin};
use super::message::{self, Message};
use super::rule::{Reason, Rule, Written};
use super::{Place, Rules};
use crate::metrics::Expressions;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What the rules say of an object.
#[derive(Debug, Default)]
pub struct Found {
    pub errors: Vec<FieldError>,
    /// What is wrong, but was so before: the writer is warned of it.
    pub warnings: Vec<String>,
}

/// The rules that follow are not evaluated any more.
struct Spent;

impl Rules {
    /// Evaluates the rules over an object. Of what did not change since `old` the writer is only warned.
    pub fn check(&self, node: &Node, new: &Value, old: Option<&Value>) -> Found {
        let correlated = old.map(|old| Correlated::new(new, old, node));
        let kin = Kin {
            current: correlated.as_ref(),
            nearest: None,
        };
        let mut run = Run::new(
            i64::try_from(cel::limits::RUNTIME_BUDGET).unwrap_or(i64::MAX),
            &self.counted,
        );
        // the run that is out of budget says so in its errors
        let _ = run.place(&self.root, node, &self.schema, (new, old), kin, &Path::Root);
        run.found
    }

    /// Evaluates the rules over a default as upstream does: as a value that stays what it was, and as one that is new. Returns the
    /// errors, whose paths begin with the default's own, and the budget that is left: a negative one when nothing is to follow.
    pub fn check_default(&self, node: &Node, value: &Value, at: &Path<'_>, budget: i64) -> (Vec<FieldError>, i64) {
        let mut left = budget;
        for old in [Some(value), None] {
            let mut run = Run::new(budget, &self.counted);
            let outcome = run.place(&self.root, node, &self.schema, (value, old), Kin::default(), at);
            left = left.min(if outcome.is_ok() { run.budget } else { -1 });
            if !run.found.errors.is_empty() {
                return (run.found.errors, left);
            }
        }
        (Vec::new(), left)
    }
}

/// One walk over an object.
struct Run<'r> {
    budget: i64,
    found: Found,
    counted: &'r Expressions,
}

impl<'r> Run<'r> {
    fn new(budget: i64, counted: &'r Expressions) -> Run<'r> {
        Run {
            counted,
            budget,
            found: Found::default(),
        }
    }

    fn invalid(&mut self, node: &Node, at: &Path<'_>, why: String) {
        self.found
            .errors
            .push(FieldError::invalid(field(at), json!(&*node.kind), why));
    }

    fn spent<T>(&mut self, node: &Node, at: &Path<'_>) -> Result<T, Spent> {
        self.invalid(node, at, OUT_OF_BUDGET.into());
        Err(Spent)
    }

    /// Evaluates the rules of a place and those below it.
    fn place<'a>(
        &mut self,
        place: &Place,
        node: &'a Node,
        schema: &'a Schema,
        (new, old): (&'a Value, Option<&'a Value>),
        kin: Kin<'_, 'a>,
        at: &Path<'_>,
    ) -> Result<(), Spent> {
        // whether a null may stand here is for the rules above to say
        if new.is_null() {
            return Ok(());
        }
        let old = old.filter(|old| !old.is_null());
        self.rules(place, node, schema, (new, old), kin, at)?;
        match new {
            Value::Array(list) => self.items(place, node, schema, (list, old), kin, at),
            Value::Object(map) => {
                let before = |key: &str| old?.as_object()?.get(key);
                if let (Some(place), Some(schema), Additional::Schema(node)) =
                    (&place.additional, &schema.additional_properties, &node.additional)
                {
                    for (key, value) in map {
                        let at = Path::Subscript(at, key);
                        self.below(place, node, schema, (value, before(key)), kin, &at, |c| c.key(key))?;
                    }
                }
                let Some(schemas) = &schema.properties else {
                    return Ok(());
                };
                for (key, place) in &place.properties {
                    let Some(value) = map.get(&**key) else { continue };
                    let (Some(node), Some(schema)) = (node.properties.get(&**key), schemas.get(&**key)) else {
                        continue;
                    };
                    let under = Path::Key(at, key);
                    // nobody sees how type and version were before: both objects are converted to what was asked for
                    if at.is_root() && kin.nearest.is_none() && matches!(&**key, "apiVersion" | "kind") {
                        self.place(place, node, schema, (value, before(key)), Kin::default(), &under)?;
                    } else {
                        self.below(place, node, schema, (value, before(key)), kin, &under, |c| c.key(key))?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A value one step down; `step` finds what it was before.
    fn below<'a>(
        &mut self,
        place: &Place,
        node: &'a Node,
        schema: &'a Schema,
        values: (&'a Value, Option<&'a Value>),
        kin: Kin<'_, 'a>,
        at: &Path<'_>,
        step: impl FnOnce(&Correlated<'a>) -> Option<Correlated<'a>>,
    ) -> Result<(), Spent> {
        let Some(current) = kin.current else {
            return self.place(place, node, schema, values, kin, at);
        };
        let correlated = step(current);
        let kin = Kin {
            current: correlated.as_ref(),
            nearest: Some(current),
        };
        self.place(place, node, schema, values, kin, at)
    }

    fn items<'a>(
        &mut self,
        place: &Place,
        node: &'a Node,
        schema: &'a Schema,
        (list, old): (&'a [Value], Option<&'a Value>),
        kin: Kin<'_, 'a>,
        at: &Path<'_>,
    ) -> Result<(), Spent> {
        let (Some(place), Some(items), Some(schema)) = (&place.items, &node.items, &schema.items) else {
            return Ok(());
        };
        // only items with keys are known again
        let before = old.and_then(Value::as_array).and_then(|old| KeyedItems::new(node, old));
        for (i, item) in list.iter().enumerate() {
            let old = before.as_ref().and_then(|before| before.like(item));
            let at = Path::Index(at, i);
            self.below(place, items, schema, (item, old), kin, &at, |c| c.index(i))?;
        }
        Ok(())
    }

    /// Evaluates the rules of one place.
    fn rules<'a>(
        &mut self,
        place: &Place,
        node: &Node,
        schema: &'a Schema,
        (new, old): (&'a Value, Option<&'a Value>),
        kin: Kin<'_, '_>,
        at: &Path<'_>,
    ) -> Result<(), Spent> {
        if place.invisible {
            let why = "rule compiler initialization error: failed to convert to declType for CEL validation rules";
            self.invalid(node, at, why.into());
            return Ok(());
        }
        if place.rules.is_empty() {
            return Ok(());
        }
        if self.budget <= 0 {
            return self.spent(node, at);
        }
        let begun = Instant::now();
        let done = self.all(place, node, schema, (new, old), kin, at);
        self.counted.evaluation.observe_time(begun.elapsed());
        done
    }

    fn all<'a>(
        &mut self,
        place: &Place,
        node: &Node,
        schema: &'a Schema,
        (new, old): (&'a Value, Option<&'a Value>),
        kin: Kin<'_, '_>,
        at: &Path<'_>,
    ) -> Result<(), Spent> {
        let values = Values {
            new,
            old,
            schema,
            knows_old: place.uses_old_self,
        };
        for rule in &place.rules {
            let program = match &rule.program {
                Ok(Some(program)) => program,
                Ok(None) => continue,
                Err(why) => {
                    self.invalid(node, at, format!("rule compile error: {why}"));
                    continue;
                }
            };
            let optional = rule.written.optional_old_self == Some(true);
            if rule.uses_old_self && old.is_none() && !optional {
                continue;
            }
            if self.holds(rule, program, &values, optional, node, at)? {
                continue;
            }
            let detail = self.detail(rule, &values, node, kin, at)?;
            let bad = (!matches!(&*node.kind, "object" | "array")).then(|| new.clone());
            self.tell(rule, kin, broken(rule, at, bad, detail));
        }
        Ok(())
    }

    /// Whether a rule holds, or what came of it was told.
    fn holds(
        &mut self,
        rule: &Rule,
        program: &Program,
        values: &Values<'_>,
        optional: bool,
        node: &Node,
        at: &Path<'_>,
    ) -> Result<bool, Spent> {
        let evaluation = values.evaluate(program, optional);
        if !self.pay(evaluation.cost) {
            return self.spent(node, at);
        }
        let text = error_text(&rule.written);
        match evaluation.outcome {
            Ok(Cel::Bool(true)) => return Ok(true),
            Ok(_) => return Ok(false),
            Err(fault @ Fault::CostLimit) => {
                let why = format!(
                    "'{fault}': no further validation rules will be run due to call cost exceeds limit for rule: {text}"
                );
                self.invalid(node, at, why);
                return Err(Spent);
            }
            Err(fault) => {
                let fault = fault.to_string();
                let why = if fault.starts_with("no such overload") {
                    format!(
                        "'{fault}': call arguments did not match a supported operator, function or macro signature for rule: {text}"
                    )
                } else {
                    format!("{fault} evaluating rule: {text}")
                };
                self.invalid(node, at, why);
            }
        }
        Ok(true)
    }

    /// Takes a cost from the budget; false when there is less left.
    fn pay(&mut self, cost: u64) -> bool {
        match i64::try_from(cost) {
            Ok(cost) if cost <= self.budget => {
                self.budget -= cost;
                true
            }
            _ => false,
        }
    }

    /// The message of a rule that is broken.
    fn detail(
        &mut self,
        rule: &Rule,
        values: &Values<'_>,
        node: &Node,
        kin: Kin<'_, '_>,
        at: &Path<'_>,
    ) -> Result<String, Spent> {
        if let Ok(Some(program)) = &rule.message {
            let evaluation = values.evaluate(program, false);
            let paid = self.pay(evaluation.cost);
            match message::of(evaluation.outcome, paid, &rule.written.message_expression) {
                Message::Text(text) => return Ok(text),
                Message::Failed(why) => tracing::debug!(why, "a message expression failed"),
                Message::Spent(why) => {
                    let error = FieldError::invalid(field_of(rule, at), json!(&*node.kind), why);
                    self.tell(rule, kin, error);
                    return Err(Spent);
                }
            }
        }
        let message = rule.written.message.trim();
        Ok(if rule.written.message.is_empty() {
            format!("failed rule: {}", error_text(&rule.written))
        } else {
            message.to_owned()
        })
    }

    fn tell(&mut self, rule: &Rule, kin: Kin<'_, '_>, error: FieldError) {
        if !rule.uses_old_self && kin.is_same() {
            self.found.warnings.push(error.to_string());
        } else {
            self.found.errors.push(error);
        }
    }
}

/// The values that the rules of one place see.
struct Values<'a> {
    new: &'a Value,
    old: Option<&'a Value>,
    schema: &'a Schema,
    /// `oldSelf` is a variable here.
    knows_old: bool,
}

impl<'a> Values<'a> {
    /// `optional` says that `oldSelf` is an optional value.
    fn evaluate(&self, program: &Program, optional: bool) -> Evaluation<'a> {
        let read = |value: &'a Value| cel::read(View::of(value), Some(self.schema));
        let variables = |name: &str| match name {
            "self" => Some(read(self.new)),
            "oldSelf" if !self.knows_old => None,
            "oldSelf" if optional => Some(match self.old.map(read).transpose() {
                Ok(old) => Ok(Cel::Optional(old.map(std::sync::Arc::new))),
                Err(fault) => Err(fault),
            }),
            "oldSelf" => self.old.map(read),
            _ => None,
        };
        program.evaluate(&variables, &Limits::default())
    }
}

/// The rule as errors name it.
fn error_text(written: &Written) -> &str {
    if written.message.is_empty() {
        written.rule.trim()
    } else {
        written.message.trim()
    }
}

fn field(at: &Path<'_>) -> String {
    if at.is_root() {
        "<nil>".to_owned()
    } else {
        at.text(true)
    }
}

fn field_of(rule: &Rule, at: &Path<'_>) -> String {
    match &*rule.field {
        "" => field(at),
        path => Path::Key(at, path).text(true),
    }
}

fn broken(rule: &Rule, at: &Path<'_>, bad: Option<Value>, detail: String) -> FieldError {
    let field = field_of(rule, at);
    match (rule.written.reason.unwrap_or(Reason::Invalid), bad) {
        (Reason::Forbidden, _) => FieldError::forbidden(field, detail),
        (Reason::Required, _) => FieldError::required(field, detail),
        (Reason::Duplicate, bad) => FieldError {
            bad_value: bad,
            ..FieldError::duplicate(field, Value::Null)
        },
        (Reason::Invalid, Some(bad)) => FieldError::invalid(field, bad, detail),
        (Reason::Invalid, None) => FieldError::unfit(field, detail),
    }
}
