//! The functions that a template may call: those of `text/template`, and kubectl's own two.

use std::borrow::Cow;

use base64::Engine as _;

use super::error::{TemplateError, refuse};
use super::printf::printf;
use super::value::Val;

/// All functions by name.
pub const NAMES: [&str; 21] = [
    "and",
    "base64decode",
    "call",
    "eq",
    "exists",
    "ge",
    "gt",
    "html",
    "index",
    "js",
    "le",
    "len",
    "lt",
    "ne",
    "not",
    "or",
    "print",
    "printf",
    "println",
    "slice",
    "urlquery",
];

/// The number of arguments that a function takes at least and at most.
fn counts(name: &str) -> (usize, Option<usize>) {
    match name {
        "not" | "len" | "base64decode" => (1, Some(1)),
        "eq" | "call" | "and" | "or" | "printf" | "index" | "slice" | "exists" => (1, None),
        "ne" | "lt" | "le" | "gt" | "ge" => (2, Some(2)),
        _ => (0, None),
    }
}

/// Checks how many arguments a function is given.
///
/// # Errors
/// The function takes another number of arguments.
pub fn check_count(name: &str, given: usize) -> Result<(), TemplateError> {
    match counts(name) {
        (least, None) if given < least => refuse(format!(
            "wrong number of args for {name}: want at least {least} got {given}"
        )),
        (want, Some(_)) if given != want => refuse(format!("wrong number of args for {name}: want {want} got {given}")),
        _ => Ok(()),
    }
}

/// Calls a function whose count of arguments was checked. `and` and `or` are the caller's: they need not evaluate all.
///
/// # Errors
/// What Go's function says of its arguments.
pub fn call<'v>(name: &str, arguments: Vec<Val<'v>>) -> Result<Val<'v>, TemplateError> {
    let text = |text: String| Ok(Val::Text(Cow::Owned(text)));
    let mut rest = arguments.into_iter();
    let mut first = || rest.next().unwrap_or(Val::Missing);
    match name {
        "not" => Ok(Val::Bool(!first().is_true())),
        "len" => match first() {
            Val::Text(text) => Ok(length(text.len())),
            Val::List(list) => Ok(length(list.len())),
            Val::Map(map) => Ok(length(map.len())),
            Val::Missing => refuse("reflect: call of reflect.Value.Type on zero Value"),
            other => refuse(format!("len of type {}", other.type_name())),
        },
        "index" => {
            let item = first();
            index(item, rest)
        }
        "slice" => {
            let item = first();
            slice(item, &rest.collect::<Vec<_>>())
        }
        "exists" => {
            let item = first();
            Ok(Val::Bool(exists(item, rest)))
        }
        "base64decode" => {
            let encoded = first().shown();
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.replace(['\n', '\r'], ""));
            match decoded {
                Ok(bytes) => text(String::from_utf8_lossy(&bytes).into_owned()),
                Err(base64::DecodeError::InvalidByte(at, _)) => {
                    refuse(format!("base64 decode failed: illegal base64 data at input byte {at}"))
                }
                Err(_) => {
                    let at = encoded.len() / 4 * 4;
                    refuse(format!("base64 decode failed: illegal base64 data at input byte {at}"))
                }
            }
        }
        "eq" => {
            let one = first();
            equal(&one, &rest.collect::<Vec<_>>()).map(Val::Bool)
        }
        "ne" => {
            let one = first();
            equal(&one, &rest.collect::<Vec<_>>()).map(|same| Val::Bool(!same))
        }
        "lt" | "le" | "gt" | "ge" => {
            let (a, b) = (first(), first());
            let (less, same) = (less(&a, &b)?, equal(&a, std::slice::from_ref(&b))?);
            Ok(Val::Bool(match name {
                "lt" => less,
                "le" => less || same,
                "gt" => !less && !same,
                _ => !less,
            }))
        }
        "print" => text(print(&rest.collect::<Vec<_>>())),
        "println" => {
            let all: Vec<String> = rest.map(|value| value.shown()).collect();
            text(all.join(" ") + "\n")
        }
        "printf" => {
            let format = first().shown();
            text(printf(&format, &rest.collect::<Vec<_>>()))
        }
        "html" => text(html(&joined(&rest.collect::<Vec<_>>()))),
        "js" => text(js(&joined(&rest.collect::<Vec<_>>()))),
        "urlquery" => text(url_query(&joined(&rest.collect::<Vec<_>>()))),
        "call" => match first() {
            Val::Missing => refuse("call of nil"),
            other => refuse(format!("non-function {} of type {}", other.shown(), other.type_name())),
        },
        other => refuse(format!("{} is not a defined function", api::go::quote(other))),
    }
}

fn length(n: usize) -> Val<'static> {
    Val::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// An argument as a place in something of a length.
fn place(value: &Val<'_>, length: usize) -> Result<usize, TemplateError> {
    let at = match value {
        Val::Int(n) => *n,
        Val::Missing => return refuse("cannot index slice/array with nil"),
        other => return refuse(format!("cannot index slice/array with type {}", other.type_name())),
    };
    match usize::try_from(at) {
        Ok(place) if place <= length => Ok(place),
        _ => refuse(format!("index out of range: {at}")),
    }
}

fn index<'v>(item: Val<'v>, indexes: impl Iterator<Item = Val<'v>>) -> Result<Val<'v>, TemplateError> {
    if matches!(item, Val::Missing) {
        return refuse("index of untyped nil");
    }
    let mut item = item;
    for by in indexes {
        item = match item {
            Val::List(list) => match list.get(place(&by, list.len())?) {
                Some(inner) => Val::from(inner),
                None => return refuse(format!("index out of range: {}", by.shown())),
            },
            Val::Text(text) => match text.as_bytes().get(place(&by, text.len())?) {
                Some(byte) => Val::Int(i64::from(*byte)),
                None => return refuse(format!("index out of range: {}", by.shown())),
            },
            Val::Map(map) => match by {
                Val::Text(key) => map.get(&*key).map_or(Val::Missing, Val::from),
                Val::Missing => return refuse("value is nil; should be of type string"),
                other => return refuse(format!("value has type {}; should be string", other.type_name())),
            },
            Val::Missing => return refuse("index of nil pointer"),
            other => return refuse(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(item)
}

/// Follows keys and places; false where one leads nowhere.
fn exists<'v>(item: Val<'v>, indexes: impl Iterator<Item = Val<'v>>) -> bool {
    let mut item = item;
    for by in indexes {
        let next = match (item, by) {
            (Val::Map(map), Val::Text(key)) => map.get(&*key).map(Val::from),
            (Val::List(list), Val::Int(n)) => usize::try_from(n).ok().and_then(|n| list.get(n)).map(Val::from),
            _ => None,
        };
        match next {
            Some(next) => item = next,
            None => return false,
        }
    }
    !matches!(item, Val::Missing)
}

fn slice<'v>(item: Val<'v>, indexes: &[Val<'v>]) -> Result<Val<'v>, TemplateError> {
    if indexes.len() > 3 {
        return refuse(format!("too many slice indexes: {}", indexes.len()));
    }
    let length = match &item {
        Val::Text(_) if indexes.len() == 3 => return refuse("cannot 3-index slice a string"),
        Val::Text(text) => text.len(),
        Val::List(list) => list.len(),
        Val::Missing => return refuse("slice of untyped nil"),
        other => return refuse(format!("can't slice item of type {}", other.type_name())),
    };
    let mut ends = [0, length, length];
    for (end, by) in ends.iter_mut().zip(indexes) {
        *end = place(by, length)?;
    }
    for pair in ends.windows(2) {
        if pair[0] > pair[1] {
            return refuse(format!("invalid slice index: {} > {}", pair[0], pair[1]));
        }
    }
    Ok(match item {
        Val::List(list) => Val::List(&list[ends[0]..ends[1]]),
        other => {
            let text = other.shown();
            Val::Text(
                String::from_utf8_lossy(&text.as_bytes()[ends[0]..ends[1]])
                    .into_owned()
                    .into(),
            )
        }
    })
}

fn equal(one: &Val<'_>, others: &[Val<'_>]) -> Result<bool, TemplateError> {
    if others.is_empty() {
        return refuse("missing argument for comparison");
    }
    for other in others {
        let same = match (one, other) {
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Int(a), Val::Int(b)) => a == b,
            (Val::Float(a), Val::Float(b)) => a == b,
            (Val::Text(a), Val::Text(b)) => a == b,
            (Val::Missing, other) | (other, Val::Missing) => matches!(other, Val::Missing),
            (Val::List(_), Val::List(_)) | (Val::Map(_), Val::Map(_)) => {
                return refuse(format!("non-comparable type {}: {}", other.shown(), other.type_name()));
            }
            (Val::List(_) | Val::Map(_), Val::List(_) | Val::Map(_)) => {
                let types = [one.type_name(), other.type_name()];
                return refuse(format!(
                    "non-comparable types {}: {}, {}: {}",
                    one.shown(),
                    types[0],
                    types[1],
                    other.shown()
                ));
            }
            _ => return Err(incompatible(one, other)),
        };
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

fn less(a: &Val<'_>, b: &Val<'_>) -> Result<bool, TemplateError> {
    match (a, b) {
        (Val::Int(a), Val::Int(b)) => Ok(a < b),
        (Val::Float(a), Val::Float(b)) => Ok(a < b),
        (Val::Text(a), Val::Text(b)) => Ok(a < b),
        (Val::Missing | Val::List(_) | Val::Map(_), _) | (_, Val::Missing | Val::List(_) | Val::Map(_)) => {
            refuse("invalid type for comparison")
        }
        (Val::Bool(_), Val::Bool(_)) => refuse("invalid type for comparison"),
        _ => Err(incompatible(a, b)),
    }
}

fn incompatible(a: &Val<'_>, b: &Val<'_>) -> TemplateError {
    let (a, b) = (a.type_name(), b.type_name());
    TemplateError(format!("incompatible types for comparison: {a} and {b}"))
}

/// `fmt.Sprint`: a space between two of which none is a text.
fn print(values: &[Val<'_>]) -> String {
    let mut out = String::new();
    for (i, value) in values.iter().enumerate() {
        let is_text = |value: &Val<'_>| matches!(value, Val::Text(_));
        if i > 0 && !is_text(value) && !is_text(&values[i - 1]) {
            out.push(' ');
        }
        out.push_str(&value.shown());
    }
    out
}

/// The arguments of an escaper as one text.
fn joined(values: &[Val<'_>]) -> String {
    match values {
        [Val::Missing] => "<no value>".to_owned(),
        [one] => one.shown(),
        all => print(all),
    }
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if u32::from(c) < 32 => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn url_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
