//! JSONPath templates: text with paths in braces, evaluated over a tree of JSON.

mod parse;

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use crate::go;
use parse::Node;

/// A template that cannot be read, or does not fit the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonPathError(pub String);

type Result<T> = std::result::Result<T, JsonPathError>;
type Found<'a> = Vec<Cow<'a, Value>>;

fn error<T>(text: impl Into<String>) -> Result<T> {
    Err(JsonPathError(text.into()))
}

/// A template that is ready to be filled.
#[derive(Debug, Clone)]
pub struct JsonPath {
    nodes: Vec<Node>,
    /// A field that is not there gives nothing instead of an error.
    allow_missing: bool,
}

impl JsonPath {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub fn parse(template: &str) -> Result<JsonPath> {
        Ok(JsonPath {
            nodes: parse::parse(template)?,
            allow_missing: false,
        })
    }

    /// Whether a field that is not there gives nothing instead of an error.
    #[must_use]
    pub fn allow_missing(mut self, allow: bool) -> JsonPath {
        self.allow_missing = allow;
        self
    }

    /// The template with its paths replaced by what they find.
    ///
    /// # Errors
    /// A field that is not there, or an index out of bounds.
    pub fn execute(&self, data: &Value) -> Result<String> {
        let mut out = String::new();
        for group in self.find(data)? {
            let texts: Vec<String> = group.iter().map(|v| text_of(v)).collect();
            out.push_str(&texts.join(" "));
        }
        Ok(out)
    }

    /// What each part of the template finds.
    ///
    /// # Errors
    /// As for [`JsonPath::execute`].
    pub fn find<'a>(&self, data: &'a Value) -> Result<Vec<Found<'a>>> {
        let mut at = 0;
        let found = self.run(Some(data), &mut at, 0)?;
        Ok(found)
    }

    /// From node `at` to the end of the template or of the range this is in.
    fn run<'a>(&self, data: Option<&'a Value>, at: &mut usize, depth: usize) -> Result<Vec<Found<'a>>> {
        let mut all = Vec::new();
        while let Some(node) = self.nodes.get(*at) {
            *at += 1;
            let inner: &[Node] = match node {
                Node::List(nodes) => nodes,
                other => std::slice::from_ref(other),
            };
            match inner.first() {
                Some(Node::Identifier(name)) if name == "end" => {
                    if depth == 0 {
                        return error("not in range, nothing to end");
                    }
                    return Ok(all);
                }
                Some(Node::Identifier(name)) if name == "range" => {
                    let items = match data {
                        Some(data) => self.walk(vec![Cow::Borrowed(data)], &inner[1..])?,
                        None => Vec::new(),
                    };
                    let start = *at;
                    if items.is_empty() {
                        self.run(None, at, depth + 1)?;
                    }
                    for item in items {
                        *at = start;
                        match item {
                            Cow::Borrowed(item) => all.extend(self.run(Some(item), at, depth + 1)?),
                            Cow::Owned(item) => {
                                let inner = self.run(Some(&item), at, depth + 1)?;
                                let owned = inner
                                    .into_iter()
                                    .map(|group| group.into_iter().map(|v| Cow::Owned(v.into_owned())).collect());
                                all.extend(owned);
                            }
                        }
                    }
                }
                _ => {
                    let start = data.map(Cow::Borrowed).into_iter().collect();
                    all.push(self.walk(start, inner)?);
                }
            }
        }
        Ok(all)
    }

    fn walk<'a>(&self, start: Found<'a>, nodes: &[Node]) -> Result<Found<'a>> {
        let mut current = start;
        for node in nodes {
            current = self.step(current, node)?;
        }
        Ok(current)
    }

    fn step<'a>(&self, input: Found<'a>, node: &Node) -> Result<Found<'a>> {
        let each = |value: Value| input.iter().map(|_| Cow::Owned(value.clone())).collect();
        match node {
            Node::List(nodes) => self.walk(input, nodes),
            Node::Text(text) => Ok(vec![Cow::Owned(Value::String(text.clone()))]),
            Node::Int(n) => Ok(each(Value::from(*n))),
            Node::Float(n) => Ok(each(Value::from(*n))),
            Node::Bool(b) => Ok(each(Value::from(*b))),
            Node::Field(name) => {
                if input.is_empty() {
                    return Ok(input);
                }
                let found: Found = input.into_iter().filter_map(|v| member(v, name)).collect();
                if found.is_empty() && !self.allow_missing {
                    return error(format!("{name} is not found"));
                }
                Ok(found)
            }
            Node::Wildcard => Ok(input.into_iter().flat_map(children).collect()),
            Node::Recursive => {
                let mut all = Vec::new();
                for value in input {
                    descend(value, &mut all);
                }
                Ok(all)
            }
            Node::Union(parts) => {
                let mut all = Vec::new();
                for part in parts {
                    all.extend(self.walk(input.clone(), part)?);
                }
                Ok(all)
            }
            Node::Array {
                start,
                end,
                step,
                single,
            } => {
                let mut all = Vec::new();
                for value in input {
                    slice(value, *start, *end, *step, *single, &mut all)?;
                }
                Ok(all)
            }
            Node::Filter { left, operator, right } => self.filter(input, left, operator, right),
            Node::Identifier(name) => error(format!("unrecognized identifier {name}")),
        }
    }

    fn filter<'a>(&self, input: Found<'a>, left: &[Node], operator: &str, right: &[Node]) -> Result<Found<'a>> {
        let mut passed = Vec::new();
        for value in input {
            if !value.is_array() {
                return error(format!(
                    "{} is not array or slice and cannot be filtered",
                    go::sprint(&value)
                ));
            }
            for item in children(value) {
                let lefts = self.walk(vec![Cow::Borrowed(&*item)], left);
                if operator == "exists" {
                    if lefts.is_ok_and(|l| !l.is_empty()) {
                        passed.push(item);
                    }
                    continue;
                }
                let lefts = lefts?;
                let rights = self.walk(vec![Cow::Borrowed(&*item)], right)?;
                let (l, r) = match (&lefts[..], &rights[..]) {
                    ([], _) | (_, []) => continue,
                    ([l], [r]) => (l, r),
                    _ => return error("can only compare one element at a time"),
                };
                if compare(l, operator, r)? {
                    passed.push(item);
                }
            }
        }
        Ok(passed)
    }
}

fn member<'a>(value: Cow<'a, Value>, name: &str) -> Option<Cow<'a, Value>> {
    match value {
        Cow::Borrowed(value) => value.as_object()?.get(name).map(Cow::Borrowed),
        Cow::Owned(mut value) => value.as_object_mut()?.remove(name).map(Cow::Owned),
    }
}

fn children(value: Cow<'_, Value>) -> Vec<Cow<'_, Value>> {
    match value {
        Cow::Borrowed(Value::Array(list)) => list.iter().map(Cow::Borrowed).collect(),
        Cow::Borrowed(Value::Object(map)) => map.values().map(Cow::Borrowed).collect(),
        Cow::Owned(Value::Array(list)) => list.into_iter().map(Cow::Owned).collect(),
        Cow::Owned(Value::Object(map)) => map.into_iter().map(|(_, v)| Cow::Owned(v)).collect(),
        _ => Vec::new(),
    }
}

fn descend<'a>(value: Cow<'a, Value>, all: &mut Found<'a>) {
    let inner = children(value.clone());
    if !inner.is_empty() {
        all.push(value);
        for child in inner {
            descend(child, all);
        }
    }
}

fn slice<'a>(
    value: Cow<'a, Value>,
    start: Option<i64>,
    end: Option<i64>,
    step: Option<i64>,
    single: bool,
    all: &mut Found<'a>,
) -> Result<()> {
    if value.is_null() {
        return Ok(());
    }
    let Some(list) = value.as_array() else {
        let kind = match &*value {
            Value::Object(_) => "map[string]interface {}",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            Value::Number(n) if n.is_f64() => "float64",
            _ => "int64",
        };
        return error(format!("{kind} is not array or slice"));
    };
    let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
    let mut from = start.unwrap_or(0);
    if from < 0 {
        from += length;
    }
    let mut to = end.unwrap_or(length);
    if to < 0 || (to == 0 && single) {
        to += length;
    }
    if from == to {
        return Ok(());
    }
    if from >= length || from < 0 {
        return error(format!("array index out of bounds: index {from}, length {length}"));
    }
    if to > length || to < 0 {
        return error(format!("array index out of bounds: index {}, length {length}", to - 1));
    }
    if from > to {
        return error(format!("starting index {from} is greater than ending index {to}"));
    }
    let step = match step {
        Some(step) => usize::try_from(step).ok().filter(|s| *s > 0),
        None => Some(1),
    };
    let Some(step) = step else {
        return error("step must be > 0");
    };
    let (from, to) = (usize::try_from(from).unwrap_or(0), usize::try_from(to).unwrap_or(0));
    all.extend(children(value).into_iter().skip(from).take(to - from).step_by(step));
    Ok(())
}

fn compare(left: &Value, operator: &str, right: &Value) -> Result<bool> {
    let order = match (left, right) {
        (Value::Number(l), Value::Number(r)) => l.as_f64().partial_cmp(&r.as_f64()),
        (Value::String(l), Value::String(r)) => Some(l.cmp(r)),
        (Value::Bool(l), Value::Bool(r)) => match operator {
            "==" | "!=" => Some(l.cmp(r)),
            _ => return error("invalid type for comparison"),
        },
        _ => return error("incompatible types for comparison"),
    };
    Ok(match (operator, order) {
        ("==", order) => order == Some(Ordering::Equal),
        ("!=", order) => order != Some(Ordering::Equal),
        ("<", order) => order == Some(Ordering::Less),
        (">", order) => order == Some(Ordering::Greater),
        ("<=", order) => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        (">=", order) => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        (other, _) => return error(format!("unrecognized filter operator {other}")),
    })
}

/// What a template shows of a value that it found.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => go::json(value, None),
        Value::Null => "null".to_owned(),
        other => go::sprint(other),
    }
}

/// A path as people write it, with or without braces and leading dot, in its full form `{.a.b}`.
///
/// # Errors
/// More than one path.
pub fn relaxed(path: &str) -> Result<String> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let braced = path.strip_prefix('{').and_then(|p| p.strip_suffix('}'));
    let bare = braced.unwrap_or(path);
    let bare = bare.strip_prefix('.').unwrap_or(bare);
    if bare.is_empty() || bare.contains(['{', '}']) {
        return error(
            "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'",
        );
    }
    Ok(format!("{{.{bare}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn data() -> Value {
        json!({
            "kind": "List",
            "items": [
                {"metadata": {"name": "a", "labels": {"x.io/y": "1"}}, "status": {"n": 3, "ready": true}},
                {"metadata": {"name": "b"}, "status": {"n": 5, "ready": false}},
            ],
            "empty": []
        })
    }

    #[test]
    fn templates_give_what_upstream_gives() {
        for (template, expected) in [
            ("kind is {.kind}", "kind is List"),
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[0].metadata.name}{\"\\n\"}", "a\n"),
            ("{.items[-1].metadata.name}", "b"),
            ("{.items[0:2].status.n}", "3 5"),
            ("{range .items[*]}{.metadata.name}={.status.n};{end}", "a=3;b=5;"),
            ("{range .empty[*]}{.x}{end}-", "-"),
            ("{.items[?(@.status.n>3)].metadata.name}", "b"),
            ("{.items[?(@.metadata.name==\"a\")].status.n}", "3"),
            ("{.items[?(@.status.ready==true)].metadata.name}", "a"),
            ("{.items[?(@.metadata.labels)].metadata.name}", "a"),
            ("{.items[0].metadata.labels.x\\.io/y}", "1"),
            ("{.items[0].metadata.labels['x\\.io/y']}", "1"),
            ("{..name}", "a b"),
            ("{.items[0].metadata}", "{\"labels\":{\"x.io/y\":\"1\"},\"name\":\"a\"}"),
            ("{.items[*]['metadata.name', 'status.n']}", "a b 3 5"),
            ("{$.kind}", "List"),
        ] {
            let path = JsonPath::parse(template).unwrap();
            assert_eq!(path.execute(&data()).unwrap(), expected, "{template}");
        }
    }

    #[test]
    fn ranges_nest() {
        let data = json!({"a": [{"n": 1, "b": [1, 2]}, {"n": 2, "b": []}]});
        let path = JsonPath::parse("{range .a[*]}{.n}:{range .b[*]}{@},{end};{end}.").unwrap();
        assert_eq!(path.execute(&data).unwrap(), "1:1,2,;2:;.");
    }

    #[test]
    fn what_is_not_there_is_an_error_unless_allowed() {
        let path = JsonPath::parse("{.nope.x}").unwrap();
        assert_eq!(path.execute(&data()).unwrap_err().0, "nope is not found");
        assert_eq!(path.allow_missing(true).execute(&data()).unwrap(), "");
    }

    #[test]
    fn bad_templates_are_refused() {
        for (template, expected) in [
            ("{.a", "unclosed action"),
            ("{.a[}", "unterminated array"),
            ("{.a[x]}", "invalid array index x"),
            ("{end}", "not in range, nothing to end"),
            ("{.items[5]}", "array index out of bounds: index 5, length 2"),
        ] {
            let outcome = JsonPath::parse(template).and_then(|p| p.execute(&data()));
            assert_eq!(outcome.unwrap_err().0, expected, "{template}");
        }
    }

    #[test]
    fn paths_may_be_written_in_short() {
        for path in ["a.b", ".a.b", "{a.b}", "{.a.b}"] {
            assert_eq!(relaxed(path).unwrap(), "{.a.b}");
        }
        assert!(relaxed("{.a}{.b}").is_err());
    }
}
