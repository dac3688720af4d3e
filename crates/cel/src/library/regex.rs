//! Regular expressions: `find` and `findAll`. Patterns are Go's; matching takes time linear in the text.

use std::cell::RefCell;
use std::collections::HashMap;

use ::regex::Regex;
use api::schema::structural::pattern::{self, PatternError};

use crate::cost::{Actual, Estimate, Estimated, REGEX, Range, STRING};
use crate::environment::Declarations;
use crate::value::{Fault, List, Outcome, Parts, Value, error, no_overload};

pub(super) fn declare(into: &mut Declarations) {
    into.member("find", "string_find_string", "string, string -> string", find);
    into.member(
        "findAll",
        "string_find_all_string",
        "string, string -> list(string)",
        find_all,
    );
    into.member(
        "findAll",
        "string_find_all_string_int",
        "string, string, int -> list(string)",
        find_all,
    );
}

/// How many patterns that are not written in an expression one evaluation may compile.
const MAX_COMPILED: u32 = 250;
/// How many of them are kept for the next one.
const KEPT: usize = 16;
/// Bytes that a compiled pattern may take.
const MAX_BYTES: usize = 4 << 20;

#[derive(Default)]
struct Compiled {
    kept: HashMap<Box<str>, Regex>,
    count: u32,
}

thread_local! {
    static COMPILED: RefCell<Compiled> = RefCell::default();
}

/// An evaluation begins on this thread.
pub(crate) fn begin() {
    COMPILED.with_borrow_mut(|compiled| compiled.count = 0);
}

/// Compiles a pattern.
///
/// # Errors
/// Go's words.
pub(crate) fn compile(pattern: &str) -> Result<Regex, PatternError> {
    pattern::compile_within(pattern, MAX_BYTES)
}

/// Says whether a text is a pattern.
///
/// # Errors
/// Go's words.
pub(crate) fn check(pattern: &str) -> Result<(), PatternError> {
    pattern::check(pattern)
}

/// Compiles a pattern while an evaluation runs.
///
/// # Errors
/// Go's words behind a prefix, or that the evaluation compiled too many.
pub(super) fn compile_now(pattern: &str, prefix: &str) -> Result<Regex, Fault> {
    COMPILED.with_borrow_mut(|compiled| {
        if let Some(regex) = compiled.kept.get(pattern) {
            return Ok(regex.clone());
        }
        compiled.count += 1;
        if compiled.count > MAX_COMPILED {
            return Err(Fault::CostLimit);
        }
        let regex = compile(pattern).or_else(|why| error(format!("{prefix}{why}")))?;
        if compiled.kept.len() >= KEPT {
            compiled.kept.clear();
        }
        compiled.kept.insert(pattern.into(), regex.clone());
        Ok(regex)
    })
}

/// A call of `matches`, `find` or `findAll` whose pattern was compiled before.
pub(crate) fn with_pattern<'a>(function: &str, pattern: &Regex, args: &[Value<'a>]) -> Outcome<'a> {
    let Some(text) = args[0].as_str() else {
        return no_overload();
    };
    match function {
        "matches" => Ok(Value::Bool(pattern.is_match(text))),
        "find" => Ok(first(pattern, text)),
        _ => Ok(all(pattern, &args[0], most(args)?)),
    }
}

/// How many matches are asked for; all when negative.
fn most(args: &[Value<'_>]) -> Result<i64, Fault> {
    match args.get(2) {
        None => Ok(-1),
        Some(Value::Int(n)) => Ok(*n),
        Some(_) => no_overload(),
    }
}

const ILLEGAL: &str = "Illegal regex: ";

fn find<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (Some(text), Some(pattern)) = (args[0].as_str(), args[1].as_str()) else {
        return no_overload();
    };
    Ok(first(&compile_now(pattern, ILLEGAL)?, text))
}

fn find_all<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (Value::String(_), Some(pattern)) = (&args[0], args[1].as_str()) else {
        return no_overload();
    };
    let most = most(args)?;
    Ok(all(&compile_now(pattern, ILLEGAL)?, &args[0], most))
}

/// The first match, or nothing.
pub(crate) fn first<'a>(regex: &Regex, text: &str) -> Value<'a> {
    Value::text(regex.find(text).map_or("", |m| m.as_str()))
}

/// The matches that do not overlap, at most `most` when that is not negative.
pub(crate) fn all<'a>(regex: &Regex, value: &Value<'a>, most: i64) -> Value<'a> {
    let Value::String(text) = value else {
        return Value::list(Vec::new());
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut end = None;
    for m in regex.find_iter(text) {
        // Go leaves out a match of nothing right after another one
        if m.is_empty() && end == Some(m.start()) {
            continue;
        }
        if found.len() == most {
            break;
        }
        end = Some(m.end());
        found.push((m.start() as u32, m.end() as u32));
    }
    Value::List(List::Parts(Parts::new(text.clone(), found)))
}

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    if !matches!(call.function, "find" | "findAll") || call.args.len() < 2 {
        return None;
    }
    let text = ((1.0 + call.own_size(0) as f64) * STRING).ceil() as u64;
    Some(text * (call.own_size(1) as f64 * REGEX).ceil() as u64)
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    if !matches!(call.function, "find" | "findAll") || call.args.is_empty() {
        return None;
    }
    let text = call.size(call.target.as_ref()?);
    let cost = text.add(Range::fixed(1)).factor(STRING);
    let pattern = call.size(&call.args[0]).factor(REGEX);
    Some(Estimate::sized(cost.multiply(pattern), Range::new(0, text.max)))
}
