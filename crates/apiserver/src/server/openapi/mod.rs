//! OpenAPI documents: version 3 by group version, version 2 of everything in JSON and in protobuf. Made when first asked for.

mod custom;
mod index;
mod kept;
mod merge;
mod parameters;
mod paths;
mod places;
mod v2;
mod v2_proto;

use std::sync::Arc;

use api::gvk::GroupVersionKind;
use api::prose::Prose;
use api::schema::Schema;
use http::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::aggregator::remote::Remote;
use crate::http::status::{ApiError, Result};
use crate::registry::Catalog;
use crate::registry::resource::Resource;
use crate::server::body;
use crate::server::extension::Forward;
use crate::server::intake::Payload;
use crate::server::openapi::kept::Kept;
use crate::server::openapi::paths::{Body, Paths};
use crate::server::openapi::places::Page;
use crate::server::tagged::Tagged;
use crate::server::{ApiServer, Request};

/// `/openapi/v2` and `/openapi/v3`.
#[derive(Debug, Default)]
pub struct Documents {
    kept: Kept,
}

const JSON: &str = "application/json";
/// What client-go asks for at `/openapi/v2`; an answer may not have the `@` in its type.
const V2_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
/// The beginning of references to schemas in version 3.
pub const REFERENCE: &str = "#/components/schemas/";

impl Documents {
    /// Answers a request below `/openapi`.
    ///
    /// # Errors
    /// `404` for a path that is none of these, and all that an extension server fails with when it is asked for its own document.
    pub async fn answer(&self, server: &Arc<ApiServer>, request: &Request) -> Result<Response<body::Body>> {
        let path = request.info.path.trim_end_matches('/');
        if path == "/openapi/v2" {
            let accept = request.header("accept").unwrap_or_default();
            let protobuf = accept.contains(V2_ASKED) || accept.contains(V2_PROTOBUF);
            let make = move |server: &ApiServer, catalog: &Catalog| version_2(server, catalog, protobuf);
            let name = if protobuf { "v2 in protobuf" } else { "v2" };
            return Ok(self.kept.get(server, name, make).await?.answer(request));
        }
        if path == "/openapi/v3" {
            let mut paths = Map::new();
            let remotes = server.aggregator.remotes();
            for remote in remotes.values().flat_map(std::collections::BTreeMap::values) {
                paths.extend(remote.said().openapi.index.clone());
            }
            paths.extend(index::paths(server, &server.registry.catalog()));
            return Ok(body::json_response(StatusCode::OK, &json!({ "paths": paths })));
        }
        let wanted = path.strip_prefix("/openapi/v3/").ok_or_else(ApiError::no_such_path)?;
        if let Some(remote) = elsewhere(server, wanted) {
            let (mut parts, ()) = http::Request::new(()).into_parts();
            parts.method = request.method.clone();
            parts.headers = request.headers.clone();
            let forward = Forward {
                remote: &remote,
                parts,
                payload: &mut Some(Payload::Whole(request.body.clone())),
                upgrade: None,
                info: &request.info,
                query: &request.query,
                user: &request.user,
                from: None,
            };
            return forward.answer(server).await;
        }
        // upstream says no more of one that is not there
        let catalog = server.registry.catalog();
        if !places::all(server, &catalog).contains_key(wanted) {
            let mut nothing = Response::new(body::full(""));
            *nothing.status_mut() = StatusCode::NOT_FOUND;
            return Ok(nothing);
        }
        let name = wanted.to_owned();
        let make = move |server: &ApiServer, catalog: &Catalog| version_3(server, catalog, &name);
        let answer = self.kept.get(server, path, make).await?.answer(request);
        match request.query.text("hash") {
            None => Ok(answer),
            Some(hash) => index::by_hash(server, &catalog, wanted, hash, answer),
        }
    }

    /// Lets go of what was made: it is made again for who asks.
    pub async fn clear(&self) {
        self.kept.clear().await;
    }
}

/// The server that has a document of version 3: that of the group version, or one that lists what is not served here.
fn elsewhere(server: &ApiServer, wanted: &str) -> Option<Arc<Remote>> {
    let remotes = server.aggregator.remotes();
    let mut all = remotes.values().flat_map(std::collections::BTreeMap::values);
    let here = || places::all(server, &server.registry.catalog()).contains_key(wanted);
    let found = all.find(|remote| {
        let lists = remote.said().openapi.index.contains_key(wanted);
        lists && (remote.spec.path().trim_start_matches('/') == wanted || !here())
    });
    found.cloned()
}

fn version_2(server: &ApiServer, catalog: &Catalog, protobuf: bool) -> Result<Tagged> {
    let resources = places::resources(server, catalog, |_| true);
    let mut document = v2::document(&document(server, &resources, &places::pages(&resources), true)?);
    let remotes = server.aggregator.remotes();
    let mut remotes: Vec<&Arc<Remote>> = remotes.values().flat_map(std::collections::BTreeMap::values).collect();
    remotes.sort_by_key(|remote| (std::cmp::Reverse(remote.spec.priorities.group), &remote.spec.name));
    for remote in remotes {
        if let Some(said) = &remote.said().openapi.v2 {
            merge::merge(&mut document, serde_json::from_slice(said).map_err(ApiError::internal)?);
        }
    }
    match protobuf {
        true => Tagged::new(v2_proto::encode(&document), V2_PROTOBUF),
        false => Tagged::json(&document, JSON),
    }
}

/// The document of one place, as its path has it.
fn version_3(server: &ApiServer, catalog: &Catalog, wanted: &str) -> Result<Tagged> {
    let resources = places::resources(server, catalog, |r| place(r) == wanted);
    let mut pages = places::pages(&places::resources(server, catalog, |_| true));
    pages.retain(|page| page.place == wanted);
    if resources.is_empty() && pages.is_empty() {
        return Err(ApiError::no_such_path());
    }
    Tagged::json(&document(server, &resources, &pages, false)?, JSON)
}

fn place(r: &Resource) -> String {
    match r.group.is_empty() {
        true => format!("api/{}", r.version),
        false => format!("apis/{}/{}", r.group, r.version),
    }
}

/// The document of some resources and pages in version 3; `plain` leaves out what version 2 cannot say of custom resources.
fn document(server: &ApiServer, resources: &[&Resource], pages: &[Page], plain: bool) -> Result<Value> {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    let prose = Prose::unpack().map_err(ApiError::internal)?;
    let builtin = Schema::builtin();
    let mut groups: Vec<(&str, &str)> = Vec::new();
    for r in resources {
        if r.is_custom() {
            custom::add_components(server, &prose, r, &custom::name(r), plain, &mut schemas)?;
            if let Some(component) = schemas.get_mut(&custom::name(r)) {
                component["x-kubernetes-group-version-kind"] =
                    json!([{ "group": r.group, "version": r.version, "kind": r.kind }]);
            }
        }
        let mut body = |group: &str, version: &str, kind: &str| {
            let own = r.is_custom() && (group, version) == (r.group.as_str(), r.version.as_str());
            Body {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: kind.to_owned(),
                component: match own {
                    true if kind == r.list_kind => format!("{}List", custom::name(r)),
                    true => custom::name(r),
                    false => component(
                        builtin,
                        &prose,
                        &GroupVersionKind::new(group, version, kind),
                        &mut schemas,
                    ),
                },
            }
        };
        let object = body(&r.group, &r.version, &r.kind);
        let list = match r.list_kind.is_empty() || !r.verbs.iter().any(|verb| verb == "list") {
            true => String::new(),
            false => body(&r.group, &r.version, &r.list_kind).component,
        };
        // options of connections are not sent as bodies
        let bodies = r.subresources.iter().map(|sub| match sub.kind.ends_with("Options") {
            true => Body {
                group: sub.group.clone(),
                version: sub.version.clone(),
                kind: sub.kind.clone(),
                component: String::new(),
            },
            false => body(&sub.group, &sub.version, &sub.kind),
        });
        let bodies = bodies.collect();
        let of = Paths {
            resource: r,
            object,
            list,
            bodies,
        };
        of.add(builtin, &mut paths);
        groups.push((&r.group, &r.version));
    }
    for page in pages {
        paths.extend(page.path.clone());
    }
    add_meta(builtin, &prose, &paths, &groups, &mut schemas);
    Ok(json!({
        "openapi": "3.0.0",
        "info": match resources.iter().all(|r| r.is_custom()) && !resources.is_empty() {
            true => json!({ "title": "Kubernetes CRD Swagger", "version": "v0.1.0" }),
            false => json!({ "title": "Kubernetes", "version": api::kubernetes_minor!() }),
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "BearerToken": {
                "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
            } },
        },
    }))
}

/// The component of a built-in kind, and those it refers to.
fn component(schema: &Schema, prose: &Prose, kind: &GroupVersionKind, schemas: &mut Map<String, Value>) -> String {
    let Some(ty) = schema.type_for(kind) else {
        return String::new();
    };
    let name = schema.open_name(ty).unwrap_or_else(|| kind.kind.clone());
    api::openapi::add_components(schema, prose, ty, &name, schemas);
    name
}

/// The components of `meta/v1` that the paths refer to.
fn add_meta(
    schema: &Schema,
    prose: &Prose,
    paths: &Map<String, Value>,
    groups: &[(&str, &str)],
    schemas: &mut Map<String, Value>,
) {
    let mut wanted = std::collections::BTreeSet::new();
    paths.values().for_each(|path| refer(path, &mut wanted));
    for name in wanted {
        if schemas.contains_key(name) {
            continue;
        }
        let kind = name.strip_prefix(META).unwrap_or_default();
        match schema.type_named(&format!("meta.v1.{kind}")) {
            Some(ty) => api::openapi::add_components(schema, prose, ty, name, schemas),
            None => {
                let mut component = match name == places::INFO {
                    true => places::info(prose),
                    false => json!({ "type": "object" }),
                };
                if let Some(text) = prose.of(name, "") {
                    component["description"] = json!(text);
                }
                schemas.insert(name.to_owned(), component);
            }
        }
    }
    // these two are of every group
    for kind in ["DeleteOptions", "WatchEvent"] {
        let Some(component) = schemas.get_mut(&format!("{META}{kind}")) else {
            continue;
        };
        let Some(kinds) = component["x-kubernetes-group-version-kind"].as_array_mut() else {
            continue;
        };
        for (group, version) in groups {
            let one = json!({ "group": group, "version": version, "kind": kind });
            if !kinds.contains(&one) {
                kinds.push(one);
            }
        }
    }
}

/// The components that a tree refers to.
fn refer<'a>(tree: &'a Value, found: &mut std::collections::BTreeSet<&'a str>) {
    match tree {
        Value::Object(members) => {
            if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                found.extend(name.strip_prefix(REFERENCE));
            }
            members.values().for_each(|inner| refer(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| refer(inner, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
