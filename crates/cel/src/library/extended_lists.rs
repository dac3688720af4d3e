//! More list functions (`ext.Lists`): `slice`, `flatten`, `sort`, `sortBy`, `reverse`, `distinct`, `lists.range`.

use std::cmp::Ordering;

use crate::cost::{Actual, Estimate, Estimated, Node, Range, STRING};
use crate::environment::Declarations;
use crate::value::{Fault, List, MOST_MADE, Outcome, Value, error, no_overload};

/// The longest list that `lists.range` makes.
const MAX_RANGE: i64 = 1_000_000;
const CREATE: u64 = 10;
const COMPARABLE: [(&str, &str); 8] = [
    ("int", "int"),
    ("uint", "uint"),
    ("double", "double"),
    ("bool", "bool"),
    ("duration", "google.protobuf.Duration"),
    ("timestamp", "google.protobuf.Timestamp"),
    ("string", "string"),
    ("bytes", "bytes"),
];

pub(super) fn declare(into: &mut Declarations) {
    into.member("slice", "list_slice", "list(T), int, int -> list(T)", slice);
    into.member("flatten", "list_flatten", "list(list(T)) -> list(T)", flatten);
    into.member("flatten", "list_flatten_int", "list(dyn), int -> list(dyn)", flatten);
    into.unguarded("flatten");
    for (t, name) in COMPARABLE {
        into.signature(
            "sort",
            &format!("list_{name}_sort"),
            true,
            &format!("list({t}) -> list({t})"),
        );
        into.signature(
            "@sortByAssociatedKeys",
            &format!("list_{name}_sortByAssociatedKeys"),
            true,
            &format!("list(T), list({t}) -> list(T)"),
        );
    }
    into.singleton("sort", sort);
    into.singleton("@sortByAssociatedKeys", sort);
    into.global("lists.range", "lists_range", "int -> list(int)", range);
    into.member("reverse", "list_reverse", "list(T) -> list(T)", reverse);
    into.member("distinct", "list_distinct", "list(T) -> list(T)", distinct);
}

fn list<'v, 'a>(args: &'v [Value<'a>], at: usize) -> Result<&'v List<'a>, Fault> {
    match args.get(at) {
        Some(Value::List(list)) => Ok(list),
        _ => no_overload(),
    }
}

fn slice<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let list = list(args, 0)?;
    let (Value::Int(start), Value::Int(end)) = (&args[1], &args[2]) else {
        return no_overload();
    };
    let (start, end, length) = (*start, *end, list.len() as i64);
    if start < 0 || end < 0 {
        return error(format!("cannot slice({start}, {end}), negative indexes not supported"));
    }
    if start > end {
        return error(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        ));
    }
    if length < end {
        return error(format!("cannot slice({start}, {end}), list is length {length}"));
    }
    if (end - start) as usize > MOST_MADE {
        return Err(Fault::CostLimit);
    }
    let items = list.iter().skip(start as usize).take((end - start) as usize);
    Ok(Value::list(items.collect::<Result<_, _>>()?))
}

fn flatten<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Value::List(list) = &args[0] else {
        let depth = args.get(1).map_or("", |d| d.type_name());
        let given = match &args[0] {
            Value::Map(_) => "map(dyn, dyn)",
            other => other.type_name(),
        };
        return error(format!("no such overload: {given}.flatten({depth})"));
    };
    let depth = match args.get(1) {
        None => 1,
        Some(Value::Int(n)) => *n,
        Some(other) => return error(format!("no such overload: list(dyn).flatten({})", other.type_name())),
    };
    if depth < 0 {
        return error("level must be non-negative");
    }
    let mut out = Vec::new();
    flatten_into(list, depth, &mut out)?;
    Ok(Value::list(out))
}

fn flatten_into<'a>(list: &List<'a>, depth: i64, out: &mut Vec<Value<'a>>) -> Result<(), Fault> {
    for item in list.iter() {
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, out)?,
            _ if out.len() >= MOST_MADE => return Err(Fault::CostLimit),
            other => out.push(other),
        }
    }
    Ok(())
}

/// Sorts a list by itself, or by keys of the same number.
fn sort<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let items = list(args, 0)?;
    let keys = if args.len() > 1 { list(args, 1)? } else { items };
    if items.len() != keys.len() {
        return error(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            items.len(),
            keys.len()
        ));
    }
    let keys = keys.values()?;
    let Some(first) = keys.first() else {
        return Ok(args[0].clone());
    };
    if !first.is_ordered() {
        return error("list elements must be comparable");
    }
    if keys.len() > 1 && keys.iter().any(|key| key.type_name() != first.type_name()) {
        return error("list elements must have the same type");
    }
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|a, b| keys[*a].compare(&keys[*b]).unwrap_or(Ordering::Equal));
    let items = items.values()?;
    Ok(Value::list(order.into_iter().map(|at| items[at].clone()).collect()))
}

fn range<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Value::Int(n) = args[0] else { return no_overload() };
    if n < 0 {
        return error(format!("lists.range: size must be non-negative, got {n}"));
    }
    if n > MAX_RANGE {
        return error(format!("lists.range: size {n} exceeds maximum allowed ({MAX_RANGE})"));
    }
    // a longer one costs more than an evaluation may
    if n as u64 > crate::limits::PER_CALL {
        return Err(Fault::CostLimit);
    }
    Ok(Value::list((0..n).map(Value::Int).collect()))
}

fn reverse<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let mut items = list(args, 0)?.values()?;
    items.reverse();
    Ok(Value::list(items))
}

fn distinct<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let list = list(args, 0)?;
    // comparing each with each costs more than an evaluation may
    if (list.len() as u64).saturating_mul(list.len() as u64) > crate::limits::PER_CALL {
        return Err(Fault::CostLimit);
    }
    let mut out: Vec<Value<'a>> = Vec::new();
    for item in list.iter() {
        let item = item?;
        if !out.iter().any(|other| item.equals(other) == Ok(true)) {
            out.push(item);
        }
    }
    Ok(Value::list(out))
}

fn allocated(factor: f64, size: u64) -> u64 {
    let factor = if factor < 0.0 { 1.0 } else { factor };
    ((size as f64 * factor) as u64).saturating_add(1 + CREATE)
}

fn compared(call: &Actual<'_, '_>, at: usize) -> u64 {
    let size = call.own_size(at);
    let mut factor = 2.0;
    if let Some(Ok(Value::List(list))) = call.args.get(at)
        && matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_))))
    {
        factor += STRING;
    }
    allocated(factor, size.saturating_mul(size))
}

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    Some(match call.overload {
        "list_slice" | "lists_range" | "list_reverse" => allocated(1.0, call.result_size()),
        "list_flatten" => allocated(1.0, call.own_size(0)),
        "list_flatten_int" => {
            let depth = match call.args.get(1) {
                Some(Ok(Value::Int(n))) => *n as f64,
                _ => 1.0,
            };
            allocated(depth, call.own_size(0))
        }
        "list_distinct" => compared(call, 0),
        id if id.ends_with("_sortByAssociatedKeys") => compared(call, 1),
        id if id.starts_with("list_") && id.ends_with("_sort") => compared(call, 0),
        _ => return None,
    })
}

fn estimated(factor: f64, size: Range) -> Estimate {
    Estimate::sized(size.factor(factor).add(Range::fixed(1 + CREATE)), size)
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    let target = call.target.as_ref();
    let size = |node: &Node<'_>| call.size(node);
    let literal = |at: usize, default: u64| {
        let node = call.args.get(at);
        node.and_then(|n| n.int()).map_or(default, |n| n.max(0) as u64)
    };
    Some(match call.overload {
        "list_slice" => {
            let of = size(target?);
            let (start, end) = (literal(0, 0), literal(1, of.max));
            estimated(1.0, Range::fixed(end.wrapping_sub(start)))
        }
        "lists_range" => estimated(1.0, Range::fixed(literal(0, u64::MAX))),
        "list_reverse" => estimated(1.0, size(target?)),
        "list_flatten" => estimated(1.0, size(target?)),
        "list_flatten_int" => estimated(literal(0, u64::MAX) as f64, size(target?)),
        "list_distinct" => {
            let of = size(target?);
            estimated(2.0, of.multiply(of))
        }
        id => {
            let keyed = id.ends_with("_sortByAssociatedKeys");
            let plain = id.starts_with("list_") && id.ends_with("_sort");
            if !keyed && !plain {
                return None;
            }
            let of = size(if keyed { call.args.first()? } else { target? });
            let textual = id.starts_with("list_string_") || id.starts_with("list_bytes_");
            let factor = if textual { 2.0 + STRING } else { 2.0 };
            estimated(factor, of.multiply(of))
        }
    })
}
