//! Folds: turns over the items of a list or the keys of a map.

use std::mem;
use std::sync::Arc;

use super::frame::{Frame, Slot};
use super::program::evaluate;
use super::{FoldNode, Gather, Node, Step};
use crate::library;
use crate::value::{Entries, Fault, List, Map, Outcome, Value, error, no_overload};

/// Evaluates a fold.
pub(super) fn fold<'p, 'a>(node: &'p FoldNode, frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    let range = evaluate(&node.range, frame)?;
    frame.slots[node.accumulator] = Slot::Unread(node);
    match &range {
        Value::List(list) => {
            for at in 0..list.len() {
                let Some(item) = list.get(at) else { break };
                let goes_on = match node.second {
                    Some(_) => turn(node, Ok(Value::Int(at as i64)), Some(item), frame)?,
                    None => turn(node, item, None, frame)?,
                };
                if !goes_on {
                    break;
                }
            }
        }
        Value::Map(map) => {
            for key in map.keys() {
                let value = node.second.map(|_| map.get(&key));
                if !turn(node, Ok(key), value, frame)? {
                    break;
                }
            }
        }
        other if node.second.is_some() => {
            return error(format!("unsupported comprehension range type: {}", other.go_type()));
        }
        other => return error(format!("got '{}', expected iterable type", other.go_type())),
    }
    frame.slots[node.variable] = Slot::Empty;
    let result = evaluate(&node.result, frame);
    frame.slots[node.accumulator] = Slot::Empty;
    result
}

/// One turn; false when the condition says that it was enough.
fn turn<'p, 'a>(
    node: &'p FoldNode,
    first: Outcome<'a>,
    second: Option<Outcome<'a>>,
    frame: &mut Frame<'p, 'a>,
) -> Result<bool, Fault> {
    frame.slots[node.variable] = Slot::Set(first);
    if let (Some(at), Some(value)) = (node.second, second) {
        frame.slots[at] = Slot::Set(value);
    }
    match evaluate(&node.condition, frame) {
        Ok(Value::Bool(false)) => return Ok(false),
        Err(fault @ (Fault::CostLimit | Fault::Interrupted)) => return Err(fault),
        _ => {}
    }
    let gathered = match &node.step {
        Step::Value(step) => evaluate(step, frame),
        Step::Gather { filter, parts, kind } => gather(node, filter.as_ref(), parts, *kind, frame),
    };
    if let Err(fault @ (Fault::CostLimit | Fault::Interrupted)) = gathered {
        return Err(fault);
    }
    frame.slots[node.accumulator] = Slot::Set(gathered);
    frame.turn()?;
    Ok(true)
}

/// A turn of a fold that gathers: what it gathered is changed in place, and costs what making it anew would cost.
fn gather<'p, 'a>(
    node: &'p FoldNode,
    filter: Option<&'p Node>,
    parts: &'p [Node],
    kind: Gather,
    frame: &mut Frame<'p, 'a>,
) -> Outcome<'a> {
    if let Some(filter) = filter {
        match evaluate(filter, frame)? {
            Value::Bool(true) => {}
            Value::Bool(false) => return take(node, frame),
            _ => return no_overload(),
        }
    }
    // what was gathered so far is read
    let so_far = frame.local(node.accumulator);
    if let Err(fault @ (Fault::CostLimit | Fault::Interrupted)) = so_far {
        return Err(fault);
    }
    let failed = so_far.err();
    frame.charge(1)?;
    if kind == Gather::Entry {
        return entry(node, failed, parts, frame);
    }
    let part = evaluate(&parts[0], frame);
    if let Err(fault @ (Fault::CostLimit | Fault::Interrupted)) = part {
        return Err(fault);
    }
    if kind == Gather::List && !matches!(parts[0], Node::Constant(_)) {
        // the list of one item
        frame.charge(10)?;
    }
    frame.charge(1)?;
    match (failed, kind, part) {
        (Some(fault), _, _) | (None, _, Err(fault)) => Err(fault),
        (None, Gather::List, Ok(item)) => push(node, item, frame),
        (None, _, Ok(Value::Map(map))) => {
            let mut entries = taken_entries(node, frame)?;
            for key in map.keys() {
                let value = map.get(&key)?;
                frame.hold(key.as_str().map_or(0, str::len))?;
                library::put(Arc::make_mut(&mut entries), key, value)?;
            }
            Ok(Value::Map(Map::Values(entries)))
        }
        (None, _, Ok(_)) => no_overload(),
    }
}

/// Puts a key and a value into the map that is gathered.
fn entry<'p, 'a>(
    node: &'p FoldNode,
    failed: Option<Fault>,
    parts: &'p [Node],
    frame: &mut Frame<'p, 'a>,
) -> Outcome<'a> {
    if let Some(fault) = failed {
        return Err(fault);
    }
    let key = evaluate(&parts[0], frame)?;
    let value = evaluate(&parts[1], frame);
    if let Err(fault @ (Fault::CostLimit | Fault::Interrupted)) = value {
        return Err(fault);
    }
    frame.charge(1)?;
    let value = value?;
    frame.hold(key.as_str().map_or(0, str::len))?;
    let mut entries = taken_entries(node, frame)?;
    library::put(Arc::make_mut(&mut entries), key, value)?;
    Ok(Value::Map(Map::Values(entries)))
}

/// Takes what was gathered out of its place, so that it can be changed there.
fn take<'p, 'a>(node: &'p FoldNode, frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    let value = frame.local(node.accumulator);
    if let Err(fault @ (Fault::CostLimit | Fault::Interrupted)) = value {
        return Err(fault);
    }
    drop(value);
    match mem::replace(&mut frame.slots[node.accumulator], Slot::Empty) {
        Slot::Set(outcome) => outcome,
        Slot::Empty | Slot::Unread(_) => no_overload(),
    }
}

fn push<'p, 'a>(node: &'p FoldNode, item: Value<'a>, frame: &mut Frame<'p, 'a>) -> Outcome<'a> {
    match take(node, frame)? {
        Value::List(List::Values(mut items)) => {
            Arc::make_mut(&mut items).push(item);
            Ok(Value::List(List::Values(items)))
        }
        _ => no_overload(),
    }
}

fn taken_entries<'p, 'a>(node: &'p FoldNode, frame: &mut Frame<'p, 'a>) -> Result<Arc<Entries<'a>>, Fault> {
    match take(node, frame)? {
        Value::Map(Map::Values(entries)) => Ok(entries),
        _ => no_overload(),
    }
}
