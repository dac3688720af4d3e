//! `Table`: what `kubectl get` prints. Columns of custom resources come from their definition, those of built-in kinds
//! from the files beside this one; a kind without any shows its name and when it was created, as upstream's default.

mod cells;
mod cluster;
mod network;
mod pod;
mod workload;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::http::request_info::Query;
use crate::http::status::{ApiError, Result};
use crate::registry::resource::{Resource, at_path};
use cells::{since, text};

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

/// A column of a built-in kind: name, type, priority (1 is shown by `-o wide` only), and how its cell is found.
type BuiltinColumn = (&'static str, &'static str, i32, fn(&Value) -> Value);

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

impl From<&BuiltinColumn> for Column {
    fn from((name, kind, priority, cell): &BuiltinColumn) -> Column {
        Column {
            name: (*name).into(),
            kind: (*kind).into(),
            format: if *name == "Name" { "name".into() } else { String::new() },
            description: String::new(),
            priority: *priority,
            cell: Cell::Function(*cell),
        }
    }
}

fn columns(resource: &Resource) -> Vec<Column> {
    let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
    if let Some(own) = &resource.columns {
        let mut all = vec![Column::from(&cells::NAME)];
        all.extend(own.iter().map(|c| Column {
            name: c.name.clone(),
            kind: c.kind.clone(),
            format: c.format.clone(),
            description: c.description.clone(),
            priority: c.priority,
            cell: Cell::Path(c.json_path.trim_start_matches('.').to_owned()),
        }));
        if own.is_empty() {
            all.push(Column {
                name: "Age".into(),
                kind: "date".into(),
                format: String::new(),
                description: String::new(),
                priority: 0,
                cell: Cell::Path("metadata.creationTimestamp".into()),
            });
        }
        return all;
    }
    let own = pod::columns(group, plural)
        .or_else(|| workload::columns(group, plural))
        .or_else(|| network::columns(group, plural))
        .or_else(|| cluster::columns(group, plural))
        .unwrap_or(cells::DEFAULT);
    own.iter().map(Column::from).collect()
}

/// The condition of a row whose object has come to an end.
fn row_conditions(resource: &Resource, tree: &Value) -> Option<Value> {
    let completed = |reason: &str, message: &str| {
        Some(json!([{ "type": "Completed", "status": "True", "reason": reason, "message": message }]))
    };
    match text(tree, "/status/phase") {
        "Succeeded" if resource.is("", "pods") => completed("Succeeded", "The pod has completed successfully."),
        "Failed" if resource.is("", "pods") => completed("Failed", "The pod failed."),
        _ => None,
    }
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
                        ("date", Value::String(at)) => since(&at),
                        (_, other) => other,
                    }
                }
            })
            .collect();
        text(&tree, "/metadata/resourceVersion").clone_into(&mut revision);
        let mut row = json!({ "cells": cells });
        if let Some(conditions) = row_conditions(resource, &tree) {
            row["conditions"] = conditions;
        }
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
