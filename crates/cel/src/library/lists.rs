//! Kubernetes' list functions: `isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf`, and `includes` since v1.37.

use std::cmp::Ordering;

use crate::cost::{Actual, Estimate, Estimated, Node, Range, STRING};
use crate::environment::Declarations;
use crate::types::Type;
use crate::value::{List, Operator, Outcome, Value, error, no_overload};

pub(super) fn declare(into: &mut Declarations) {
    for t in [
        "int",
        "uint",
        "double",
        "bool",
        "duration",
        "timestamp",
        "string",
        "bytes",
    ] {
        let to = |result: &str| format!("list({t}) -> {result}");
        into.member("isSorted", &format!("list_{t}_is_sorted_bool"), &to("bool"), is_sorted);
        into.member("max", &format!("list_{t}_max_{t}"), &to(t), |a| {
            best(a, "max", Ordering::Less)
        });
        into.member("min", &format!("list_{t}_min_{t}"), &to(t), |a| {
            best(a, "min", Ordering::Greater)
        });
    }
    let mut sum = |t: &str, does: crate::environment::Implementation| {
        into.member("sum", &format!("list_{t}_sum_{t}"), &format!("list({t}) -> {t}"), does);
    };
    sum("int", |a| total(a, Value::Int(0)));
    sum("uint", |a| total(a, Value::Uint(0)));
    sum("double", |a| total(a, Value::Double(0.0)));
    sum("duration", |a| total(a, Value::Duration(0)));
    into.member("indexOf", "list_a_index_of_int", "list(A), A -> int", |a| {
        index_of(a, false)
    });
    into.member("lastIndexOf", "list_a_last_index_of_int", "list(A), A -> int", |a| {
        index_of(a, true)
    });
}

pub(super) fn declare_includes(into: &mut Declarations) {
    into.member("includes", "list_includes_dyn_dyn", "dyn, dyn -> bool", includes);
}

fn list<'v, 'a>(args: &'v [Value<'a>]) -> Option<&'v List<'a>> {
    match &args[0] {
        Value::List(list) => Some(list),
        _ => None,
    }
}

fn is_sorted<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Some(list) = list(args) else { return no_overload() };
    let mut before: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        if !item.is_ordered() {
            return no_overload();
        }
        if let Some(before) = before
            && before.compare(&item) == Ok(Ordering::Greater)
        {
            return Ok(Value::Bool(false));
        }
        before = Some(item);
    }
    Ok(Value::Bool(true))
}

fn total<'a>(args: &[Value<'a>], zero: Value<'a>) -> Outcome<'a> {
    let Some(list) = list(args) else { return no_overload() };
    let mut sum = zero;
    for item in list.iter() {
        sum = Operator::Add.apply(&sum, &item?)?;
    }
    Ok(sum)
}

fn best<'a>(args: &[Value<'a>], name: &str, worse: Ordering) -> Outcome<'a> {
    let Some(list) = list(args) else { return no_overload() };
    let mut best: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        if !item.is_ordered() {
            return no_overload();
        }
        if best.as_ref().is_none_or(|b| b.compare(&item) == Ok(worse)) {
            best = Some(item);
        }
    }
    best.map_or_else(|| error(format!("{name} called on empty list")), Ok)
}

fn index_of<'a>(args: &[Value<'a>], last: bool) -> Outcome<'a> {
    let Some(list) = list(args) else { return no_overload() };
    let is = |at: &usize| matches!(list.get(*at), Some(Ok(item)) if item.equals(&args[1]) == Ok(true));
    let found = if last {
        (0..list.len()).rev().find(is)
    } else {
        (0..list.len()).find(is)
    };
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

fn includes<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let equal = |value: &Value<'a>| value.equals(&args[1]) == Ok(true);
    Ok(Value::Bool(match list(args) {
        Some(list) => list.iter().any(|item| item.is_ok_and(|item| equal(&item))),
        None => equal(&args[0]),
    }))
}

const FUNCTIONS: [&str; 7] = ["isSorted", "sum", "max", "min", "indexOf", "lastIndexOf", "includes"];

/// What walking through a value costs.
fn traversal(value: &Outcome<'_>) -> u64 {
    if !crate::work::look() {
        return 1;
    }
    match value {
        Ok(Value::String(text)) => (text.len() as f64 * STRING) as u64,
        Ok(Value::Bytes(bytes)) => (bytes.len() as f64 * STRING) as u64,
        Ok(Value::List(list)) => list.iter().map(|item| traversal(&item)).sum(),
        Ok(Value::Map(map)) => {
            let keys = map.keys();
            let entry = |key: &Value<'_>| map.find(key).map_or(1, |value| traversal(&value));
            keys.iter().map(|key| entry(key) + traversal(&Ok(key.clone()))).sum()
        }
        _ => 1,
    }
}

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    FUNCTIONS
        .contains(&call.function)
        .then(|| call.args.first().map_or(0, traversal))
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    if !FUNCTIONS.contains(&call.function) {
        return None;
    }
    let target = call.target.as_ref()?;
    let mut each = Range::fixed(1);
    let size = call.size(target);
    let Some(element) = element_of(target) else {
        let cost = match call.function {
            "includes" => size.multiply(each),
            // a text's place in another
            _ => size.factor(STRING),
        };
        return Some(Estimate::cost(cost));
    };
    if matches!(element.of, Type::String | Type::Bytes) {
        each = each.add(call.size(&element).factor(STRING));
    }
    Some(Estimate::cost(size.multiply(each)))
}

/// The items of a list, as far as its type and path tell.
pub(super) fn element_of<'e>(list: &Node<'e>) -> Option<Node<'e>> {
    let of = (*list.of.params().first()?).clone();
    let path = list.path.as_ref().map(|path| {
        let mut path = path.clone();
        path.push("@items".into());
        path
    });
    Some(Node {
        path,
        of,
        expr: None,
        size: None,
    })
}
