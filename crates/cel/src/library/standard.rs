//! The standard functions: sizes, conversions and tests of texts.

use crate::cost::{Actual, Estimate, Estimated, REGEX, Range, STRING};
use crate::environment::Declarations;
use crate::types::Type;
use crate::value::{Outcome, Target, Value, error, no_overload};

pub(super) fn declare(into: &mut Declarations) {
    for (name, t) in [
        ("bool", Type::Bool),
        ("bytes", Type::Bytes),
        ("double", Type::Double),
        ("google.protobuf.Duration", Type::Duration),
        ("int", Type::Int),
        ("list", Type::list(Type::Dyn)),
        ("map", Type::map(Type::Dyn, Type::Dyn)),
        ("null_type", Type::Null),
        ("string", Type::String),
        ("google.protobuf.Timestamp", Type::Timestamp),
        ("type", Type::Type(None)),
        ("uint", Type::Uint),
    ] {
        into.named_type(name, t);
    }
    for (kind, t) in [
        ("bytes", "bytes"),
        ("list", "list(A)"),
        ("map", "map(A, B)"),
        ("string", "string"),
    ] {
        into.signature("size", &format!("size_{kind}"), false, &format!("{t} -> int"));
        into.signature("size", &format!("{kind}_size"), true, &format!("{t} -> int"));
    }
    into.singleton("size", size);
    into.signature("type", "type", false, "A -> type(A)");
    into.singleton("type", type_of);
    into.signature("dyn", "to_dyn", false, "A -> dyn");
    into.singleton("dyn", |args| Ok(args[0].clone()));
    conversions(into);
    into.member("contains", "contains_string", "string, string -> bool", |args| {
        test(args, |text, part| text.contains(part))
    });
    into.member("endsWith", "ends_with_string", "string, string -> bool", |args| {
        test(args, |text, part| text.ends_with(part))
    });
    into.member("startsWith", "starts_with_string", "string, string -> bool", |args| {
        test(args, |text, part| text.starts_with(part))
    });
    for function in ["contains", "endsWith", "startsWith"] {
        into.unguarded(function);
    }
    into.signature("matches", "matches", false, "string, string -> bool");
    into.signature("matches", "matches_string", true, "string, string -> bool");
    into.singleton("matches", matches);
}

fn conversions(into: &mut Declarations) {
    let mut convert = |name: &str, id: &str, signature: &str, does: crate::environment::Implementation| {
        into.global(name, id, signature, does);
    };
    convert("bool", "bool_to_bool", "bool -> bool", |a| a[0].convert(Target::Bool));
    convert("bool", "string_to_bool", "string -> bool", |a| {
        a[0].convert(Target::Bool)
    });
    convert("bytes", "bytes_to_bytes", "bytes -> bytes", |a| {
        a[0].convert(Target::Bytes)
    });
    convert("bytes", "string_to_bytes", "string -> bytes", |a| {
        a[0].convert(Target::Bytes)
    });
    for (id, signature) in [
        ("double_to_double", "double -> double"),
        ("int64_to_double", "int -> double"),
        ("string_to_double", "string -> double"),
        ("uint64_to_double", "uint -> double"),
    ] {
        convert("double", id, signature, |a| a[0].convert(Target::Double));
    }
    convert("duration", "duration_to_duration", "duration -> duration", |a| {
        a[0].convert(Target::Duration)
    });
    convert("duration", "string_to_duration", "string -> duration", |a| {
        a[0].convert(Target::Duration)
    });
    for (id, signature) in [
        ("int64_to_int64", "int -> int"),
        ("double_to_int64", "double -> int"),
        ("duration_to_int64", "duration -> int"),
        ("string_to_int64", "string -> int"),
        ("timestamp_to_int64", "timestamp -> int"),
        ("uint64_to_int64", "uint -> int"),
    ] {
        convert("int", id, signature, |a| a[0].convert(Target::Int));
    }
    for (id, signature) in [
        ("string_to_string", "string -> string"),
        ("bool_to_string", "bool -> string"),
        ("bytes_to_string", "bytes -> string"),
        ("double_to_string", "double -> string"),
        ("duration_to_string", "duration -> string"),
        ("int64_to_string", "int -> string"),
        ("timestamp_to_string", "timestamp -> string"),
        ("uint64_to_string", "uint -> string"),
    ] {
        convert("string", id, signature, |a| a[0].convert(Target::String));
    }
    for (id, signature) in [
        ("timestamp_to_timestamp", "timestamp -> timestamp"),
        ("int64_to_timestamp", "int -> timestamp"),
        ("string_to_timestamp", "string -> timestamp"),
    ] {
        convert("timestamp", id, signature, |a| a[0].convert(Target::Timestamp));
    }
    for (id, signature) in [
        ("uint64_to_uint64", "uint -> uint"),
        ("double_to_uint64", "double -> uint"),
        ("int64_to_uint64", "int -> uint"),
        ("string_to_uint64", "string -> uint"),
    ] {
        convert("uint", id, signature, |a| a[0].convert(Target::Uint));
    }
}

fn size<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match &args[0] {
        Value::Opaque(_) => error("no such overload: size"),
        value => match value.size() {
            Some(size) => Ok(Value::Int(size as i64)),
            None if matches!(value, Value::Timestamp(_) | Value::Duration(_)) => no_overload(),
            None => error("no such overload: size"),
        },
    }
}

fn type_of<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Type(match &args[0] {
        Value::Type(_) => Type::Type(None),
        other => Type::Opaque(other.type_name().into(), [].into()),
    }))
}

fn test<'a>(args: &[Value<'a>], holds: fn(&str, &str) -> bool) -> Outcome<'a> {
    match (args[0].as_str(), args[1].as_str()) {
        (Some(text), Some(part)) => Ok(Value::Bool(holds(text, part))),
        _ => no_overload(),
    }
}

fn matches<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Some(text) = args[0].as_str() else {
        return match args[0] {
            Value::Timestamp(_) | Value::Duration(_) => no_overload(),
            _ => error("no such overload: matches"),
        };
    };
    let Some(pattern) = args[1].as_str() else {
        return no_overload();
    };
    let regex = super::regex::compile_now(pattern, "")?;
    Ok(Value::Bool(regex.is_match(text)))
}

/// What calls of the language's own functions cost; one when nothing else is said.
pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    let scan = |n: usize| (call.size(n) as f64 * STRING).ceil() as u64;
    Some(match call.overload {
        "starts_with_string" | "ends_with_string" => scan(1),
        "string_to_bytes" | "bytes_to_string" | "strings_quote" | "string_format" => scan(0),
        "in_list" => call.size(1),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "equals"
        | "not_equals" => {
            let shorter = call.size(0).min(call.size(1));
            (shorter as f64 * STRING).ceil() as u64
        }
        "add_string" | "add_bytes" => ((call.size(0) + call.size(1)) as f64 * STRING).ceil() as u64,
        "matches" | "matches_string" => {
            let text = ((1.0 + call.size(0) as f64) * STRING).ceil() as u64;
            text * (call.size(1) as f64 * REGEX).ceil() as u64
        }
        "contains_string" => scan(0) * scan(1),
        _ => 1,
    })
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    let size = |n: usize| call.args.get(n).and_then(|a| a.size).unwrap_or(Range::UNKNOWN);
    let target = || call.target.as_ref().and_then(|t| t.size).unwrap_or(Range::UNKNOWN);
    let count = call.args.len();
    Some(match call.overload {
        "string_format" if call.target.is_some() => Estimate::cost(target().factor(STRING)),
        "string_to_bytes" if count == 1 => {
            let of = size(0);
            let out = Range::new(of.min, of.max.wrapping_mul(4));
            Estimate::sized(of.factor(STRING), out)
        }
        "bytes_to_string" if count == 1 => {
            let of = size(0);
            Estimate::sized(of.factor(STRING), Range::new(of.min / 4, of.max))
        }
        "strings_quote" if count == 1 => {
            let of = size(0);
            let out = Range::new(of.min.wrapping_add(2), of.max.wrapping_mul(2).wrapping_add(2));
            Estimate::sized(of.factor(STRING), out)
        }
        "starts_with_string" | "ends_with_string" if count == 1 => Estimate::cost(size(0).factor(STRING)),
        "in_list" if count == 2 => Estimate::cost(size(1).factor(1.0)),
        "matches" | "matches_string" => {
            let (text, pattern) = match &call.target {
                Some(_) => (target(), size(0)),
                None => (size(0), size(1)),
            };
            let text = text.add(Range::fixed(1)).factor(STRING);
            Estimate::cost(text.multiply(pattern.factor(REGEX)))
        }
        "contains_string" if call.target.is_some() && count == 1 => {
            Estimate::cost(target().factor(STRING).multiply(size(0).factor(STRING)))
        }
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "equals"
        | "not_equals" => {
            let max = size(0).max.min(size(1).max);
            Estimate::cost(Range::new(u64::from(max > 0), max).factor(STRING))
        }
        _ => Estimate::cost(Range::fixed(1)),
    })
}
