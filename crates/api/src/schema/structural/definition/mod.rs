//! What keeps an `openAPIV3Schema` from being one of a definition: the rules of `schema.ValidateStructural`, of
//! `defaulting.ValidateDefaults` and of apiextensions' validation of a schema.

mod collections;
mod keywords;
mod structural;

use serde_json::{Map, Value};

use self::keywords::{Defaults, Found, openapi};
use self::structural::{Level, complete, defaults, root_with_status, structural, structural_form};
use super::formats;
use super::node::{Node, text};
use crate::field::FieldError;

type Errors = Vec<FieldError>;

/// What is wrong with a version's schema.
#[derive(Debug)]
pub struct Findings {
    /// The errors, in upstream's order.
    pub errors: Vec<FieldError>,
    /// Where in the errors those of single keywords begin; those before concern the schema as a whole and its defaults.
    pub keywords: usize,
    /// It is a structural schema, so that validation rules may be compiled by it.
    pub structural: bool,
    /// A default breaks its own schema.
    pub defaults: bool,
    /// The paths of the schemas whose keywords are wrong.
    pub places: Vec<String>,
}

/// Everything that is wrong with a version's schema, but for the expressions of its validation rules. `at` is its path; `status` says
/// that the version has a status subresource.
pub fn errors(schema: &Value, at: &str, status: bool) -> Findings {
    let mut found = Errors::new();
    let (mut structural_schema, mut bad_defaults) = (false, false);
    if status {
        root_with_status(schema, at, &mut found);
    }
    if flag(schema, "nullable") {
        found.push(FieldError::forbidden(
            format!("{at}.nullable"),
            "nullable cannot be true at the root",
        ));
    }
    // of what is no structural schema at all the last check says more
    if structural_form(schema) {
        let mut invariants = Errors::new();
        structural(schema, Level::Root, at, &mut invariants);
        complete(schema, Some(schema), at, at, &mut invariants);
        invariants.sort_by_key(ToString::to_string);
        if invariants.is_empty() {
            let before = found.len();
            let mut node = Node::compile(schema);
            node.forget_unions();
            defaults(&node, true, false, at, &mut found);
            structural_schema = true;
            bad_defaults = found.len() > before;
        } else {
            found.extend(invariants);
        }
    }
    let keywords = found.len();
    let mut of_keywords = Found::default();
    openapi(
        schema,
        at,
        &Defaults {
            root: true,
            ..Defaults::default()
        },
        &mut of_keywords,
    );
    found.extend(of_keywords.errors);
    Findings {
        errors: found,
        keywords,
        structural: structural_schema,
        defaults: bad_defaults,
        places: of_keywords.places,
    }
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

fn object<'v>(schema: &'v Value, key: &str) -> Option<&'v Map<String, Value>> {
    schema.get(key).and_then(Value::as_object)
}

/// A schema below a key, when there is one.
fn inner<'v>(schema: &'v Value, key: &str) -> Option<&'v Value> {
    schema.get(key).filter(|v| v.is_object())
}

fn list<'v>(schema: &'v Value, key: &str) -> &'v [Value] {
    schema
        .get(key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Whether Go's type has something else than nothing there, be it an empty text.
fn is_given(schema: &Value, key: &str) -> bool {
    // the type points to these
    const POINTERS: [&str; 3] = ["$ref", "x-kubernetes-list-type", "x-kubernetes-map-type"];
    schema.get(key).is_some_and(|v| match v {
        Value::String(s) => !s.is_empty() || POINTERS.contains(&key),
        Value::Array(_) | Value::Object(_) => true,
        _ => is_set(schema, key),
    })
}

fn is_set(schema: &Value, key: &str) -> bool {
    schema.get(key).is_some_and(|v| match v {
        Value::Null => false,
        Value::String(s) => !s.is_empty(),
        Value::Array(l) => !l.is_empty(),
        Value::Object(m) => !m.is_empty(),
        Value::Bool(b) => *b,
        Value::Number(_) => true,
    })
}

/// Every schema in a schema, itself included.
fn each<'v>(schema: &'v Value, visit: &mut impl FnMut(&'v Value)) {
    visit(schema);
    for key in ["properties", "patternProperties", "definitions"] {
        object(schema, key)
            .into_iter()
            .flatten()
            .for_each(|(_, s)| each(s, visit));
    }
    for key in ["items", "additionalProperties", "not"] {
        inner(schema, key).into_iter().for_each(|s| each(s, visit));
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        list(schema, key).iter().for_each(|s| each(s, visit));
    }
}

/// The formats in a schema that nothing is held against, in the order of the schema.
pub fn unknown_formats(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    each(schema, &mut |s| {
        let format = text(s, "format");
        if !format.is_empty() && !formats::is_known_of(text(s, "type"), format) {
            found.push(format.to_owned());
        }
    });
    found
}
