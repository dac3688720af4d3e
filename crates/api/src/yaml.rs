//! YAML as upstream writes it: sorted keys, lists at the indent of their key, lines folded after 80 columns.

use serde_json::{Map, Value};

use crate::yaml_order;

/// A scalar is broken at the first space beyond this column.
const WIDTH: usize = 80;

/// The document of a value, ending in a newline.
pub fn to_string(value: &Value) -> String {
    let mut writer = Writer::default();
    match value {
        Value::Object(map) if !map.is_empty() => writer.map(map, 0, false),
        Value::Array(list) if !list.is_empty() => writer.list(list, 0, false),
        other => {
            writer.scalar(other, 0);
            writer.newline();
        }
    }
    writer.out
}

#[derive(Default)]
struct Writer {
    out: String,
    /// Characters since the last newline.
    column: usize,
}

/// How a text is written.
#[derive(Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

impl Writer {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn newline(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    fn indent(&mut self, indent: usize) {
        for _ in 0..indent {
            self.put(" ");
        }
    }

    /// The first entry follows what is on the line already where `inline` says so.
    fn map(&mut self, map: &Map<String, Value>, indent: usize, inline: bool) {
        let mut members: Vec<(&String, &Value)> = map.iter().collect();
        members.sort_by(|(a, _), (b, _)| yaml_order::compare(a, b));
        for (i, (key, value)) in members.into_iter().enumerate() {
            if i > 0 || !inline {
                self.indent(indent);
            }
            // Keys longer than this, or of several lines, are no simple keys.
            let simple = key.len() <= 128 && !key.contains('\n');
            if !simple {
                self.put("? ");
            }
            self.text(key, indent, simple);
            if !simple {
                self.newline();
                self.indent(indent);
            }
            self.put(":");
            self.value(value, indent, true);
        }
    }

    fn list(&mut self, list: &[Value], indent: usize, inline: bool) {
        for (i, value) in list.iter().enumerate() {
            if i > 0 || !inline {
                self.indent(indent);
            }
            self.put("-");
            self.value(value, indent, false);
        }
    }

    /// What follows `key:` or `-`, with the newline.
    fn value(&mut self, value: &Value, indent: usize, of_key: bool) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                if of_key {
                    self.newline();
                } else {
                    self.put(" ");
                }
                self.map(map, indent + 2, !of_key);
            }
            Value::Array(list) if !list.is_empty() => {
                if of_key {
                    self.newline();
                    self.list(list, indent, false);
                } else {
                    self.put(" ");
                    self.list(list, indent + 2, true);
                }
            }
            scalar => {
                self.put(" ");
                self.scalar(scalar, indent);
                if self.column > 0 {
                    self.newline();
                }
            }
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Null => self.put("null"),
            Value::Bool(b) => self.put(&b.to_string()),
            Value::Number(n) => self.put(&number(n)),
            Value::String(text) => self.text(text, indent, false),
            Value::Array(_) => self.put("[]"),
            Value::Object(_) => self.put("{}"),
        }
    }

    fn text(&mut self, text: &str, indent: usize, key: bool) {
        match style(text, key) {
            Style::Plain => self.folded(text, indent + 2, !key, |c| c.to_string()),
            Style::Single => {
                self.put("'");
                self.folded(text, indent + 2, !key, |c| {
                    if c == '\'' { "''".to_owned() } else { c.to_string() }
                });
                self.put("'");
            }
            Style::Double => {
                self.put("\"");
                self.double(text, indent + 2, !key);
                self.put("\"");
            }
            Style::Literal => self.literal(text, indent + 2),
        }
    }

    /// Breaks at single spaces only, and in quotes neither at the first nor at the last character.
    fn folded(&mut self, text: &str, indent: usize, breaks: bool, escape: impl Fn(char) -> String) {
        let chars: Vec<char> = text.chars().collect();
        let mut spaces = false;
        for (i, &c) in chars.iter().enumerate() {
            if c == ' ' {
                let inside = i > 0 && i + 1 < chars.len();
                if breaks && !spaces && self.column > WIDTH && inside && chars.get(i + 1) != Some(&' ') {
                    self.newline();
                    self.indent(indent);
                } else {
                    self.put(" ");
                }
                spaces = true;
            } else {
                self.put(&escape(c));
                spaces = false;
            }
        }
    }

    fn double(&mut self, text: &str, indent: usize, breaks: bool) {
        let chars: Vec<char> = text.chars().collect();
        let mut spaces = false;
        for (i, &c) in chars.iter().enumerate() {
            if c == ' ' {
                if breaks && !spaces && self.column > WIDTH && i > 0 && i + 1 < chars.len() {
                    self.newline();
                    self.indent(indent);
                    if chars.get(i + 1) == Some(&' ') {
                        self.put("\\");
                    }
                } else {
                    self.put(" ");
                }
                spaces = true;
                continue;
            }
            spaces = false;
            let escaped = match c {
                '\0' => "\\0".to_owned(),
                '\u{7}' => "\\a".to_owned(),
                '\u{8}' => "\\b".to_owned(),
                '\t' => "\\t".to_owned(),
                '\n' => "\\n".to_owned(),
                '\u{b}' => "\\v".to_owned(),
                '\u{c}' => "\\f".to_owned(),
                '\r' => "\\r".to_owned(),
                '\u{1b}' => "\\e".to_owned(),
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\u{85}' => "\\N".to_owned(),
                '\u{2028}' => "\\L".to_owned(),
                '\u{2029}' => "\\P".to_owned(),
                c if printable(c) && c != '\u{feff}' => c.to_string(),
                c if u32::from(c) <= 0xff => format!("\\x{:02X}", u32::from(c)),
                c if u32::from(c) <= 0xffff => format!("\\u{:04X}", u32::from(c)),
                c => format!("\\U{:08X}", u32::from(c)),
            };
            self.put(&escaped);
        }
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put("|");
        if text.starts_with([' ', '\n']) {
            self.put("2");
        }
        match text.strip_suffix('\n') {
            None => self.put("-"),
            Some(rest) if rest.is_empty() || rest.ends_with('\n') => self.put("+"),
            Some(_) => {}
        }
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            self.newline();
            if !line.is_empty() {
                self.indent(indent);
                self.put(line);
            }
        }
        self.newline();
    }
}

/// Whole numbers of any size as they are; others as Go's shortest form.
fn number(n: &serde_json::Number) -> String {
    match n.as_f64() {
        Some(f) if n.is_f64() => crate::go::float(f),
        _ => n.to_string(),
    }
}

/// Upstream's writer knows no characters beyond 16 bits, and escapes them.
fn printable(c: char) -> bool {
    matches!(c, '\n' | '\u{20}'..='\u{7e}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

/// What libyaml's analysis of a scalar allows.
fn style(text: &str, key: bool) -> Style {
    if text.is_empty() {
        return Style::Double;
    }
    let multiline = text.contains('\n');
    let chars: Vec<char> = text.chars().collect();
    let is_break = |c: char| matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let blank = |c: char| matches!(c, ' ' | '\t');
    let mut indicators = text.starts_with("---") || text.starts_with("...");
    let (mut special, mut space_break, mut break_space, mut line_breaks) = (false, false, false, false);
    for (i, &c) in chars.iter().enumerate() {
        let followed = chars.get(i + 1).is_none_or(|&c| blank(c) || is_break(c));
        let preceded = i == 0 || blank(chars[i - 1]) || is_break(chars[i - 1]);
        indicators |= match c {
            ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => i == 0,
            '?' | '-' => i == 0 && followed,
            ':' => followed,
            '#' => preceded,
            _ => false,
        };
        special |= !printable(c);
        if c == ' ' && i > 0 && is_break(chars[i - 1]) {
            break_space = true;
        }
        if is_break(c) {
            line_breaks = true;
            space_break |= i > 0 && chars[i - 1] == ' ';
        }
    }
    let ends = |c: Option<&char>| c.is_some_and(|&c| c == ' ' || is_break(c));
    let trailing_space = chars.last() == Some(&' ');
    let block = !trailing_space && !space_break && !special;
    if multiline {
        return if block && !key { Style::Literal } else { Style::Double };
    }
    if resolves(text) {
        return Style::Double;
    }
    let plain = !indicators && !special && !line_breaks && !ends(chars.first()) && !ends(chars.last());
    if plain {
        Style::Plain
    } else if !break_space && !space_break && !special {
        Style::Single
    } else {
        Style::Double
    }
}

/// Whether YAML 1.1 would read the bare text as something else than a text.
pub(crate) fn resolves(text: &str) -> bool {
    const WORDS: [&str; 35] = [
        "", "~", "null", "Null", "NULL", "true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON",
        "false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF", ".nan", ".NaN", ".NAN", ".inf",
        ".Inf", ".INF", "<<", "-.inf",
    ];
    if WORDS.contains(&text) || matches!(text, "+.inf" | "+.Inf" | "+.INF" | "-.Inf" | "-.INF") {
        return true;
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return false;
    }
    is_number(text) || is_base60(text) || is_timestamp(text)
}

fn is_number(text: &str) -> bool {
    let plain = text.replace('_', "");
    let unsigned = plain.trim_start_matches(['+', '-']);
    if plain.len() - unsigned.len() > 1 || unsigned.is_empty() {
        return false;
    }
    let radix = |prefix: &str, radix: u32| {
        unsigned
            .strip_prefix(prefix)
            .is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_digit(radix)))
    };
    if radix("0x", 16) || radix("0X", 16) || radix("0b", 2) || radix("0B", 2) || radix("0o", 8) || radix("0O", 8) {
        return true;
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let exponent_ok = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_ok
}

/// `12:30:45`, a number of YAML 1.1.
fn is_base60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (text, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(|b| b.is_ascii_digit() || b == b'_')
        && !rest.is_empty()
        && rest
            .iter()
            .all(|p| (1..=2).contains(&p.len()) && p.parse::<u8>().is_ok_and(|n| n < 60))
        && fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

/// `2026-01-02` and `2026-01-02T03:04:05Z` in Go's reading.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return false;
    }
    let date = text.split(['T', 't', ' ']).next().unwrap_or_default();
    let fields: Vec<&str> = date.split('-').collect();
    let [_, month, day] = fields[..] else { return false };
    let in_range =
        |s: &str, most: u8| (1..=2).contains(&s.len()) && s.parse::<u8>().is_ok_and(|n| (1..=most).contains(&n));
    if !in_range(month, 12) || !in_range(day, 31) {
        return false;
    }
    let rest = &text[date.len()..];
    if rest.is_empty() {
        return date.len() == 10;
    }
    let time = &rest[1..];
    let zone = time.find(['Z', '+', '-', ' ']).unwrap_or(time.len());
    let clock = time[..zone].split_once('.').map_or(&time[..zone], |(c, _)| c);
    clock.split(':').count() == 3
        && clock
            .split(':')
            .all(|p| (1..=2).contains(&p.len()) && p.parse::<u8>().is_ok())
}

/// Why Go's YAML reader does not take a text, whatever it says: a character that YAML does not allow.
pub fn unreadable(bytes: &[u8]) -> Option<&'static str> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.chars().all(allowed)).then_some("control characters are not allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `yaml_parser_update_buffer` of go-yaml.
    #[test]
    fn characters_that_yaml_does_not_allow_are_refused() {
        for text in ["a: \u{7f}", "\u{0}", "a: \u{ffff}"] {
            assert!(unreadable(text.as_bytes()).is_some(), "{text:?}");
        }
        assert_eq!(unreadable("a: é\t\u{85}😀\n".as_bytes()), None);
    }
    use serde_json::json;

    #[test]
    fn documents_look_as_upstream_writes_them() {
        let value =
            json!({"b": [{"x": 1, "y": [1, 2]}, [1, "a"], []], "a": {}, "c": {"d": null, "e": "yes"}, "n": "12"});
        let expected = "a: {}\nb:\n- x: 1\n  \"y\":\n  - 1\n  - 2\n- - 1\n  - a\n- []\nc:\n  d: null\n  e: \"yes\"\n\"n\": \"12\"\n";
        assert_eq!(to_string(&value), expected);
    }

    #[test]
    fn texts_are_quoted_where_they_must_be() {
        for (text, written) in [
            ("a b", "a b"),
            ("", "\"\""),
            ("a: b", "'a: b'"),
            ("it's", "it's"),
            ("*", "'*'"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("1.5", "\"1.5\""),
            ("1.5.2", "1.5.2"),
            ("0x1f", "\"0x1f\""),
            ("12:30", "\"12:30\""),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("2026-01-02", "\"2026-01-02\""),
            ("2026-01-02T03:04:05Z", "\"2026-01-02T03:04:05Z\""),
            ("a\nb\n", "|\n  a\n  b"),
            ("a\nb", "|-\n  a\n  b"),
            ("a\tb", "\"a\\tb\""),
            ("{a}", "'{a}'"),
            ("a #b", "'a #b'"),
            ("é", "é"),
            ("\u{1f600}", "\"\\U0001F600\""),
            (" a", "' a'"),
        ] {
            assert_eq!(to_string(&json!({ "k": text })), format!("k: {written}\n"), "{text:?}");
        }
    }

    #[test]
    fn long_lines_are_folded_after_column_80() {
        let text = "word ".repeat(20);
        let written = to_string(&json!({ "k": text.trim_end() }));
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines[0].len(), 82);
        assert_eq!(lines[1], "  word word word word");
    }
}
