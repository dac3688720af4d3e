//! Costs: what an expression cost when it was evaluated, and what it is estimated to cost at most.

mod estimator;
mod range;

use std::sync::Arc;

pub(crate) use self::estimator::estimate;
pub use self::range::Range;
use crate::ast::{Expr, Kind, Literal};
use crate::environment::Environment;
use crate::types::Type;
use crate::value::{Outcome, Value};

/// The cost of walking over a character.
pub(crate) const STRING: f64 = 0.1;
/// The cost of a character of a regular expression.
pub(crate) const REGEX: f64 = 0.25;

/// A call that was made.
pub(crate) struct Actual<'c, 'a> {
    pub function: &'c str,
    /// The signature, or nothing when several were possible.
    pub overload: &'c str,
    pub args: &'c [Outcome<'a>],
    pub result: &'c Outcome<'a>,
}

impl Actual<'_, '_> {
    /// The size of an argument; of an optional one that of the value in it.
    pub fn size(&self, at: usize) -> u64 {
        match self.args.get(at) {
            Some(Ok(value)) => inner_size(value),
            _ => 1,
        }
    }

    /// The size of an argument itself.
    pub fn own_size(&self, at: usize) -> u64 {
        match self.args.get(at) {
            Some(Ok(value)) => value.size().unwrap_or(1),
            _ => 1,
        }
    }

    /// The size of the result, where it has one; 1 otherwise.
    pub fn result_size(&self) -> u64 {
        match self.result {
            Ok(value) => value.size().unwrap_or(1),
            Err(_) => 1,
        }
    }
}

fn inner_size(value: &Value<'_>) -> u64 {
    match value {
        Value::Optional(Some(inner)) => inner_size(inner),
        value => value.size().unwrap_or(1),
    }
}

/// A call that may be made.
pub(crate) struct Estimated<'c, 'e> {
    pub function: &'c str,
    pub overload: &'c str,
    pub target: Option<Node<'e>>,
    pub args: Vec<Node<'e>>,
    pub environment: &'c Environment,
}

/// A part of an expression, as far as the estimate knows it.
#[derive(Debug, Clone)]
pub(crate) struct Node<'e> {
    /// The way from a variable: names of fields, `@items`, `@keys`, `@values`.
    pub path: Option<Vec<Arc<str>>>,
    pub of: Type,
    pub expr: Option<&'e Expr>,
    pub size: Option<Range>,
}

impl Node<'_> {
    /// The whole number that is written here.
    pub fn int(&self) -> Option<i64> {
        match self.expr.map(|e| &e.kind) {
            Some(Kind::Literal(Literal::Int(n))) => Some(*n),
            _ => None,
        }
    }
}

impl Estimated<'_, '_> {
    /// The size of a part, by what is computed or else by the bounds of the data.
    pub fn size(&self, node: &Node<'_>) -> Range {
        let bounds = || bounds(self.environment, node.path.as_deref()?);
        node.size.or_else(bounds).unwrap_or(Range::UNKNOWN)
    }
}

/// The size that the declared bounds of a variable allow at the end of a path.
pub(crate) fn bounds(environment: &Environment, path: &[Arc<str>]) -> Option<Range> {
    let mut at = environment.bounds.as_ref()?;
    for name in path.get(1..)? {
        at = match &**name {
            "@items" | "@values" => at.element.as_ref()?,
            "@keys" => at.key.as_ref()?,
            field => at.fields.get(field)?,
        };
    }
    Some(Range::new(0, at.max_elements as u64))
}

/// An estimate of a call, without that of its arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Estimate {
    pub cost: Range,
    pub size: Option<Range>,
}

impl Estimate {
    /// A cost, with a result whose size is not known.
    pub fn cost(cost: Range) -> Estimate {
        Estimate { cost, size: None }
    }

    /// A cost, and the size of the result.
    pub fn sized(cost: Range, size: Range) -> Estimate {
        Estimate { cost, size: Some(size) }
    }
}
