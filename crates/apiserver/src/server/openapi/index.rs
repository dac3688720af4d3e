//! The index of version 3: a path for each group version, with a hash by which clients know that what they keep is still right.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{place, places};
use crate::custom::{GROUP, PLURAL};
use crate::http::status::{ApiError, Result};
use crate::registry::Catalog;
use crate::registry::resource::Resource;
use crate::server::ApiServer;
use crate::server::body::{self, Body};

/// A year: what a hash names never changes.
const FOREVER: i64 = 365 * 24 * 3600;

/// The index, without what other servers have.
pub fn paths(server: &ApiServer, catalog: &Catalog) -> Map<String, Value> {
    let places = places::all(server, catalog);
    let url = |(place, resources): (String, Vec<&Resource>)| {
        let url = url(&place, &hash(server, &place, &resources));
        (place, json!({ "serverRelativeURL": url }))
    };
    places.into_iter().map(url).collect()
}

fn url(place: &str, hash: &str) -> String {
    format!("/openapi/v3/{place}?hash={hash}")
}

/// Of all that a document is made of: the program, and the definitions of custom resources.
fn hash(server: &ApiServer, place: &str, resources: &[&Resource]) -> String {
    let mut text = format!("{} {place}", server.version.git_version);
    for resource in resources.iter().filter(|r| r.is_custom()) {
        let name = format!("{}.{}", resource.plural, resource.group);
        let definition = server.registry.get(GROUP, PLURAL, "", &name);
        let uid = definition.map(|d| d.object.meta.uid.to_string()).unwrap_or_default();
        text.push_str(&format!(" {name} {uid} {}", resource.generation));
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// What an answer is for a client that knows the hash of what it asks for: kept for good, or the place of what is right now.
///
/// # Errors
/// When the place cannot be said in a header.
pub fn by_hash(
    server: &ApiServer,
    catalog: &Catalog,
    wanted: &str,
    asked: &str,
    mut answer: Response<Body>,
) -> Result<Response<Body>> {
    let resources = places::resources(server, catalog, |r| place(r) == wanted);
    let right = hash(server, wanted, &resources);
    if asked != right {
        let mut elsewhere = Response::new(body::full(""));
        *elsewhere.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let there = HeaderValue::from_str(&url(wanted, &right)).map_err(ApiError::internal)?;
        elsewhere.headers_mut().insert(header::LOCATION, there);
        return Ok(elsewhere);
    }
    let until = server.registry.environment.now().as_second() + FOREVER;
    let until = jiff::Timestamp::from_second(until).map_err(ApiError::internal)?;
    let until = until.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    headers.insert(
        header::EXPIRES,
        HeaderValue::from_str(&until).map_err(ApiError::internal)?,
    );
    Ok(answer)
}
