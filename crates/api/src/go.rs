//! Values as Go prints them: what reaches the terminal through `%v`.

use serde_json::{Number, Value};

/// `fmt.Sprint` of a decoded JSON value.
pub fn sprint(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        // what is beyond 64 bits with a sign has none
        Value::Number(n) => match n.as_f64() {
            Some(f) if !n.is_i64() => float(f),
            _ => n.to_string(),
        },
        Value::String(s) => s.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(sprint).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let items: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", sprint(v))).collect();
            format!("map[{}]", items.join(" "))
        }
    }
}

/// `%s` of the type of a decoded JSON value, as of `reflect.TypeOf`.
pub fn type_shown(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        other => type_of(other),
    }
}

/// `%T` of a decoded JSON value.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// `%#v` of a decoded JSON value.
pub fn syntax(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(inner_syntax).collect();
            format!("{}{{{}}}", type_of(value), items.join(", "))
        }
        Value::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{}:{}", quote(k), inner_syntax(v)))
                .collect();
            format!("{}{{{}}}", type_of(value), items.join(", "))
        }
        other => sprint(other),
    }
}

fn inner_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        value => syntax(value),
    }
}

/// `strconv.FormatFloat(f, 'g', -1, 64)`, which is `%v` too: from a million on, and below 1e-4, there is an exponent.
pub fn float(f: f64) -> String {
    let text = format!("{f:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{f}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// A number as Go's JSON encoder writes it: `1.0` is `1`, and only what is below 1e-6 or from 1e21 has an exponent.
pub fn json_number(number: &Number) -> String {
    match number.as_f64() {
        Some(f) if number.as_i64().is_none() => json_float(f),
        _ => number.to_string(),
    }
}

/// A number with a fraction or an exponent as Go's JSON encoder writes it.
pub fn json_float(f: f64) -> String {
    let size = f.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{f:e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => format!("{mantissa}e+{exponent}"),
            _ => text,
        };
    }
    format!("{f}")
}

/// JSON as Go's encoder writes it: `<`, `>` and `&` are escaped, numbers are those of [`json_number`].
pub fn json(value: &Value, indent: Option<&str>) -> String {
    let mut text = String::new();
    write_json(&mut text, value, indent, 0);
    html_escaped(text)
}

/// JSON without what a page would read as its own.
pub fn html_escaped(text: String) -> String {
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn write_json(out: &mut String, value: &Value, indent: Option<&str>, level: usize) {
    let line = |out: &mut String, level: usize| {
        if let Some(indent) = indent {
            out.push('\n');
            (0..level).for_each(|_| out.push_str(indent));
        }
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('{');
            for (i, (key, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                line(out, level + 1);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push_str(if indent.is_some() { ": " } else { ":" });
                write_json(out, value, indent, level + 1);
            }
            line(out, level);
            out.push('}');
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('[');
            for (i, value) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                line(out, level + 1);
                write_json(out, value, indent, level + 1);
            }
            line(out, level);
            out.push(']');
        }
        Value::Number(number) => out.push_str(&json_number(number)),
        plain => out.push_str(&plain.to_string()),
    }
}

/// An error of the system in its own words, without Rust's number of it.
pub fn io_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let Some(number) = error.raw_os_error() else {
        return text;
    };
    // Go writes the system's words small
    let words = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text);
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// `%q`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            // Go prints what one can see, and of spaces the common one alone
            c if c.is_control()
                || c.is_whitespace() && c != ' '
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}') =>
            {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_print_as_go_prints_them() {
        assert_eq!(sprint(&json!({"b": [1, "x"], "a": null})), "map[a:<nil> b:[1 x]]");
        assert_eq!(sprint(&json!(1.5)), "1.5");
        assert_eq!(sprint(&json!(9_223_372_036_854_775_808_u64)), "9.223372036854776e+18");
        assert_eq!(
            syntax(&json!({"a": [null, "x", 1]})),
            "map[string]interface {}{\"a\":[]interface {}{interface {}(nil), \"x\", 1}}"
        );
        assert_eq!(quote("a\u{0}\u{7f}\u{a0}é"), "\"a\\x00\\x7f\\u00a0é\"");
        assert_eq!(float(999_999.0), "999999");
        assert_eq!(float(1e6), "1e+06");
        assert_eq!(float(12_345_678.9), "1.23456789e+07");
        assert_eq!(float(0.0001), "0.0001");
        assert_eq!(float(1.5e-7), "1.5e-07");
    }

    #[test]
    fn numbers_in_json_are_written_as_go_writes_them() {
        for (number, text) in [
            (json!(1.0), "1"),
            (json!(-0.5), "-0.5"),
            (json!(1e16), "10000000000000000"),
            (json!(1e21), "1e+21"),
            (json!(1e-7), "1e-7"),
            (json!(0.000001), "0.000001"),
            (json!(u64::MAX), "18446744073709552000"),
            (json!(i64::MIN), "-9223372036854775808"),
        ] {
            assert_eq!(json(&number, None), text);
        }
    }

    #[test]
    fn json_escapes_what_html_would_read() {
        assert_eq!(json(&json!({"a": "<b>&"}), None), r#"{"a":"\u003cb\u003e\u0026"}"#);
        assert_eq!(json(&json!({"a": []}), Some("  ")), "{\n  \"a\": []\n}");
    }
}
