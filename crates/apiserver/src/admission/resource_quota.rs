//! ResourceQuota: what a write would use is charged against the namespace's quotas before it is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::quantity::Quantity;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::admission::{Attributes, Operation};
use crate::http::status::Result;
use crate::registry::write::{Change, Write, WriteOptions};
use crate::strategy::text;

/// Proof that the quotas admit a write. One write of a namespace with quotas is decided at a time, until it is made.
#[derive(Default)]
pub struct Charge {
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Charge {
    /// The write was made.
    pub fn keep(self) {}
}

/// What one object uses of each resource a quota can name.
pub fn usage(resource: &crate::registry::resource::Resource, tree: &Value) -> BTreeMap<String, Quantity> {
    let mut used = BTreeMap::new();
    let mut add = |key: String, q: Quantity| {
        let total = used.entry(key).or_insert(Quantity::ZERO);
        *total = total.add(&q);
    };
    let one = || Quantity::new(1, api::quantity::Format::DecimalSi);
    add(format!("count/{}", resource.qualified()), one());
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => {
            if matches!(text(tree, &["status", "phase"]), Some("Succeeded" | "Failed")) {
                return BTreeMap::from([(format!("count/{}", resource.qualified()), one())]);
            }
            add("pods".into(), one());
            for (name, q) in crate::registry::pod_resources::requests(tree) {
                if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
                    add(name.clone(), q);
                }
                add(format!("requests.{name}"), q);
            }
            for (name, q) in crate::registry::pod_resources::limits(tree) {
                add(format!("limits.{name}"), q);
            }
        }
        ("", "services") => {
            add("services".into(), one());
            let ports = tree
                .pointer("/spec/ports")
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            let ports = Quantity::new(i64::try_from(ports).unwrap_or(0), api::quantity::Format::DecimalSi);
            match text(tree, &["spec", "type"]) {
                Some("NodePort") => add("services.nodeports".into(), ports),
                Some("LoadBalancer") => {
                    add("services.loadbalancers".into(), one());
                    if tree.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)) {
                        add("services.nodeports".into(), ports);
                    }
                }
                _ => {}
            }
        }
        ("", "persistentvolumeclaims") => {
            add("persistentvolumeclaims".into(), one());
            let asked = tree.pointer("/spec/resources/requests/storage").and_then(Value::as_str);
            if let Some(q) = asked.and_then(|a| a.parse::<Quantity>().ok()) {
                if let Some(class) = text(tree, &["spec", "storageClassName"]) {
                    add(format!("{class}.storageclass.storage.k8s.io/requests.storage"), q);
                    add(
                        format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"),
                        one(),
                    );
                }
                add("requests.storage".into(), q);
            }
        }
        ("", plural @ ("configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas")) => {
            add(plural.to_owned(), one());
        }
        _ => {}
    }
    used
}

/// Whether a quota's scopes take in the object.
pub fn in_scope(quota: &Value, tree: &Value) -> bool {
    let best_effort = crate::strategy::pod::qos_class(tree) == "BestEffort";
    let terminating = tree
        .pointer("/spec/activeDeadlineSeconds")
        .is_some_and(|v| !v.is_null());
    let class = text(tree, &["spec", "priorityClassName"]).unwrap_or_default();
    let holds = |scope: &str| match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => !class.is_empty(),
        _ => false,
    };
    let scopes = quota
        .pointer("/spec/scopes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let plain = scopes.filter_map(Value::as_str).all(holds);
    let terms = quota
        .pointer("/spec/scopeSelector/matchExpressions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    plain
        && terms.into_iter().all(|term| {
            let scope = text(term, &["scopeName"]).unwrap_or_default();
            let values = term
                .get("values")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            match text(term, &["operator"]) {
                Some("In") if scope == "PriorityClass" => values.iter().any(|v| v == class),
                Some("NotIn") if scope == "PriorityClass" => values.iter().all(|v| v != class),
                Some("DoesNotExist") => !holds(scope),
                _ => holds(scope),
            }
        })
}

/// Charges the namespace's quotas, or refuses.
pub async fn charge(attributes: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<Charge> {
    let counted = match attributes.operation {
        Operation::Create => attributes.subresource.is_empty(),
        Operation::Update if attributes.resizes_pod() => true,
        Operation::Update => {
            attributes.subresource.is_empty()
                && (attributes.resource.is("", "services") || attributes.resource.is("", "persistentvolumeclaims"))
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
    let mut delta = usage(attributes.resource, tree);
    for (key, before) in old.map(|o| usage(attributes.resource, o)).unwrap_or_default() {
        let entry = delta.entry(key).or_insert(Quantity::ZERO);
        *entry = entry.sub(&before);
    }
    let mut changes = Vec::new();
    for object in attributes.registry.list("", "resourcequotas", attributes.namespace) {
        let quota = object.tree()?;
        if attributes.resource.is("", "pods") && !in_scope(&quota, tree) {
            continue;
        }
        if let Some(used) = admit(attributes, tree, &quota, &delta)? {
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
fn containers_without<'a>(pod: &'a Value, key: &str) -> Vec<&'a str> {
    let (kind, resource) = match key {
        "cpu" | "memory" => ("requests", key),
        "requests.cpu" | "requests.memory" | "limits.cpu" | "limits.memory" => {
            key.split_once('.').unwrap_or(("requests", key))
        }
        _ => return Vec::new(),
    };
    let says = |part: &Value| part.pointer(&format!("/resources/{kind}/{resource}")).is_some();
    if pod.get("spec").is_some_and(says) {
        return Vec::new();
    }
    let lists = ["containers", "initContainers"].map(|l| pod.pointer(&format!("/spec/{l}")).and_then(Value::as_array));
    let all = lists.into_iter().flatten().flatten();
    all.filter(|c| !says(c))
        .map(|c| text(c, &["name"]).unwrap_or_default())
        .collect()
}

/// The quota's new usage; `None` if the write does not concern it.
fn admit(
    attributes: &Attributes<'_>,
    tree: &Value,
    quota: &Value,
    delta: &BTreeMap<String, Quantity>,
) -> Result<Option<Value>> {
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
        if after > limit && !change.is_negative() {
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
