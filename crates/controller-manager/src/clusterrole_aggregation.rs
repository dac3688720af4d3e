//! ClusterRoles made of others: `aggregationRule` selects ClusterRoles whose rules are taken over.

use std::collections::HashMap;
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

const MANAGER: &str = "clusterrole-aggregation-controller";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    #[serde(default)]
    aggregation_rule: Option<AggregationRule>,
}

#[derive(Deserialize)]
struct Rules {
    #[serde(default)]
    rules: Option<Vec<Value>>,
}

/// The roles that take over others' rules, with the selectors of these.
#[derive(Default)]
struct Takers(HashMap<String, Vec<LabelSelector>>);

impl Takers {
    /// Those that a change of a role concerns.
    fn of(&mut self, change: &client::Change) -> Result<Vec<String>, Error> {
        let Some(object) = change.object() else {
            return Ok(Vec::new());
        };
        let role = change.new.as_deref().map(decode::<Role>).transpose()?;
        match role.and_then(|role| role.aggregation_rule) {
            Some(rule) => drop(self.0.insert(object.key(), rule.selectors(&object.key())?)),
            None => drop(self.0.remove(&object.key())),
        }
        let states = [&change.old, &change.new];
        let selected = |selectors: &[LabelSelector]| {
            let mut states = states.iter().copied().flatten();
            states.any(|state| selectors.iter().any(|selector| selects(selector, state)))
        };
        let concerned = self
            .0
            .iter()
            .filter(|(key, selectors)| **key == object.key() || selected(selectors));
        Ok(concerned.map(|(key, _)| key.clone()).collect())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AggregationRule {
    #[serde(default)]
    cluster_role_selectors: Option<Vec<Value>>,
}

impl AggregationRule {
    fn selectors(&self, of: &str) -> Result<Vec<LabelSelector>, Error> {
        let selectors = self.cluster_role_selectors.iter().flatten();
        let read = |selector| {
            LabelSelector::from_tree(selector).map_err(|source| Error::Selector {
                object: of.to_owned(),
                source,
            })
        };
        selectors.map(read).collect()
    }
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
        let (queue, mut takers) = (queue.clone(), Takers::default());
        move |change| match takers.of(&change) {
            Ok(concerned) => concerned.into_iter().for_each(|key| queue.add(key)),
            Err(error) => tracing::error!(%error, "the role takes over no others, and is taken over as it was"),
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
    let selectors = rule.selectors(name)?;
    let rules_of = |object: &Object| Ok::<_, Error>(decode::<Rules>(object)?.rules.unwrap_or_default());
    let mut selected = Vec::new();
    for other in roles.list() {
        if selectors.iter().any(|selector| selects(selector, &other)) {
            let rules = rules_of(&other)?;
            selected.push((other, rules));
        }
    }
    let rules = aggregate(name, &selectors, &mut selected);
    if rules_of(&object)? == rules {
        return Ok(None);
    }
    let patch = Patch::Apply {
        manager: MANAGER.into(),
        force: true,
        object: json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": name }, "rules": rules,
        }),
    };
    let _: ClusterRole = client.patch("", name, &patch).await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_concerns_the_roles_that_select_it() {
        let object = |tree: Value| Some(Object::parse(tree.to_string().into()).unwrap());
        let taker = |name: &str, label: &str| {
            object(
                json!({"metadata": {"name": name, "uid": name}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": label}}]}}),
            )
        };
        let role =
            |label: &str| object(json!({"metadata": {"name": "r", "uid": "r", "labels": {"to": label}}, "rules": []}));
        let mut takers = Takers::default();
        let mut of = |old, new| {
            let mut concerned = takers.of(&client::Change { old, new }).unwrap();
            concerned.sort();
            concerned
        };
        assert_eq!(of(None, taker("a", "admin")), ["a"]);
        assert_eq!(of(None, taker("v", "view")), ["v"]);
        assert_eq!(of(None, role("admin")), ["a"]);
        assert_eq!(of(role("admin"), role("view")), ["a", "v"]);
        assert!(of(None, role("nobody")).is_empty());
        assert!(of(taker("a", "admin"), None).is_empty());
        assert!(of(role("admin"), None).is_empty());
    }

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
