//! Escalation checks: who writes a role may grant only what they have themselves, unless they may `escalate` or `bind`. They read
//! the object in the form in which it will be stored.

use serde::Deserialize;
use serde_json::Value;

use crate::authorization::coverage::{missing, quoted};
use crate::authorization::rbac::{PolicyRule, all_of};
use crate::authorization::{Attributes, Authorizer};
use crate::http::status::{ApiError, Result};
use crate::http::user::{MASTERS, User};
use crate::registry::resource::Resource;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Who writes which object.
pub struct Author<'a> {
    pub authorizer: &'a Authorizer,
    pub user: &'a User,
    pub resource: &'a Resource,
    pub namespace: &'a str,
    /// The name in the request's path; empty for a POST.
    pub requested: &'a str,
}

/// What of a role or a binding is checked. A form that does not fit is an error, never nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Granting {
    rules: Option<Vec<PolicyRule>>,
    aggregation_rule: Option<Aggregation>,
    role_ref: Option<RoleRef>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Aggregation {
    cluster_role_selectors: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleRef {
    #[serde(default)]
    api_group: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
}

impl Granting {
    fn read(tree: &Value) -> Result<Granting> {
        Granting::deserialize(tree).map_err(ApiError::internal)
    }

    fn aggregates(&self) -> bool {
        let selectors = self
            .aggregation_rule
            .as_ref()
            .and_then(|a| a.cluster_role_selectors.as_ref());
        selectors.is_some_and(|selectors| !selectors.is_empty())
    }
}

/// Refuses roles and bindings that would give more than their author has.
///
/// # Errors
/// `403` with what the author lacks.
pub fn check(author: &Author<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
    if author.resource.group != GROUP || author.user.in_group(MASTERS) {
        return Ok(());
    }
    // the garbage collector lets go of what it may not grant
    if old.is_some_and(|old| changes_only_owners(tree, old)) {
        return Ok(());
    }
    let granting = Granting::read(tree)?;
    match author.resource.kind.as_str() {
        "ClusterRole" | "Role" => author.role(tree, &granting, old),
        "ClusterRoleBinding" | "RoleBinding" => author.binding(tree, &granting),
        other => Err(ApiError::internal(format!("no escalation check is known for {other}"))),
    }
}

impl Author<'_> {
    fn allowed(&self, verb: &str, group: &str, plural: &str, name: &str) -> bool {
        let attributes = Attributes {
            verb,
            is_resource: true,
            group,
            namespace: self.namespace,
            resource: plural,
            name,
            ..Attributes::default()
        };
        self.authorizer.allows(self.user, &attributes)
    }

    fn role(&self, tree: &Value, granting: &Granting, old: Option<&Value>) -> Result<()> {
        if self.allowed("escalate", GROUP, &self.resource.plural, self.requested) {
            return Ok(());
        }
        self.confirm(tree, granting.rules.as_deref().unwrap_or_default())?;
        // what an aggregated role grants is decided by who labels other roles, and by who takes the aggregation away
        let before = old.map(Granting::read).transpose()?;
        if granting.aggregates() || before.is_some_and(|before| before.aggregates()) {
            let (held, _) = self.authorizer.granted(self.user, self.namespace);
            if !missing(&held, &everything()).is_empty() {
                let why = "must have cluster-admin privileges to use the aggregationRule";
                return Err(self.forbidden(tree, why));
            }
        }
        Ok(())
    }

    fn binding(&self, tree: &Value, granting: &Granting) -> Result<()> {
        let (group, kind, name) = match &granting.role_ref {
            Some(role) => (role.api_group.as_str(), role.kind.as_str(), role.name.as_str()),
            None => ("", "", ""),
        };
        let (plural, home) = match kind {
            "ClusterRole" => ("clusterroles", ""),
            "Role" => ("roles", self.namespace),
            other => {
                return Err(ApiError::plain(format!("unsupported role reference kind: {other:?}")));
            }
        };
        if self.allowed("bind", group, plural, name) {
            return Ok(());
        }
        let role = self.authorizer.registry.get(GROUP, plural, home, name);
        let role = role.ok_or_else(|| ApiError::not_found(GROUP, plural, name))?;
        let granted = Granting::read(&role.tree()?)?;
        self.confirm(tree, &granted.rules.unwrap_or_default())
    }

    fn confirm(&self, tree: &Value, rules: &[PolicyRule]) -> Result<()> {
        let (held, unknown) = self.authorizer.granted(self.user, self.namespace);
        let missing = missing(&held, rules);
        if missing.is_empty() {
            return Ok(());
        }
        let mut why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            self.user.name,
            quoted(&self.user.groups),
            missing.join("\n")
        );
        if let Some(unknown) = all_of(unknown.iter().map(|role| format!("{role:#}"))) {
            why.push_str(&format!("; resolution errors: [{unknown}]"));
        }
        Err(self.forbidden(tree, &why))
    }

    fn forbidden(&self, tree: &Value, why: &str) -> ApiError {
        let name = tree.pointer("/metadata/name").and_then(Value::as_str);
        self.resource.forbidden(name.unwrap_or_default(), why)
    }
}

/// Whether an update changes nothing but what the garbage collector does: owners and finalizers.
pub fn changes_only_owners(new: &Value, old: &Value) -> bool {
    const OWN: [&str; 5] = [
        "ownerReferences",
        "finalizers",
        "selfLink",
        "managedFields",
        "resourceVersion",
    ];
    let others = |tree: &Value| {
        let mut tree = tree.clone();
        if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| !OWN.contains(&key.as_str()));
        }
        tree
    };
    others(new) == others(old)
}

/// What `cluster-admin` grants.
fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule {
            verbs: all(),
            api_groups: all(),
            resources: all(),
            ..PolicyRule::default()
        },
        PolicyRule {
            verbs: all(),
            non_resource_urls: all(),
            ..PolicyRule::default()
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_with_nulls_are_read_and_other_forms_are_refused() {
        let role =
            json!({ "rules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": null }] });
        let rules = Granting::read(&role).unwrap().rules.unwrap();
        assert_eq!(rules, everything()[..1]);
        for broken in [
            json!({ "rules": "all" }),
            json!({ "rules": [{ "verbs": "*" }] }),
            json!({ "roleRef": "x" }),
        ] {
            assert!(Granting::read(&broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_garbage_collector_changes_owners_and_finalizers_alone() {
        let role = |owners: Value, verb: &str| json!({ "metadata": { "name": "a", "ownerReferences": owners }, "rules": [{ "verbs": [verb] }] });
        let old = role(json!([{ "uid": "1" }]), "get");
        assert!(changes_only_owners(&role(json!([]), "get"), &old));
        assert!(!changes_only_owners(&role(json!([]), "list"), &old));
    }
}
