//! `create role`, `clusterrole`, `rolebinding` and `clusterrolebinding`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Common, Draft, name_of};
use crate::error::{Error, Result, fail};
use crate::session::Session;

const API: &str = "rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";
const VERBS: [&str; 15] = [
    "*",
    "get",
    "delete",
    "list",
    "create",
    "update",
    "patch",
    "watch",
    "proxy",
    "deletecollection",
    "use",
    "bind",
    "escalate",
    "impersonate",
    "approve",
];
const URL_VERBS: [&str; 8] = ["*", "get", "post", "put", "delete", "patch", "head", "options"];

/// Verbs that make sense for some resources only.
fn special(verb: &str) -> Option<&'static [(&'static str, &'static str)]> {
    Some(match verb {
        "use" => &[("policy", "podsecuritypolicies"), ("extensions", "podsecuritypolicies")],
        "bind" | "escalate" => &[(GROUP, "roles"), (GROUP, "clusterroles")],
        "impersonate" => &[
            ("", "users"),
            ("", "serviceaccounts"),
            ("", "groups"),
            ("authentication.k8s.io", "userextras"),
        ],
        _ => return None,
    })
}

/// Create a role with single rule
#[derive(Debug, clap::Args)]
pub struct Role {
    #[command(flatten)]
    rule: Rule,
    #[command(flatten)]
    pub common: Common,
}

/// Create a cluster role
#[derive(Debug, clap::Args)]
pub struct ClusterRole {
    #[command(flatten)]
    rule: Rule,
    /// A partial url that user should have access to
    #[arg(long = "non-resource-url", value_delimiter = ',')]
    non_resource_url: Vec<String>,
    /// An aggregation label selector for combining ClusterRoles
    #[arg(long, value_delimiter = ',')]
    aggregation_rule: Vec<String>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Clone, clap::Args)]
struct Rule {
    names: Vec<String>,
    /// Verb that applies to the resources contained in the rule
    #[arg(long, value_delimiter = ',')]
    verb: Vec<String>,
    /// Resource that the rule applies to
    #[arg(long, value_delimiter = ',')]
    resource: Vec<String>,
    /// Resource in the white list that the rule applies to, repeat this flag for multiple items
    #[arg(long)]
    resource_name: Vec<String>,
}

/// Create a role binding for a particular role or cluster role
#[derive(Debug, clap::Args)]
pub struct RoleBinding {
    names: Vec<String>,
    /// ClusterRole this RoleBinding should reference
    #[arg(long)]
    clusterrole: Option<String>,
    /// Role this RoleBinding should reference
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    subjects: Subjects,
    #[command(flatten)]
    pub common: Common,
}

/// Create a cluster role binding for a particular cluster role
#[derive(Debug, clap::Args)]
pub struct ClusterRoleBinding {
    names: Vec<String>,
    /// ClusterRole this ClusterRoleBinding should reference
    #[arg(long, required = true)]
    clusterrole: String,
    #[command(flatten)]
    subjects: Subjects,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Clone, clap::Args)]
struct Subjects {
    /// Usernames to bind to the role. The flag can be repeated to add multiple users.
    #[arg(long, id = "user", action = clap::ArgAction::Append)]
    user: Vec<String>,
    /// Groups to bind to the role
    #[arg(long)]
    group: Vec<String>,
    /// Service accounts to bind to the role, in the format <namespace>:<name>
    #[arg(long)]
    serviceaccount: Vec<String>,
}

fn unique(list: &[String]) -> Vec<&str> {
    let mut seen: Vec<&str> = Vec::new();
    for item in list {
        if !seen.contains(&item.as_str()) {
            seen.push(item);
        }
    }
    seen
}

fn verbs_of(list: &[String]) -> Vec<&str> {
    if list.iter().any(|v| v == "*") {
        vec!["*"]
    } else {
        unique(list)
    }
}

/// The rules for resources, one for each group.
async fn resource_rules(session: &Session, verbs: &[&str], resources: &[String], names: &[&str]) -> Result<Vec<Value>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let everything = resources.iter().any(|r| r == "*");
    for text in resources.iter().filter(|r| !everything || *r == "*") {
        let (name, sub) = text
            .split_once('/')
            .map_or((text.as_str(), None), |(n, s)| (n, Some(s)));
        let (resource, group) = name.split_once('.').unwrap_or((name, ""));
        if resource.is_empty() {
            return fail("resource must be specified if apiGroup/subresource specified");
        }
        let (mut group, mut plural) = (group.to_owned(), resource.to_owned());
        if resource != "*" {
            let known = session.resources().await?.find(name);
            if let Some(ty) = &known {
                (group, plural) = (ty.group.clone(), ty.plural.clone());
            }
            let mut fits = known.is_some();
            for verb in verbs {
                if let Some(allowed) = special(verb) {
                    if !allowed.contains(&(group.as_str(), plural.as_str())) {
                        return fail(format!("can not perform '{verb}' on '{plural}' in group '{group}'"));
                    }
                    fits = true;
                }
            }
            if !fits {
                let text = format!(
                    "the server doesn't have a resource type {}",
                    crate::print::go::quote(resource)
                );
                return Err(Error::Plain(text));
            }
        }
        if let Some(sub) = sub {
            plural = format!("{plural}/{sub}");
        }
        let list = groups.entry(group).or_default();
        if !list.contains(&plural) {
            list.push(plural);
        }
    }
    let rule = |(group, resources): (String, Vec<String>)| {
        let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
        if !names.is_empty() {
            rule["resourceNames"] = json!(names);
        }
        rule
    };
    Ok(groups.into_iter().map(rule).collect())
}

fn warn_of_odd_verbs(session: &Session, verbs: &[&str], known: &[&str]) {
    for verb in verbs.iter().filter(|v| !known.contains(v)) {
        session.warn(&format!("Warning: '{verb}' is not a standard resource verb"));
    }
}

impl Role {
    pub(crate) async fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.rule.names)?;
        let verbs = verbs_of(&self.rule.verb);
        if verbs.is_empty() {
            return fail("at least one verb must be specified");
        }
        warn_of_odd_verbs(session, &verbs, &VERBS);
        if self.rule.resource.is_empty() {
            return fail("at least one resource must be specified");
        }
        let rules = resource_rules(session, &verbs, &self.rule.resource, &unique(&self.rule.resource_name)).await?;
        Ok(Draft {
            object: json!({"apiVersion": API, "kind": "Role", "metadata": {"name": name}, "rules": rules}),
            plural: "roles",
            namespaced: true,
            called: String::new(),
        })
    }
}

impl ClusterRole {
    pub(crate) async fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.rule.names)?;
        let verbs = verbs_of(&self.rule.verb);
        let mut object = json!({"apiVersion": API, "kind": "ClusterRole", "metadata": {"name": name}, "rules": []});
        if self.aggregation_rule.is_empty() {
            object["rules"] = Value::Array(self.rules(session, &verbs).await?);
        } else {
            let others = [
                &self.rule.verb,
                &self.rule.resource,
                &self.rule.resource_name,
                &self.non_resource_url,
            ];
            if others.iter().any(|o| !o.is_empty()) {
                return fail(
                    "aggregation rule must be specified without nonResourceURLs, verbs, resources or resourceNames",
                );
            }
            let labels: Map<String, Value> = self
                .aggregation_rule
                .iter()
                .filter_map(|pair| pair.split_once('='))
                .map(|(k, v)| (k.to_owned(), json!(v)))
                .collect();
            object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
            object["rules"] = Value::Null;
        }
        Ok(Draft {
            object,
            plural: "clusterroles",
            namespaced: false,
            called: String::new(),
        })
    }

    async fn rules(&self, session: &Session, verbs: &[&str]) -> Result<Vec<Value>> {
        if verbs.is_empty() {
            return fail("at least one verb must be specified");
        }
        if self.rule.resource.is_empty() && self.non_resource_url.is_empty() {
            return fail("one of resource or nonResourceURL must be specified");
        }
        if !self.rule.resource.is_empty() {
            warn_of_odd_verbs(session, verbs, &VERBS);
        }
        let mut rules = resource_rules(session, verbs, &self.rule.resource, &unique(&self.rule.resource_name)).await?;
        if !self.non_resource_url.is_empty() {
            if let Some(verb) = verbs.iter().find(|v| !URL_VERBS.contains(v)) {
                return fail(format!("invalid verb: '{verb}' for nonResourceURL"));
            }
            for url in &self.non_resource_url {
                if url != "*" && !url.starts_with('/') {
                    return fail("nonResourceURL should start with /");
                }
                if url.trim_end_matches('*').contains('*') || url.ends_with("**") {
                    return fail("nonResourceURL only supports wildcard matches when '*' is at the end");
                }
            }
            rules.push(json!({"nonResourceURLs": self.non_resource_url, "verbs": verbs}));
        }
        Ok(rules)
    }
}

impl Subjects {
    fn list(&self) -> Result<Vec<Value>> {
        let named = |kind: &str, names: &[String]| {
            let one = |name: &String| json!({"apiGroup": GROUP, "kind": kind, "name": name});
            names.iter().map(one).collect::<Vec<Value>>()
        };
        let mut list = named("User", &self.user);
        list.extend(named("Group", &self.group));
        for account in &self.serviceaccount {
            match account.split(':').collect::<Vec<_>>()[..] {
                [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
                    list.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
                }
                _ => return fail("serviceaccount must be <namespace>:<name>"),
            }
        }
        Ok(list)
    }
}

fn binding(kind: &str, name: &str, role: &Value, subjects: &Subjects) -> Result<Value> {
    let mut object = json!({"apiVersion": API, "kind": kind, "metadata": {"name": name}, "roleRef": role});
    let subjects = subjects.list()?;
    if !subjects.is_empty() {
        object["subjects"] = Value::Array(subjects);
    }
    Ok(object)
}

impl RoleBinding {
    pub(crate) fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        let role = match (&self.role, &self.clusterrole) {
            (Some(role), None) => json!({"apiGroup": GROUP, "kind": "Role", "name": role}),
            (None, Some(role)) => json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": role}),
            _ => return fail("exactly one of clusterrole or role must be specified"),
        };
        Ok(Draft {
            object: binding("RoleBinding", name, &role, &self.subjects)?,
            plural: "rolebindings",
            namespaced: true,
            called: "rolebinding".to_owned(),
        })
    }
}

impl ClusterRoleBinding {
    pub(crate) fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        let role = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": self.clusterrole});
        Ok(Draft {
            object: binding("ClusterRoleBinding", name, &role, &self.subjects)?,
            plural: "clusterrolebindings",
            namespaced: false,
            called: "clusterrolebinding".to_owned(),
        })
    }
}
