//! Who a request comes from.

use std::collections::BTreeMap;

use api::names;

/// An authenticated user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The user of requests that bring no proof.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of all who brought proof.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of all who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

impl User {
    /// A user who brought proof.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> User {
        User {
            name: name.into(),
            groups: groups
                .iter()
                .map(|g| (*g).to_owned())
                .chain([AUTHENTICATED.to_owned()])
                .collect(),
            ..User::default()
        }
    }

    /// The user who brought none.
    pub fn anonymous() -> User {
        User {
            name: ANONYMOUS.into(),
            groups: vec![UNAUTHENTICATED.into()],
            ..User::default()
        }
    }

    /// The name that a service account authenticates as.
    pub fn service_account_name(namespace: &str, name: &str) -> String {
        format!("{SERVICE_ACCOUNT}{namespace}:{name}")
    }

    /// The namespace and name of a service account, when both are valid names.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.name.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
        let valid =
            names::dns1123_label_errors(namespace).is_empty() && names::dns1123_subdomain_errors(name).is_empty();
        valid.then_some((namespace, name))
    }

    /// Whether the user is of a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The name of the node, for `system:node:<name>` of the group `system:nodes`. It may be empty: a node that is nobody.
    pub fn node_name(&self) -> Option<&str> {
        self.name
            .strip_prefix("system:node:")
            .filter(|_| self.in_group("system:nodes"))
    }
}
