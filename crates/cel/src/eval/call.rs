//! Calls: arguments are evaluated, the implementation is found by their types, and the cost is charged.

use std::sync::Arc;

use super::frame::Frame;
use super::program::evaluate;
use super::{CallNode, Does, Node};
use crate::cost::Actual;
use crate::environment::Implementation;
use crate::library;
use crate::types::Type;
use crate::value::{Fault, Outcome, Value, error};

/// `==` and `!=`.
pub(super) fn equal<'p, 'a>(sides: &'p [Node; 2], negated: bool, frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    let args = [argument(&sides[0], frame)?, argument(&sides[1], frame)?];
    let result = match &args {
        [Ok(left), Ok(right)] => {
            let equal = left.equals(right);
            if negated {
                // what cannot be compared is not equal
                Ok(Value::Bool(equal != Ok(true)))
            } else {
                equal.map(Value::Bool)
            }
        }
        [Err(fault), _] | [_, Err(fault)] => Err(fault.clone()),
    };
    let (function, overload) = if negated {
        ("_!=_", "not_equals")
    } else {
        ("_==_", "equals")
    };
    charge(function, overload, &args, &result, frame)?;
    result
}

/// The outcome of an argument; errors of the language are kept, others end the evaluation.
fn argument<'p, 'a>(node: &'p Node, frame: &mut Frame<'p, 'a>) -> Result<Outcome<'a>, Fault> {
    match evaluate(node, frame) {
        Err(fault @ (Fault::CostLimit | Fault::Interrupted)) => Err(fault),
        outcome => Ok(outcome),
    }
}

fn charge<'a>(
    function: &str,
    overload: &str,
    args: &[Outcome<'a>],
    result: &Outcome<'a>,
    frame: &mut Frame<'_, 'a>,
) -> Result<(), Fault> {
    if let Err(fault @ (Fault::CostLimit | Fault::Interrupted)) = result {
        return Err(fault.clone());
    }
    // what some functions make costs little, however much it is
    if let Ok(made) = result {
        frame.hold(made.made())?;
    }
    let call = Actual {
        function,
        overload,
        args,
        result,
    };
    frame.charge(library::actual(&call).unwrap_or(1))
}

/// Any other call.
pub(super) fn call<'p, 'a>(node: &'p CallNode, frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    let mut args: Vec<Outcome<'a>> = Vec::with_capacity(node.args.len());
    for (at, arg) in node.args.iter().enumerate() {
        let value = argument(arg, frame)?;
        let last = at + 1 == node.args.len();
        if node.stops_at_error
            && !last
            && let Err(fault) = value
        {
            // a call whose arguments were not all evaluated costs nothing
            return Err(fault);
        }
        args.push(value);
    }
    let mut values = Vec::with_capacity(args.len());
    let mut fault = None;
    for arg in &args {
        match arg {
            Ok(value) => values.push(value.clone()),
            Err(why) => {
                fault.get_or_insert_with(|| why.clone());
            }
        }
    }
    let result = match (fault, &node.pattern) {
        (Some(fault), _) => Err(fault),
        (None, Some(pattern)) => library::with_pattern(&node.function, pattern, &values),
        (None, None) => node.does.apply(&node.function, &values),
    };
    charge(&node.function, &node.overload, &args, &result, frame)?;
    result
}

impl Does {
    /// What a call comes to.
    pub fn apply<'a>(&self, function: &str, values: &[Value<'a>]) -> Outcome<'a> {
        match self {
            Does::Plain(does) => does(values),
            Does::Typed(does, types) if fit(types, values) => does(values),
            Does::Typed(..) => no_such(function, values),
            Does::Choice(all) => {
                let fitting = all
                    .iter()
                    .find(|(_, types, unguarded)| types.len() == values.len() && (*unguarded || fit(types, values)));
                match fitting {
                    Some((does, ..)) => does(values),
                    None => no_such(function, values),
                }
            }
        }
    }

    /// What an implementation and the types of its arguments make.
    pub fn typed(does: Implementation, types: &[Type], unguarded: bool) -> Does {
        if unguarded {
            Does::Plain(does)
        } else {
            Does::Typed(does, Arc::from(types))
        }
    }
}

fn no_such<'a>(function: &str, values: &[Value<'a>]) -> Outcome<'a> {
    let types: Vec<&str> = values.iter().map(Value::type_name).collect();
    error(format!("no such overload: {function}({})", types.join(", ")))
}

fn fit(types: &[Type], values: &[Value<'_>]) -> bool {
    types.len() == values.len() && types.iter().zip(values).all(|(t, value)| fits(t, value))
}

/// Whether a value may be given where a type is declared. Of lists and maps only the first item is looked at.
fn fits(t: &Type, value: &Value<'_>) -> bool {
    match (t, value) {
        (Type::Dyn | Type::Param(_) | Type::Variable(_), _) => true,
        (Type::List(item), Value::List(list)) => match list.get(0) {
            None => true,
            Some(Ok(first)) => fits(item, &first),
            Some(Err(_)) => matches!(**item, Type::Dyn | Type::Param(_)),
        },
        (Type::Map(both), Value::Map(map)) => match map.keys().first() {
            None => true,
            Some(key) => fits(&both.0, key) && map.get(key).is_ok_and(|value| fits(&both.1, &value)),
        },
        (t, value) => t.name() == value.type_name(),
    }
}
