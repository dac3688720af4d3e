//! String and bytes literals: quotes, raw forms and escapes.

const CANNOT: &str = "unable to unescape string";

/// The bytes that a literal stands for; `text` is as written, without the `b` of bytes.
///
/// # Errors
/// In `cel-go`'s words.
pub(crate) fn unescape(text: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (raw, quoted) = match text.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let width = ["'''", "\"\"\""]
        .iter()
        .any(|q| quoted.len() >= 6 && quoted.starts_with(q) && quoted.ends_with(q));
    let width = if width { 3 } else { 1 };
    let inside = quoted.get(width..quoted.len().saturating_sub(width)).ok_or(CANNOT)?;
    if raw || !inside.contains('\\') {
        return Ok(inside.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        let mut buffer = [0; 4];
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        let escape = chars
            .next()
            .ok_or("unable to unescape string, found '\\' as last character")?;
        let plain = match escape {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => escape as u8,
            _ => {
                let code = code(escape, &mut chars, bytes)?;
                if bytes {
                    out.push(code as u8);
                } else {
                    let c = char::from_u32(code).ok_or("invalid unicode code point")?;
                    out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                }
                continue;
            }
        };
        out.push(plain);
    }
    Ok(out)
}

/// The number of an escape by number.
fn code(escape: char, chars: &mut std::str::Chars<'_>, bytes: bool) -> Result<u32, &'static str> {
    const OCTAL: &str = "unable to unescape octal sequence in string";
    let (first, digits, radix, why) = match escape {
        'x' | 'X' => (0, 2, 16, CANNOT),
        'u' if !bytes => (0, 4, 16, CANNOT),
        'U' if !bytes => (0, 8, 16, CANNOT),
        '0'..='3' => (escape as u32 - '0' as u32, 2, 8, OCTAL),
        _ => return Err(CANNOT),
    };
    let mut code = first;
    for _ in 0..digits {
        let digit = chars.next().and_then(|c| c.to_digit(radix)).ok_or(why)?;
        code = code.wrapping_mul(radix) + digit;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_what_they_stand_for_upstream() {
        for (text, out) in [
            ("'a\\n\\x41\\u00e9\\101'", "a\nA\u{e9}A"),
            ("r'a\\n'", "a\\n"),
            ("'''a'b'''", "a'b"),
            ("\"\"\"\r\n\"\"\"", "\n"),
            ("''", ""),
            ("'\\U0001F600'", "\u{1F600}"),
        ] {
            assert_eq!(unescape(text, false).unwrap(), out.as_bytes(), "{text}");
        }
        assert_eq!(unescape("'\\xff\\377'", true).unwrap(), [255, 255]);
        assert_eq!(unescape("'\\ud800'", false), Err("invalid unicode code point"));
        assert_eq!(unescape("'\\u00e9'", true), Err(CANNOT));
    }
}
