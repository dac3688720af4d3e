//! `Table`: what `kubectl get` prints. Columns of custom resources come from their definition, those of built-in kinds
//! from their kind.

mod custom;

use std::sync::Arc;

use api::jsonpath::JsonPath;
use api::raw::{self, Projection};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::http::negotiate::FormVersion;
use crate::http::request_info::Query;
use crate::http::status::{ApiError, Result};
use crate::kinds::columns::{BuiltinColumn, NAME, text_at};
use crate::registry::cached::Cached;
use crate::registry::resource::Resource;

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
    /// What a definition says; a missing value is empty.
    Path(JsonPath),
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
    if let Some(own) = &resource.columns {
        let age = [custom::age()];
        let own = if own.is_empty() { &age[..] } else { own.as_slice() };
        let mut all = vec![Column::from(&NAME)];
        // a path that cannot be read ends the columns, as upstream
        all.extend(own.iter().map_while(|c| {
            Some(Column {
                name: c.name.clone(),
                kind: c.kind.clone(),
                format: c.format.clone(),
                description: custom::description(c),
                priority: c.priority,
                cell: Cell::Path(custom::path(c)?),
            })
        }));
        return all;
    }
    resource.rules.columns.iter().map(Column::from).collect()
}

/// The fields that the columns of a resource read; where its kind does not say, everything but who manages which field.
fn reads(resource: &Resource) -> Projection {
    match resource.rules.reads {
        Some(paths) => Projection::new(paths),
        None => Projection::without("metadata", if resource.is_custom() { &[] } else { &["managedFields"] }),
    }
}

/// The columns of a resource, ready to make rows of its objects.
pub struct Rows {
    columns: Vec<Column>,
    reads: Projection,
    completed: fn(&Value) -> Option<(&'static str, &'static str)>,
    /// The object that is marked as the default.
    default: Option<String>,
    include: Include,
    version: FormVersion,
}

impl Rows {
    /// The rows of objects of a resource; `include` says how much of each object comes along.
    pub fn of(resource: &Resource, include: Include, version: FormVersion) -> Rows {
        Rows {
            columns: columns(resource),
            reads: reads(resource),
            completed: resource.rules.completed,
            default: None,
            include,
            version,
        }
    }

    /// The rows of what is no kind of its own but has these columns.
    pub fn of_columns(columns: &[BuiltinColumn], version: FormVersion) -> Rows {
        Rows {
            // what is not stored has a name like any other text
            columns: columns
                .iter()
                .map(|column| Column {
                    format: String::new(),
                    ..Column::from(column)
                })
                .collect(),
            reads: Projection::without("metadata", &["managedFields"]),
            completed: |_| None,
            default: None,
            include: Include::Metadata,
            version,
        }
    }

    /// The rows of a list: of some kinds one object is the default among all of it.
    pub fn of_list(resource: &Resource, objects: &[Arc<Cached>], include: Include, version: FormVersion) -> Rows {
        let all = &mut objects.iter().filter_map(|object| object.tree().ok());
        Rows {
            default: resource.rules.default_of.and_then(|default_of| default_of(all)),
            ..Rows::of(resource, include, version)
        }
    }

    /// What `columnDefinitions` of the table says.
    pub fn definitions(&self) -> Value {
        let one = |c: &Column| json!({ "name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority });
        self.columns.iter().map(one).collect()
    }

    /// Writes the row of an object, given as its JSON in the served version. Only what the columns read is decoded.
    ///
    /// # Errors
    /// `500` when the object is not JSON.
    pub fn write(&self, object: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let tree = self.reads.read(object).map_err(ApiError::internal)?;
        out.extend_from_slice(b"{\"cells\":");
        serde_json::to_writer(&mut *out, &self.cells(&tree)).map_err(ApiError::internal)?;
        if let Some(conditions) = self.conditions(&tree) {
            out.extend_from_slice(b",\"conditions\":");
            serde_json::to_writer(&mut *out, &conditions).map_err(ApiError::internal)?;
        }
        match self.include {
            Include::None => {}
            Include::Metadata => {
                out.extend_from_slice(b",\"object\":");
                write_metadata(object, self.version, out);
            }
            Include::Object => {
                out.extend_from_slice(b",\"object\":");
                out.extend_from_slice(object);
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn cells(&self, tree: &Value) -> Vec<Value> {
        let cell = |c: &Column| match &c.cell {
            Cell::Function(f) => f(tree),
            Cell::Path(path) => custom::cell(path, &c.kind, tree),
        };
        let mut cells: Vec<Value> = self.columns.iter().map(cell).collect();
        if let (Some(default), Some(Value::String(name))) = (&self.default, cells.first_mut())
            && name == default
        {
            name.push_str(" (default)");
        }
        cells
    }

    /// The condition of a row whose object has come to an end.
    fn conditions(&self, tree: &Value) -> Option<Value> {
        let (reason, message) = (self.completed)(tree)?;
        Some(json!([{ "type": "Completed", "status": "True", "reason": reason, "message": message }]))
    }
}

/// Writes the `PartialObjectMetadata` of an object, given as its JSON.
pub fn write_metadata(object: &[u8], version: FormVersion, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
    out.extend_from_slice(version.api_version().as_bytes());
    out.extend_from_slice(b"\",\"metadata\":");
    out.extend_from_slice(raw::member(object, "metadata").unwrap_or(b"{}"));
    out.push(b'}');
}

/// A table of objects given as JSON, as a tree.
pub fn of_included(rows: &Rows, objects: &[Bytes], with_columns: bool) -> Result<Value> {
    let mut revision = String::new();
    let mut all = Vec::with_capacity(objects.len());
    for object in objects {
        let mut row = Vec::new();
        rows.write(object, &mut row)?;
        let row: Value = serde_json::from_slice(&row).map_err(ApiError::internal)?;
        all.push(row);
    }
    if let [.., last] = objects {
        let metadata = raw::member(last, "metadata").unwrap_or_default();
        let metadata: Value = serde_json::from_slice(metadata).map_err(ApiError::internal)?;
        text_at(&metadata, "/resourceVersion").clone_into(&mut revision);
    }
    Ok(json!({
        "kind": "Table", "apiVersion": rows.version.api_version(),
        "metadata": { "resourceVersion": revision },
        "columnDefinitions": if with_columns { rows.definitions() } else { Value::Null }, "rows": all,
    }))
}

/// A table whose rows carry metadata.
pub fn of(resource: &Resource, objects: &[Bytes], version: FormVersion) -> Result<Value> {
    of_included(&Rows::of(resource, Include::Metadata, version), objects, true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::http::negotiate::FormVersion;
    use crate::registry::builtin_resources;
    use crate::table::{Include, Rows};

    /// Cells of an object with everything that a column may read, each value of its own.
    #[test]
    fn a_row_of_what_is_read_is_the_row_of_the_whole_object() {
        let status = |name: &str, ready: bool, state: Value| {
            json!({ "name": name, "image": "i", "ready": ready, "started": true, "restartCount": 3, "state": state,
                "lastState": { "terminated": { "exitCode": 1, "finishedAt": "2026-01-02T03:04:05Z", "reason": "Error" } } })
        };
        let meta = json!({ "name": "n", "namespace": "s", "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{ "manager": "m" }] });
        let pod = |status: Value| {
            json!({ "metadata": meta, "spec": { "nodeName": "node", "readinessGates": [{ "conditionType": "gate" }],
                "containers": [{ "name": "a", "image": "x" }, { "name": "b" }],
                "initContainers": [{ "name": "side", "restartPolicy": "Always" }, { "name": "once" }] }, "status": status })
        };
        let conditions = json!([{ "type": "Ready", "status": "True" }, { "type": "gate", "status": "True" }, { "type": "Initialized", "status": "True" }]);
        let running = json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }], "nominatedNodeName": "other", "conditions": conditions,
            "initContainerStatuses": [status("side", true, json!({ "running": {} })), status("once", false, json!({ "terminated": { "exitCode": 0 } }))],
            "containerStatuses": [status("a", true, json!({ "running": {} })), status("b", false, json!({ "waiting": { "reason": "CrashLoopBackOff" } }))] });
        let starting = json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "SchedulingGated" }],
            "initContainerStatuses": [status("side", true, json!({ "running": {} })), status("once", false, json!({ "terminated": { "exitCode": 2, "signal": 9 } }))] });
        let gone = json!({ "phase": "Failed", "reason": "NodeLost" });
        let mut deleted = pod(gone.clone());
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
        let objects = [
            ("", "pods", pod(running)),
            ("", "pods", pod(starting)),
            ("", "pods", pod(gone)),
            ("", "pods", deleted),
            (
                "",
                "configmaps",
                json!({ "metadata": meta, "data": { "a": "1", "b": "2" }, "binaryData": { "c": "AA==" } }),
            ),
            (
                "",
                "secrets",
                json!({ "metadata": meta, "type": "Opaque", "data": { "a": "MQ==" } }),
            ),
            (
                "apps",
                "replicasets",
                json!({ "metadata": meta, "status": { "replicas": 2, "readyReplicas": 1 },
                "spec": { "replicas": 3, "selector": { "matchLabels": { "a": "b" } }, "template": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } } }),
            ),
        ];
        let resources = builtin_resources().unwrap();
        for (group, plural, object) in objects {
            let resource = resources.iter().find(|r| r.is(group, plural)).unwrap();
            let rows = Rows::of(resource, Include::Metadata, FormVersion::V1);
            let mut written = Vec::new();
            rows.write(object.to_string().as_bytes(), &mut written).unwrap();
            let row: Value = serde_json::from_slice(&written).unwrap();
            assert_eq!(row["cells"], Value::from(rows.cells(&object)), "{plural}");
            assert_eq!(row["object"]["metadata"], object["metadata"], "{plural}");
        }
    }
}
