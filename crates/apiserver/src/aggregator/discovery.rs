//! What a server says of its resources: aggregated discovery, or the older form of it (`handler_discovery.go`).

use std::time::Duration;

use http::{StatusCode, header};
use serde_json::{Value, json};

use super::error::FetchError;
use super::remote::{Discovery, Remote};
use crate::http::user::{MASTERS, User};

const WITHIN: Duration = Duration::from_secs(5);
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Asks the server.
///
/// # Errors
/// When it does not say.
pub async fn fetch(remote: &Remote, before: Option<&Discovery>) -> Result<Discovery, FetchError> {
    let spec = &remote.spec;
    let who = User {
        name: "system:kube-aggregator".into(),
        groups: vec![MASTERS.into()],
        ..User::default()
    };
    let etag = before.and_then(|b| b.etag.as_ref());
    let answer = remote.read("/apis", ACCEPT, etag, &who, WITHIN).await?;
    let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    match (answer.status, before) {
        (StatusCode::NOT_MODIFIED, Some(before)) => {
            return Ok(Discovery {
                stale: false,
                ..before.clone()
            });
        }
        (StatusCode::SERVICE_UNAVAILABLE, _) => return Err(FetchError::Unavailable),
        (StatusCode::OK, _) if kind.is_some_and(is_aggregated) => {
            let list: Value = serde_json::from_slice(&answer.body)?;
            return Ok(Discovery {
                version: of_list(&list, &spec.group, &spec.version),
                etag: answer.headers.get(header::ETAG).cloned(),
                stale: false,
            });
        }
        _ => {}
    }
    let alone = User {
        groups: Vec::new(),
        ..who
    };
    let answer = remote
        .read(&spec.path(), "application/json", None, &alone, WITHIN)
        .await?;
    if answer.status != StatusCode::OK {
        return Err(FetchError::Status {
            path: spec.path(),
            status: answer.status,
        });
    }
    let list: Value = serde_json::from_slice(&answer.body)?;
    let resources = converted(list["resources"].as_array().map(Vec::as_slice).unwrap_or_default())?;
    Ok(Discovery {
        version: json!({ "version": spec.version, "resources": resources }),
        etag: None,
        stale: false,
    })
}

fn is_aggregated(content_type: &str) -> bool {
    let mut parameters = content_type.split(';').map(str::trim);
    parameters.next() == Some("application/json")
        && ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"]
            .iter()
            .all(|wanted| content_type.split(';').any(|p| p.trim() == *wanted))
}

/// The version in a list, or one without resources.
fn of_list(list: &Value, group: &str, version: &str) -> Value {
    let array = |tree: &Value, key: &str| tree[key].as_array().cloned().unwrap_or_default();
    let groups = array(list, "items")
        .into_iter()
        .filter(|g| g.pointer("/metadata/name") == Some(&json!(group)));
    let mut versions = groups.flat_map(|g| array(&g, "versions"));
    let Some(mut found) = versions.find(|v| v["version"] == version) else {
        return json!({ "version": version });
    };
    for resource in found["resources"].as_array_mut().into_iter().flatten() {
        let_kind_be(resource);
        for subresource in resource["subresources"].as_array_mut().into_iter().flatten() {
            let_kind_be(subresource);
        }
        // what indexing has made
        if let Some(map) = resource.as_object_mut() {
            map.retain(|_, value| !value.is_null());
        }
    }
    found
}

/// Older clients take what is not there for something else.
fn let_kind_be(resource: &mut Value) {
    if resource["responseKind"].is_null() {
        resource["responseKind"] = json!({ "group": "", "version": "", "kind": "" });
    }
}

/// `APIResourceDiscovery` of `APIResource`.
fn converted(list: &[Value]) -> Result<Vec<Value>, FetchError> {
    let text = |r: &Value, key: &str| r[key].as_str().unwrap_or_default().to_owned();
    let scope = |r: &Value| {
        if r["namespaced"] == true {
            "Namespaced"
        } else {
            "Cluster"
        }
    };
    let kind = |r: &Value| json!({ "group": text(r, "group"), "version": text(r, "version"), "kind": text(r, "kind") });
    let none = json!({ "group": "", "version": "", "kind": "" });
    let mut resources: Vec<Value> = Vec::new();
    let (parents, children): (Vec<&Value>, Vec<&Value>) = list.iter().partition(|r| !text(r, "name").contains('/'));
    for r in parents {
        let mut one = json!({
            "resource": text(r, "name"), "responseKind": kind(r), "scope": scope(r),
            "singularResource": text(r, "singularName"), "verbs": r["verbs"],
        });
        for key in ["shortNames", "categories"] {
            if r[key].as_array().is_some_and(|names| !names.is_empty()) {
                one[key] = r[key].clone();
            }
        }
        resources.push(one);
    }
    for r in children {
        let name = text(r, "name");
        let Some((parent, name)) = name.split_once('/') else {
            continue;
        };
        let at = match resources.iter().position(|p| p["resource"] == parent) {
            Some(at) => at,
            None => {
                resources.push(json!({
                    "resource": parent, "responseKind": none, "scope": scope(r), "singularResource": "", "verbs": null,
                }));
                resources.len() - 1
            }
        };
        let parent = &mut resources[at];
        if parent["scope"] != scope(r) {
            return Err(FetchError::Scope(name.to_owned()));
        }
        let kind = if text(r, "kind").is_empty() {
            none.clone()
        } else {
            kind(r)
        };
        let one = json!({ "subresource": name, "responseKind": kind, "verbs": r["verbs"] });
        match parent["subresources"].as_array_mut() {
            Some(all) => all.push(one),
            None => parent["subresources"] = json!([one]),
        }
    }
    Ok(resources)
}

impl Discovery {
    /// What is listed of a server that does not say what it has.
    pub fn unknown(version: &str) -> Discovery {
        Discovery {
            version: json!({ "version": version }),
            etag: None,
            stale: true,
        }
    }

    /// The version as it is listed.
    pub fn listed(&self) -> Value {
        let mut version = self.version.clone();
        version["freshness"] = json!(if self.stale { "Stale" } else { "Current" });
        version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `ConvertGroupVersionIntoToDiscovery` has it.
    #[test]
    fn the_older_form_says_the_same() {
        let list = json!([
            { "name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"] },
            { "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["list"], "shortNames": ["fl"] },
            { "name": "orphans/x", "namespaced": false, "kind": "", "verbs": ["create"] },
        ]);
        let none = json!({ "group": "", "version": "", "kind": "" });
        let flunder = json!({ "group": "", "version": "", "kind": "Flunder" });
        assert_eq!(
            json!(converted(list.as_array().unwrap()).unwrap()),
            json!([
                { "resource": "flunders", "responseKind": flunder, "scope": "Namespaced", "singularResource": "flunder", "verbs": ["list"],
                    "shortNames": ["fl"], "subresources": [{ "subresource": "status", "responseKind": flunder, "verbs": ["get"] }] },
                { "resource": "orphans", "responseKind": none, "scope": "Cluster", "singularResource": "", "verbs": null,
                    "subresources": [{ "subresource": "x", "responseKind": none, "verbs": ["create"] }] },
            ])
        );
    }

    #[test]
    fn a_list_without_the_version_says_that_it_has_no_resources() {
        let list = json!({ "items": [{ "metadata": { "name": "g" }, "versions": [{ "version": "v1", "resources": [{ "resource": "a" }] }] }] });
        let kind = json!({ "group": "", "version": "", "kind": "" });
        assert_eq!(
            of_list(&list, "g", "v1"),
            json!({ "version": "v1", "resources": [{ "resource": "a", "responseKind": kind }] })
        );
        assert_eq!(of_list(&list, "g", "v2"), json!({ "version": "v2" }));
        assert_eq!(
            Discovery::unknown("v1").listed(),
            json!({ "version": "v1", "freshness": "Stale" })
        );
    }
}
