//! OpenAPI documents: version 3 by group version, version 2 of everything in JSON and in protobuf. Made when first asked for.

mod custom;
mod index;
mod kept;
mod merge;
mod paths;
mod v2;
mod v2_proto;

use std::sync::Arc;

use api::prose::Prose;
use http::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::aggregator::remote::Remote;
use crate::http::status::{ApiError, Result};
use crate::registry::Catalog;
use crate::registry::resource::Resource;
use crate::server::body::{self, Body};
use crate::server::extension::Forward;
use crate::server::intake::Payload;
use crate::server::openapi::kept::Kept;
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
pub const REFERENCE: &str = "#/components/schemas/";

impl Documents {
    pub async fn answer(&self, server: &Arc<ApiServer>, request: &Request) -> Result<Response<Body>> {
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
                payload: Payload::Whole(request.body.clone()),
                upgrade: None,
                info: &request.info,
                query: &request.query,
                user: &request.user,
                from: None,
            };
            return forward.answer(server).await;
        }
        // upstream says no more of one that is not there
        let is_here = |r: &Resource| place(r) == wanted;
        if !server.registry.catalog().all().any(|served| is_here(&served.resource)) {
            let mut nothing = Response::new(body::full(""));
            *nothing.status_mut() = StatusCode::NOT_FOUND;
            return Ok(nothing);
        }
        let name = wanted.to_owned();
        let make = move |server: &ApiServer, catalog: &Catalog| version_3(server, catalog, &name);
        let answer = self.kept.get(server, path, make).await?.answer(request);
        match request.query.text("hash") {
            None => Ok(answer),
            Some(hash) => index::by_hash(server, &server.registry.catalog(), wanted, hash, answer),
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
    let here = || {
        server
            .registry
            .catalog()
            .all()
            .any(|served| place(&served.resource) == wanted)
    };
    let found = all.find(|remote| {
        let lists = remote.said().openapi.index.contains_key(wanted);
        lists && (remote.spec.path().trim_start_matches('/') == wanted || !here())
    });
    found.cloned()
}

fn version_2(server: &ApiServer, catalog: &Catalog, protobuf: bool) -> Result<Tagged> {
    let resources: Vec<&Resource> = catalog.all().map(|s| &*s.resource).collect();
    let mut document = v2::document(&document(server, &resources, true)?);
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

/// The document of one group version, as its path has it.
fn version_3(server: &ApiServer, catalog: &Catalog, wanted: &str) -> Result<Tagged> {
    let all = catalog.all().map(|s| &*s.resource);
    let resources: Vec<&Resource> = all.filter(|r| place(r) == wanted).collect();
    if resources.is_empty() {
        return Err(ApiError::no_such_path());
    }
    Tagged::json(&document(server, &resources, false)?, JSON)
}

fn place(r: &Resource) -> String {
    match r.group.is_empty() {
        true => format!("api/{}", r.version),
        false => format!("apis/{}/{}", r.group, r.version),
    }
}

/// The document of some resources in version 3; `plain` leaves out what version 2 cannot say of custom resources.
fn document(server: &ApiServer, resources: &[&Resource], plain: bool) -> Result<Value> {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    let prose = Prose::unpack().map_err(ApiError::internal)?;
    for r in resources {
        let schema = r.schema.get();
        let name = match r.is_custom() {
            true => custom::name(r),
            false => schema.open_name(r.root).unwrap_or_else(|| r.kind.clone()),
        };
        let gvk = json!({ "group": r.group, "version": r.version, "kind": r.kind });
        if r.is_custom() {
            custom::add_components(server, &prose, r, &name, plain, &mut schemas)?;
        } else {
            api::openapi::add_components(schema, &prose, r.root, &name, &mut schemas);
        }
        if let Some(component) = schemas.get_mut(&name) {
            component["x-kubernetes-group-version-kind"] = json!([gvk]);
        }
        paths::add(r, &place(r), &gvk, &name, &mut paths);
    }
    Ok(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": server.version.git_version },
        "paths": paths,
        "components": { "schemas": schemas },
    }))
}
