//! Admission: what is added to an object before it is checked, and what is refused after. One file a plugin.

mod certificate_signers;
mod default_class;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_declared_feature_validator;
mod node_restriction;
mod node_token;
mod persistent_volume_claim_resize;
mod pod_resize_validator;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
mod terminating_definition;

use std::pin::Pin;

use serde_json::Value;

pub use resource_quota::Charge;

use crate::authorization::Authorizer;
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
    pub registry: &'a Registry,
    pub authorizer: &'a Authorizer,
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

/// An answer that has to be waited for.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// A plugin: what it looks at, what it adds to an object, and what it refuses. It owns its state.
pub trait Plugin: Send + Sync {
    /// Returns whether it has a say in this at all.
    fn handles(&self, asked: &Attributes<'_>) -> bool;

    /// Adds to an object before its rules are asked, or refuses it; of a deletion the tree is null.
    fn admit(&self, _: &Attributes<'_>, _: &mut Value, _old: Option<&Value>) -> Result<()> {
        Ok(())
    }

    /// Refuses an object as it will be stored; of a deletion the tree is null.
    fn validate(&self, _: &Attributes<'_>, _: &Value, _old: Option<&Value>) -> Result<()> {
        Ok(())
    }

    /// Refuses an object after waiting for others, and holds what its write needs until that is made.
    fn hold<'a>(&'a self, _: &'a Attributes<'_>, _: &'a Value, _old: Option<&'a Value>) -> Option<Later<'a, Charge>> {
        None
    }
}

/// The plugins of a server, in upstream's order (`pkg/kubeapiserver/options/plugins.go`).
pub struct Admission(Vec<Box<dyn Plugin>>);

impl Default for Admission {
    fn default() -> Admission {
        Admission(vec![
            Box::new(terminating_definition::TerminatingDefinition),
            Box::new(namespace_lifecycle::NamespaceLifecycle),
            Box::new(limit_ranger::LimitRanger),
            Box::new(service_account::ServiceAccount),
            Box::new(node_restriction::NodeRestriction),
            Box::new(taint_nodes_by_condition::TaintNodesByCondition),
            Box::new(pod_security::PodSecurity),
            Box::new(priority::Priority),
            Box::new(default_toleration_seconds::DefaultTolerationSeconds),
            Box::new(default_class::DefaultStorageClass),
            Box::new(storage_object_in_use_protection::StorageObjectInUseProtection),
            Box::new(persistent_volume_claim_resize::PersistentVolumeClaimResize),
            Box::new(runtime_class::RuntimeClass),
            Box::new(certificate_signers::CertificateSigners),
            Box::new(default_class::DefaultIngressClass),
            Box::new(pod_topology_labels::PodTopologyLabels),
            Box::new(node_declared_feature_validator::NodeDeclaredFeatureValidator),
            Box::new(pod_resize_validator::PodResizeValidator),
            // webhooks and policies go here; quotas come last, so that nothing is charged that is refused
            Box::new(resource_quota::ResourceQuota::default()),
        ])
    }
}

impl Admission {
    fn of<'a>(&'a self, asked: &'a Attributes<'_>) -> impl Iterator<Item = &'a dyn Plugin> {
        self.0
            .iter()
            .map(|plugin| &**plugin)
            .filter(|plugin| plugin.handles(asked))
    }

    /// Asks all plugins before the rules of a kind are asked.
    ///
    /// # Errors
    /// `403` from the first that refuses.
    pub fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, old: Option<&Value>) -> Result<()> {
        self.of(asked).try_for_each(|plugin| plugin.admit(asked, tree, old))
    }

    /// Asks all plugins of an object as it will be stored. What they hold is to be kept when the write is made, else given back.
    ///
    /// # Errors
    /// `403` from the first that refuses.
    pub async fn validate(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<Vec<Charge>> {
        let mut held = Vec::new();
        for plugin in self.of(asked) {
            plugin.validate(asked, tree, old)?;
            if let Some(holding) = plugin.hold(asked, tree, old) {
                held.push(holding.await?);
            }
        }
        Ok(held)
    }
}
