//! Optional values: `optional.of(x)`, `x.orValue(y)`, `a.?b`, `a[?i]`.

use crate::environment::Declarations;
use crate::types::Type;
use crate::value::{List, Outcome, Value, error, no_overload};

pub(super) fn declare(into: &mut Declarations) {
    into.named_type("optional_type", Type::optional(Type::Dyn));
    into.global("optional.of", "optional_of", "V -> optional(V)", |args| {
        Ok(Value::some(args[0].clone()))
    });
    into.global(
        "optional.ofNonZeroValue",
        "optional_ofNonZeroValue",
        "V -> optional(V)",
        |args| {
            Ok(if args[0].is_zero() {
                Value::Optional(None)
            } else {
                Value::some(args[0].clone())
            })
        },
    );
    into.global("optional.none", "optional_none", "-> optional(V)", |_| {
        Ok(Value::Optional(None))
    });
    into.member("value", "optional_value", "optional(V) -> V", |args| match &args[0] {
        Value::Optional(Some(value)) => Ok((**value).clone()),
        Value::Optional(None) => error("optional.none() dereference"),
        _ => no_overload(),
    });
    into.member(
        "hasValue",
        "optional_hasValue",
        "optional(V) -> bool",
        |args| match &args[0] {
            Value::Optional(value) => Ok(Value::Bool(value.is_some())),
            _ => no_overload(),
        },
    );
    into.signature(
        "or",
        "optional_or_optional",
        true,
        "optional(V), optional(V) -> optional(V)",
    );
    into.signature("orValue", "optional_orValue_value", true, "optional(V), V -> V");
    into.signature("_?._", "select_optional_field", false, "dyn, string -> optional(V)");
    for (id, signature) in [
        ("list_optindex_optional_int", "list(V), int -> optional(V)"),
        (
            "optional_list_optindex_optional_int",
            "optional(list(V)), int -> optional(V)",
        ),
        ("map_optindex_optional_value", "map(K, V), K -> optional(V)"),
        (
            "optional_map_optindex_optional_value",
            "optional(map(K, V)), K -> optional(V)",
        ),
    ] {
        into.signature("_[?_]", id, false, signature);
    }
    into.signature(
        "_[_]",
        "optional_list_index_int",
        false,
        "optional(list(V)), int -> optional(V)",
    );
    into.signature(
        "_[_]",
        "optional_map_index_value",
        false,
        "optional(map(K, V)), K -> optional(V)",
    );
    into.member("last", "list_last", "list(V) -> optional(V)", |args| {
        at(args, List::len)
    });
    into.member("first", "list_first", "list(V) -> optional(V)", |args| at(args, |_| 1));
    into.global(
        "optional.unwrap",
        "optional_unwrap",
        "list(optional(V)) -> list(V)",
        unwrap,
    );
    into.member(
        "unwrapOpt",
        "optional_unwrapOpt",
        "list(optional(V)) -> list(V)",
        unwrap,
    );
}

/// The item at a place that counts from 1, if it is there.
fn at<'a>(args: &[Value<'a>], place: fn(&List<'a>) -> usize) -> Outcome<'a> {
    let Value::List(list) = &args[0] else {
        return no_overload();
    };
    match list.get(place(list).wrapping_sub(1)) {
        Some(item) => Ok(Value::some(item?)),
        None => Ok(Value::Optional(None)),
    }
}

fn unwrap<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Value::List(list) = &args[0] else {
        return no_overload();
    };
    let mut out = Vec::new();
    for item in list.iter() {
        match item? {
            Value::Optional(Some(value)) => out.push((*value).clone()),
            Value::Optional(None) => {}
            other => return error(format!("value {} is not optional", other.plain())),
        }
    }
    Ok(Value::list(out))
}
