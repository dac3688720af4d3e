//! Attributes: variables and values, and the fields, keys and indexes selected of them.

use super::frame::Frame;
use super::program::evaluate as evaluate_node;
use super::{Attribute, Base, Key, Qualifier};
use crate::value::{Fault, List, Map, Outcome, Value, error};

/// Evaluates an attribute that stands for itself.
pub(super) fn evaluate<'p, 'a>(attribute: &'p Attribute, frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    let value = resolve(attribute, frame);
    finish(attribute, value, 1, frame)
}

/// Charges for the variable; a choice costs only what is in it.
fn finish<'a>(attribute: &Attribute, value: Outcome<'a>, cost: u64, frame: &mut Frame<'_, 'a>) -> Outcome<'a> {
    if let Err(fault @ (Fault::CostLimit | Fault::Interrupted)) = value {
        return Err(fault);
    }
    let choice = matches!(attribute.base, Base::Choice(_));
    frame.charge(if choice { 0 } else { cost })?;
    value
}

/// `has(...)`: the variable itself is free.
pub(super) fn test<'p, 'a>(attribute: &'p Attribute, frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    let value = resolve(attribute, frame);
    let value = finish(attribute, value, 0, frame);
    if matches!(attribute.base, Base::Choice(_)) {
        frame.cost = frame.cost.saturating_sub(1);
    }
    match value? {
        Value::Optional(inner) => Ok(Value::Bool(inner.is_some())),
        other => Ok(other),
    }
}

/// The value of an attribute, without the cost of its variable.
pub(super) fn resolve<'p, 'a>(attribute: &'p Attribute, frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    let value = match &attribute.base {
        Base::Global(at) => frame.global(*at)?,
        Base::Local(at) => frame.local(*at)?,
        Base::Value(node) => evaluate_node(node, frame)?,
        Base::Choice(choice) => {
            return match evaluate_node(&choice.condition, frame)? {
                Value::Bool(true) => resolve(&choice.yes, frame),
                Value::Bool(false) => resolve(&choice.no, frame),
                _ => crate::value::no_overload(),
            };
        }
    };
    qualify_all(value, &attribute.qualifiers, frame)
}

fn qualify_all<'p, 'a>(
    value: Value<'a>,
    qualifiers: &'p [std::sync::Arc<Qualifier>],
    frame: &mut Frame<'p, 'a>,
) -> Outcome<'a> {
    let (mut value, mut optional) = match value {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => ((*inner).clone(), true),
        value => (value, false),
    };
    for qualifier in qualifiers {
        optional |= qualifier.optional;
        let found = select(&value, qualifier, optional || qualifier.test, frame);
        match found {
            Ok(found) => {
                // a field that is not there costs nothing when it may be missing
                if found.is_some() || !optional {
                    frame.charge(1)?;
                }
                value = match (found, qualifier.test, optional) {
                    (None, _, true) => return Ok(Value::Optional(None)),
                    (found, true, false) => Value::Bool(found.is_some()),
                    (Some(found), _, _) => found,
                    (None, _, false) => return error("no such key"),
                };
            }
            Err(fault @ Fault::Error(_)) => {
                if !optional {
                    frame.charge(1)?;
                }
                return Err(fault);
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(if optional { Value::some(value) } else { value })
}

/// The value that a qualifier selects; `None` when it is not there and may be missing.
fn select<'p, 'a>(
    value: &Value<'a>,
    qualifier: &'p Qualifier,
    may_miss: bool,
    frame: &mut Frame<'p, 'a>,
) -> Result<Option<Value<'a>>, Fault> {
    let computed;
    let key: &Value<'a> = match &qualifier.key {
        Key::Constant(key) => key,
        Key::Attribute(attribute) => {
            computed = resolve(attribute, frame)?;
            &computed
        }
        Key::Value(node) => {
            computed = evaluate_node(node, frame)?;
            &computed
        }
    };
    if !matches!(
        key,
        Value::String(_) | Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::Double(_)
    ) {
        return error(format!("invalid qualifier type: {}", key.go_type()));
    }
    if qualifier.of_object
        && let (Value::Object(object), Some(name)) = (value, key.as_str())
    {
        // a field that was not set is null
        let field = object.field(name).cloned();
        return Ok(if may_miss {
            field
        } else {
            Some(field.unwrap_or(Value::Null))
        });
    }
    match value {
        Value::Map(map) => in_map(map, key, may_miss),
        Value::List(list) => in_list(list, key, may_miss),
        Value::Object(object) => match key.as_str().and_then(|name| object.field(name)) {
            Some(field) => Ok(Some(field.clone())),
            None => missing(key, may_miss),
        },
        _ => missing(key, may_miss),
    }
}

fn missing<'a>(key: &Value<'_>, may_miss: bool) -> Result<Option<Value<'a>>, Fault> {
    if may_miss {
        return Ok(None);
    }
    error(format!("no such key: {}", key.plain()))
}

fn in_map<'a>(map: &Map<'a>, key: &Value<'_>, may_miss: bool) -> Result<Option<Value<'a>>, Fault> {
    match map.find(key) {
        Some(found) => found.map(Some),
        None => missing(key, may_miss),
    }
}

fn in_list<'a>(list: &List<'a>, key: &Value<'_>, may_miss: bool) -> Result<Option<Value<'a>>, Fault> {
    let at = match key {
        Value::Int(n) => *n,
        Value::Uint(n) => match i64::try_from(*n) {
            Ok(n) => n,
            Err(_) => return error(format!("unsupported index value {n} in list")),
        },
        Value::Double(n) if n.fract() == 0.0 && n.abs() < 9.2e18 => *n as i64,
        Value::Double(_) => return error(format!("unsupported index value {} in list", key.plain())),
        other => return error(format!("unsupported index type '{}' in list", other.type_name())),
    };
    let found = usize::try_from(at).ok().and_then(|at| list.get(at));
    match found {
        Some(_) if list.is_by_schema() && !matches!(key, Value::Int(_)) => {
            error(format!("unsupported index: {}", key.plain()))
        }
        Some(found) => found.map(Some),
        None if may_miss => Ok(None),
        None => error(format!("index out of bounds: {}", key.plain())),
    }
}
