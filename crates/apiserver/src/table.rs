//! `Table`: what `kubectl get` prints. Columns of custom resources come from their definition; a few built-in kinds have
//! their own, the others show name and age as upstream's default does.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::http::request_info::Query;
use crate::http::status::{ApiError, Result};
use crate::registry::resource::{Resource, at_path};

/// What each row carries beside its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// Reads `includeObject`.
    pub fn parse(query: &Query) -> Result<Include> {
        match query.text("includeObject") {
            None | Some("Metadata") => Ok(Include::Metadata),
            Some("Object") => Ok(Include::Object),
            Some("None") => Ok(Include::None),
            Some(other) => Err(ApiError::bad_request(format!(
                "unrecognized includeObject value: {other:?}"
            ))),
        }
    }
}

/// A column and how its cell is found.
struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i32,
    cell: Cell,
}

enum Cell {
    /// A dotted path; a missing value is empty.
    Path(String),
    Function(fn(&Value) -> Value),
}

fn column(name: &str, kind: &str, priority: i32, cell: Cell) -> Column {
    let format = if name == "Name" { "name" } else { "" };
    Column {
        name: name.into(),
        kind: kind.into(),
        format: format.into(),
        description: String::new(),
        priority,
        cell,
    }
}

fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    tree.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// Times are shown by clients' clocks: the cell is the time itself, which kubectl turns into an age.
fn age(tree: &Value) -> Value {
    let at = text(tree, "/metadata/creationTimestamp");
    let Ok(created) = at.parse::<jiff::Timestamp>() else {
        return json!("<unknown>");
    };
    json!(human_duration(jiff::Timestamp::now().as_second() - created.as_second()))
}

/// Upstream's short durations: `5s`, `3m10s`, `4h`, `2d3h`.
pub fn human_duration(seconds: i64) -> String {
    let (s, m, h, d) = (seconds, seconds / 60, seconds / 3600, seconds / 86400);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match s {
        ..-1 => "<invalid>".into(),
        -1..0 => "0s".into(),
        0..120 => format!("{s}s"),
        120..600 => two(m, "m", s % 60, "s"),
        600..10800 => format!("{m}m"),
        10800..28800 => two(h, "h", m % 60, "m"),
        28800..172_800 => format!("{h}h"),
        172_800..691_200 => two(d, "d", h % 24, "h"),
        691_200..63_072_000 => format!("{d}d"),
        63_072_000..252_288_000 => two(d / 365, "y", d % 365, "d"),
        _ => format!("{}y", d / 365),
    }
}

fn count(tree: &Value, path: &str) -> i64 {
    tree.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

fn list<'a>(tree: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    tree.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn ready_containers(pod: &Value) -> Value {
    let ready = list(pod, "/status/containerStatuses")
        .filter(|c| c["ready"] == true)
        .count();
    json!(format!("{ready}/{}", list(pod, "/spec/containers").count()))
}

/// The word `kubectl get pods` shows.
fn pod_status(pod: &Value) -> Value {
    let mut reason = text(pod, "/status/reason").to_owned();
    if reason.is_empty() {
        text(pod, "/status/phase").clone_into(&mut reason);
    }
    let mut has_running = false;
    for container in list(pod, "/status/containerStatuses") {
        let waiting = text(container, "/state/waiting/reason");
        let ended = text(container, "/state/terminated/reason");
        if !waiting.is_empty() {
            waiting.clone_into(&mut reason);
        } else if !ended.is_empty() {
            ended.clone_into(&mut reason);
        } else if container.pointer("/state/terminated").is_some() {
            reason = format!("ExitCode:{}", count(container, "/state/terminated/exitCode"));
        } else if container["ready"] == true && container.pointer("/state/running").is_some() {
            has_running = true;
        }
    }
    if reason == "Completed" && has_running {
        reason = "Running".into();
    }
    if !text(pod, "/metadata/deletionTimestamp").is_empty() {
        reason = "Terminating".into();
    }
    json!(reason)
}

fn restarts(pod: &Value) -> Value {
    json!(
        list(pod, "/status/containerStatuses")
            .map(|c| count(c, "/restartCount"))
            .sum::<i64>()
            .to_string()
    )
}

fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

fn node_status(node: &Value) -> Value {
    let ready = list(node, "/status/conditions")
        .find(|c| c["type"] == "Ready")
        .map(|c| c["status"] == "True");
    let word = match ready {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    };
    let cordoned = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    json!(if cordoned {
        format!("{word},SchedulingDisabled")
    } else {
        word.to_owned()
    })
}

fn node_roles(node: &Value) -> Value {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(k, _)| k.strip_prefix("node-role.kubernetes.io/"))
        .collect();
    or_none(&roles.join(","))
}

fn service_ports(service: &Value) -> Value {
    let ports: Vec<String> = list(service, "/spec/ports")
        .map(|p| {
            let node = p["nodePort"]
                .as_i64()
                .filter(|n| *n > 0)
                .map(|n| format!(":{n}"))
                .unwrap_or_default();
            format!("{}{node}/{}", p["port"], p["protocol"].as_str().unwrap_or("TCP"))
        })
        .collect();
    or_none(&ports.join(","))
}

fn columns(resource: &Resource) -> Vec<Column> {
    use Cell::Function as F;
    let path = |p: &str| Cell::Path(p.to_owned());
    let mut all = vec![column("Name", "string", 0, path("metadata.name"))];
    if let Some(own) = &resource.columns {
        all.extend(own.iter().map(|c| Column {
            name: c.name.clone(),
            kind: c.kind.clone(),
            format: c.format.clone(),
            description: c.description.clone(),
            priority: c.priority,
            cell: Cell::Path(c.json_path.trim_start_matches('.').to_owned()),
        }));
        if own.is_empty() {
            all.push(column("Age", "date", 0, path("metadata.creationTimestamp")));
        }
        return all;
    }
    let mut add = |name: &str, kind: &str, priority: i32, cell: Cell| all.push(column(name, kind, priority, cell));
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => {
            add("Ready", "string", 0, F(ready_containers));
            add("Status", "string", 0, F(pod_status));
            add("Restarts", "string", 0, F(restarts));
            add("Age", "string", 0, F(age));
            add("IP", "string", 1, F(|p| or_none(text(p, "/status/podIP"))));
            add("Node", "string", 1, F(|p| or_none(text(p, "/spec/nodeName"))));
            add(
                "Nominated Node",
                "string",
                1,
                F(|p| or_none(text(p, "/status/nominatedNodeName"))),
            );
            add("Readiness Gates", "string", 1, F(|_| json!("<none>")));
        }
        ("", "nodes") => {
            add("Status", "string", 0, F(node_status));
            add("Roles", "string", 0, F(node_roles));
            add("Age", "string", 0, F(age));
            add("Version", "string", 0, path("status.nodeInfo.kubeletVersion"));
        }
        ("", "namespaces") => {
            add("Status", "string", 0, path("status.phase"));
            add("Age", "string", 0, F(age));
        }
        ("", "services") => {
            add("Type", "string", 0, path("spec.type"));
            add("Cluster-IP", "string", 0, F(|s| or_none(text(s, "/spec/clusterIP"))));
            add(
                "External-IP",
                "string",
                0,
                F(|s| or_none(text(s, "/status/loadBalancer/ingress/0/ip"))),
            );
            add("Port(s)", "string", 0, F(service_ports));
            add("Age", "string", 0, F(age));
        }
        ("apps", "deployments") => {
            add(
                "Ready",
                "string",
                0,
                F(|d| {
                    json!(format!(
                        "{}/{}",
                        count(d, "/status/readyReplicas"),
                        count(d, "/spec/replicas")
                    ))
                }),
            );
            add(
                "Up-to-date",
                "string",
                0,
                F(|d| json!(count(d, "/status/updatedReplicas"))),
            );
            add(
                "Available",
                "string",
                0,
                F(|d| json!(count(d, "/status/availableReplicas"))),
            );
            add("Age", "string", 0, F(age));
        }
        ("apps", "replicasets") | ("", "replicationcontrollers") => {
            add("Desired", "integer", 0, F(|r| json!(count(r, "/spec/replicas"))));
            add("Current", "integer", 0, F(|r| json!(count(r, "/status/replicas"))));
            add("Ready", "integer", 0, F(|r| json!(count(r, "/status/readyReplicas"))));
            add("Age", "string", 0, F(age));
        }
        ("", "configmaps") => {
            let size = |tree: &Value| {
                let of = |key: &str| tree.get(key).and_then(Value::as_object).map_or(0, serde_json::Map::len);
                json!(of("data") + of("binaryData"))
            };
            add("Data", "string", 0, F(size));
            add("Age", "string", 0, F(age));
        }
        ("", "secrets") => {
            add("Type", "string", 0, path("type"));
            add(
                "Data",
                "string",
                0,
                F(|s| json!(s.get("data").and_then(Value::as_object).map_or(0, serde_json::Map::len))),
            );
            add("Age", "string", 0, F(age));
        }
        _ => add("Age", "string", 0, F(age)),
    }
    all
}

/// A table of objects given as JSON.
pub fn of_included(resource: &Resource, objects: &[Bytes], include: Include, with_columns: bool) -> Result<Value> {
    let columns = columns(resource);
    let mut rows = Vec::with_capacity(objects.len());
    let mut revision = String::new();
    for bytes in objects {
        let tree: Value = serde_json::from_slice(bytes).map_err(ApiError::internal)?;
        let cells: Vec<Value> = columns
            .iter()
            .map(|c| match &c.cell {
                Cell::Function(f) => f(&tree),
                Cell::Path(path) => {
                    let value = at_path(&tree, path).cloned().unwrap_or(Value::Null);
                    match (c.kind.as_str(), value) {
                        ("date", Value::String(at)) => match at.parse::<jiff::Timestamp>() {
                            Ok(at) => json!(human_duration(jiff::Timestamp::now().as_second() - at.as_second())),
                            Err(_) => json!("<unknown>"),
                        },
                        (_, other) => other,
                    }
                }
            })
            .collect();
        text(&tree, "/metadata/resourceVersion").clone_into(&mut revision);
        let mut row = json!({ "cells": cells });
        match include {
            Include::None => {}
            Include::Metadata => {
                row["object"] = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": tree["metadata"] });
            }
            Include::Object => row["object"] = tree,
        }
        rows.push(row);
    }
    let definitions: Vec<Value> = if with_columns {
        let one = |c: &Column| json!({ "name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority });
        columns.iter().map(one).collect()
    } else {
        Vec::new()
    };
    Ok(json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1",
        "metadata": { "resourceVersion": revision },
        "columnDefinitions": definitions, "rows": rows,
    }))
}

/// A table whose rows carry metadata.
pub fn of(resource: &Resource, objects: &[Bytes]) -> Result<Value> {
    of_included(resource, objects, Include::Metadata, true)
}

#[cfg(test)]
mod tests {
    use super::human_duration;

    #[test]
    fn durations_are_short() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (125, "2m5s"),
            (700, "11m"),
            (11000, "3h3m"),
            (90000, "25h"),
            (200_000, "2d7h"),
        ];
        for (seconds, want) in cases {
            assert_eq!(human_duration(seconds), want);
        }
    }
}
