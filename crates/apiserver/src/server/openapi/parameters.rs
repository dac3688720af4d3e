//! The parameters of operations.

use api::schema::{Scalar, Schema, Shape};
use serde_json::{Value, json};

/// A parameter: its name, where it stands, its type, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parameter {
    name: String,
    place: &'static str,
    kind: &'static str,
    text: String,
}

/// Of a list or a watch.
const LIST: &[(&str, &str, &str)] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "Whether a watch has bookmarks: events that say how far it has come.",
    ),
    (
        "continue",
        "string",
        "Where the last page of this list ended, as its metadata says.",
    ),
    (
        "fieldSelector",
        "string",
        "Only objects whose fields match this selector; all unless given.",
    ),
    (
        "labelSelector",
        "string",
        "Only objects whose labels match this selector; all unless given.",
    ),
    ("limit", "integer", "How many objects a page has at most."),
    (
        "resourceVersion",
        "string",
        "Which state is listed, or from which one on is watched.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "How resourceVersion is meant: Exact or NotOlderThan.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Whether a watch begins with the objects that there are.",
    ),
    (
        "shardSelector",
        "string",
        "Only objects whose hashes are in these ranges, by an expression.",
    ),
    ("timeoutSeconds", "integer", "After how many seconds a watch ends."),
    ("watch", "boolean", "Whether changes are followed."),
];
const PRETTY: (&str, &str, &str) = ("pretty", "string", "Whether JSON is printed in lines, for people.");
const WRITE: &[(&str, &str, &str)] = &[
    (
        "dryRun",
        "string",
        "All: the answer is as if it were written, and nothing is.",
    ),
    (
        "fieldManager",
        "string",
        "The name under which the fields are kept that are written; the client's own unless given.",
    ),
    (
        "fieldValidation",
        "string",
        "What becomes of fields that are unknown or given twice: Ignore, Warn or Strict.",
    ),
];
const FORCE: (&str, &str, &str) = (
    "force",
    "boolean",
    "Whether an apply takes fields over that others manage. For apply patches alone.",
);
const DELETE: &[(&str, &str, &str)] = &[
    (
        "dryRun",
        "string",
        "All: the answer is as if it were deleted, and nothing is.",
    ),
    (
        "gracePeriodSeconds",
        "integer",
        "How many seconds the object has before it goes; 0 is at once.",
    ),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Whether an object that cannot be read from the store is deleted nevertheless.",
    ),
    (
        "orphanDependents",
        "boolean",
        "Deprecated for propagationPolicy: whether objects stay that the object owns.",
    ),
    (
        "propagationPolicy",
        "string",
        "What becomes of objects that the object owns: Orphan, Background or Foreground.",
    ),
];

fn queries(of: &[(&str, &'static str, &str)]) -> Vec<Parameter> {
    let query = |(name, kind, text): &(&str, &'static str, &str)| Parameter {
        name: (*name).to_owned(),
        place: "query",
        kind,
        text: (*text).to_owned(),
    };
    of.iter().map(query).collect()
}

/// The parameter of every request.
pub fn pretty() -> Vec<Parameter> {
    queries(&[PRETTY])
}

/// The parameter of a get.
pub fn resource_version() -> Parameter {
    Parameter {
        name: "resourceVersion".to_owned(),
        place: "query",
        kind: "string",
        text: "Which state is read.".to_owned(),
    }
}

/// The parameters of lists and watches.
pub fn list() -> Vec<Parameter> {
    [pretty(), queries(LIST)].concat()
}

/// The parameters of creations and updates.
pub fn write() -> Vec<Parameter> {
    [pretty(), queries(WRITE)].concat()
}

/// The parameters of patches.
pub fn patch() -> Vec<Parameter> {
    [write(), queries(&[FORCE])].concat()
}

/// The parameters of a deletion.
pub fn delete() -> Vec<Parameter> {
    [pretty(), queries(DELETE)].concat()
}

/// The parameters of a deletion of many objects: those of both lists and deletions.
pub fn delete_collection() -> Vec<Parameter> {
    let of_list = queries(LIST);
    let chosen = of_list
        .into_iter()
        .filter(|p| p.name != "allowWatchBookmarks" && p.name != "watch");
    chosen.chain(delete()).collect()
}

/// The options of a connection are the fields of its type.
pub fn options(schema: &Schema, kind: &str) -> Vec<Parameter> {
    let Some(ty) = schema.type_named(&format!("core.v1.{kind}")) else {
        return Vec::new();
    };
    let fields = schema
        .json_fields(ty)
        .filter(|f| !matches!(&*f.name, "apiVersion" | "kind"));
    let query = |field: &api::schema::Field| {
        let item = match schema.shape(field.ty) {
            Shape::List { item, .. } => *item,
            _ => field.ty,
        };
        let Shape::Scalar(scalar) = schema.shape(item) else {
            return None;
        };
        let kind = match scalar {
            Scalar::String => "string",
            Scalar::Bool => "boolean",
            Scalar::Int32 | Scalar::Int64 => "integer",
            _ => return None,
        };
        Some(Parameter {
            name: field.name.to_string(),
            place: "query",
            kind,
            text: String::new(),
        })
    };
    fields.filter_map(query).collect()
}

fn in_path(name: &str, text: String) -> Parameter {
    Parameter {
        name: name.to_owned(),
        place: "path",
        kind: "string",
        text,
    }
}

/// The name of an object in a path.
pub fn name(kind: &str) -> Parameter {
    in_path("name", format!("name of the {kind}"))
}

/// The namespace in a path.
pub fn namespace() -> Parameter {
    in_path(
        "namespace",
        "object name and auth scope, such as for teams and projects".into(),
    )
}

/// The rest of a path that is passed on to a pod, Service or node.
pub fn path() -> Parameter {
    in_path("path", "path to the resource".into())
}

/// As OpenAPI has them.
pub fn tree(parameters: &[Parameter]) -> Value {
    let tree = |p: &Parameter| {
        let mut tree = json!({ "name": p.name, "in": p.place, "schema": { "type": p.kind, "uniqueItems": true } });
        if !p.text.is_empty() {
            tree["description"] = json!(p.text);
        }
        if p.place == "path" {
            tree["required"] = json!(true);
        }
        tree
    };
    parameters.iter().map(tree).collect()
}
