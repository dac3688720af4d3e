//! Names of fields as identifiers: `namespace` is `__namespace__`, `a-b` is `a__dash__b`.

/// Names that are no identifiers, as the language keeps them for itself.
const KEYWORDS: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const SIGNS: [(&str, &str); 4] = [("__", "underscores"), (".", "dot"), ("-", "dash"), ("/", "slash")];

/// Whether a name is one that the language keeps for itself.
pub fn is_keyword(name: &str) -> bool {
    KEYWORDS.contains(&name)
}

/// The identifier for a field's name, or `None` when expressions cannot name the field.
///
/// ```
/// assert_eq!(cel::escape("x-y").as_deref(), Some("x__dash__y"));
/// assert_eq!(cel::escape("namespace").as_deref(), Some("__namespace__"));
/// assert_eq!(cel::escape("1st"), None);
/// ```
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if KEYWORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some((sign, word)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
            out.push_str(&format!("__{word}__"));
            rest = &rest[sign.len()..];
            continue;
        }
        if !c.is_ascii_alphanumeric() && c != '_' {
            return None;
        }
        out.push(c);
        rest = &rest[1..];
    }
    Some(out)
}

/// The field's name that an identifier stands for, or `None` when it is not well escaped.
pub fn unescape(identifier: &str) -> Option<String> {
    let mut out = String::with_capacity(identifier.len());
    let mut rest = identifier;
    while let Some(at) = rest.find("__") {
        let inside = &rest[at + 2..];
        // an escape has no underscore in it
        let length = inside.find('_').unwrap_or(inside.len());
        if length == 0 || !inside[length..].starts_with("__") {
            out.push_str(&rest[..at + 1]);
            rest = &rest[at + 1..];
            continue;
        }
        let word = &inside[..length];
        out.push_str(&rest[..at]);
        match SIGNS.iter().find(|(_, w)| *w == word) {
            Some((sign, _)) => out.push_str(sign),
            None if KEYWORDS.contains(&word) && identifier.len() == length + 4 => out.push_str(word),
            None => return None,
        }
        rest = &inside[length + 2..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_being_escaped() {
        for name in ["a", "a__b", "a-b.c/d", "in", "_a", "a_b", "x___y", "namespace2"] {
            let escaped = escape(name).unwrap();
            assert_eq!(unescape(&escaped).as_deref(), Some(name), "{escaped}");
        }
        assert_eq!(escape("a__b").as_deref(), Some("a__underscores__b"));
        assert_eq!(escape("a b"), None);
        assert_eq!(escape("\u{e9}"), None);
        assert_eq!(unescape("a__what__b"), None);
    }
}
