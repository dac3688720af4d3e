//! Validation rules of custom resources (`x-kubernetes-validations`): checked when a definition is written, compiled when it is served,
//! evaluated with every write of an object. What upstream does is in
//! `k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel`.

mod correlation;
mod cost;
pub mod definition;
mod evaluation;
mod known;
mod message;
mod rule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use cel::Schema;
use serde_json::Value;

use self::known::Accepted;
pub use self::known::Known;
use self::rule::{Rule, Scope};
use crate::metrics::Expressions;

/// The keyword.
const KEYWORD: &str = "x-kubernetes-validations";

/// The rules of one version of a definition.
#[derive(Debug)]
pub struct Rules {
    /// What expressions see of objects.
    schema: Schema,
    root: Place,
    counted: Arc<Expressions>,
}

/// A place of a schema with rules at it or below.
#[derive(Debug, Default)]
struct Place {
    rules: Vec<Rule>,
    /// A rule here reads `oldSelf`.
    uses_old_self: bool,
    /// Expressions do not see such data: its rules cannot be compiled.
    invisible: bool,
    properties: BTreeMap<Box<str>, Place>,
    additional: Option<Box<Place>>,
    items: Option<Box<Place>>,
}

impl Rules {
    /// Compiles the rules of a schema that was accepted; `None` when it has none. `resource` says that the schema is of a whole
    /// object. Rules that do not compile are kept as such: every evaluation says so.
    pub fn compile(openapi: &Value, resource: bool, counted: &Arc<Expressions>) -> Option<Rules> {
        if !any(openapi) {
            return None;
        }
        let mut schema = Schema::from_openapi(openapi);
        if resource {
            schema = schema.with_type_and_meta();
        }
        let root = Place::compile(openapi, &schema, counted)?;
        let counted = counted.clone();
        Some(Rules { schema, root, counted })
    }
}

impl Place {
    fn compile(openapi: &Value, seen: &Schema, counted: &Expressions) -> Option<Place> {
        let mut place = Place::default();
        let written = rule::written(openapi);
        if !written.is_empty() {
            let begun = Instant::now();
            match Scope::new(seen) {
                Some(scope) => {
                    let compile = |written| Rule::compile(written, &scope, openapi, Accepted::All);
                    place.rules = written.into_iter().map(compile).collect();
                }
                None => place.invisible = true,
            }
            counted.compilation.observe_time(begun.elapsed());
        }
        place.uses_old_self = place.rules.iter().any(|rule| rule.uses_old_self);
        if let (Some(items), Some(seen)) = (openapi.get("items"), &seen.items) {
            place.items = Place::compile(items, seen, counted).map(Box::new);
        }
        if let (Some(values), Some(seen)) = (openapi.get("additionalProperties"), &seen.additional_properties) {
            place.additional = Place::compile(values, seen, counted).map(Box::new);
        }
        for (name, property) in openapi
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            // expressions see no fields without a type, and no metadata but names
            let seen = seen.properties.as_ref().and_then(|all| all.get(name));
            let Some(seen) = seen else { continue };
            if let Some(below) = Place::compile(property, seen, counted)
                && Scope::new(seen).is_some()
            {
                place.properties.insert(name.as_str().into(), below);
            }
        }
        let empty = place.rules.is_empty()
            && !place.invisible
            && place.items.is_none()
            && place.additional.is_none()
            && place.properties.is_empty();
        (!empty).then_some(place)
    }
}

/// Whether a schema has rules anywhere; most have none.
fn any(openapi: &Value) -> bool {
    if openapi
        .get(KEYWORD)
        .and_then(Value::as_array)
        .is_some_and(|rules| !rules.is_empty())
    {
        return true;
    }
    let properties = openapi.get("properties").and_then(Value::as_object);
    ["items", "additionalProperties"]
        .iter()
        .any(|key| openapi.get(*key).is_some_and(any))
        || properties.into_iter().flatten().any(|(_, property)| any(property))
}

#[cfg(test)]
mod tests;
