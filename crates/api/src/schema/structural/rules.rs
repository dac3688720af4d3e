//! What a structural schema says of a value beyond its shape, and whether a value keeps to it.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::schema::path::Path;

/// What a structural schema says of a value beyond its shape.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`; empty for any.
    pub(super) kind: Box<str>,
    pub(super) nullable: bool,
    pub(super) int_or_string: bool,
    pub(super) preserve_unknown: bool,
    pub(super) required: Box<[Box<str>]>,
    pub(super) values: Option<Box<[Value]>>,
    pub(super) minimum: Option<(f64, bool)>,
    pub(super) maximum: Option<(f64, bool)>,
    pub(super) multiple_of: Option<f64>,
    pub(super) min_length: Option<usize>,
    pub(super) max_length: Option<usize>,
    pub(super) pattern: Option<(Box<str>, regex::Regex)>,
    pub(super) min_items: Option<usize>,
    pub(super) max_items: Option<usize>,
    pub(super) min_properties: Option<usize>,
    pub(super) max_properties: Option<usize>,
    pub(super) format: Box<str>,
    pub(super) all_of: Box<[Rules]>,
    pub(super) any_of: Box<[Rules]>,
    pub(super) one_of: Box<[Rules]>,
    pub(super) not: Option<Box<Rules>>,
    /// Of a logical rule: rules for members.
    pub(super) properties: Box<[(Box<str>, Rules)]>,
}
impl Rules {
    /// Checks a value; `false` when it is of the wrong type, so that nothing more can be said.
    pub(super) fn check(&self, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) -> bool {
        let found = kind_of(value);
        if value.is_null() && self.nullable {
            return false;
        }
        if self.int_or_string {
            if !matches!(found, "integer" | "string") {
                let why = format!("{path} in body must be of type integer or string: {found:?}");
                errors.push(FieldError::type_invalid(path, json!(found), why));
                return false;
            }
        } else if !self.kind.is_empty() && *self.kind != *found && !(&*self.kind == "number" && found == "integer") {
            let why = format!("{path} in body must be of type {}: {found:?}", self.kind);
            errors.push(FieldError::type_invalid(path, json!(found), why));
        }
        let holds = |rules: &Rules| {
            let mut ignored = Vec::new();
            rules.check(value, path, &mut ignored);
            ignored.is_empty()
        };
        let shown = || {
            if path.is_root() {
                "<nil>".to_owned()
            } else {
                path.text(true)
            }
        };
        if !self.any_of.is_empty() && !self.any_of.iter().any(holds) {
            errors.push(FieldError::invalid(
                path,
                value.clone(),
                format!("{} in body must validate at least one schema (anyOf)", shown()),
            ));
        }
        if !self.one_of.is_empty() && self.one_of.iter().filter(|r| holds(r)).count() != 1 {
            errors.push(FieldError::invalid(
                path,
                value.clone(),
                format!("{} in body must validate one and only one schema (oneOf)", shown()),
            ));
        }
        for rules in &self.all_of {
            rules.check(value, path, errors);
        }
        if self.not.as_ref().is_some_and(|r| holds(r)) {
            errors.push(FieldError::invalid(
                path,
                value.clone(),
                format!("{} in body must not validate the schema (not)", shown()),
            ));
        }
        let mut invalid = |why: String| {
            errors.push(FieldError::invalid(
                path,
                value.clone(),
                format!("{path} in body {why}"),
            ));
        };
        match value {
            Value::String(s) => {
                let length = s.chars().count();
                if self.min_length.is_some_and(|n| length < n) {
                    invalid(format!(
                        "should be at least {} chars long",
                        self.min_length.unwrap_or(0)
                    ));
                }
                if let Some(n) = self.max_length.filter(|n| length > *n) {
                    errors.push(FieldError::too_long(path, n));
                }
                if let Some((text, pattern)) = &self.pattern
                    && !pattern.is_match(s)
                {
                    errors.push(FieldError::invalid(
                        path,
                        value.clone(),
                        format!("{path} in body should match '{text}'"),
                    ));
                }
                if !format_holds(&self.format, s) {
                    let why = format!("{path} in body must be of type {}: {s:?}", self.format);
                    errors.push(FieldError::invalid(path, value.clone(), why));
                }
            }
            Value::Number(n) => {
                let n = n.as_f64().unwrap_or(f64::NAN);
                if let Some((least, exclusive)) = self.minimum
                    && (n < least || (exclusive && n <= least))
                {
                    let word = if exclusive {
                        "greater than"
                    } else {
                        "greater than or equal to"
                    };
                    invalid(format!("should be {word} {least}"));
                }
                if let Some((most, exclusive)) = self.maximum
                    && (n > most || (exclusive && n >= most))
                {
                    let word = if exclusive {
                        "less than"
                    } else {
                        "less than or equal to"
                    };
                    invalid(format!("should be {word} {most}"));
                }
                if let Some(step) = self.multiple_of.filter(|s| *s > 0.0 && (n / s).fract() != 0.0) {
                    invalid(format!("should be a multiple of {step}"));
                }
            }
            Value::Array(items) => {
                if let Some(n) = self.min_items.filter(|n| items.len() < *n) {
                    invalid(format!("should have at least {n} items"));
                }
                if let Some(n) = self.max_items.filter(|n| items.len() > *n) {
                    errors.push(FieldError::too_many(path, items.len(), n));
                }
            }
            Value::Object(map) => {
                for name in &self.required {
                    if map.get(&**name).is_none() {
                        errors.push(FieldError::required(Path::Key(path, name).text(true), ""));
                    }
                }
                if let Some(n) = self.min_properties.filter(|n| map.len() < *n) {
                    errors.push(FieldError::invalid(
                        path,
                        value.clone(),
                        format!("{path} in body should have at least {n} properties"),
                    ));
                }
                if let Some(n) = self.max_properties.filter(|n| map.len() > *n) {
                    errors.push(FieldError::too_many(path, map.len(), n));
                }
                for (name, rules) in &self.properties {
                    if let Some(inner) = map.get(&**name) {
                        rules.check(inner, &Path::Key(path, name), errors);
                    }
                }
            }
            _ => {}
        }
        if let Some(values) = &self.values
            && !values.contains(value)
        {
            let shown: Vec<String> = values
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), Into::into))
                .collect();
            let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
            errors.push(FieldError::not_supported(path, value.clone(), &shown));
        }
        true
    }
}
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
/// Formats that upstream enforces and can be told without doubt; others are not checked, as unknown formats upstream.
fn format_holds(format: &str, text: &str) -> bool {
    match format {
        "date-time" => crate::time::Instant::parse(text).is_some(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "byte" => {
            text.len().is_multiple_of(4)
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
        }
        _ => true,
    }
}
