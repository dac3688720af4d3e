//! Admission: what is added to an object before it is checked, and what is refused after. One file a plugin.

pub mod certificate_signers;
mod default_class;
mod limit_ranger;
mod namespace_lifecycle;
mod node_declared_feature_validator;
pub mod node_restriction;
pub mod node_token;
mod persistent_volume_claim_resize;
mod pod_defaults;
mod pod_resize_validator;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod resource_quota;
mod service_account;
mod storage_object_in_use_protection;
mod terminating_definition;

use std::sync::Arc;

use serde_json::Value;

pub use resource_quota::{Charge, Turns};

use crate::http::status::Result;
use crate::http::user::User;
use crate::http::warnings::Warnings;
use crate::registry::Registry;
use crate::registry::resource::Resource;

/// The operation that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// As upstream writes it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// What is asked, as the plugins see it.
pub struct Attributes<'a> {
    pub registry: &'a Arc<Registry>,
    pub user: &'a User,
    pub operation: Operation,
    pub resource: &'a Resource,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub dry_run: bool,
    pub warnings: &'a Warnings,
}

impl Attributes<'_> {
    /// Whether this writes the resource itself, not a subresource.
    pub fn is(&self, group: &str, plural: &str, operation: Operation) -> bool {
        self.subresource.is_empty() && self.operation == operation && self.resource.is(group, plural)
    }

    /// Whether this changes the resources of a pod in its place.
    pub fn resizes_pod(&self) -> bool {
        self.subresource == "resize" && self.operation == Operation::Update && self.resource.is("", "pods")
    }
}

/// The mutating plugins, in upstream's order. Of an update, `node_restriction` has its say before: it reads what was asked for.
pub fn mutate(attributes: &Attributes<'_>, tree: &mut Value) -> Result<()> {
    terminating_definition::admit(attributes)?;
    namespace_lifecycle::admit(attributes)?;
    limit_ranger::mutate(attributes, tree)?;
    service_account::mutate(attributes, tree)?;
    if attributes.operation == Operation::Create {
        node_restriction::admit(attributes, tree, None)?;
    }
    pod_defaults::taint_nodes_by_condition(attributes, tree);
    priority::mutate(attributes, tree)?;
    pod_defaults::default_toleration_seconds(attributes, tree);
    default_class::of_claims(attributes, tree)?;
    storage_object_in_use_protection::mutate(attributes, tree);
    pod_defaults::runtime_class(attributes, tree)?;
    default_class::of_ingresses(attributes, tree)?;
    pod_topology_labels::mutate(attributes, tree);
    Ok(())
}

/// All plugins that have a say in a deletion.
///
/// # Errors
/// `403` from the first that refuses it.
pub async fn delete(attributes: &Attributes<'_>, old: &Value) -> Result<()> {
    namespace_lifecycle::admit(attributes)?;
    node_restriction::admit(attributes, &Value::Null, Some(old))?;
    validate(attributes, &Value::Null, Some(old)).await?.keep();
    Ok(())
}

/// The validating plugins. The charge must be kept when the write is made, else it is given back.
pub async fn validate(attributes: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<Charge> {
    limit_ranger::validate(attributes, tree)?;
    pod_security::validate(attributes, tree, old)?;
    priority::validate(attributes, tree)?;
    persistent_volume_claim_resize::validate(attributes, tree, old)?;
    certificate_signers::validate(attributes, tree, old)?;
    node_declared_feature_validator::validate(attributes, tree, old)?;
    pod_resize_validator::validate(attributes, tree, old)?;
    resource_quota::charge(attributes, tree, old).await
}
