//! ResourceQuota: what a write would use is charged against the namespace's quotas before it is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::pod;
use api::quantity::Quantity;
use api::quota::{self, Usage};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::admission::{Attributes, Later, Operation, Plugin};
use crate::http::status::Result;
use crate::registry::Registry;
use crate::registry::managed::WriteOptions;
use crate::registry::own::Own;
use crate::tree::text;

/// The use of quotas that a write was granted. One write of a namespace with quotas is decided at a time, until it is made.
#[derive(Default)]
pub struct Charge {
    _turn: Option<OwnedMutexGuard<()>>,
    charged: Vec<Charged>,
}

/// A quota that was charged.
struct Charged {
    name: String,
    /// The revision that the charge made.
    at: u64,
    /// Its status before.
    before: Value,
}

impl Charge {
    /// The write was not made: the quotas are as before. One that somebody wrote since has been counted anew.
    pub async fn give_back(self, registry: &Registry, namespace: &str) {
        for Charged { name, at, before } in self.charged {
            let own = of_namespace(registry, namespace, &name);
            let back = own.swap(|quota| {
                if text(quota, &["metadata", "resourceVersion"]).is_some_and(|now| now == at.to_string()) {
                    quota["status"] = before.clone();
                }
                Ok(())
            });
            if let Err(error) = back.await {
                tracing::warn!(%error, namespace, quota = name, "a charge of a write that was not made stays until the recount");
            }
        }
    }
}

fn of_namespace<'a>(registry: &'a Registry, namespace: &'a str, name: &'a str) -> Own<'a> {
    Own {
        registry,
        group: "",
        plural: "resourcequotas",
        namespace,
        name,
        options: WriteOptions::own("status"),
    }
}

/// Charges the quotas of namespaces.
#[derive(Default)]
pub struct ResourceQuota {
    turns: Turns,
}

impl Plugin for ResourceQuota {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.resource.namespaced && matches!(asked.operation, Operation::Create | Operation::Update)
    }

    fn hold<'a>(
        &'a self,
        asked: &'a Attributes<'_>,
        tree: &'a Value,
        old: Option<&'a Value>,
    ) -> Option<Later<'a, Charge>> {
        counted(asked, tree, old).then(|| Box::pin(self.charge(asked, tree, old)) as Later<'a, Charge>)
    }
}

/// Whether a write may use more than before.
fn counted(asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> bool {
    match asked.operation {
        Operation::Create => asked.subresource.is_empty(),
        Operation::Update if asked.resizes_pod() => true,
        Operation::Update if !asked.subresource.is_empty() => false,
        // a pod that gets a deadline comes under other quotas
        Operation::Update if asked.resource.is("", "pods") => {
            old.is_some_and(|old| quota::is_terminating(old) != quota::is_terminating(tree))
        }
        Operation::Update => asked.resource.is("", "services") || asked.resource.is("", "persistentvolumeclaims"),
        _ => false,
    }
}

impl ResourceQuota {
    /// Charges the namespace's quotas, or refuses.
    async fn charge(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<Charge> {
        if asked.registry.list("", "resourcequotas", asked.namespace).is_empty() {
            return Ok(Charge::default());
        }
        let turn = self.turns.turn(asked.namespace).await;
        let kind = asked.resource.qualified();
        let now = asked.registry.instant();
        let whole = quota::usage(&kind, tree, now);
        let mut more = whole.clone();
        for (key, before) in old.map(|o| quota::usage(&kind, o, now)).unwrap_or_default() {
            let entry = more.entry(key).or_insert(Quantity::ZERO);
            *entry = entry.sub(&before);
        }
        // what becomes free is for the controller to find
        more.retain(|_, amount| !amount.is_negative());
        let mut changes = Vec::new();
        for object in asked.registry.list("", "resourcequotas", asked.namespace) {
            let quota = object.tree()?;
            if !quota::in_scope(&quota["spec"], &kind, tree) {
                continue;
            }
            let had = old.is_some_and(|old| quota::in_scope(&quota["spec"], &kind, old));
            let delta = if had { &more } else { &whole };
            if let Some(used) = admit(asked, tree, &quota, delta)? {
                changes.push((object.object.meta.name.to_string(), used));
            }
        }
        let mut charge = Charge {
            _turn: Some(turn),
            charged: Vec::new(),
        };
        for (name, used) in changes.into_iter().filter(|_| !asked.dry_run) {
            match store_usage(asked, name, &used).await {
                Ok(charged) => charge.charged.extend(charged),
                Err(error) => {
                    charge.give_back(asked.registry, asked.namespace).await;
                    return Err(error);
                }
            }
        }
        Ok(charge)
    }
}

/// The containers of a pod that do not say how much of a compute resource they want.
fn containers_without<'a>(tree: &'a Value, key: &str) -> Vec<&'a str> {
    let (kind, resource) = match key {
        "cpu" | "memory" => ("requests", key),
        "requests.cpu" | "requests.memory" | "limits.cpu" | "limits.memory" => {
            key.split_once('.').unwrap_or(("requests", key))
        }
        _ => return Vec::new(),
    };
    if pod::has_resources_of_its_own(tree) {
        return Vec::new();
    }
    let says = |container: &Value| container.pointer(&format!("/resources/{kind}/{resource}")).is_some();
    let all = pod::containers(tree).chain(pod::init_containers(tree));
    let mut names: Vec<&str> = all.filter(|c| !says(c)).filter_map(|c| text(c, &["name"])).collect();
    names.sort_unstable();
    names
}

/// The quota's new usage; `None` if the write does not concern it.
fn admit(attributes: &Attributes<'_>, tree: &Value, quota: &Value, delta: &Usage) -> Result<Option<Value>> {
    let hard = quota
        .pointer("/status/hard")
        .or_else(|| quota.pointer("/spec/hard"))
        .and_then(Value::as_object);
    let parse = |v: &Value| v.as_str().and_then(|s| s.parse::<Quantity>().ok());
    let (mut asked, mut had, mut limited) = (Vec::new(), Vec::new(), Vec::new());
    let mut missing = Vec::new();
    let mut used = quota.pointer("/status/used").cloned().unwrap_or_else(|| json!({}));
    let mut concerned = false;
    for (key, limit) in hard.into_iter().flatten() {
        let Some(limit) = parse(limit) else { continue };
        if attributes.resource.is("", "pods") {
            let without = containers_without(tree, key);
            if !without.is_empty() {
                missing.push(format!("{key} for: {}", without.join(",")));
            }
        }
        let Some(change) = delta.get(key) else { continue };
        if change.is_zero() {
            continue;
        }
        concerned = true;
        let before = used.get(key).and_then(parse).unwrap_or(Quantity::ZERO);
        let after = before.add(change);
        if after > limit {
            asked.push(format!("{key}={change}"));
            had.push(format!("{key}={before}"));
            limited.push(format!("{key}={limit}"));
        }
        used[key] = json!(after.to_string());
    }
    let name = text(quota, &["metadata", "name"]).unwrap_or_default();
    if !missing.is_empty() {
        let why = format!("failed quota: {name}: must specify {}", missing.join("; "));
        return Err(attributes.resource.forbidden(attributes.name, &why));
    }
    if !asked.is_empty() {
        let why = format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            asked.join(","),
            had.join(","),
            limited.join(",")
        );
        return Err(attributes.resource.forbidden(attributes.name, &why));
    }
    Ok(concerned.then_some(used))
}

async fn store_usage(asked: &Attributes<'_>, name: String, used: &Value) -> Result<Option<Charged>> {
    let mut before = Value::Null;
    let own = of_namespace(asked.registry, asked.namespace, &name);
    let charged = own.swap(|tree| {
        before = tree.get("status").cloned().unwrap_or_default();
        tree["status"]["used"] = used.clone();
        if tree.pointer("/status/hard").is_none() {
            tree["status"]["hard"] = tree.pointer("/spec/hard").cloned().unwrap_or_default();
        }
        Ok(())
    });
    // a quota that is gone holds nobody back
    let at = charged.await?.map(|quota| quota.revision());
    Ok(at.map(|at| Charged { name, at, before }))
}

/// One turn per namespace.
#[derive(Default)]
struct Turns(std::sync::Mutex<BTreeMap<String, Arc<Mutex<()>>>>);

impl Turns {
    async fn turn(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            map.retain(|_, lock| Arc::strong_count(lock) > 1);
            map.entry(namespace.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}
