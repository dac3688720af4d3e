//! LimitRanger: default requests and limits from a namespace's LimitRanges, and their bounds.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use serde_json::{Map, Value, json};

use crate::admission::{Attributes, Operation};
use crate::http::status::Result;
use crate::strategy::text;

fn applies(attributes: &Attributes<'_>) -> bool {
    if attributes.resizes_pod() {
        return true;
    }
    let writes = attributes.operation == Operation::Create
        || (attributes.operation == Operation::Update && !attributes.resource.is("", "pods"));
    let kind = attributes.resource.is("", "pods") || attributes.resource.is("", "persistentvolumeclaims");
    attributes.subresource.is_empty() && writes && kind
}

fn limits(attributes: &Attributes<'_>) -> Vec<Value> {
    let ranges = attributes.registry.list("", "limitranges", attributes.namespace);
    let trees = ranges.iter().filter_map(|r| r.tree().ok());
    trees
        .flat_map(|r| {
            r.pointer("/spec/limits")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        })
        .collect()
}

/// Gives containers the defaults of the namespace.
pub fn mutate(attributes: &Attributes<'_>, tree: &mut Value) {
    if !applies(attributes) || !attributes.resource.is("", "pods") {
        return;
    }
    let limits = limits(attributes);
    let mut notes = Vec::new();
    for limit in limits.iter().filter(|l| text(l, &["type"]) == Some("Container")) {
        for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
            let Some(list) = tree["spec"].get_mut(field).and_then(Value::as_array_mut) else {
                continue;
            };
            for container in list {
                let name = text(container, &["name"]).unwrap_or_default().to_owned();
                for (kind, defaults, shown) in [
                    ("requests", "defaultRequest", "request"),
                    ("limits", "default", "limit"),
                ] {
                    let given = fill(container, kind, limit.get(defaults));
                    if !given.is_empty() {
                        notes.push(format!("{} {shown} for {what} {name}", given.join(", ")));
                    }
                }
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        tree["metadata"]["annotations"][ANNOTATION] = json!(text);
    }
}

/// Says what a pod was given without asking.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Fills in what is missing and names it.
fn fill(container: &mut Value, kind: &str, defaults: Option<&Value>) -> Vec<String> {
    let mut given = Vec::new();
    for (name, value) in defaults.and_then(Value::as_object).into_iter().flatten() {
        let map = &mut container["resources"][kind];
        if map.is_null() {
            *map = json!({});
        }
        if let Some(map) = map.as_object_mut() {
            map.entry(name.clone()).or_insert_with(|| {
                given.push(name.clone());
                value.clone()
            });
        }
    }
    given
}

fn quantity(map: Option<&Value>, name: &str) -> Option<Quantity> {
    map?.get(name)?.as_str()?.parse().ok()
}

/// Refuses what is outside the bounds.
pub fn validate(attributes: &Attributes<'_>, tree: &Value) -> Result<()> {
    if !applies(attributes) {
        return Ok(());
    }
    let mut problems = Vec::new();
    for limit in limits(attributes) {
        match text(&limit, &["type"]) {
            Some("Container") if attributes.resource.is("", "pods") => {
                for container in containers(tree) {
                    let resources = container.get("resources");
                    let requests = resources.and_then(|r| r.get("requests"));
                    let limits = resources.and_then(|r| r.get("limits"));
                    check(&limit, "Container", requests, limits, &mut problems);
                }
            }
            Some("Pod") if attributes.resource.is("", "pods") => {
                let (requests, limits) = (sum(tree, "requests"), sum(tree, "limits"));
                check(&limit, "Pod", Some(&requests), Some(&limits), &mut problems);
            }
            Some("PersistentVolumeClaim") if attributes.resource.is("", "persistentvolumeclaims") => {
                let requests = tree.pointer("/spec/resources/requests");
                check(&limit, "PersistentVolumeClaim", requests, requests, &mut problems);
            }
            _ => {}
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let all = if problems.len() == 1 {
        problems.remove(0)
    } else {
        format!("[{}]", problems.join(", "))
    };
    Err(attributes.resource.forbidden(attributes.name, &all))
}

fn containers(tree: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers"].into_iter().flat_map(|f| {
        tree.pointer(&format!("/spec/{f}"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    })
}

fn sum(tree: &Value, kind: &str) -> Value {
    let mut totals: BTreeMap<String, Quantity> = BTreeMap::new();
    let list = tree
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for container in list {
        let map = container
            .pointer(&format!("/resources/{kind}"))
            .and_then(Value::as_object);
        for (name, value) in map.into_iter().flatten() {
            if let Some(q) = value.as_str().and_then(|v| v.parse::<Quantity>().ok()) {
                let total = totals.entry(name.clone()).or_insert(Quantity::ZERO);
                *total = total.add(&q);
            }
        }
    }
    Value::Object(
        totals
            .into_iter()
            .map(|(k, v)| (k, json!(v.to_string())))
            .collect::<Map<_, _>>(),
    )
}

fn check(limit: &Value, kind: &str, requests: Option<&Value>, limits: Option<&Value>, problems: &mut Vec<String>) {
    let names = |key: &str| {
        limit
            .get(key)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
    };
    for (name, bound) in names("min") {
        let Some(least) = bound.as_str().and_then(|b| b.parse::<Quantity>().ok()) else {
            continue;
        };
        let shown = bound.as_str().unwrap_or_default();
        match quantity(requests, &name) {
            None => problems.push(format!(
                "minimum {name} usage per {kind} is {shown}.  No request is specified"
            )),
            Some(q) if q < least => {
                problems.push(format!(
                    "minimum {name} usage per {kind} is {shown}, but request is {q}"
                ));
            }
            _ => {}
        }
    }
    for (name, bound) in names("max") {
        let Some(most) = bound.as_str().and_then(|b| b.parse::<Quantity>().ok()) else {
            continue;
        };
        let shown = bound.as_str().unwrap_or_default();
        match quantity(limits, &name) {
            None => problems.push(format!(
                "maximum {name} usage per {kind} is {shown}.  No limit is specified"
            )),
            Some(q) if q > most => {
                problems.push(format!("maximum {name} usage per {kind} is {shown}, but limit is {q}"));
            }
            _ => {}
        }
    }
}
