//! Authorization: Node, then RBAC.

pub mod bootstrap_policy;
pub mod escalation;
pub mod node;
pub mod rbac;
pub mod signers;

use std::sync::Arc;

use crate::http::request_info::RequestInfo;
use crate::http::user::{MASTERS, User};
use crate::registry::Registry;
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
}

impl<'a> Attributes<'a> {
    pub fn of(info: &'a RequestInfo) -> Attributes<'a> {
        Attributes {
            verb: info.verb,
            is_resource: info.is_resource,
            group: &info.group,
            namespace: &info.namespace,
            resource: &info.resource,
            subresource: &info.subresource,
            name: &info.name,
            path: &info.path,
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

    /// Upstream's sentence on why not.
    pub fn refusal(&self, user: &User) -> String {
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
}

/// The authorizers, in order.
pub struct Authorizer {
    registry: Arc<Registry>,
    rbac: Rbac,
}

impl Authorizer {
    pub fn new(registry: Arc<Registry>) -> Authorizer {
        Authorizer {
            rbac: Rbac::new(registry.clone()),
            registry,
        }
    }

    /// Whether the user may.
    pub fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        match self.before_rbac(user, attributes) {
            Some(decision) => decision,
            None => self.rbac.allows(user, attributes).is_some(),
        }
    }

    /// Why the user may, if they may; some reasons go without saying.
    pub fn decide(&self, user: &User, attributes: &Attributes<'_>) -> Option<String> {
        match self.before_rbac(user, attributes) {
            Some(decision) => decision.then(String::new),
            None => {
                let binding = self.rbac.allows(user, attributes)?;
                Some(format!("RBAC: allowed by {binding}"))
            }
        }
    }

    fn before_rbac(&self, user: &User, attributes: &Attributes<'_>) -> Option<bool> {
        if user.in_group(MASTERS) {
            return Some(true);
        }
        node::decide(&self.registry, user.node_name()?, attributes)
    }

    pub fn rbac(&self) -> &Rbac {
        &self.rbac
    }
}
