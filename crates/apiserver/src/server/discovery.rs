//! Discovery: which groups, versions and resources there are, in the old form and the aggregated one.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::registry::Catalog;
use crate::registry::resource::Resource;
use crate::server::body::{self, Body};
use crate::server::tagged::Tagged;
use crate::server::{ApiServer, Request, health};

/// The documents; made from the catalog when asked for, which clients do seldom thanks to their ETag.
#[derive(Debug, Default)]
pub struct Documents;

/// Groups in the order in which upstream lists them.
const ORDER: [&str; 22] = [
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "resource.k8s.io",
    "storagemigration.k8s.io",
];

/// `/`
pub fn root(catalog: &Catalog) -> Response<Body> {
    const ALONE: [&str; 12] = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/version",
    ];
    let mut paths: Vec<String> = ALONE.map(String::from).into_iter().chain(health::paths()).collect();
    for ((_, group), versions) in groups(catalog).iter().filter(|((_, group), _)| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.keys().map(|version| format!("/apis/{group}/{}", version.1)));
    }
    paths.sort_unstable();
    body::json_response(StatusCode::OK, &json!({ "paths": paths }))
}

/// One served resource with what discovery says of it.
struct Entry<'a> {
    plural: &'a str,
    singular: &'a str,
    namespaced: bool,
    kind: &'a str,
    verbs: Vec<&'a str>,
    short_names: Vec<&'a str>,
    categories: Vec<&'a str>,
    /// Empty for what is not stored.
    hash: String,
    subresources: Vec<SubEntry<'a>>,
}

struct SubEntry<'a> {
    name: &'a str,
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    verbs: Vec<&'a str>,
}

type Groups<'a> = BTreeMap<(usize, &'a str), BTreeMap<Priority, Vec<Entry<'a>>>>;

/// Versions by stability, newest first: v2, v1, v1beta1, v1alpha1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Priority(std::cmp::Reverse<(u8, u32, u32)>, String);

fn priority(version: &str) -> Priority {
    let numbers = |text: &str| -> Option<(u8, u32, u32)> {
        let rest = text.strip_prefix('v')?;
        for (word, rank) in [("alpha", 1), ("beta", 2)] {
            if let Some((major, minor)) = rest.split_once(word) {
                return Some((rank, major.parse().ok()?, minor.parse().ok()?));
            }
        }
        Some((3, rest.parse().ok()?, 0))
    };
    Priority(
        std::cmp::Reverse(numbers(version).unwrap_or((0, 0, 0))),
        version.to_owned(),
    )
}

fn strings(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// By which clients tell that the objects of a resource are stored in another version than before.
fn storage_hash(stored_as: &str, kind: &str) -> String {
    use base64::Engine;
    let (group, version) = api::gvk::split_api_version(stored_as);
    let text = format!("{group}/{version}/{kind}");
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}

fn entry(resource: &Resource) -> Entry<'_> {
    Entry {
        plural: &resource.plural,
        singular: &resource.singular,
        namespaced: resource.namespaced,
        kind: &resource.kind,
        verbs: strings(&resource.verbs),
        short_names: strings(&resource.short_names),
        categories: strings(&resource.categories),
        hash: storage_hash(&resource.stored_as, &resource.kind),
        subresources: resource
            .subresources
            .iter()
            .map(|s| SubEntry {
                name: &s.name,
                group: &s.group,
                version: if s.version.is_empty() {
                    &resource.version
                } else {
                    &s.version
                },
                kind: &s.kind,
                verbs: strings(&s.verbs),
            })
            .collect(),
    }
}

fn groups(catalog: &Catalog) -> Groups<'_> {
    let mut groups: Groups<'_> = BTreeMap::new();
    let mut add = |group, version: &str, entry| {
        let place = ORDER.iter().position(|g| *g == group).unwrap_or(ORDER.len());
        groups
            .entry((place, group))
            .or_default()
            .entry(priority(version))
            .or_default()
            .push(entry);
    };
    for served in catalog.all() {
        add(
            &served.resource.group,
            &served.resource.version,
            entry(&served.resource),
        );
    }
    // reviews are answered but not kept: the catalog does not have them
    for row in api::resources::all()
        .iter()
        .filter(|r| r.verbs.iter().all(|v| *v == "create"))
    {
        add(
            row.group,
            row.version,
            Entry {
                plural: row.plural,
                singular: row.singular,
                namespaced: row.namespaced,
                kind: row.kind,
                verbs: row.verbs.clone(),
                short_names: Vec::new(),
                categories: Vec::new(),
                hash: String::new(),
                subresources: Vec::new(),
            },
        );
    }
    for versions in groups.values_mut() {
        for list in versions.values_mut() {
            list.sort_by(|a, b| a.plural.cmp(b.plural));
        }
    }
    groups
}

fn list_document(group_version: &str, entries: &[Entry<'_>]) -> Value {
    let mut resources = Vec::new();
    for e in entries {
        let mut one = json!({
            "name": e.plural, "singularName": e.singular, "namespaced": e.namespaced, "kind": e.kind, "verbs": e.verbs,
        });
        if !e.short_names.is_empty() {
            one["shortNames"] = json!(e.short_names);
        }
        if !e.categories.is_empty() {
            one["categories"] = json!(e.categories);
        }
        if !e.hash.is_empty() {
            one["storageVersionHash"] = json!(e.hash);
        }
        resources.push(one);
        for s in &e.subresources {
            let mut one = json!({
                "name": format!("{}/{}", e.plural, s.name), "singularName": "", "namespaced": e.namespaced,
                "kind": s.kind, "verbs": s.verbs,
            });
            let own = api::gvk::join_api_version(s.group, s.version);
            if own != group_version {
                one["group"] = json!(s.group);
                one["version"] = json!(s.version);
            }
            resources.push(one);
        }
    }
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources })
}

fn group_document(name: &str, versions: &BTreeMap<Priority, Vec<Entry<'_>>>) -> Value {
    let list: Vec<Value> = versions
        .keys()
        .map(|p| json!({ "groupVersion": api::gvk::join_api_version(name, &p.1), "version": p.1 }))
        .collect();
    json!({ "name": name, "versions": list, "preferredVersion": list.first() })
}

fn aggregated(groups: &Groups<'_>, core: bool) -> Value {
    let mut items = Vec::new();
    for ((_, name), versions) in groups.iter().filter(|((_, name), _)| name.is_empty() == core) {
        let mut list = Vec::new();
        for (version, entries) in versions {
            let resources: Vec<Value> = entries
                .iter()
                .map(|e| {
                    let mut one = json!({
                        "resource": e.plural,
                        "responseKind": { "group": name, "version": version.1, "kind": e.kind },
                        "scope": if e.namespaced { "Namespaced" } else { "Cluster" },
                        "singularResource": e.singular,
                        "verbs": e.verbs,
                    });
                    if !e.short_names.is_empty() {
                        one["shortNames"] = json!(e.short_names);
                    }
                    if !e.categories.is_empty() {
                        one["categories"] = json!(e.categories);
                    }
                    if !e.subresources.is_empty() {
                        let subs = e.subresources.iter().map(|s| {
                            json!({
                                "subresource": s.name,
                                "responseKind": { "group": s.group, "version": s.version, "kind": s.kind },
                                "verbs": s.verbs,
                            })
                        });
                        one["subresources"] = subs.collect();
                    }
                    one
                })
                .collect();
            list.push(json!({ "version": version.1, "resources": resources, "freshness": "Current" }));
        }
        let metadata = if name.is_empty() {
            json!({ "creationTimestamp": null })
        } else {
            json!({ "name": name, "creationTimestamp": null })
        };
        items.push(json!({ "metadata": metadata, "versions": list }));
    }
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items })
}

/// Whether the client asks for the aggregated form.
fn wants_aggregated(request: &Request) -> bool {
    let accept = request.header("accept").unwrap_or_default();
    let first = accept
        .split(',')
        .find(|c| c.trim().starts_with("application/json"))
        .unwrap_or_default();
    let mut parameters = first.split(';').map(str::trim);
    first.contains("as=APIGroupDiscoveryList") && parameters.any(|p| p == "v=v2")
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

impl Documents {
    /// Answers `/api` and `/apis` and what is below them.
    pub fn answer(&self, server: &ApiServer, request: &Request) -> Result<Response<Body>> {
        let catalog = server.registry.catalog();
        let groups = groups(&catalog);
        let parts: Vec<&str> = request.info.path.trim_matches('/').split('/').collect();
        let find = |group: &str| groups.iter().find(|((_, name), _)| *name == group).map(|(_, v)| v);
        let resources = |group: &str, version: &str| {
            find(group)
                .and_then(|versions| versions.iter().find(|(p, _)| p.1 == version))
                .map(|(_, entries)| list_document(&api::gvk::join_api_version(group, version), entries))
        };
        let document = match parts.as_slice() {
            ["api"] | ["apis"] if wants_aggregated(request) => {
                let document = aggregated(&groups, parts == ["api"]);
                return Ok(Tagged::json(&document, AGGREGATED)?.answer(request));
            }
            ["api"] => {
                let authority = request.uri.authority().map(http::uri::Authority::as_str);
                let address = request.header("host").or(authority).unwrap_or_default();
                let by_client = json!([{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }]);
                Some(json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": by_client }))
            }
            ["apis"] => {
                let list = groups
                    .iter()
                    .filter(|((_, n), _)| !n.is_empty())
                    .map(|((_, n), v)| group_document(n, v));
                Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list.collect::<Vec<_>>() }))
            }
            ["api", version] => resources("", version),
            ["apis", group] => find(group).map(|versions| {
                let mut document = group_document(group, versions);
                document["kind"] = json!("APIGroup");
                document["apiVersion"] = json!("v1");
                document
            }),
            ["apis", group, version] => resources(group, version),
            _ => None,
        };
        let document = document.ok_or_else(ApiError::no_such_path)?;
        // older protobuf clients ask for protobuf here as well
        Ok(body::tree_response(StatusCode::OK, request.accept, &document))
    }
}
