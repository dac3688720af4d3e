//! Programs: plans that can be evaluated often, by many threads.

use std::sync::Arc;

use super::frame::{Activation, Frame, Interrupt};
use super::{Node, attribute, call, fold, plan};
use crate::checker::Checked;
use crate::cost::{Range, estimate};
use crate::environment::Environment;
use crate::value::{Entries, Fault, Map, Object, Outcome, Value, error, no_overload};
use crate::work;

/// A planned expression.
///
/// ```
/// use cel::{Environment, Limits, Schema, Type, Value};
/// let environment = Environment::kubernetes(37).with_variable("self", Type::Dyn);
/// let checked = environment.compile("self.replicas <= 5").unwrap();
/// let program = environment.plan(&checked).unwrap();
/// let data = serde_json::json!({ "replicas": 3 });
/// let value = cel::read(cel::View::of(&data), None).unwrap();
/// let variables = [("self", value)];
/// let evaluation = program.evaluate(&variables[..], &Limits::default());
/// assert!(matches!(evaluation.outcome, Ok(Value::Bool(true))));
/// assert_eq!(evaluation.cost, 3);
/// ```
#[derive(Debug)]
pub struct Program {
    root: Node,
    /// The variables that are read, by name.
    pub(super) globals: Vec<Arc<str>>,
    /// How many variables of folds there are at once.
    pub(super) slots: usize,
}

/// What stops an evaluation.
#[derive(Clone, Copy)]
pub struct Limits<'i> {
    /// The cost beyond which it stops.
    pub cost: u64,
    /// Somebody who may want it to stop.
    pub interrupt: Option<&'i dyn Interrupt>,
}

impl Default for Limits<'_> {
    fn default() -> Self {
        Limits {
            cost: crate::limits::PER_CALL,
            interrupt: None,
        }
    }
}

/// What came of an evaluation.
#[derive(Debug)]
pub struct Evaluation<'a> {
    /// The value, or why there is none.
    pub outcome: Outcome<'a>,
    /// What it cost, also when it failed.
    pub cost: u64,
}

impl Environment {
    /// Plans a checked expression. Constants are computed here.
    ///
    /// # Errors
    /// When a constant has no value, such as `int('a')`.
    pub fn plan(&self, checked: &Checked) -> Result<Program, Fault> {
        let (root, globals, slots) = plan::plan(checked, self)?;
        Ok(Program { root, globals, slots })
    }

    /// The least and the most that an evaluation of a checked expression may cost.
    pub fn estimate(&self, checked: &Checked) -> Range {
        estimate(checked, self)
    }
}

impl Program {
    /// Evaluates the program.
    pub fn evaluate<'a, A>(&self, activation: &A, limits: &Limits<'_>) -> Evaluation<'a>
    where
        A: Activation<'a> + ?Sized,
    {
        crate::library::begin();
        let _counted = work::Counted::begin();
        let activation = Shared(activation);
        let mut frame = Frame::new(self, &activation, limits);
        let outcome = evaluate(&self.root, &mut frame);
        Evaluation {
            outcome,
            cost: frame.cost,
        }
    }
}

/// An activation of any kind behind one type.
struct Shared<'s, A: ?Sized>(&'s A);

impl<'a, A: Activation<'a> + ?Sized> Activation<'a> for Shared<'_, A> {
    fn resolve(&self, name: &str) -> Option<Outcome<'a>> {
        self.0.resolve(name)
    }
}

/// Evaluates a part of a plan.
pub(super) fn evaluate<'p, 'a>(node: &'p Node, frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    match node {
        Node::Constant(value) => Ok(value.clone()),
        Node::Attribute(attribute) => attribute::evaluate(attribute, frame),
        Node::Test(attribute) => attribute::test(attribute, frame),
        Node::Or(sides) => logic(sides, true, frame),
        Node::And(sides) => logic(sides, false, frame),
        Node::Equal { sides, negated } => call::equal(sides, *negated, frame),
        Node::Call(node) => call::call(node, frame),
        Node::NotStrictlyFalse(inner) => {
            let value = evaluate(inner, frame);
            frame.charge(1)?;
            match value {
                Ok(Value::Bool(b)) => Ok(Value::Bool(b)),
                Ok(other) => error(format!("no such overload: @not_strictly_false({})", other.type_name())),
                Err(Fault::Error(_)) => Ok(Value::Bool(true)),
                Err(fault) => Err(fault),
            }
        }
        Node::OptionalOr { sides, value } => match evaluate(&sides[0], frame)? {
            Value::Optional(Some(inner)) if *value => Ok((*inner).clone()),
            some @ Value::Optional(Some(_)) => Ok(some),
            Value::Optional(None) => evaluate(&sides[1], frame),
            _ => no_overload(),
        },
        Node::Member { item, of } => {
            let item = evaluate(item, frame)?;
            let number = !matches!(item, Value::Double(n) if n.is_nan());
            Ok(Value::Bool(number && of.get(&item).is_some()))
        }
        Node::List { elements, optional } => {
            let list = list(elements, optional, frame);
            charged(list, 10, frame)
        }
        Node::Map(entries) => {
            let map = map(entries, frame);
            charged(map, 30, frame)
        }
        Node::Object { name, fields } => {
            let object = object(name, fields, frame);
            charged(object, 40, frame)
        }
        Node::Fold(node) => fold::fold(node, frame),
    }
}

/// Charges for what was made, also when it failed.
fn charged<'a>(made: Outcome<'a>, cost: u64, frame: &mut Frame<'_, 'a>) -> Outcome<'a> {
    if let Ok(made) = &made {
        frame.hold(made.made())?;
    }
    if let Err(fault @ (Fault::CostLimit | Fault::Interrupted)) = made {
        return Err(fault);
    }
    frame.charge(cost)?;
    made
}

/// `&&` and `||`: a side that decides makes an error of the other one disappear.
fn logic<'p, 'a>(sides: &'p [Node; 2], decides: bool, frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    let mut first = None;
    for side in sides {
        match evaluate(side, frame) {
            Ok(Value::Bool(b)) if b == decides => return Ok(Value::Bool(decides)),
            Ok(Value::Bool(_)) => {}
            Ok(_) => {
                first.get_or_insert_with(|| Fault::Error("no such overload".into()));
            }
            Err(fault @ Fault::Error(_)) => {
                first.get_or_insert(fault);
            }
            Err(fault) => return Err(fault),
        }
    }
    match first {
        Some(fault) => Err(fault),
        None => Ok(Value::Bool(!decides)),
    }
}

fn list<'p, 'a>(elements: &'p [Node], optional: &[bool], frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    let mut items = Vec::with_capacity(elements.len());
    for (element, optional) in elements.iter().zip(optional) {
        let item = evaluate(element, frame)?;
        match item {
            Value::Optional(inner) if *optional => items.extend(inner.map(|value| (*value).clone())),
            other if *optional => {
                return error(format!(
                    "cannot initialize optional list element from non-optional value {}",
                    other.plain()
                ));
            }
            item => items.push(item),
        }
    }
    Ok(Value::list(items))
}

/// The value of an optional entry, or `None` when there is none.
fn optional_entry<'a>(name: &str, value: Value<'a>) -> Result<Option<Value<'a>>, Fault> {
    match value {
        Value::Optional(inner) => Ok(inner.map(|value| (*value).clone())),
        other => error(format!(
            "cannot initialize optional entry '{name}' from non-optional value {}",
            other.plain()
        )),
    }
}

fn map<'p, 'a>(nodes: &'p [super::EntryNode], frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    let mut entries = Entries::default();
    for node in nodes {
        let key = evaluate(&node.key, frame)?;
        let value = evaluate(&node.value, frame)?;
        if !node.optional {
            entries.put(key, value);
            continue;
        }
        match optional_entry(&key.plain(), value)? {
            Some(value) => entries.put(key, value),
            None => entries.remove(&key),
        }
    }
    Ok(Value::Map(Map::Values(Arc::new(entries))))
}

fn object<'p, 'a>(name: &Arc<str>, nodes: &'p [super::FieldNode], frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    let mut fields: Vec<(Arc<str>, Value<'a>)> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let value = evaluate(&node.value, frame)?;
        let value = if node.optional {
            optional_entry(&node.name, value)?
        } else {
            Some(value)
        };
        fields.retain(|(n, _)| *n != node.name);
        fields.extend(value.map(|value| (node.name.clone(), value)));
    }
    if &**name != "JSONPatch" && &**name != "Object" && !name.starts_with("Object.") {
        return error(format!("unknown type '{name}'"));
    }
    Ok(Value::Object(Arc::new(Object {
        name: name.clone(),
        fields,
    })))
}
