//! Paths to fields of a custom resource as definitions write them: `.spec.name`, `.spec['a.b']`. They are resolved by the schema.

use super::node::{Additional, Node};

const NO_FIELD: &str = "does not refer to a valid field";
const UNEXPECTED_END: &str = "unexpected end of JSON path";

/// Follows a path through a schema. Returns the path as errors name it, and the schema of the field: `None` when the schema does not
/// say more of it than that it may be there. `brackets` allows `['name']`.
///
/// # Errors
/// Why the path leads nowhere.
pub fn resolve<'n>(root: &'n Node, path: &str, brackets: bool) -> Result<(String, Option<&'n Node>), String> {
    let mut tokens = Tokens(path);
    let (mut text, mut at) = (String::new(), Some(root));
    while let Some(token) = tokens.next() {
        let name = match token {
            "." => tokens.next().ok_or(UNEXPECTED_END)?.to_owned(),
            "[" if !brackets => return Err("array notation is not allowed".into()),
            "[" => {
                let quoted = tokens.next().ok_or(UNEXPECTED_END)?;
                let inside = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                unescape(inside.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?)?
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let node = at.ok_or(NO_FIELD)?;
        if node.properties.is_empty() {
            at = match &node.additional {
                Additional::Schema(values) => Some(&**values),
                Additional::Allowed(_) => None,
                Additional::Absent => return Err(NO_FIELD.into()),
            };
            text.push_str(&format!("[{name}]"));
        } else {
            at = Some(node.properties.get(name.as_str()).ok_or(NO_FIELD)?);
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&name);
        }
        if token == "[" {
            match tokens.next().ok_or(UNEXPECTED_END)? {
                "]" => {}
                other => return Err(format!("expected ] but got {other}")),
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

fn unescape(text: &str) -> Result<String, String> {
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
            other => return Err(format!("invalid string literal: invalid escape char \\{other}")),
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
            let found = found.as_ref().map(String::as_str).map_err(String::as_str);
            assert_eq!(found, want, "{path}");
        }
        assert!(resolve(&root, "['foo']", false).is_err());
    }
}
