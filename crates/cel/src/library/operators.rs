//! Operators: logic, equality, arithmetic, order, indexes and membership.

use std::cmp::Ordering;

use crate::cost::{Actual, Estimate, Estimated, Range};
use crate::environment::Declarations;
use crate::types::Type;
use crate::value::{Operator, Outcome, Value, error, negate, no_overload};

pub(super) fn declare(into: &mut Declarations) {
    into.signature("_?_:_", "conditional", false, "bool, A, A -> A");
    into.signature("_&&_", "logical_and", false, "bool, bool -> bool");
    into.signature("_||_", "logical_or", false, "bool, bool -> bool");
    into.signature("!_", "logical_not", false, "bool -> bool");
    into.singleton("!_", not);
    into.signature("@not_strictly_false", "not_strictly_false", false, "bool -> bool");
    into.signature("_==_", "equals", false, "A, A -> bool");
    into.signature("_!=_", "not_equals", false, "A, A -> bool");
    arithmetic(into);
    order(into);
    into.signature("_[_]", "index_list", false, "list(A), int -> A");
    into.signature("_[_]", "index_map", false, "map(A, B), A -> B");
    into.signature("@in", "in_list", false, "A, list(A) -> bool");
    into.signature("@in", "in_map", false, "A, map(A, B) -> bool");
    into.singleton("@in", contains);
}

fn arithmetic(into: &mut Declarations) {
    for (function, prefix, kinds) in [
        ("_+_", "add", "bytes double duration list string int64 uint64 "),
        ("_-_", "subtract", "double int64 uint64 "),
        ("_*_", "multiply", "double int64 uint64 "),
        ("_/_", "divide", "double int64 uint64 "),
        ("_%_", "modulo", "int64 uint64 "),
    ] {
        for kind in kinds.split_terminator(' ') {
            let t = match kind {
                "int64" => "int",
                "uint64" => "uint",
                "list" => "list(A)",
                other => other,
            };
            let id = match kind {
                "duration" => format!("{prefix}_duration_duration"),
                kind => format!("{prefix}_{kind}"),
            };
            into.signature(function, &id, false, &format!("{t}, {t} -> {t}"));
        }
    }
    let times = [
        ("_+_", "add_duration_timestamp", "duration, timestamp -> timestamp"),
        ("_+_", "add_timestamp_duration", "timestamp, duration -> timestamp"),
        ("_-_", "subtract_duration_duration", "duration, duration -> duration"),
        ("_-_", "subtract_timestamp_duration", "timestamp, duration -> timestamp"),
        (
            "_-_",
            "subtract_timestamp_timestamp",
            "timestamp, timestamp -> duration",
        ),
    ];
    for (function, id, signature) in times {
        into.signature(function, id, false, signature);
    }
    into.singleton("_+_", |args| Operator::Add.apply(&args[0], &args[1]));
    into.singleton("_-_", |args| Operator::Subtract.apply(&args[0], &args[1]));
    into.singleton("_*_", |args| Operator::Multiply.apply(&args[0], &args[1]));
    into.singleton("_/_", |args| Operator::Divide.apply(&args[0], &args[1]));
    into.singleton("_%_", |args| Operator::Modulo.apply(&args[0], &args[1]));
    into.signature("-_", "negate_double", false, "double -> double");
    into.signature("-_", "negate_int64", false, "int -> int");
    into.singleton("-_", |args| negate(&args[0]));
}

fn order(into: &mut Declarations) {
    for (function, prefix) in [
        ("_<_", "less"),
        ("_<=_", "less_equals"),
        ("_>_", "greater"),
        ("_>=_", "greater_equals"),
    ] {
        let kinds = [
            ("bool", "bool, bool"),
            ("int64", "int, int"),
            ("int64_double", "int, double"),
            ("int64_uint64", "int, uint"),
            ("uint64", "uint, uint"),
            ("uint64_double", "uint, double"),
            ("uint64_int64", "uint, int"),
            ("double", "double, double"),
            ("double_int64", "double, int"),
            ("double_uint64", "double, uint"),
            ("string", "string, string"),
            ("bytes", "bytes, bytes"),
            ("timestamp", "timestamp, timestamp"),
            ("duration", "duration, duration"),
        ];
        for (kind, args) in kinds {
            into.signature(function, &format!("{prefix}_{kind}"), false, &format!("{args} -> bool"));
        }
    }
    into.singleton("_<_", |args| ordered(args, "_<_", |o| o == Ordering::Less));
    into.singleton("_<=_", |args| ordered(args, "_<=_", |o| o != Ordering::Greater));
    into.singleton("_>_", |args| ordered(args, "_>_", |o| o == Ordering::Greater));
    into.singleton("_>=_", |args| ordered(args, "_>=_", |o| o != Ordering::Less));
}

fn ordered<'a>(args: &[Value<'a>], function: &str, holds: fn(Ordering) -> bool) -> Outcome<'a> {
    if !args[0].is_ordered() {
        return error(format!("no such overload: {function}"));
    }
    args[0].compare(&args[1]).map(|order| Value::Bool(holds(order)))
}

fn not<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args[0] {
        Value::Bool(b) => Ok(Value::Bool(!b)),
        _ => no_overload(),
    }
}

/// `x in y`.
pub(super) fn contains<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match &args[1] {
        Value::List(list) => list_contains(list, &args[0]),
        Value::Map(map) => match map.find(&args[0]) {
            Some(Err(fault)) => Err(fault),
            found => Ok(Value::Bool(found.is_some())),
        },
        _ => no_overload(),
    }
}

/// Whether an item of a list equals a value.
pub(super) fn list_contains<'a>(list: &crate::value::List<'a>, value: &Value<'a>) -> Outcome<'a> {
    let by_schema = matches!(list, crate::value::List::Data(data) if data.schema.is_some());
    let mut fault = None;
    for item in list.iter() {
        let equal = match item {
            Ok(item) if by_schema => item.equals(value),
            Ok(item) => value.equals(&item),
            Err(why) => Err(why),
        };
        match equal {
            Ok(true) => return Ok(Value::Bool(true)),
            Ok(false) => {}
            Err(why) => {
                if by_schema {
                    fault.get_or_insert(why);
                }
            }
        }
    }
    match fault {
        Some(why) => Err(why),
        None => Ok(Value::Bool(false)),
    }
}

/// Equality of values of Kubernetes' own types has a cost of its own.
pub(super) fn actual_equality(call: &Actual<'_, '_>) -> Option<u64> {
    if call.function != "_==_" || call.args.len() != 2 {
        return None;
    }
    matches!(&call.args[0], Ok(Value::Opaque(opaque)) if !opaque.compares_by_size()).then_some(1)
}

pub(super) fn estimate_equality(call: &Estimated<'_, '_>) -> Option<Estimate> {
    let [left, right] = &call.args[..] else { return None };
    if call.function != "_==_" || left.of != right.of {
        return None;
    }
    let name = match &left.of {
        Type::Opaque(name, _) | Type::Struct(name) => &**name,
        _ => return None,
    };
    let cost = match name {
        "net.IP" | "net.CIDR" | "kubernetes.Quantity" | "kubernetes.Semver" => Range::fixed(1),
        name if name.starts_with("kubernetes.authorization.") => Range::fixed(1),
        "kubernetes.NamedFormat" => Range::new(1, 64).factor(0.1),
        "kubernetes.URL" => {
            let max = right.size.map_or(1, |size| size.max);
            Range::new(1, max).factor(0.1)
        }
        _ => return None,
    };
    Some(Estimate::cost(cost))
}
