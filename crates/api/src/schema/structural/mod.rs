//! Structural schemas of custom resources: what is written and read is pruned, defaulted and validated by them.

pub mod definition;
mod embedded;
pub mod field_path;
pub mod formats;
mod list_type;
mod node;
pub mod pattern;
mod rules;
mod shape;

use std::collections::HashSet;

use serde_json::Value;

use crate::field::FieldError;
use crate::schema::path::Path;
use crate::schema::{DecodeError, Decoded, Schema, TypeId, table};

pub use node::{Additional, Node};

/// Errors of one object that are told.
const ERRORS: usize = 1000;

/// What is written of a custom resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All of it.
    Whole,
    /// Its status alone.
    Status,
}

/// Fate of a null that may not be and has no default to take its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// It is the same as an absent field.
    Dropped,
    /// It is the value that an applied configuration sets.
    Kept,
}

impl Schema {
    /// Compiles the `openAPIV3Schema` of a CRD version that was found to be right by [`definition::errors`].
    pub fn from_crd(openapi: &Value) -> (Schema, TypeId) {
        let mut node = Node::compile(openapi);
        let mut schema = Schema::default();
        let root = Node {
            kind: "object".into(),
            ..node.clone()
        };
        let root = shape::add(&mut schema, &root, true);
        table::flatten(&mut schema);
        node.forget_unknown_formats();
        schema.structural = Some(Box::new(node));
        (schema, root)
    }

    /// Decodes a custom object: unknown fields are pruned and reported, nulls that may not be are dropped, metadata is
    /// held against its own schema, also that of embedded objects.
    ///
    /// # Errors
    /// Metadata that cannot be read.
    pub fn decode_custom(&self, value: Value, nulls: Nulls) -> Result<Decoded, DecodeError> {
        let mut decoded = Decoded {
            value,
            unknown: Vec::new(),
            duplicate: Vec::new(),
            text: None,
        };
        let builtin = Schema::builtin();
        let meta = builtin
            .type_named("meta.v1.ObjectMeta")
            .ok_or_else(|| DecodeError("metadata has no schema".into()))?;
        if let Some(metadata) = decoded.value.get_mut("metadata") {
            let inner = builtin.decode_value(meta, metadata.take())?;
            *metadata = inner.value;
            let unknown = inner.unknown.into_iter().map(|p| format!("metadata.{p}"));
            decoded.unknown.extend(unknown);
        }
        if let Some(node) = &self.structural {
            let mut unknown = Vec::new();
            node::prune(Some(node), &mut decoded.value, true, &Path::Root, &mut unknown);
            if nulls == Nulls::Dropped {
                node::drop_nulls(Some(node), &mut decoded.value);
            }
            embedded::coerce(node, &mut decoded.value, &Path::Root, &mut unknown)
                .map_err(|e| DecodeError(e.to_string()))?;
            unknown.sort();
            decoded.unknown.extend(unknown);
        }
        Ok(decoded)
    }

    /// The paths of fields that nobody knows, in an object that [`Schema::decode_custom`] cannot read.
    pub fn undeclared(&self, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(node) = &self.structural {
            node::prune(Some(node), &mut value.clone(), true, &Path::Root, &mut found);
            embedded::undeclared(node, value, &Path::Root, true, &mut found);
        }
        found
    }

    /// The paths of fields that [`Schema::decode_custom`] drops though who applies may declare them: an object around them keeps what
    /// its schema does not specify.
    pub fn loose(&self, value: &Value) -> HashSet<String> {
        let mut found = HashSet::new();
        if let Some(node) = &self.structural {
            node.loose(value, false, &Path::Root, &mut found);
        }
        found
    }

    /// Takes out of a custom object what the schema does not specify.
    pub fn prune(&self, value: &mut Value) {
        if let Some(node) = &self.structural {
            node::prune(Some(node), value, true, &Path::Root, &mut Vec::new());
            node::drop_nulls(Some(node), value);
        }
    }

    /// The structural schema of a custom resource.
    pub fn structural(&self) -> Option<&Node> {
        self.structural.as_deref()
    }

    /// Whether this is a custom resource's schema.
    pub fn is_structural(&self) -> bool {
        self.structural.is_some()
    }

    /// Everything in which a custom object breaks its schema. Of what was as it is before nothing is said.
    pub fn validate_structural(&self, value: &Value, old: Option<&Value>, written: Written) -> Vec<FieldError> {
        let Some(node) = &self.structural else {
            return Vec::new();
        };
        let mut errors = match written {
            Written::Whole => {
                let mut errors = node.check(value, old, &Path::Root);
                errors.extend(embedded::errors(node, value, &Path::Root, false));
                errors
            }
            Written::Status => match (node.child("status"), value.get("status")) {
                (Some(schema), Some(status)) => {
                    schema.check_part(status, old.and_then(|old| old.get("status")), "status")
                }
                _ => Vec::new(),
            },
        };
        let repeated = list_type::errors(node, value);
        if !repeated.is_empty() && old.is_none_or(|old| list_type::errors(node, old).is_empty()) {
            errors.extend(repeated);
        }
        errors
    }
}

/// Makes numbers without a fraction integers, as they are once Go has written them: `3.0` is `3`. Until then rules see them as they
/// were sent.
pub fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(n) if n.is_f64() => {
            if let Some(whole) = n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e18) {
                *value = Value::from(whole as i64);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// Whether there is a number that [`whole_numbers`] would make an integer.
pub fn has_whole_reals(value: &Value) -> bool {
    match value {
        Value::Number(n) => n.is_f64() && n.as_f64().is_some_and(|f| f.fract() == 0.0),
        Value::Array(list) => list.iter().any(has_whole_reals),
        Value::Object(map) => map.values().any(has_whole_reals),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
