//! `Table`: what `kubectl get` prints. Columns of custom resources come from their definition, those of built-in kinds
//! from the files beside this one; a kind without any shows its name and when it was created, as upstream's default.

mod cells;
mod cluster;
mod component_status;
mod custom;
mod network;
mod pod;
mod reads;
mod workload;

use api::jsonpath::JsonPath;
use api::raw::{self, Projection};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::http::negotiate::FormVersion;
use crate::http::request_info::Query;
use crate::http::status::{ApiError, Result};
use crate::registry::resource::Resource;
use cells::text;

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
    let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
    if let Some(own) = &resource.columns {
        let age = [custom::age()];
        let own = if own.is_empty() { &age[..] } else { own.as_slice() };
        let mut all = vec![Column::from(&cells::NAME)];
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
    let own = pod::columns(group, plural)
        .or_else(|| workload::columns(group, plural))
        .or_else(|| network::columns(group, plural))
        .or_else(|| cluster::columns(group, plural))
        .unwrap_or(cells::DEFAULT);
    own.iter().map(Column::from).collect()
}

/// The columns of a resource, ready to make rows of its objects.
pub struct Rows {
    columns: Vec<Column>,
    reads: Projection,
    is_pods: bool,
    include: Include,
    version: FormVersion,
}

impl Rows {
    pub fn of(resource: &Resource, include: Include, version: FormVersion) -> Rows {
        Rows {
            columns: columns(resource),
            reads: reads::of(resource),
            is_pods: resource.is("", "pods"),
            include,
            version,
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
        self.columns.iter().map(cell).collect()
    }

    /// The condition of a row whose object has come to an end.
    fn conditions(&self, tree: &Value) -> Option<Value> {
        let completed = |reason: &str, message: &str| {
            Some(json!([{ "type": "Completed", "status": "True", "reason": reason, "message": message }]))
        };
        match text(tree, "/status/phase") {
            "Succeeded" if self.is_pods => completed("Succeeded", "The pod has completed successfully."),
            "Failed" if self.is_pods => completed("Failed", "The pod failed."),
            _ => None,
        }
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
pub fn of_included(
    resource: &Resource,
    objects: &[Bytes],
    include: Include,
    version: FormVersion,
    with_columns: bool,
) -> Result<Value> {
    let rows = Rows::of(resource, include, version);
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
        text(&metadata, "/resourceVersion").clone_into(&mut revision);
    }
    Ok(json!({
        "kind": "Table", "apiVersion": version.api_version(),
        "metadata": { "resourceVersion": revision },
        "columnDefinitions": if with_columns { rows.definitions() } else { json!([]) }, "rows": all,
    }))
}

/// A table whose rows carry metadata.
pub fn of(resource: &Resource, objects: &[Bytes], version: FormVersion) -> Result<Value> {
    of_included(resource, objects, Include::Metadata, version, true)
}
