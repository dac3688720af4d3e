//! The schemas of a server: the index of version 3, whose documents are fetched for who asks, and its part of version 2
//! (`controllers/openapi`, `controllers/openapiv3`).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use super::error::FetchError;
use super::remote::{OpenApi, Remote};
use crate::http::user::User;

const WITHIN: Duration = Duration::from_secs(60);
const DEFINITIONS: &str = "#/definitions/";

/// As whom documents are read.
fn aggregator() -> User {
    User {
        name: "system:aggregator".into(),
        ..User::default()
    }
}

/// Asks the server.
///
/// # Errors
/// When it does not say. One that has no schemas says so.
pub async fn fetch(remote: &Remote, before: &OpenApi) -> Result<OpenApi, FetchError> {
    let refused = |path: &str, status| {
        let path = path.to_owned();
        Err(FetchError::Status { path, status })
    };
    let who = aggregator();
    let root = remote
        .read("/openapi/v3", "application/json", None, &who, WITHIN)
        .await?;
    let index = match root.status {
        StatusCode::OK => {
            let mut root: Value = serde_json::from_slice(&root.body)?;
            root["paths"].as_object_mut().map(std::mem::take).unwrap_or_default()
        }
        StatusCode::NOT_FOUND => Map::new(),
        status => return refused("/openapi/v3", status),
    };
    let answer = remote
        .read("/openapi/v2", "application/json", before.etag.as_ref(), &who, WITHIN)
        .await?;
    Ok(match answer.status {
        StatusCode::NOT_MODIFIED => OpenApi {
            index,
            ..before.clone()
        },
        StatusCode::NOT_FOUND => OpenApi {
            index,
            ..OpenApi::default()
        },
        StatusCode::OK => {
            let document: Value = serde_json::from_slice(&answer.body)?;
            let part = part(document, &format!("{}/", remote.spec.path()));
            OpenApi {
                index,
                v2: Some(Bytes::from(part.to_string())),
                etag: answer.headers.get(header::ETAG).cloned(),
            }
        }
        status => return refused("/openapi/v2", status),
    })
}

/// The paths of a document that begin like this, and the definitions that they use.
fn part(mut document: Value, prefix: &str) -> Value {
    let mut paths = document["paths"]
        .as_object_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    paths.retain(|path, _| path.starts_with(prefix));
    let mut all = document["definitions"]
        .as_object_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    let mut wanted = BTreeSet::new();
    let mut open = Vec::new();
    for path in paths.values() {
        references(path, &mut open);
    }
    while let Some(name) = open.pop() {
        if let Some(definition) = all.get(&name)
            && wanted.insert(name)
        {
            references(definition, &mut open);
        }
    }
    all.retain(|name, _| wanted.contains(name));
    json!({ "paths": paths, "definitions": all })
}

fn references(tree: &Value, into: &mut Vec<String>) {
    match tree {
        Value::Object(map) => {
            if let Some(name) = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.strip_prefix(DEFINITIONS))
            {
                into.push(name.to_owned());
            }
            map.values().for_each(|value| references(value, into));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, into)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_only_what_its_group_version_uses() {
        let reference = |name: &str| json!({ "$ref": format!("{DEFINITIONS}{name}") });
        let document = json!({
            "swagger": "2.0",
            "paths": { "/apis/g/v1/": { "get": { "schema": reference("A") } }, "/apis/g/v2/": { "get": { "schema": reference("C") } } },
            "definitions": { "A": { "properties": { "a": reference("A"), "b": reference("B") } }, "B": {}, "C": {} },
        });
        let part = part(document, "/apis/g/v1/");
        assert_eq!(part["paths"].as_object().unwrap().len(), 1);
        let names: Vec<&String> = part["definitions"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["A", "B"]);
    }
}
