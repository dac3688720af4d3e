//! Numbers, characters and strings as Go writes them.

use super::error::{TemplateError, refuse};
use super::lex::{Kind, Token};
use super::node::Number;

/// Reads a number or a character.
///
/// # Errors
/// `illegal number syntax` and the like: the text is no number.
pub fn number(token: &Token) -> Result<Number, TemplateError> {
    let text = token.text.as_str();
    let illegal = || TemplateError(format!("illegal number syntax: {}", api::go::quote(text)));
    if token.kind == Kind::CharConstant {
        let inner = unquoted(&format!("\"{}\"", text.trim_matches('\'').replace('"', "\\\"")))?;
        let mut chars = inner.chars();
        return match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(Number::Int(i64::from(u32::from(c)))),
            _ => refuse(format!("malformed character constant: {text}")),
        };
    }
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (if text.starts_with('-') { -1 } else { 1 }, digits),
        None => (1, text),
    };
    let plain = digits.replace('_', "").to_lowercase();
    let radix = match plain.as_bytes() {
        [b'0', b'x', ..] => 16,
        [b'0', b'o', ..] => 8,
        [b'0', b'b', ..] => 2,
        [b'0', b'0'..=b'7', ..] if plain.bytes().all(|b| b.is_ascii_digit()) => 8,
        _ => 10,
    };
    let body = plain
        .trim_start_matches("0x")
        .trim_start_matches("0o")
        .trim_start_matches("0b");
    if radix != 10 {
        let value = i64::from_str_radix(body, radix).map_err(|_| illegal())?;
        return Ok(Number::Int(sign * value));
    }
    match plain.parse::<i64>() {
        Ok(value) => Ok(Number::Int(sign * value)),
        Err(_) if plain.bytes().all(|b| b.is_ascii_digit()) => {
            refuse(format!("integer overflow: {}", api::go::quote(text)))
        }
        Err(_) => {
            let value: f64 = plain.parse().map_err(|_| illegal())?;
            Ok(Number::Float(sign as f64 * value))
        }
    }
}

/// `strconv.Unquote` of a string in either kind of quotes.
///
/// # Errors
/// `invalid syntax`, as of Go.
pub fn unquoted(text: &str) -> Result<String, TemplateError> {
    if let Some(raw) = text.strip_prefix('`').and_then(|t| t.strip_suffix('`')) {
        return Ok(raw.replace('\r', ""));
    }
    let invalid = || TemplateError("invalid syntax".to_owned());
    let inner = text
        .strip_prefix('"')
        .and_then(|t| t.strip_suffix('"'))
        .ok_or_else(invalid)?;
    let mut out: Vec<u8> = Vec::new();
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.extend(c.to_string().bytes());
            continue;
        }
        let plain = match rest.next().ok_or_else(invalid)? {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            c @ ('\\' | '"' | '\'') => c as u8,
            c @ ('x' | 'u' | 'U') => {
                let digits: String = rest
                    .by_ref()
                    .take(match c {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    })
                    .collect();
                let code = u32::from_str_radix(&digits, 16).map_err(|_| invalid())?;
                match (c, u8::try_from(code)) {
                    ('x', Ok(byte)) => out.push(byte),
                    _ => out.extend(char::from_u32(code).ok_or_else(invalid)?.to_string().bytes()),
                }
                continue;
            }
            first @ '0'..='7' => {
                let digits: String = std::iter::once(first).chain(rest.by_ref().take(2)).collect();
                u8::from_str_radix(&digits, 8).map_err(|_| invalid())?
            }
            _ => return Err(invalid()),
        };
        out.push(plain);
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}
