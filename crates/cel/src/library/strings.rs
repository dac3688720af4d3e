//! Functions on texts (`ext.Strings`): places are counted in characters.

use crate::cost::{Actual, Estimate, Estimated, Range, STRING};
use crate::environment::Declarations;
use crate::value::{Fault, List, Outcome, Parts, Value, error, no_overload};

/// Bytes that a function's result may have; walking through it would cost more than an evaluation may.
pub(super) const MAX_RESULT: usize = 10 * crate::limits::PER_CALL as usize;

pub(super) fn declare(into: &mut Declarations) {
    into.member("charAt", "string_char_at_int", "string, int -> string", char_at);
    into.member("indexOf", "string_index_of_string", "string, string -> int", index_of);
    into.member(
        "indexOf",
        "string_index_of_string_int",
        "string, string, int -> int",
        index_of,
    );
    into.member(
        "lastIndexOf",
        "string_last_index_of_string",
        "string, string -> int",
        last_index_of,
    );
    into.member(
        "lastIndexOf",
        "string_last_index_of_string_int",
        "string, string, int -> int",
        last_index_of,
    );
    into.member("lowerAscii", "string_lower_ascii", "string -> string", |a| {
        map_text(a, |text| text.to_ascii_lowercase())
    });
    into.member("upperAscii", "string_upper_ascii", "string -> string", |a| {
        map_text(a, |text| text.to_ascii_uppercase())
    });
    into.member("trim", "string_trim", "string -> string", |a| {
        // Go's spaces are Unicode's
        map_text(a, |text| text.trim().to_owned())
    });
    into.member(
        "replace",
        "string_replace_string_string",
        "string, string, string -> string",
        replace,
    );
    into.member(
        "replace",
        "string_replace_string_string_int",
        "string, string, string, int -> string",
        replace,
    );
    into.member("split", "string_split_string", "string, string -> list(string)", split);
    into.member(
        "split",
        "string_split_string_int",
        "string, string, int -> list(string)",
        split,
    );
    into.member("substring", "string_substring_int", "string, int -> string", substring);
    into.member(
        "substring",
        "string_substring_int_int",
        "string, int, int -> string",
        substring,
    );
    into.member("join", "list_join", "list(string) -> string", join);
    into.member("join", "list_join_string", "list(string), string -> string", join);
}

fn map_text<'a>(args: &[Value<'a>], change: fn(&str) -> String) -> Outcome<'a> {
    match args[0].as_str() {
        Some(text) => Ok(Value::text(change(text))),
        None => no_overload(),
    }
}

fn text<'v>(args: &'v [Value<'_>], at: usize) -> Result<&'v str, Fault> {
    args.get(at).and_then(Value::as_str).map_or_else(no_overload, Ok)
}

fn number(args: &[Value<'_>], at: usize) -> Result<Option<i64>, Fault> {
    match args.get(at) {
        None => Ok(None),
        Some(Value::Int(n)) => Ok(Some(*n)),
        Some(_) => no_overload(),
    }
}

fn out_of_range<T>(at: i64) -> Result<T, Fault> {
    error(format!("index out of range: {at}"))
}

fn char_at<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (text, at) = (text(args, 0)?, number(args, 1)?.unwrap_or_default());
    let Ok(place) = usize::try_from(at) else {
        return out_of_range(at);
    };
    match text.chars().nth(place) {
        Some(c) => Ok(Value::text(c.to_string())),
        None if text.chars().count() == place => Ok(Value::text("")),
        None => out_of_range(at),
    }
}

fn index_of<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (text, part) = (text(args, 0)?, text(args, 1)?);
    let offset = number(args, 2)?.unwrap_or_default();
    let Ok(from) = usize::try_from(offset) else {
        return out_of_range(offset);
    };
    let length = text.chars().count();
    if part.is_empty() {
        return Ok(Value::Int(from.min(length) as i64));
    }
    let Some((start, _)) = text.char_indices().nth(from) else {
        return Ok(Value::Int(-1));
    };
    let found = text[start..].find(part);
    Ok(Value::Int(
        found.map_or(-1, |at| text[..start + at].chars().count() as i64),
    ))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (text, part) = (text(args, 0)?, text(args, 1)?);
    let length = text.chars().count();
    let offset = match number(args, 2)? {
        Some(offset) => offset,
        None if part.is_empty() => return Ok(Value::Int(length as i64)),
        None if text.len() < part.len() => return Ok(Value::Int(-1)),
        None => length as i64 - 1,
    };
    let Ok(from) = usize::try_from(offset) else {
        return out_of_range(offset);
    };
    if part.is_empty() {
        return Ok(Value::Int(from.min(length) as i64));
    }
    let Some((start, _)) = text.char_indices().nth(from) else {
        return Ok(Value::Int(-1));
    };
    // a match may begin at the place, and go beyond it
    let end = text.len().min(start + part.len());
    let end = text.floor_char_boundary(end);
    let found = text[..end].rfind(part);
    Ok(Value::Int(found.map_or(-1, |at| text[..at].chars().count() as i64)))
}

fn replace<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (text, old, new) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    let most = number(args, 3)?.unwrap_or(-1);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut places: Vec<(usize, usize)> = Vec::new();
    if old.is_empty() {
        let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        places.extend(ends.take(most).map(|at| (at, at)));
    } else {
        places.extend(text.match_indices(old).take(most).map(|(at, m)| (at, at + m.len())));
    }
    if text.len().saturating_add(places.len().saturating_mul(new.len())) > MAX_RESULT {
        return Err(Fault::CostLimit);
    }
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (start, after) in places {
        out.push_str(&text[end..start]);
        out.push_str(new);
        end = after;
    }
    out.push_str(&text[end..]);
    Ok(Value::text(out))
}

fn split<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (whole, separator) = (text(args, 0)?, text(args, 1)?);
    let most = number(args, 2)?.unwrap_or(-1);
    if most == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut bounds: Vec<(u32, u32)> = Vec::new();
    if separator.is_empty() {
        for (at, c) in whole.char_indices() {
            if bounds.len() + 1 == most {
                bounds.push((at as u32, whole.len() as u32));
                break;
            }
            bounds.push((at as u32, (at + c.len_utf8()) as u32));
        }
    } else {
        let mut start = 0;
        for (end, _) in whole.match_indices(separator).take(most - 1) {
            bounds.push((start as u32, end as u32));
            start = end + separator.len();
        }
        bounds.push((start as u32, whole.len() as u32));
    }
    match &args[0] {
        Value::String(text) => Ok(Value::List(List::Parts(Parts::new(text.clone(), bounds)))),
        _ => no_overload(),
    }
}

fn substring<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let text = text(args, 0)?;
    let length = text.chars().count() as i64;
    let start = number(args, 1)?.unwrap_or_default();
    let end = number(args, 2)?;
    if let Some(end) = end
        && start > end
    {
        return error(format!("invalid substring range. start: {start}, end: {end}"));
    }
    for at in [Some(start), end].into_iter().flatten() {
        if at < 0 || at > length {
            return out_of_range(at);
        }
    }
    let count = end.unwrap_or(length) - start;
    let part: String = text.chars().skip(start as usize).take(count as usize).collect();
    Ok(Value::text(part))
}

fn join<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Value::List(list) = &args[0] else {
        return no_overload();
    };
    let separator = match args.get(1) {
        Some(_) => text(args, 1)?,
        None => "",
    };
    let mut out = String::new();
    for (at, item) in list.iter().enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        match item {
            Ok(Value::String(part)) => out.push_str(&part),
            Ok(other) => return error(format!("join: invalid input: {}", other.plain())),
            Err(fault) => return error(format!("join: invalid input: {fault}")),
        }
        if out.len() > MAX_RESULT {
            return Err(Fault::CostLimit);
        }
    }
    Ok(Value::text(out))
}

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    let scaled = |n: u64, times: f64| (n as f64 * times * STRING).ceil() as u64;
    match call.function {
        _ if call.args.is_empty() => None,
        "lowerAscii" | "upperAscii" | "substring" | "trim" => Some(scaled(call.own_size(0), 1.0)),
        "replace" | "split" => Some(scaled(call.own_size(0), 2.0)),
        "join" => Some(scaled(call.result_size(), 2.0)),
        _ => None,
    }
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    let target = call.target.as_ref()?;
    match call.function {
        "lowerAscii" | "upperAscii" | "substring" | "trim" => {
            let size = call.size(target);
            Some(Estimate::sized(size.factor(STRING), size))
        }
        "replace" if call.args.len() >= 2 => {
            let (of, old, new) = (call.size(target), call.size(&call.args[0]), call.size(&call.args[1]));
            Some(Estimate::sized(of.factor(2.0 * STRING), replaced(of, old, new)))
        }
        "split" => {
            let of = call.size(target);
            let most = call.args.get(1).and_then(|a| a.int());
            let max = most.map_or(of.max, |n| n as u64);
            Some(Estimate::sized(of.factor(2.0 * STRING), Range::new(0, max)))
        }
        "join" => {
            let list = call.size(target);
            let mut size = Range::default();
            if let Some(element) = super::lists::element_of(target) {
                size = list.multiply(call.size(&element));
            }
            if let Some(separator) = call.args.first() {
                let count = Range::new(list.min.saturating_sub(1), list.max.saturating_sub(1));
                size = size.add(call.size(separator).multiply(count));
            }
            Some(Estimate::sized(size.factor(STRING), size))
        }
        _ => None,
    }
}

/// How long a text may be after replacing.
fn replaced(of: Range, old: Range, new: Range) -> Range {
    let (mut count, mut kept) = (Range::default(), Range::default());
    if old.min == 0 {
        count.max = of.max.saturating_add(1);
        kept.max = of.max;
    } else if new.max <= old.min {
        kept.max = of.max;
    } else {
        count.max = (of.max as f64 / old.min as f64).ceil() as u64;
    }
    if old.max == 0 {
        count.min = of.min.saturating_add(1);
        kept.min = of.min;
    } else if old.max <= new.min {
        kept.min = of.min;
    } else {
        count.min = (of.min as f64 / old.max as f64).ceil() as u64;
    }
    count.multiply(new).add(kept)
}
