//! What is wrong with a JSON text, in the words of Go's decoder.

use serde_json::Value;

/// The problem of a text that is no JSON.
pub fn problem(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let error = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).err();
    if let Some((at, opened)) = too_deep(bytes) {
        let first = error
            .as_ref()
            .filter(|error| !error.is_eof())
            .map(|error| offset(bytes, error));
        if first.is_none_or(|first| at <= first) {
            return format!("invalid character {} exceeded max depth", quoted(opened));
        }
    }
    let Some(error) = error else {
        return "invalid JSON".into();
    };
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    // the error's column counts bytes from one, in its line
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let before = &line.as_bytes()[..error.column().saturating_sub(1).min(line.len())];
    let rest = &line.as_bytes()[before.len()..];
    let found = String::from_utf8_lossy(rest).chars().next().unwrap_or(' ');
    let place = match error.to_string() {
        e if e.starts_with("expected value") => "looking for beginning of value",
        e if e.starts_with("key must be a string") => "looking for beginning of object key string",
        e if e.starts_with("expected `:`") => "after object key",
        e if e.starts_with("expected `,` or `}`") => "after object key:value pair",
        e if e.starts_with("expected `,` or `]`") => "after array element",
        e if e.starts_with("trailing characters") => "after top-level value",
        e if e.starts_with("invalid escape") => "in string escape code",
        e if e.starts_with("control character") => "in string literal",
        e if e.starts_with("expected ident") => "in literal",
        _ => "looking for beginning of value",
    };
    format!("invalid character {} {place}", quoted(found))
}

/// The number of a text that is none that a computer reckons with, if that is all that is wrong with the text up to there.
pub fn beyond_float(bytes: &[u8]) -> Option<&str> {
    let error = serde_json::from_slice::<Value>(bytes).err()?;
    if !error.to_string().starts_with("number out of range") {
        return None;
    }
    let of_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let at = offset(bytes, &error).min(bytes.len().checked_sub(1)?);
    let before = bytes[..at].iter().rev().take_while(|byte| of_number(byte)).count();
    let after = bytes[at..].iter().take_while(|byte| of_number(byte)).count();
    let number = std::str::from_utf8(&bytes[at - before..at + after]).ok()?;
    number.parse::<f64>().is_ok_and(f64::is_infinite).then_some(number)
}

/// What Go says of such a number.
pub fn no_float(number: &str) -> String {
    format!("json: cannot unmarshal number {number} into Go value of type float64")
}

/// Where a text nests deeper than Go reads, and by what.
fn too_deep(bytes: &[u8]) -> Option<(usize, char)> {
    const DEEPEST: usize = 10_000;
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                if depth > DEEPEST {
                    return Some((at, char::from(*byte)));
                }
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The byte that an error is about.
fn offset(bytes: &[u8], error: &serde_json::Error) -> usize {
    let lines = bytes.split(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    lines.map(|line| line.len() + 1).sum::<usize>() + error.column().saturating_sub(1)
}

/// What Go calls the kind of a value.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Bytes of a value's JSON.
pub fn length(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // neither a tree nor a counter has anything to fail on
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// A value as Go prints a map of anything.
pub fn go_map(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(s) => s.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(go_map).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_map(v))).collect();
            format!("map[{}]", entries.join(" "))
        }
        other => api::go::sprint(other),
    }
}

/// A character as Go quotes one.
fn quoted(c: char) -> String {
    match c {
        '\'' => r"'\''".into(),
        '"' => "'\"'".into(),
        '\n' => r"'\n'".into(),
        '\t' => r"'\t'".into(),
        c if c.is_control() => format!(r"'\x{:02x}'", u32::from(c)),
        c => format!("'{c}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_beyond_all_numbers_is_found() {
        for text in [r#"{"a":[1, -2.5e400]}"#, "-2.5e400", "[-2.5e400\n,1]"] {
            assert_eq!(beyond_float(text.as_bytes()), Some("-2.5e400"), "{text}");
        }
        assert_eq!(beyond_float(br#"{"a":1e300,}"#), None);
        assert_eq!(beyond_float(b""), None);
    }

    #[test]
    fn problems_read_as_gos() {
        let cases = [
            ("hello", "invalid character 'h' looking for beginning of value"),
            ("{\"a\":", "unexpected end of JSON input"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            (
                "{a:1}",
                "invalid character 'a' looking for beginning of object key string",
            ),
        ];
        for (text, want) in cases {
            assert_eq!(problem(text.as_bytes()), want, "{text}");
        }
        let deep = |most: usize, after: &str| problem(format!("{}{after}", "{\"a\":[".repeat(most / 2)).as_bytes());
        assert_eq!(deep(10_000, ""), "unexpected end of JSON input");
        assert_eq!(deep(10_002, ""), "invalid character '{' exceeded max depth");
        assert_eq!(
            deep(10_000, "x{{{"),
            "invalid character 'x' looking for beginning of value"
        );
    }
}
