//! Which expressions were accepted before: they may use what only a newer server knows.

use std::collections::HashSet;

use serde_json::Value;

use super::{any, rule};

/// The expressions of a definition.
#[derive(Debug, Default)]
pub struct Known {
    rules: HashSet<String>,
    messages: HashSet<String>,
}

impl Known {
    /// The expressions in all versions of a definition.
    pub fn of(definition: &Value) -> Known {
        let mut known = Known::default();
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        for version in versions.into_iter().flatten() {
            if let Some(schema) = version.pointer("/schema/openAPIV3Schema").filter(|schema| any(schema)) {
                known.add(schema);
            }
        }
        known
    }

    fn add(&mut self, schema: &Value) {
        for written in rule::written(schema) {
            self.rules.insert(written.rule.into());
            self.messages.insert(written.message_expression.into());
        }
        for key in ["items", "additionalProperties"] {
            schema.get(key).into_iter().for_each(|inner| self.add(inner));
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().for_each(|(_, inner)| self.add(inner));
    }
}

/// The expressions that were accepted before.
#[derive(Debug, Clone, Copy)]
pub(super) enum Accepted<'k> {
    All,
    Known(&'k Known),
}

impl Accepted<'_> {
    /// Whether the text of a rule was accepted before.
    pub fn rule(self, text: &str) -> bool {
        match self {
            Accepted::All => true,
            Accepted::Known(known) => known.rules.contains(text),
        }
    }

    /// Whether the text of a message's expression was accepted before.
    pub fn message(self, text: &str) -> bool {
        match self {
            Accepted::All => true,
            Accepted::Known(known) => known.messages.contains(text),
        }
    }
}
