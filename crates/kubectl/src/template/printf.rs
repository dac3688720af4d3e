//! `fmt.Sprintf` for the values that a template has.

use super::value::Val;
use crate::print::go;

/// What stands between `%` and the verb.
#[derive(Default)]
struct Spec {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// The widest field: more is the template's mistake.
const WIDEST: usize = 1_000_000;

/// Writes the arguments by a format. What does not fit is marked as Go marks it: `%!d(string=a)`, `%!d(MISSING)`.
pub fn printf(format: &str, arguments: &[Val<'_>]) -> String {
    let mut out = String::new();
    let mut rest = format.chars().peekable();
    let mut next = 0;
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = rest.peek() {
            match flag {
                '+' => spec.plus = true,
                '-' => spec.minus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => break,
            }
            rest.next();
        }
        let mut number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Option<usize> {
            if rest.peek() == Some(&'*') {
                rest.next();
                let value = arguments.get(next);
                next += 1;
                return match value {
                    Some(Val::Int(n)) => usize::try_from(*n).ok(),
                    _ => None,
                };
            }
            let mut made = None;
            while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
                made = Some((made.unwrap_or(0) * 10 + digit as usize).min(WIDEST));
                rest.next();
            }
            made
        };
        spec.width = number(&mut rest);
        if rest.peek() == Some(&'.') {
            rest.next();
            spec.precision = Some(number(&mut rest).unwrap_or(0));
        }
        match rest.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match arguments.get(next) {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => {
                    next += 1;
                    out.push_str(&one(verb, &spec, value));
                }
            },
        }
    }
    if next < arguments.len() {
        let left = arguments[next..].iter().map(|value| match value {
            Val::Missing => "<nil>".to_owned(),
            value => format!("{}={}", value.type_name(), value.shown()),
        });
        let left: Vec<String> = left.collect();
        out.push_str(&format!("%!(EXTRA {})", left.join(", ")));
    }
    out
}

fn one(verb: char, spec: &Spec, value: &Val<'_>) -> String {
    let bad = || match value {
        Val::Missing => format!("%!{verb}(<nil>)"),
        value => format!("%!{verb}({}={})", value.type_name(), value.shown()),
    };
    let made = match (verb, value) {
        ('T', value) => value.type_name().to_owned(),
        ('v', Val::Int(n)) => signed(spec, n.to_string()),
        ('v', Val::Float(f)) => signed(spec, float('g', spec, *f)),
        ('v', value) => value.shown(),
        ('s', Val::Text(text)) => match spec.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text.clone().into_owned(),
        },
        ('q', Val::Text(text)) => api::go::quote(text),
        ('x', Val::Text(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Val::Text(text)) => text.bytes().map(|b| format!("{b:02X}")).collect(),
        ('t', Val::Bool(b)) => b.to_string(),
        ('d', Val::Int(n)) => signed(spec, n.to_string()),
        ('x', Val::Int(n)) => signed(
            spec,
            radix(
                *n,
                if spec.sharp { "0x" } else { "" },
                &format!("{:x}", n.unsigned_abs()),
            ),
        ),
        ('X', Val::Int(n)) => signed(
            spec,
            radix(
                *n,
                if spec.sharp { "0X" } else { "" },
                &format!("{:X}", n.unsigned_abs()),
            ),
        ),
        ('o', Val::Int(n)) => signed(
            spec,
            radix(
                *n,
                if spec.sharp { "0" } else { "" },
                &format!("{:o}", n.unsigned_abs()),
            ),
        ),
        ('b', Val::Int(n)) => signed(
            spec,
            radix(
                *n,
                if spec.sharp { "0b" } else { "" },
                &format!("{:b}", n.unsigned_abs()),
            ),
        ),
        ('c', Val::Int(n)) => u32::try_from(*n)
            .ok()
            .and_then(char::from_u32)
            .unwrap_or('\u{fffd}')
            .to_string(),
        ('q', Val::Int(n)) => format!(
            "'{}'",
            u32::try_from(*n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
        ),
        ('U', Val::Int(n)) => format!("U+{n:04X}"),
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Val::Float(f)) => signed(spec, float(verb, spec, *f)),
        ('s' | 'd' | 'q' | 'x' | 't' | 'f', Val::List(list)) => {
            let inner: Vec<String> = list
                .iter()
                .map(|item| one(verb, &Spec::default(), &Val::from(item)))
                .collect();
            format!("[{}]", inner.join(" "))
        }
        ('s' | 'd' | 'q' | 'x' | 't' | 'f', Val::Map(map)) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            let plain = Spec::default();
            let inner: Vec<String> = keys
                .into_iter()
                .map(|key| {
                    let name = Val::Text(key.as_str().into());
                    format!(
                        "{}:{}",
                        one(verb, &plain, &name),
                        one(verb, &plain, &Val::from(&map[key]))
                    )
                })
                .collect();
            format!("map[{}]", inner.join(" "))
        }
        _ => return bad(),
    };
    padded(
        spec,
        made,
        matches!(value, Val::Int(_) | Val::Float(_)) && verb != 'c' && verb != 'q',
    )
}

fn radix(n: i64, prefix: &str, digits: &str) -> String {
    let sign = if n < 0 { "-" } else { "" };
    format!("{sign}{prefix}{digits}")
}

fn signed(spec: &Spec, text: String) -> String {
    match (text.starts_with('-'), spec.plus, spec.space) {
        (false, true, _) => format!("+{text}"),
        (false, false, true) => format!(" {text}"),
        _ => text,
    }
}

fn float(verb: char, spec: &Spec, f: f64) -> String {
    let exponent = |text: String| -> String {
        let Some((mantissa, exponent)) = text.split_once('e') else {
            return text;
        };
        let (sign, digits) = exponent
            .strip_prefix('-')
            .map_or(('+', exponent), |digits| ('-', digits));
        format!("{mantissa}e{sign}{digits:0>2}")
    };
    match verb {
        'f' | 'F' => format!("{f:.*}", spec.precision.unwrap_or(6)),
        'e' => exponent(format!("{f:.*e}", spec.precision.unwrap_or(6))),
        'E' => exponent(format!("{f:.*e}", spec.precision.unwrap_or(6))).to_uppercase(),
        _ => {
            let text = match spec.precision {
                None => go::float(f),
                Some(digits) => significant(f, digits.max(1)),
            };
            if verb == 'G' { text.to_uppercase() } else { text }
        }
    }
}

/// `%.Ng`: so many digits, without zeros at the end.
fn significant(f: f64, digits: usize) -> String {
    let text = format!("{f:.*e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let most = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= most {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let after = usize::try_from(most - 1 - exponent).unwrap_or(0);
    trim(&format!("{f:.after$}"))
}

fn padded(spec: &Spec, text: String, number: bool) -> String {
    let length = text.chars().count();
    let Some(missing) = spec.width.and_then(|width| width.checked_sub(length)) else {
        return text;
    };
    if spec.minus {
        return text + &" ".repeat(missing);
    }
    if !spec.zero {
        return " ".repeat(missing) + &text;
    }
    match (number, text.chars().next()) {
        (true, Some(sign @ ('-' | '+' | ' '))) => format!("{sign}{}{}", "0".repeat(missing), &text[1..]),
        _ => "0".repeat(missing) + &text,
    }
}
