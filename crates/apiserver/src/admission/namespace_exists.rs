//! NamespaceExists: nothing is written or deleted in a namespace that does not exist.

use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::{ApiError, Result};

/// Refuses writes in namespaces that are not there.
pub struct NamespaceExists;

impl Plugin for NamespaceExists {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.operation != Operation::Connect && !asked.namespace.is_empty() && !asked.resource.is("", "namespaces")
    }

    fn validate(&self, asked: &Attributes<'_>, _: &Value, _: Option<&Value>) -> Result<()> {
        match asked.registry.get("", "namespaces", "", asked.namespace) {
            Some(_) => Ok(()),
            None => Err(ApiError::not_found("", "namespaces", asked.namespace)),
        }
    }
}
