//! `"%d items".format([n])` and `strings.quote(text)`. What a format string demands of literals is checked at compile time too.

use std::sync::Arc;

use crate::ast::{Call, Expr, Id, Kind};
use crate::checker::Checked;
use crate::environment::Declarations;
use crate::types::Type;
use crate::value::{Fault, List, Map, Outcome, Target, Value, double, error, no_overload};

/// Decimals of numbers when a clause does not say how many.
const DECIMALS: usize = 6;

pub(super) fn declare(into: &mut Declarations) {
    into.member("format", "string_format", "string, list(dyn) -> string", format);
    into.stops_at_error("format", "string_format");
    into.global(
        "strings.quote",
        "strings_quote",
        "string -> string",
        |args| match args[0].as_str() {
            Some(text) => Ok(Value::text(quote(text))),
            None => no_overload(),
        },
    );
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A clause of a format string, `%.3f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clause {
    Text,
    Decimal,
    Fixed(usize),
    Scientific(usize),
    Binary,
    Hex { upper: bool },
    Octal,
}

impl Clause {
    /// What the clause says of a value of another type.
    fn refusal(self, given: &str) -> String {
        let rule = match self {
            Clause::Text => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
            }
            Clause::Decimal => "decimal clause can only be used on integers",
            Clause::Fixed(_) => "fixed-point clause can only be used on doubles",
            Clause::Scientific(_) => "scientific clause can only be used on doubles",
            Clause::Binary => "only integers and bools can be formatted as binary",
            Clause::Hex { .. } => "only integers, byte buffers, and strings can be formatted as hex",
            Clause::Octal => "octal clause can only be used on integers",
        };
        format!("{rule}, was given {given}")
    }

    /// Whether the clause may be given values of a type, as far as the checker knows.
    fn takes(self, t: &Type) -> bool {
        if t.is_dyn() {
            return true;
        }
        match self {
            Clause::Text => matches!(
                t,
                Type::List(_)
                    | Type::Map(_)
                    | Type::Int
                    | Type::Uint
                    | Type::Double
                    | Type::Bool
                    | Type::String
                    | Type::Timestamp
                    | Type::Bytes
                    | Type::Duration
                    | Type::Type(_)
                    | Type::Null
            ),
            Clause::Decimal | Clause::Octal => matches!(t, Type::Int | Type::Uint),
            Clause::Fixed(_) | Clause::Scientific(_) => matches!(t, Type::Double | Type::String),
            Clause::Binary => matches!(t, Type::Int | Type::Uint | Type::Bool),
            Clause::Hex { .. } => matches!(t, Type::Int | Type::Uint | Type::String | Type::Bytes),
        }
    }
}

/// Where a format string or what is given to it is wrong.
struct Wrong {
    fault: Fault,
    /// The literal that is of the wrong type.
    at: Option<Id>,
}

impl Wrong {
    fn new(message: impl Into<Arc<str>>) -> Wrong {
        Fault::Error(message.into()).into()
    }
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Wrong {
        Wrong { fault, at: None }
    }
}

/// Walks through a format string: `count` things are given, `show` writes one by a clause.
fn walk(
    text: &str,
    count: usize,
    show: &mut dyn FnMut(usize, Clause) -> Result<String, Wrong>,
) -> Result<(String, usize), Wrong> {
    let mut out: Vec<u8> = Vec::new();
    let bytes = text.as_bytes();
    let (mut at, mut used) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        if *byte != b'%' {
            out.push(*byte);
            at += 1;
            continue;
        }
        if bytes.get(at + 1) == Some(&b'%') {
            out.push(b'%');
            at += 2;
            continue;
        }
        if used >= count {
            return Err(Wrong::new(format!("index {used} out of range")));
        }
        if at + 1 >= bytes.len() {
            return Err(Wrong::new("unexpected end of string"));
        }
        let (length, clause) = clause(&text[at + 1..])?;
        let shown = show(used, clause).map_err(|wrong| match wrong.fault {
            Fault::Error(message) => Wrong {
                fault: Fault::Error(format!("error during formatting: {message}").into()),
                at: wrong.at,
            },
            Fault::CostLimit | Fault::Interrupted => wrong,
        })?;
        out.extend_from_slice(shown.as_bytes());
        at += 1 + length;
        used += 1;
    }
    let out = String::from_utf8_lossy(&out).into_owned();
    Ok((out, used))
}

/// The clause at the beginning, and its length.
fn clause(text: &str) -> Result<(usize, Clause), Wrong> {
    let wrong = |why: String| Wrong::new(format!("could not parse formatting clause: {why}"));
    let bytes = text.as_bytes();
    let (mut at, mut decimals) = (0, DECIMALS);
    if bytes.first() == Some(&b'.') {
        let digits = bytes[1..].iter().take_while(|b| b.is_ascii_digit()).count();
        at = 1 + digits;
        if at >= bytes.len() {
            let why = "error while parsing precision: could not find end of precision specifier";
            return Err(wrong(why.into()));
        }
        let number = &text[1..at];
        decimals = number.parse().map_err(|_| {
            let why = if number.is_empty() { "invalid syntax" } else { "value out of range" };
            let number = api::go::quote(number);
            wrong(format!(
                "error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing {number}: {why}"
            ))
        })?;
    }
    let clause = match bytes.get(at) {
        Some(b's') => Clause::Text,
        Some(b'd') => Clause::Decimal,
        Some(b'f') => Clause::Fixed(decimals),
        Some(b'e') => Clause::Scientific(decimals),
        Some(b'b') => Clause::Binary,
        Some(b'x') => Clause::Hex { upper: false },
        Some(b'X') => Clause::Hex { upper: true },
        Some(b'o') => Clause::Octal,
        other => {
            let sign = char::from(other.copied().unwrap_or_default());
            return Err(wrong(format!("unrecognized formatting clause \"{sign}\"")));
        }
    };
    Ok((at + 1, clause))
}

fn format<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (Some(text), Value::List(list)) = (args[0].as_str(), &args[1]) else {
        return no_overload();
    };
    let mut room = super::strings::MAX_RESULT;
    let formatted = walk(text, list.len(), &mut |at, clause| {
        let value = item(list, at)?;
        let shown = write(clause, &value, &mut room)?;
        if !matches!(value, Value::List(_) | Value::Map(_)) {
            spend(&mut room, shown.len())?;
        }
        Ok(shown)
    });
    match formatted {
        Ok((text, _)) => Ok(Value::text(text)),
        Err(wrong) => Err(wrong.fault),
    }
}

/// Takes what is written from the room that is left, so that a list that shows a text often ends before it is all written.
fn spend(room: &mut usize, length: usize) -> Result<(), Fault> {
    *room = room.checked_sub(length).ok_or(Fault::CostLimit)?;
    Ok(())
}

fn item<'a>(list: &List<'a>, at: usize) -> Outcome<'a> {
    list.get(at)
        .unwrap_or_else(|| error(format!("index {at} out of range")))
}

fn write(clause: Clause, value: &Value<'_>, room: &mut usize) -> Result<String, Fault> {
    let refused = || error(clause.refusal(value.type_name()));
    match clause {
        Clause::Text if matches!(value, Value::List(_) | Value::Map(_)) => literal(value, room),
        Clause::Text => text_of(value),
        Clause::Decimal => match value {
            Value::Int(n) => Ok(n.to_string()),
            Value::Uint(n) => Ok(n.to_string()),
            _ => refused(),
        },
        Clause::Fixed(decimals) => {
            let Some(n) = special(value) else { return refused() };
            bounded(decimals)?;
            Ok(match non_finite(n) {
                Some(text) => text,
                None => grouped(&fixed(n, decimals)),
            })
        }
        Clause::Scientific(decimals) => {
            let Some(n) = special(value) else { return refused() };
            bounded(decimals)?;
            Ok(non_finite(n).unwrap_or_else(|| scientific(n, decimals)))
        }
        Clause::Binary => match value {
            Value::Int(n) => Ok(signed(*n, |n| format!("{n:b}"))),
            Value::Uint(n) => Ok(format!("{n:b}")),
            Value::Bool(b) => Ok(u8::from(*b).to_string()),
            _ => refused(),
        },
        Clause::Octal => match value {
            Value::Int(n) => Ok(signed(*n, |n| format!("{n:o}"))),
            Value::Uint(n) => Ok(format!("{n:o}")),
            _ => refused(),
        },
        Clause::Hex { upper } => {
            let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
            let text = match value {
                Value::Int(n) => signed(*n, |n| format!("{n:x}")),
                Value::Uint(n) => format!("{n:x}"),
                Value::String(text) => hex(text.as_bytes()),
                Value::Bytes(bytes) => hex(bytes),
                _ => return refused(),
            };
            Ok(if upper { text.to_uppercase() } else { text })
        }
    }
}

/// Decimals beyond which those of any double are zero.
const MOST_DECIMALS: usize = 1100;

/// A number with so many decimals.
fn fixed(n: f64, decimals: usize) -> String {
    let written = decimals.min(MOST_DECIMALS);
    let mut text = format!("{n:.written$}");
    text.extend(std::iter::repeat_n('0', decimals - written));
    text
}

/// A clause of more decimals than an evaluation may write.
fn bounded(decimals: usize) -> Result<(), Fault> {
    if decimals > super::strings::MAX_RESULT {
        return Err(Fault::CostLimit);
    }
    Ok(())
}

fn signed(n: i64, write: fn(u64) -> String) -> String {
    let sign = if n < 0 { "-" } else { "" };
    format!("{sign}{}", write(n.unsigned_abs()))
}

/// The number that a clause for doubles is given.
fn special(value: &Value<'_>) -> Option<f64> {
    match value {
        // the printer has no negative zero
        Value::Double(n) => Some(if *n == 0.0 { 0.0 } else { *n }),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn non_finite(n: f64) -> Option<String> {
    if n.is_nan() {
        return Some("NaN".into());
    }
    n.is_infinite()
        .then(|| if n < 0.0 { "-\u{221e}" } else { "\u{221e}" }.into())
}

/// Digits in groups of three, as English has them.
fn grouped(number: &str) -> String {
    let (sign, rest) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number),
    };
    let (whole, decimals) = rest.split_once('.').map_or((rest, None), |(w, d)| (w, Some(d)));
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(decimals) = decimals {
        out.push('.');
        out.push_str(decimals);
    }
    out
}

/// `1.5×10⁰³` in the signs of upstream's English.
fn scientific(n: f64, decimals: usize) -> String {
    let written = decimals.min(MOST_DECIMALS);
    let text = format!("{n:.written$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let zeros = "0".repeat(decimals - written);
    let mut power = String::new();
    for c in exponent.chars() {
        power.push(match c {
            '-' => '\u{207b}',
            '0' => '\u{2070}',
            '1' => '\u{b9}',
            '2' => '\u{b2}',
            '3' => '\u{b3}',
            digit => char::from_u32(0x2070 + digit.to_digit(10).unwrap_or_default()).unwrap_or(digit),
        });
    }
    if exponent.trim_start_matches('-').len() < 2 {
        let (sign, digit) = power.split_at(power.len() - power.chars().last().map_or(0, char::len_utf8));
        power = format!("{sign}\u{2070}{digit}");
    }
    format!("{mantissa}{zeros}\u{d7}10{power}")
}

fn text_of(value: &Value<'_>) -> Result<String, Fault> {
    match value {
        Value::Null => Ok("null".into()),
        Value::List(_)
        | Value::Map(_)
        | Value::Optional(_)
        | Value::Object(_)
        | Value::Opaque(_)
        | Value::Unknown(_) => error(Clause::Text.refusal(value.type_name())),
        Value::Double(n) => Ok(double(*n)),
        value => match value.convert(Target::String) {
            Ok(text) => Ok(text.as_str().unwrap_or_default().to_owned()),
            Err(fault) => error(format!(
                "could not convert argument {} to string",
                api::go::quote(&fault.to_string())
            )),
        },
    }
}

/// A value within a list or map, and a list or map itself.
fn literal(value: &Value<'_>, room: &mut usize) -> Result<String, Fault> {
    let shown = match value {
        Value::List(list) => return listed(list, room),
        Value::Map(map) => return mapped(map, room),
        Value::String(text) if text.len() > *room => return Err(Fault::CostLimit),
        other => leaf(other)?,
    };
    spend(room, shown.len())?;
    Ok(shown)
}

fn listed(list: &List<'_>, room: &mut usize) -> Result<String, Fault> {
    let mut items = Vec::new();
    spend(room, 2)?;
    for item in list.iter() {
        items.push(literal(&item?, room)?);
        spend(room, 2)?;
    }
    Ok(format!("[{}]", items.join(", ")))
}

fn mapped(map: &Map<'_>, room: &mut usize) -> Result<String, Fault> {
    let mut entries = Vec::new();
    spend(room, 2)?;
    for key in map.keys() {
        let shown = match &key {
            Value::String(text) => api::go::quote(text),
            Value::Bool(_) | Value::Int(_) | Value::Uint(_) => text_of(&key)?,
            other => {
                return error(format!(
                    "no formatting function for map key of type {}",
                    other.type_name()
                ));
            }
        };
        spend(room, shown.len() + 3)?;
        let value = map.get(&key)?;
        entries.push((shown, literal(&value, room)?));
    }
    entries.sort();
    let entries: Vec<String> = entries.into_iter().map(|(k, v)| format!("{k}:{v}")).collect();
    Ok(format!("{{{}}}", entries.join(", ")))
}

fn leaf(value: &Value<'_>) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(api::go::quote(text)),
        Value::Bytes(_) => Ok(format!("b{}", api::go::quote(&text_of(value)?))),
        Value::Double(n) if !n.is_finite() => {
            let text = if n.is_nan() {
                "NaN"
            } else if *n < 0.0 {
                "-Inf"
            } else {
                "+Inf"
            };
            Ok(format!("\"{text}\""))
        }
        Value::Double(n) => Ok(format!("{n:.6}")),
        Value::Timestamp(_) => Ok(format!("timestamp({})", api::go::quote(&text_of(value)?))),
        Value::Duration(_) => Ok(format!("duration({})", api::go::quote(&text_of(value)?))),
        Value::Optional(_) | Value::Object(_) | Value::Opaque(_) | Value::Unknown(_) => {
            error(format!("no formatting function for {}", value.type_name()))
        }
        other => text_of(other),
    }
}

/// What is wrong with a call of `format` on a literal with a list of literals, and where.
pub(crate) fn problem(call: &Call, at: Id, checked: &Checked) -> Option<(Id, String)> {
    let text = call.target.as_ref()?.as_text()?;
    let [
        Expr {
            kind: Kind::List { elements, .. },
            ..
        },
    ] = &call.args[..]
    else {
        return None;
    };
    let walked = walk(
        text,
        elements.len(),
        &mut |n, clause| match unfit(&elements[n], clause, checked) {
            Some(bad) => Err(Wrong {
                fault: Fault::Error(clause.refusal(checked.type_of(bad).name()).into()),
                at: Some(bad.id),
            }),
            None => Ok(String::new()),
        },
    );
    match walked {
        Err(wrong) => Some((wrong.at.unwrap_or(at), wrong.fault.to_string())),
        Ok((_, used)) if elements.len() > used => Some((
            at,
            format!(
                "too many arguments supplied to string.format (expected {used}, got {})",
                elements.len()
            ),
        )),
        Ok(_) => None,
    }
}

/// The literal in what is given that a clause does not take.
fn unfit<'e>(given: &'e Expr, clause: Clause, checked: &Checked) -> Option<&'e Expr> {
    if !clause.takes(checked.type_of(given)) {
        return Some(given);
    }
    if clause != Clause::Text {
        return None;
    }
    match &given.kind {
        Kind::List { elements, .. } => elements.iter().find_map(|e| unfit(e, clause, checked)),
        Kind::Map(entries) => entries
            .iter()
            .find_map(|e| unfit(&e.key, clause, checked).or_else(|| unfit(&e.value, clause, checked))),
        _ => None,
    }
}
