//! Label and field selectors, in their text form and as `metav1.LabelSelector`.

use serde_json::Value;

use crate::names;
use crate::selector_parser;

/// Why a selector does not parse, as upstream words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

/// A conjunction of requirements on labels; none selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            // an absent label is in no set
            Operator::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(n) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *n),
            Operator::LessThan(n) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *n),
        }
    }
}

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),!h,i,j>1`.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        let written = selector_parser::parse(text).map_err(|e| SelectorError(e.to_string()))?;
        let requirements = written.into_iter().map(|one| {
            let values = || one.values.iter().map(|v| (*v).to_owned()).collect();
            let number = || {
                let value = one.values.first().copied().unwrap_or_default();
                value.parse::<i64>().map_err(|_| {
                    SelectorError(format!(
                        "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                    ))
                })
            };
            let operator = match one.operator {
                "" => Operator::Exists,
                "!" => Operator::DoesNotExist,
                "notin" | "!=" => Operator::NotIn(values()),
                ">" => Operator::GreaterThan(number()?),
                "<" => Operator::LessThan(number()?),
                _ => Operator::In(values()),
            };
            // the key is found to be none while the text is read, where it has no path yet
            check_key(one.key, "<nil>")?;
            requirement(one.key, operator)
        });
        let requirements: Result<_, SelectorError> = requirements.collect();
        let requirements = requirements.map_err(|e| SelectorError(format!("unable to parse requirement: {}", e.0)))?;
        Ok(LabelSelector { requirements })
    }

    /// Reads `matchLabels` and `matchExpressions`.
    pub fn from_tree(tree: &Value) -> Result<LabelSelector, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in tree.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(requirement(key, Operator::In(vec![value]))?);
        }
        for expression in tree
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
            let list = expression.get("values").and_then(Value::as_array).into_iter().flatten();
            let values: Vec<String> = list.filter_map(|v| v.as_str().map(Into::into)).collect();
            let operator = match expression.get("operator").and_then(Value::as_str).unwrap_or_default() {
                "In" => Operator::In(values),
                "NotIn" => Operator::NotIn(values),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            if matches!(&operator, Operator::In(v) | Operator::NotIn(v) if v.is_empty()) {
                return Err(SelectorError(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".into(),
                ));
            }
            requirements.push(requirement(key, operator)?);
        }
        Ok(LabelSelector { requirements })
    }

    /// Selects no object: what an absent selector means in most places.
    pub fn nothing() -> LabelSelector {
        let requirement = Requirement {
            key: String::new(),
            operator: Operator::In(Vec::new()),
        };
        LabelSelector {
            requirements: vec![requirement],
        }
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Returns whether all requirements hold for the labels that `get` looks up.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| r.matches(get(&r.key)))
    }
}

fn check_key(key: &str, path: &str) -> Result<(), SelectorError> {
    match names::qualified_name_errors(key).first() {
        Some(problem) => Err(SelectorError(format!("{path}: Invalid value: {key:?}: {problem}"))),
        None => Ok(()),
    }
}

fn requirement(key: &str, operator: Operator) -> Result<Requirement, SelectorError> {
    check_key(key, "key")?;
    if let Operator::In(values) | Operator::NotIn(values) = &operator {
        for value in values {
            if let Some(problem) = names::label_value_errors(value).first() {
                return Err(SelectorError(format!(
                    "values[0][{key}]: Invalid value: {value:?}: {problem}"
                )));
            }
        }
    }
    Ok(Requirement {
        key: key.to_owned(),
        operator,
    })
}

/// One term of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field's path, as `metadata.name`.
    pub field: String,
    /// The value, without escapes.
    pub value: String,
    /// `=` or `==`; otherwise `!=`.
    pub equal: bool,
}

/// A conjunction of terms on fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Parses `metadata.name=a,status.phase!=Running`; `\` escapes commas, equal signs and itself in values.
    ///
    /// # Errors
    /// For a term without an operator, and for a value with a character that had to be escaped.
    pub fn parse(text: &str) -> Result<FieldSelector, SelectorError> {
        let mut parts = split_escaped(text, ',');
        // upstream's order: of two terms on one field this decides which is the first
        parts.sort_unstable();
        let mut terms = Vec::new();
        for term in parts.into_iter().filter(|t| !t.is_empty()) {
            // nothing on nothing asks for nothing
            if matches!(term, "=" | "==" | "!=") {
                continue;
            }
            let (field, value, equal) = split_term(term)
                .ok_or_else(|| SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'")))?;
            terms.push(FieldTerm {
                field: field.to_owned(),
                value: unescape(value)?,
                equal,
            });
        }
        Ok(FieldSelector { terms })
    }

    /// The terms, in upstream's order: sorted by their text.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// The value that a field must have, when there is one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let term = self.terms.iter().find(|t| t.equal && t.field == field);
        term.map(|t| t.value.as_str())
    }
}

/// Splits at the first operator. Nothing is escaped before it.
fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    let at = term.find('=')?;
    if let Some(field) = term[..at].strip_suffix('!') {
        return Some((field, &term[at + 1..], false));
    }
    let value = &term[at + 1..];
    Some((&term[..at], value.strip_prefix('=').unwrap_or(value), true))
}

fn split_escaped(text: &str, at: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == at {
            parts.push(&text[start..i]);
            start = i + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let invalid = |what: String| SelectorError(format!("invalid field selector: {what}"));
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(invalid(format!("invalid escape sequence: \\{c}"))),
                None => return Err(invalid("invalid escape sequence: \\".into())),
            },
            // upstream names the character by its number
            ',' | '=' => return Err(invalid(format!("unescaped character in value: {}", u32::from(c)))),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selectors_select() {
        let labels = [("a", "b"), ("n", "5"), ("x.io/y", "")];
        let get = |key: &str| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let cases = [
            ("", true),
            ("a=b", true),
            ("a==c", false),
            ("a!=c,z!=1", true),
            ("a in (c, b)", true),
            ("a notin (b)", false),
            ("z notin (b)", true),
            ("x.io/y", true),
            ("!z", true),
            ("!a", false),
            ("n>4,n<6", true),
        ];
        for (text, want) in cases {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(get), want, "{text}");
        }
        for text in ["a in b", "a=b=c", "a,,b", "-a", "n>x", "a in (b"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
        // `labels.Parser` checks a key before it has a path
        let told = LabelSelector::parse("x/y/z=1").unwrap_err().0;
        assert!(
            told.starts_with("unable to parse requirement: <nil>: Invalid value: \"x/y/z\""),
            "{told}"
        );
    }

    #[test]
    fn field_selectors_split_and_unescape() {
        let parsed = FieldSelector::parse(r"metadata.name=a\,b,status.phase!=Running,x==y").unwrap();
        let terms: Vec<_> = parsed
            .terms()
            .iter()
            .map(|t| (t.field.as_str(), t.value.as_str(), t.equal))
            .collect();
        assert_eq!(
            terms,
            [
                ("metadata.name", "a,b", true),
                ("status.phase", "Running", false),
                ("x", "y", true)
            ]
        );
        assert!(FieldSelector::parse("nothing").is_err());
        let why = |text: &str| FieldSelector::parse(text).unwrap_err().0;
        assert_eq!(why("a=b=c"), "invalid field selector: unescaped character in value: 61");
        assert_eq!(why(r"a=\b"), r"invalid field selector: invalid escape sequence: \b");
        assert_eq!(FieldSelector::parse("a=2,a=1").unwrap().exact("a"), Some("1"));
        assert_eq!(FieldSelector::parse("a!=1").unwrap().exact("a"), None);
    }
}
