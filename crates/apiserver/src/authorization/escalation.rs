//! Escalation checks: who writes a role may grant only what they have themselves, unless they may `escalate` or `bind`.

use serde_json::Value;

use crate::authorization::Attributes;
use crate::authorization::rbac::PolicyRule;
use crate::http::status::Result;
use crate::http::user::MASTERS;
use crate::registry::resource::Resource;
use crate::server::{ApiServer, Request};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses roles and bindings that would give more than their author has.
pub fn check(server: &ApiServer, resource: &Resource, request: &Request, tree: &Value) -> Result<()> {
    if resource.group != GROUP || request.user.in_group(MASTERS) {
        return Ok(());
    }
    let namespace = request.info.namespace.as_str();
    let name = tree["metadata"]["name"].as_str().unwrap_or_default();
    let allowed = |verb: &str, plural: &str, name: &str| {
        let attributes = Attributes {
            verb,
            is_resource: true,
            group: GROUP,
            namespace,
            resource: plural,
            name,
            ..Attributes::default()
        };
        server.authorizer.allows(&request.user, &attributes)
    };
    let rules = match resource.kind.as_str() {
        "ClusterRole" | "Role" => {
            if allowed("escalate", &resource.plural, name) {
                return Ok(());
            }
            rules_of(tree)
        }
        _ => {
            let kind = tree["roleRef"]["kind"].as_str().unwrap_or_default();
            let role = tree["roleRef"]["name"].as_str().unwrap_or_default();
            let (plural, home) = match kind {
                "ClusterRole" => ("clusterroles", ""),
                "Role" => ("roles", namespace),
                other => {
                    let why = format!("unsupported role reference kind: {other:?}");
                    return Err(crate::http::status::ApiError::plain(why));
                }
            };
            if allowed("bind", plural, role) {
                return Ok(());
            }
            match server.registry.get(GROUP, plural, home, role) {
                Some(role) => rules_of(&role.tree()?),
                None => return Err(crate::http::status::ApiError::not_found(GROUP, plural, role)),
            }
        }
    };
    let own = server.authorizer.rbac().rules_for(&request.user, namespace);
    // what an aggregated role grants is decided by who labels other roles
    let aggregated = resource.kind == "ClusterRole" && tree.get("aggregationRule").is_some_and(|r| !r.is_null());
    if aggregated && !everything().iter().all(|rule| rule.covered_by(&own)) {
        let why = "must have cluster-admin privileges to use an aggregationRule";
        return Err(resource.forbidden(name, why));
    }
    let missing: Vec<&PolicyRule> = rules.iter().filter(|rule| !rule.covered_by(&own)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = missing.iter().map(|r| describe(r)).collect();
    let why = format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        request.user.name,
        request.user.groups,
        shown.join("\n")
    );
    Err(resource.forbidden(name, &why))
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

fn rules_of(tree: &Value) -> Vec<PolicyRule> {
    tree.get("rules")
        .and_then(|r| serde_json::from_value(r.clone()).ok())
        .unwrap_or_default()
}

fn describe(rule: &PolicyRule) -> String {
    let mut parts = Vec::new();
    for (name, list) in [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ] {
        if !list.is_empty() {
            parts.push(format!("{name}:{list:?}"));
        }
    }
    format!("{{{}}}", parts.join(", "))
}
