//! OpenAPI documents.

use http::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::http::status::{ApiError, Result};
use crate::registry::body::{self, Body};
use crate::registry::resource::Resource;
use crate::server::discovery::with_etag;
use crate::server::{ApiServer, Request};

/// OpenAPI v3 by group version, made when asked for.
#[derive(Debug, Default)]
pub struct Documents;

const V3: &str = "application/json";

impl Documents {
    /// Answers `/openapi/v3` and what is below it.
    pub fn answer(&self, server: &ApiServer, request: &Request) -> Result<Response<Body>> {
        let catalog = server.registry.catalog();
        let path = request.info.path.trim_end_matches('/');
        let place = |r: &Resource| {
            if r.group.is_empty() {
                format!("api/{}", r.version)
            } else {
                format!("apis/{}/{}", r.group, r.version)
            }
        };
        if path == "/openapi/v3" {
            let mut paths = Map::new();
            for served in catalog.all() {
                let place = place(&served.resource);
                let url = format!("/openapi/v3/{place}");
                paths.insert(place, json!({ "serverRelativeURL": url }));
            }
            return Ok(body::json_response(StatusCode::OK, &json!({ "paths": paths })));
        }
        let wanted = path.strip_prefix("/openapi/v3/").ok_or_else(ApiError::no_such_path)?;
        let resources: Vec<&Resource> = catalog
            .all()
            .map(|s| &*s.resource)
            .filter(|r| place(r) == wanted)
            .collect();
        if resources.is_empty() {
            return Err(ApiError::no_such_path());
        }
        Ok(with_etag(request, &document(&resources, wanted), V3))
    }
}

fn document(resources: &[&Resource], place: &str) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for r in resources {
        let schema = r.schema.get();
        let name = if r.is_custom() {
            let mut parts: Vec<&str> = r.group.split('.').collect();
            parts.reverse();
            format!("{}.{}.{}", parts.join("."), r.version, r.kind)
        } else {
            schema.open_name(r.root).unwrap_or_else(|| r.kind.clone())
        };
        api::openapi::add_components(schema, r.root, &name, &mut schemas);
        let gvk = json!({ "group": r.group, "version": r.version, "kind": r.kind });
        if let Some(component) = schemas.get_mut(&name) {
            component["x-kubernetes-group-version-kind"] = json!([gvk]);
        }
        let base = if r.namespaced {
            format!("/{place}/namespaces/{{namespace}}/{}", r.plural)
        } else {
            format!("/{place}/{}", r.plural)
        };
        let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
        paths.insert(base.clone(), operations(r, &gvk, &reference, false));
        paths.insert(format!("{base}/{{name}}"), operations(r, &gvk, &reference, true));
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "v1.36.3" },
        "paths": paths,
        "components": { "schemas": schemas },
    })
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
