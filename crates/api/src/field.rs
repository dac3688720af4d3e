//! Field errors: what is wrong with one field of an object, in upstream's wording.

use std::collections::HashSet;
use std::fmt;

use serde_json::{Value, json};

use crate::go;

/// What is wrong with a field: the types of `k8s.io/apimachinery/pkg/util/validation/field`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The field must be there and not be empty.
    Required,
    /// The value breaks a rule.
    Invalid,
    /// The value is of another JSON type.
    TypeInvalid,
    /// The value is not one of a few.
    NotSupported,
    /// The field may not be there, or not be changed.
    Forbidden,
    /// The value stands twice where it may stand once.
    Duplicate,
    /// What the value refers to is not there.
    NotFound,
    /// The text is too long.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// The rule itself could not be evaluated.
    Internal,
}

impl FieldErrorKind {
    /// The `reason` of a status cause.
    pub fn reason(self) -> &'static str {
        match self {
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::TypeInvalid => "FieldValueTypeInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::NotFound => "FieldValueNotFound",
            FieldErrorKind::TooLong => "FieldValueTooLong",
            FieldErrorKind::TooMany => "FieldValueTooMany",
            FieldErrorKind::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            FieldErrorKind::Required => "Required value",
            FieldErrorKind::Invalid | FieldErrorKind::TypeInvalid => "Invalid value",
            FieldErrorKind::NotSupported => "Unsupported value",
            FieldErrorKind::Forbidden => "Forbidden",
            FieldErrorKind::Duplicate => "Duplicate value",
            FieldErrorKind::NotFound => "Not found",
            FieldErrorKind::TooLong => "Too long",
            FieldErrorKind::TooMany => "Too many",
            FieldErrorKind::Internal => "Internal error",
        }
    }
}

/// One thing wrong with one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// `spec.containers[0].name`
    pub field: String,
    /// Shown for the kinds that speak of a value.
    pub bad_value: Option<Value>,
    /// The sentence behind the value, or empty.
    pub detail: String,
}

impl FieldError {
    fn new(
        kind: FieldErrorKind,
        field: impl Into<String>,
        bad: Option<Value>,
        detail: impl Into<String>,
    ) -> FieldError {
        FieldError {
            kind,
            field: field.into(),
            bad_value: bad,
            detail: detail.into(),
        }
    }

    /// A field that must be there and is not.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Required, field, None, detail)
    }

    /// A value that breaks a rule.
    pub fn invalid(field: impl Into<String>, bad: Value, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Invalid, field, Some(bad), detail)
    }

    /// An invalid value that is not shown.
    pub fn unfit(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Invalid, field, None, detail)
    }

    /// A value of another JSON type.
    pub fn type_invalid(field: impl Into<String>, bad: Value, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::TypeInvalid, field, Some(bad), detail)
    }

    /// A field that may not be there or not be changed.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Forbidden, field, None, detail)
    }

    /// A value that stands twice.
    pub fn duplicate(field: impl Into<String>, bad: Value) -> FieldError {
        FieldError::new(FieldErrorKind::Duplicate, field, Some(bad), "")
    }

    /// A value that refers to nothing.
    pub fn not_found(field: impl Into<String>, bad: Value) -> FieldError {
        FieldError::new(FieldErrorKind::NotFound, field, Some(bad), "")
    }

    /// `supported` is listed as it is given.
    pub fn not_supported(field: impl Into<String>, bad: Value, supported: &[&str]) -> FieldError {
        let shown: Vec<String> = supported.iter().map(|s| go::quote(s)).collect();
        let detail = if shown.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", shown.join(", "))
        };
        FieldError::new(FieldErrorKind::NotSupported, field, Some(bad), detail)
    }

    /// As `not_supported`, of a text that is of no type of its own: Go quotes it, where it prints others as JSON.
    pub fn text_not_supported(field: impl Into<String>, bad: &str, supported: &[&str]) -> FieldError {
        FieldError::not_supported(field, Value::Null, supported).shown(&go::quote(bad))
    }

    /// A text of more than `max` bytes.
    pub fn too_long(field: impl Into<String>, max: usize) -> FieldError {
        FieldError::new(
            FieldErrorKind::TooLong,
            field,
            None,
            format!("may not be more than {max} {}", if max == 1 { "byte" } else { "bytes" }),
        )
    }

    /// A text with more characters than it may have, however many bytes they are.
    pub fn too_many_characters(field: impl Into<String>, max: usize) -> FieldError {
        let characters = if max == 1 { "character" } else { "characters" };
        let detail = format!("may not be more than {max} {characters}");
        FieldError::new(FieldErrorKind::TooLong, field, None, detail)
    }

    /// A list of `actual` items where `max` are the most.
    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> FieldError {
        let items = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {items}");
        FieldError::new(FieldErrorKind::TooMany, field, Some(json!(actual)), detail)
    }

    /// Shows the value as this JSON in place of the one given, where the order of fields matters.
    #[must_use]
    pub fn shown(mut self, json: &str) -> FieldError {
        self.bad_value = None;
        self.detail = if self.detail.is_empty() {
            json.to_owned()
        } else {
            format!("{json}: {}", self.detail)
        };
        self
    }

    /// The error without the field's name: what a cause's message says.
    pub fn body(&self) -> String {
        let mut out = self.kind.text().to_owned();
        if let Some(bad) = &self.bad_value {
            out.push_str(": ");
            match bad {
                Value::Number(_) => out.push_str(&go::sprint(bad)),
                Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) => {
                    out.push_str(&go::json(bad, None));
                }
                // the values that a field may have are of a type of their own, which Go prints as JSON
                Value::String(_) if self.kind == FieldErrorKind::NotSupported => out.push_str(&go::json(bad, None)),
                Value::String(s) => out.push_str(&go::quote(s)),
            }
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }

    /// The `StatusCause`.
    pub fn cause(&self) -> Value {
        json!({ "reason": self.kind.reason(), "message": self.body(), "field": self.field })
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.body())
        } else {
            write!(f, "{}: {}", self.field, self.body())
        }
    }
}

/// What is wrong with an object. Far more is held than is ever told, but not all that a client can send.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Beyond so many nothing is added.
    pub const MOST: usize = 10_000;

    /// No errors yet.
    pub fn new() -> FieldErrors {
        FieldErrors::default()
    }

    /// Returns whether [`FieldErrors::MOST`] are held, so that looking for more is of no use.
    pub fn is_full(&self) -> bool {
        self.0.len() >= FieldErrors::MOST
    }

    /// Adds an error, unless it is full.
    pub fn push(&mut self, error: FieldError) {
        if !self.is_full() {
            self.0.push(error);
        }
    }

    /// Forgets all but the first `count`.
    pub fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
    }

    /// Keeps those that `wanted` says.
    pub fn retain(&mut self, wanted: impl FnMut(&FieldError) -> bool) {
        self.0.retain(wanted);
    }

    /// Of errors that read the same keeps the first.
    pub fn distinct(&mut self) {
        let mut told = HashSet::new();
        self.0.retain(|error| told.insert(error.to_string()));
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl std::ops::Deref for FieldErrors {
    type Target = [FieldError];

    fn deref(&self) -> &[FieldError] {
        &self.0
    }
}

impl std::ops::DerefMut for FieldErrors {
    fn deref_mut(&mut self) -> &mut [FieldError] {
        &mut self.0
    }
}

impl Extend<FieldError> for FieldErrors {
    /// Takes no more from `errors` than there is room for.
    fn extend<T: IntoIterator<Item = FieldError>>(&mut self, errors: T) {
        let room = FieldErrors::MOST - self.0.len();
        self.0.extend(errors.into_iter().take(room));
    }
}

impl FromIterator<FieldError> for FieldErrors {
    fn from_iter<T: IntoIterator<Item = FieldError>>(errors: T) -> FieldErrors {
        let mut all = FieldErrors::new();
        all.extend(errors);
        all
    }
}

impl IntoIterator for FieldErrors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A list as an error shows it: whole, unless it is longer than anybody reads.
pub fn shown_list(list: &[Value]) -> Value {
    const LONGEST: usize = 100;
    match list.len() {
        0..=LONGEST => Value::from(list.to_vec()),
        count => Value::from(format!("<{count} items>")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_errors_that_read_the_same_one_is_kept() {
        let mut errors: FieldErrors = ["a", "b", "a"]
            .map(|field| FieldError::required(field, ""))
            .into_iter()
            .collect();
        errors.distinct();
        let kept: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(kept, ["a", "b"]);
    }

    #[test]
    fn errors_read_as_upstreams() {
        let cases = [
            (FieldError::required("spec.x", ""), "spec.x: Required value"),
            (
                FieldError::invalid("spec.x", json!("y"), "why"),
                "spec.x: Invalid value: \"y\": why",
            ),
            (
                FieldError::invalid("spec.n", json!(-1), "why"),
                "spec.n: Invalid value: -1: why",
            ),
            (
                FieldError::invalid("spec.n", json!(0.00001), "why"),
                "spec.n: Invalid value: 1e-05: why",
            ),
            (
                FieldError::not_supported("spec.t", json!("z"), &["b", "a"]),
                "spec.t: Unsupported value: \"z\": supported values: \"b\", \"a\"",
            ),
            (
                FieldError::duplicate("spec.l[1]", json!("a")),
                "spec.l[1]: Duplicate value: \"a\"",
            ),
        ];
        for (error, want) in cases {
            assert_eq!(error.to_string(), want);
        }
    }
}
