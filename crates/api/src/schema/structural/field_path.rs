//! Paths to fields of a custom resource as definitions write them: `.spec.name`, `.spec['a.b']`. They are resolved by the schema.

use super::node::{Additional, Node};

/// Why a path leads nowhere, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldPathError {
    /// The schema has no such field.
    #[error("does not refer to a valid field")]
    NoField,
    /// The path breaks off.
    #[error("unexpected end of JSON path")]
    UnexpectedEnd,
    /// Brackets stand where only names may.
    #[error("array notation is not allowed")]
    Brackets,
    /// What is in brackets is not in single quotes.
    #[error("expected single quoted string but got {0}")]
    Unquoted(String),
    /// A step begins with something else.
    #[error("expected [ or . but got: {0}")]
    NoStep(String),
    /// The bracket is not closed.
    #[error("expected ] but got {0}")]
    Unclosed(String),
    /// A backslash in quotes stands before this character.
    #[error("invalid string literal: invalid escape char \\{0}")]
    Escape(char),
}

use FieldPathError::{NoField, UnexpectedEnd};

/// Follows a path through a schema. Returns the path as errors name it, and the schema of the field: `None` when the schema does not
/// say more of it than that it may be there. `brackets` allows `['name']`.
///
/// # Errors
/// Why the path leads nowhere.
pub fn resolve<'n>(root: &'n Node, path: &str, brackets: bool) -> Result<(String, Option<&'n Node>), FieldPathError> {
    let mut tokens = Tokens(path);
    let (mut text, mut at) = (String::new(), Some(root));
    while let Some(token) = tokens.next() {
        let name = match token {
            "." => tokens.next().ok_or(UnexpectedEnd)?.to_owned(),
            "[" if !brackets => return Err(FieldPathError::Brackets),
            "[" => {
                let quoted = tokens.next().ok_or(UnexpectedEnd)?;
                let inside = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                unescape(inside.ok_or_else(|| FieldPathError::Unquoted(quoted.to_owned()))?)?
            }
            other => return Err(FieldPathError::NoStep(other.to_owned())),
        };
        let node = at.ok_or(NoField)?;
        if node.properties.is_empty() {
            at = match &node.additional {
                Additional::Schema(values) => Some(&**values),
                Additional::Allowed(_) => None,
                Additional::Absent => return Err(NoField),
            };
            text.push_str(&format!("[{name}]"));
        } else {
            at = Some(node.properties.get(name.as_str()).ok_or(NoField)?);
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&name);
        }
        if token == "[" {
            match tokens.next().ok_or(UnexpectedEnd)? {
                "]" => {}
                other => return Err(FieldPathError::Unclosed(other.to_owned())),
            }
        }
    }
    Ok((text, at))
}

/// The parts of a path: `.`, `[`, `]`, texts in single quotes, and what lies between.
struct Tokens<'t>(&'t str);

impl<'t> Tokens<'t> {
    fn next(&mut self) -> Option<&'t str> {
        let first = self.0.chars().next()?;
        let end = match first {
            '\'' => {
                let bytes = self.0.as_bytes();
                let close = (1..bytes.len()).find(|at| bytes[*at] == b'\'' && bytes[at - 1] != b'\\');
                close.map_or(bytes.len(), |at| at + 1)
            }
            '.' | '[' | ']' => 1,
            _ => self.0.find(['.', '[', ']']).unwrap_or(self.0.len()),
        };
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(token)
    }
}

fn unescape(text: &str) -> Result<String, FieldPathError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        // a backslash at the end, or before a line's end, escapes nothing
        let Some(escaped) = chars.next() else {
            out.push(c);
            break;
        };
        out.push(match escaped {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\'' | '\\' => escaped,
            other => return Err(FieldPathError::Escape(other)),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_resolved_as_upstream_resolves_them() {
        let root = Node::compile(&json!({
            "type": "object",
            "properties": {
                "foo": { "type": "object", "properties": { "a": { "type": "string" }, "a.b]c": { "type": "integer" }, "bbb'c": { "type": "integer" } } },
                "list": { "type": "array", "items": { "type": "string" } },
                "map": { "type": "object", "additionalProperties": { "type": "object", "properties": { "x": { "type": "string" } } } },
                "any": { "type": "object", "additionalProperties": true },
            },
        }));
        // (path, what it is called or why it is refused)
        for (path, want) in [
            ("", Ok("")),
            (".foo", Ok("foo")),
            (".foo.a", Ok("foo.a")),
            ("['foo'].a", Ok("foo.a")),
            (".foo['a.b]c']", Ok("foo.a.b]c")),
            (".foo['bbb\\'c']", Ok("foo.bbb'c")),
            (".map.k.x", Ok("map[k].x")),
            (".map['k'].x", Ok("map[k].x")),
            (".any.k", Ok("any[k]")),
            (".any.k.l", Err("does not refer to a valid field")),
            (".list[0]", Err("expected single quoted string but got 0")),
            (".list['0']", Err("does not refer to a valid field")),
            (".foo.b", Err("does not refer to a valid field")),
            ("foo", Err("expected [ or . but got: foo")),
            (".foo.", Err("unexpected end of JSON path")),
            (".foo['a'", Err("unexpected end of JSON path")),
            (".foo['a']b", Err("expected [ or . but got: b")),
            (".foo['\\q']", Err("invalid string literal: invalid escape char \\q")),
        ] {
            let found = resolve(&root, path, true).map(|(text, _)| text);
            let found = found.map_err(|error| error.to_string());
            assert_eq!(found, want.map(str::to_owned).map_err(str::to_owned), "{path}");
        }
        assert!(resolve(&root, "['foo']", false).is_err());
    }
}
