//! Authorization: `system:masters`, then Node, then RBAC. One question, one answer with its reason.

pub mod coverage;
pub mod escalation;
pub mod node;
pub mod node_graph;
pub mod params;
pub mod rbac;
pub mod signer;

use std::sync::Arc;

use api::selectors::{FieldSelector, FieldTerm};

use crate::http::request_info::RequestInfo;
use crate::http::status::ApiError;
use crate::http::user::{MASTERS, User};
use crate::registry::Registry;
use node_graph::NodeGraph;
use rbac::Rbac;

/// What is to be allowed.
#[derive(Debug, Clone, Default)]
pub struct Attributes<'a> {
    pub verb: &'a str,
    pub is_resource: bool,
    pub group: &'a str,
    pub namespace: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub name: &'a str,
    pub path: &'a str,
    /// What a list, watch or deletion of a collection is narrowed to. A selector that does not parse narrows nothing.
    pub fields: Vec<FieldTerm>,
}

impl<'a> Attributes<'a> {
    /// What a request asks for.
    pub fn of(info: &'a RequestInfo) -> Attributes<'a> {
        let fields = FieldSelector::parse(&info.field_selector);
        Attributes {
            verb: info.verb,
            is_resource: info.is_resource,
            group: if info.is_resource { &info.group } else { "" },
            namespace: &info.namespace,
            resource: &info.resource,
            subresource: &info.subresource,
            name: &info.name,
            path: &info.path,
            fields: fields.map_or_else(|_| Vec::new(), |f| f.terms().to_vec()),
        }
    }

    /// `pods/log`.
    pub fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// Upstream's sentence on what the user may not do.
    fn sentence(&self, user: &User) -> String {
        if !self.is_resource {
            return format!("User {:?} cannot {} path {:?}", user.name, self.verb, self.path);
        }
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        format!(
            "User {:?} cannot {} resource {:?} in API group {:?} {scope}",
            user.name,
            self.verb,
            self.full_resource(),
            self.group
        )
    }

    /// The answer to who asked for what they may not do.
    pub fn forbidden(&self, user: &User, reason: &str) -> ApiError {
        // browsers must not take it for a page
        let sentence = self.sentence(user);
        let sentence = sentence.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let why = match reason {
            "" => sentence,
            reason => format!("{sentence}: {reason}"),
        };
        if self.is_resource {
            return ApiError::forbidden(self.group, self.resource, self.name, &why);
        }
        let mut error = ApiError::new(403, "Forbidden", format!("forbidden: {why}"));
        error.details = Some(serde_json::json!({}));
        error
    }
}

/// The answer to one question. Whoever is not allowed is refused: there is no third answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// The binding that allows, or what the authorizers had to say against it; often empty.
    pub reason: String,
}

impl Decision {
    fn allow() -> Decision {
        Decision {
            allowed: true,
            reason: String::new(),
        }
    }

    /// No authorizer may allow what another is silent on, but a later one may allow what this one does not.
    fn no_opinion(reason: impl Into<String>) -> Decision {
        Decision {
            allowed: false,
            reason: reason.into(),
        }
    }
}

/// The authorizers, and what they have compiled of the cluster's state.
pub struct Authorizer {
    registry: Arc<Registry>,
    rbac: Rbac,
    nodes: NodeGraph,
}

impl Authorizer {
    /// The authorizers of this registry's cluster.
    pub fn new(registry: Arc<Registry>) -> Authorizer {
        Authorizer {
            registry,
            rbac: Rbac::default(),
            nodes: NodeGraph::default(),
        }
    }

    /// Asks the authorizers in order; the first that allows decides.
    pub fn decide(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        if user.in_group(MASTERS) {
            return Decision::allow();
        }
        let by_node = node::decide(&self.registry, &self.nodes, user, attributes);
        if by_node.allowed {
            return by_node;
        }
        let by_rbac = self.rbac.decide(&self.registry, user, attributes);
        if by_rbac.allowed {
            return by_rbac;
        }
        let reasons = [("node", by_node.reason), ("rbac", by_rbac.reason)];
        let said = reasons.iter().filter(|(_, reason)| !reason.is_empty());
        let said: Vec<String> = said.map(|(name, reason)| format!("{name}: {reason}")).collect();
        Decision::no_opinion(said.join("\n"))
    }

    /// Whether the user may.
    pub fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        self.decide(user, attributes).allowed
    }

    /// # Errors
    /// `403` when the user may not.
    pub fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        let decision = self.decide(user, attributes);
        if decision.allowed {
            return Ok(());
        }
        Err(attributes.forbidden(user, &decision.reason))
    }

    /// Everything that RBAC grants a user in a namespace, and the roles of the user's bindings that are not there.
    pub fn granted(&self, user: &User, namespace: &str) -> (Vec<rbac::PolicyRule>, Vec<Arc<rbac::Missing>>) {
        self.rbac.granted(&self.registry, user, namespace)
    }
}
