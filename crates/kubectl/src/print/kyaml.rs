//! KYAML (KEP-5295): the subset of YAML in flow style whose strings are always quoted and whose keys are quoted where
//! a reader might take them for something else than text.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::go;

/// The end of a line inside a quoted text: the reader joins the lines again.
const FOLD: &str = "\\\n";

/// Years of four digits, months and days of one or two.
const DATE_PARTS: usize = 3;

/// The document of a value with its header, ending in a newline.
pub fn to_string(value: &Value) -> String {
    let mut out = String::from("---\n");
    write(&mut out, value, 0);
    out.push('\n');
    out
}

fn write(out: &mut String, value: &Value, level: usize) {
    match value {
        Value::String(text) => write_text(out, text, level + 1),
        Value::Array(list) if !list.is_empty() => write_list(out, list, level),
        Value::Object(map) if !map.is_empty() => write_map(out, map, level),
        Value::Number(number) => out.push_str(&go::json_number(number)),
        plain => out.push_str(&plain.to_string()),
    }
}

/// The brackets of lists and maps in a list stand side by side.
fn write_list(out: &mut String, list: &[Value], level: usize) {
    if list.iter().all(|item| item.is_array() || item.is_object()) {
        out.push('[');
        for (i, item) in list.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            write(out, item, level);
        }
        out.push(']');
        return;
    }
    out.push_str("[\n");
    for item in list {
        indent(out, level + 1);
        write(out, item, level + 1);
        out.push_str(",\n");
    }
    indent(out, level);
    out.push(']');
}

fn write_map(out: &mut String, map: &Map<String, Value>, level: usize) {
    out.push_str("{\n");
    for (key, value) in map {
        indent(out, level + 1);
        if needs_quotes(key) {
            out.push('"');
            for c in key.chars() {
                match c {
                    '\n' => out.push_str("\\n"),
                    '\t' => out.push_str("\\t"),
                    c => write_escaped(out, c),
                }
            }
            out.push('"');
        } else {
            out.push_str(key);
        }
        out.push_str(": ");
        write(out, value, level + 1);
        out.push_str(",\n");
    }
    indent(out, level);
    out.push('}');
}

/// A text of several lines has a line of the document for each of its own.
fn write_text(out: &mut String, text: &str, level: usize) {
    let lines = text.contains('\n');
    out.push('"');
    if lines {
        out.push_str(FOLD);
    }
    let mut starts = lines;
    for c in text.chars() {
        if starts {
            indent(out, level);
            // The reader drops what is blank before the first other character.
            out.push(if c.is_whitespace() && c != '\n' { '\\' } else { ' ' });
        }
        match c {
            '\n' => {
                out.push_str("\\n");
                out.push_str(FOLD);
            }
            '\t' => out.push('\t'),
            c => write_escaped(out, c),
        }
        starts = c == '\n';
    }
    if lines {
        if !starts {
            out.push_str(FOLD);
        }
        indent(out, level);
    }
    out.push('"');
}

fn write_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        c if printable(c) => out.push(c),
        '\0' => out.push_str("\\0"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{b}' => out.push_str("\\v"),
        '\u{c}' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        '\u{1b}' => out.push_str("\\e"),
        '\u{85}' => out.push_str("\\N"),
        '\u{a0}' => out.push_str("\\_"),
        '\u{2028}' => out.push_str("\\L"),
        '\u{2029}' => out.push_str("\\P"),
        c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        c if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
    }
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the plain space. `escape_debug` of what
/// is not the first character of a text leaves just these as they are.
fn printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        c if c.is_ascii() => false,
        c => format!("a{c}").escape_debug().count() == 2,
    }
}

fn indent(out: &mut String, level: usize) {
    for _ in 0..level {
        out.push_str("  ");
    }
}

fn needs_quotes(key: &str) -> bool {
    static PLAIN: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^[\p{L}\p{N}_]([\p{L}\p{N}_./-]*[\p{L}\p{N}_])?$").ok());
    let end = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let inside = |b: u8| end(b) || matches!(b, b'-' | b'.' | b'/');
    let plain = match key.as_bytes() {
        bytes if !key.is_ascii() => PLAIN.as_ref().is_some_and(|r| r.is_match(key)) && !bytes.is_empty(),
        [] => false,
        [one] => end(*one),
        [first, middle @ .., last] => end(*first) && middle.iter().all(|b| inside(*b)) && end(*last),
    };
    !plain || is_ambiguous(key)
}

/// Whether a YAML reader may take a bare key of letters, digits and what may stand between them for a value of another
/// type. Signs and colons never stand in a bare key, so that numbers with them need no look.
fn is_ambiguous(key: &str) -> bool {
    let lower = key.to_lowercase();
    if matches!(
        lower.as_str(),
        "null" | "true" | "t" | "y" | "yes" | "on" | "false" | "f" | "n" | "no" | "off"
    ) {
        return true;
    }
    is_number(&lower.replace('_', "")) || is_date(key)
}

/// What Go's `ParseInt` with any base or `ParseFloat` reads, in lower case and without underscores.
fn is_number(text: &str) -> bool {
    let radix = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix)
            .is_some_and(|digits| i64::from_str_radix(digits, radix).is_ok() && !digits.starts_with(['+', '-']))
    };
    if radix("0x", 16) || radix("0b", 2) || radix("0o", 8) || is_hexadecimal_float(text) {
        return true;
    }
    match text {
        "inf" | "infinity" | "nan" => true,
        text => text.parse::<f64>().is_ok_and(f64::is_finite),
    }
}

/// `0x1.8p3`: a mantissa in hexadecimal, always with an exponent of two.
fn is_hexadecimal_float(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.strip_prefix("0x").and_then(|rest| rest.split_once('p')) else {
        return false;
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_hexdigit());
    let power = exponent.strip_prefix('-').unwrap_or(exponent);
    !(whole.is_empty() && fraction.is_empty())
        && digits(whole)
        && digits(fraction)
        && !power.is_empty()
        && power.bytes().all(|b| b.is_ascii_digit())
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(DATE_PARTS + 1, '-').collect();
    let [year, month, day] = parts[..] else { return false };
    let digits = |s: &str, most: usize| s.len() <= most && !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !(digits(year, 4) && year.len() == 4 && digits(month, 2) && digits(day, 2)) {
        return false;
    }
    let (Ok(year), Ok(month), Ok(day)) = (year.parse(), month.parse(), day.parse()) else {
        return false;
    };
    jiff::civil::Date::new(year, month, day).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn brackets_in_lists_stand_side_by_side_and_empty_ones_are_closed_at_once() {
        let value = json!({
            "kind": "A", "list": [{"a": 1, "b": ["x", 2]}, {}, [[], [1]]], "mixed": [{"a": null}, 1.5], "none": {}, "nothing": [],
        });
        let text = r#"---
{
  kind: "A",
  list: [{
    a: 1,
    b: [
      "x",
      2,
    ],
  }, {}, [[], [
    1,
  ]]],
  mixed: [
    {
      a: null,
    },
    1.5,
  ],
  none: {},
  nothing: [],
}
"#;
        assert_eq!(to_string(&value), text);
    }

    #[test]
    fn texts_of_several_lines_keep_their_lines_and_their_leading_blanks() {
        let value = json!({"a": "one\n  two\n\n\tthree", "b": "end\n", "c": "\n", "d": "a\tb "});
        let text = "---\n{\n  a: \"\\\n     one\\n\\\n    \\  two\\n\\\n     \\n\\\n    \\\tthree\\\n    \",\n  \
                    b: \"\\\n     end\\n\\\n    \",\n  c: \"\\\n     \\n\\\n    \",\n  d: \"a\tb \",\n}\n";
        assert_eq!(to_string(&value), text);
    }

    #[test]
    fn keys_are_quoted_where_they_might_be_something_else() {
        for (key, quoted) in [
            ("name", false),
            ("app.kubernetes.io/name", false),
            ("a-b", false),
            ("-a", true),
            ("a-", true),
            ("a b", true),
            ("", true),
            ("_", false),
            ("NO", true),
            ("y", true),
            ("Null", true),
            ("T", true),
            ("1", true),
            ("1_000", true),
            ("0x1f", true),
            ("0x1g", false),
            ("0x1p-2", true),
            ("08", true),
            ("1e3", true),
            ("1e999", false),
            ("inf", true),
            ("1.2.3", false),
            ("2024-01-05", true),
            ("2024-1-5", true),
            ("2024-02-30", false),
            ("é", false),
            ("a\u{301}", true),
            ("日本", false),
        ] {
            assert_eq!(needs_quotes(key), quoted, "{key:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        let text = "\"\\ \u{0}\u{7}\u{1b}\u{7f}\u{85}\u{a0}\u{ad}\u{2028}\u{feff}é日\u{1f600}\u{e0001}";
        let written = "---\n\"\\\"\\\\ \\0\\a\\e\\x7f\\N\\_\\u00ad\\L\\ufeffé日\u{1f600}\\U000e0001\"\n";
        assert_eq!(to_string(&json!(text)), written);
    }
}
