//! ResourceQuota: what a write would use is charged against the namespace's quotas before it is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::pod;
use api::quantity::Quantity;
use api::quota::{self, Usage};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::admission::{Attributes, Operation};
use crate::http::status::Result;
use crate::registry::write::{Change, Write, WriteOptions};
use crate::tree::text;

/// Proof that the quotas admit a write. One write of a namespace with quotas is decided at a time, until it is made.
#[derive(Default)]
pub struct Charge {
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Charge {
    /// The write was made.
    pub fn keep(self) {}
}

/// Charges the namespace's quotas, or refuses.
pub async fn charge(attributes: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<Charge> {
    let counted = match attributes.operation {
        Operation::Create => attributes.subresource.is_empty(),
        Operation::Update if attributes.resizes_pod() => true,
        Operation::Update if !attributes.subresource.is_empty() => false,
        // a pod that gets a deadline comes under other quotas
        Operation::Update if attributes.resource.is("", "pods") => {
            old.is_some_and(|old| quota::is_terminating(old) != quota::is_terminating(tree))
        }
        Operation::Update => {
            attributes.resource.is("", "services") || attributes.resource.is("", "persistentvolumeclaims")
        }
        _ => false,
    };
    if !counted
        || !attributes.resource.namespaced
        || attributes
            .registry
            .list("", "resourcequotas", attributes.namespace)
            .is_empty()
    {
        return Ok(Charge::default());
    }
    let turn = attributes.registry.quota_turns.turn(attributes.namespace).await;
    let kind = attributes.resource.qualified();
    let now = attributes.registry.instant();
    let whole = quota::usage(&kind, tree, now);
    let mut more = whole.clone();
    for (key, before) in old.map(|o| quota::usage(&kind, o, now)).unwrap_or_default() {
        let entry = more.entry(key).or_insert(Quantity::ZERO);
        *entry = entry.sub(&before);
    }
    // what becomes free is for the controller to find
    more.retain(|_, amount| !amount.is_negative());
    let mut changes = Vec::new();
    for object in attributes.registry.list("", "resourcequotas", attributes.namespace) {
        let quota = object.tree()?;
        if !quota::in_scope(&quota["spec"], &kind, tree) {
            continue;
        }
        let had = old.is_some_and(|old| quota::in_scope(&quota["spec"], &kind, old));
        let delta = if had { &more } else { &whole };
        if let Some(used) = admit(attributes, tree, &quota, delta)? {
            changes.push((object.object.meta.name.to_string(), used));
        }
    }
    if !attributes.dry_run {
        for (name, used) in changes {
            store_usage(attributes, &name, used).await?;
        }
    }
    Ok(Charge { _turn: Some(turn) })
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

async fn store_usage(attributes: &Attributes<'_>, name: &str, used: Value) -> Result<()> {
    let catalog = attributes.registry.catalog();
    let Some(served) = catalog.stored("", "resourcequotas") else {
        return Ok(());
    };
    let options = WriteOptions::own("status");
    let write = Write {
        registry: attributes.registry,
        served,
        namespace: attributes.namespace,
        options: &options,
    };
    let change = |old: &Value| {
        let mut tree = old.clone();
        tree["status"]["used"] = used.clone();
        if tree.pointer("/status/hard").is_none() {
            tree["status"]["hard"] = tree.pointer("/spec/hard").cloned().unwrap_or_default();
        }
        Ok(Change {
            tree,
            uid: None,
            revision: None,
            applied: false,
        })
    };
    // boxed: a quota's own status write passes through admission again
    Box::pin(write.update(name, change)).await.map(|_| ())
}

/// One turn per namespace.
#[derive(Default)]
pub struct Turns(std::sync::Mutex<BTreeMap<String, Arc<Mutex<()>>>>);

impl Turns {
    pub async fn turn(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            map.retain(|_, lock| Arc::strong_count(lock) > 1);
            map.entry(namespace.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}
