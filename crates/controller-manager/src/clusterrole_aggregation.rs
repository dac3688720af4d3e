//! ClusterRoles made of others: `aggregationRule` selects ClusterRoles whose rules are taken over.

use std::time::Duration;

use api::object::Object;
use api::selectors::LabelSelector;
use client::{Cache, Patch};
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::meta::selects;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    #[serde(default)]
    aggregation_rule: Option<AggregationRule>,
    #[serde(default)]
    rules: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AggregationRule {
    #[serde(default)]
    cluster_role_selectors: Option<Vec<Value>>,
}

/// The rules a role takes over, by the names of the roles they come from; each once.
fn aggregate(
    name: &str,
    selectors: &[LabelSelector],
    roles: &mut [(std::sync::Arc<Object>, Vec<Value>)],
) -> Vec<Value> {
    roles.sort_by(|(a, _), (b, _)| a.meta.name.cmp(&b.meta.name));
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        for (role, theirs) in roles.iter() {
            if &*role.meta.name == name || !selects(selector, role) {
                continue;
            }
            for rule in theirs {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let roles = ctx.informers.get::<ClusterRole>();
    if !ctx.synced(&[&roles]).await {
        return Ok(());
    }
    let queue = ctx.queue("ClusterRoleAggregator");
    ctx.each_change(&roles, {
        let (queue, roles) = (queue.clone(), roles.clone());
        move |_| {
            for role in roles.list() {
                if role.decode::<Role>().is_ok_and(|r| r.aggregation_rule.is_some()) {
                    queue.add(role.key());
                }
            }
        }
    });
    let client = ctx.client.clone();
    ctx.work(queue, 5, move |name| {
        let (client, roles) = (client.clone(), roles.clone());
        async move { sync(&client, &roles, &name).await }
    })
    .await;
    Ok(())
}

async fn sync(client: &client::Client, roles: &Cache, name: &str) -> Result<Option<Duration>, Error> {
    let Some(object) = roles.get(name) else { return Ok(None) };
    let role: Role = decode(&object)?;
    let Some(rule) = role.aggregation_rule else {
        return Ok(None);
    };
    let selectors = rule.cluster_role_selectors.unwrap_or_default();
    let selectors = selectors
        .iter()
        .map(|s| {
            LabelSelector::from_tree(s).map_err(|source| Error::Selector {
                object: name.to_owned(),
                source,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut all = Vec::new();
    for other in roles.list() {
        let rules = decode::<Role>(&other)?.rules.unwrap_or_default();
        all.push((other, rules));
    }
    let rules = aggregate(name, &selectors, &mut all);
    if role.rules.unwrap_or_default() == rules {
        return Ok(None);
    }
    let version = object.meta.resource_version.to_string();
    let patch = json!({"metadata": {"resourceVersion": version}, "rules": rules});
    let _: ClusterRole = client.patch("", name, &Patch::Merge(patch)).await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selected_roles_rules_are_taken_over_once() {
        let role = |name: &str, label: &str, rules: &[&str]| {
            let tree = json!({"metadata": {"name": name, "labels": {"to": label}}});
            let rules = rules.iter().map(|r| json!({"verbs": [r]})).collect();
            (Object::parse(tree.to_string().into()).unwrap(), rules)
        };
        let mut roles = [
            role("z", "admin", &["get", "list"]),
            role("b", "admin", &["get"]),
            role("c", "view", &["watch"]),
        ];
        let selector = LabelSelector::parse("to=admin").unwrap();
        let rules = aggregate("admin", &[selector], &mut roles);
        assert_eq!(rules, [json!({"verbs": ["get"]}), json!({"verbs": ["list"]})]);
    }
}
