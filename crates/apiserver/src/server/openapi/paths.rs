//! The operations on a resource.

use serde_json::{Map, Value, json};

use super::REFERENCE;
use crate::registry::resource::Resource;

/// Adds the paths of a resource whose objects have the component `name`.
pub fn add(r: &Resource, place: &str, gvk: &Value, name: &str, paths: &mut Map<String, Value>) {
    let base = if r.namespaced {
        format!("/{place}/namespaces/{{namespace}}/{}", r.plural)
    } else {
        format!("/{place}/{}", r.plural)
    };
    let reference = json!({ "$ref": format!("{REFERENCE}{name}") });
    paths.insert(base.clone(), operations(r, gvk, &reference, false));
    paths.insert(format!("{base}/{{name}}"), operations(r, gvk, &reference, true));
}

fn operations(r: &Resource, gvk: &Value, reference: &Value, named: bool) -> Value {
    let parameter = |name: &str, kind: &str| json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } });
    let write = json!([
        parameter("dryRun", "string"),
        parameter("fieldManager", "string"),
        parameter("fieldValidation", "string"),
        parameter("pretty", "string"),
    ]);
    let content = json!({ "application/json": { "schema": reference } });
    let verbs: &[(&str, &str, &str)] = if named {
        &[
            ("get", "get", "get"),
            ("put", "update", "put"),
            ("patch", "patch", "patch"),
            ("delete", "delete", "delete"),
        ]
    } else {
        &[("get", "list", "list"), ("post", "create", "post")]
    };
    let mut out = Map::new();
    for (method, verb, action) in verbs {
        if !r.verbs.iter().any(|v| v == verb) {
            continue;
        }
        let mut operation = json!({
            "operationId": format!("{action}{}{}", r.kind, r.version),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk,
            "responses": { "200": { "description": "OK", "content": content } },
        });
        if !matches!(*method, "get") {
            operation["parameters"] = write.clone();
        }
        if matches!(*method, "put" | "post" | "patch") {
            operation["requestBody"] = json!({ "content": content });
        }
        out.insert((*method).into(), operation);
    }
    Value::Object(out)
}
