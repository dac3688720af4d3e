//! Discovery: which groups, versions and resources there are, in the old form and the aggregated one.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::aggregator::api_service::{Priorities, compare_versions};
use crate::aggregator::remote::{Discovery, Remote};
use crate::aggregator::{Aggregator, Remotes};
use crate::api_services;
use crate::http::status::{ApiError, Result};
use crate::registry::resource::Resource;
use crate::registry::{Catalog, Registry};
use crate::server::body::{self, Body};
use crate::server::tagged::Tagged;
use crate::server::{ApiServer, Request, health};

/// The documents; made from the catalog when asked for, which clients do seldom thanks to their ETag.
#[derive(Debug, Default)]
pub struct Documents;

/// `/`
pub fn root(catalog: &Catalog, aggregator: &Aggregator) -> Response<Body> {
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
    let remotes = aggregator.remotes();
    for group in groups(catalog, &remotes).iter().filter(|group| !group.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(
            group
                .versions
                .iter()
                .map(|version| format!("/apis/{}/{}", group.name, version.name)),
        );
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

struct Group<'a> {
    name: &'a str,
    priority: i64,
    versions: Vec<Version<'a>>,
}

struct Version<'a> {
    name: &'a str,
    priorities: Priorities,
    resources: Resources<'a>,
}

enum Resources<'a> {
    Own(Vec<Entry<'a>>),
    /// Another server's.
    Remote(&'a Remote),
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
        // what is looked up anew for each question is not stored, and cannot be watched
        hash: match resource.verbs.iter().any(|verb| verb == "watch") {
            true => storage_hash(&resource.stored_as, &resource.kind),
            false => String::new(),
        },
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

/// What is served, in the order of priorities.
fn groups<'a>(catalog: &'a Catalog, remotes: &'a Remotes) -> Vec<Group<'a>> {
    let mut all: BTreeMap<&str, BTreeMap<&str, Version<'_>>> = BTreeMap::new();
    let mut add = |group, name, entry: Entry<'a>| {
        let versions = all.entry(group).or_default();
        let version = versions.entry(name).or_insert_with(|| Version {
            name,
            priorities: api_services::priorities(group, name),
            resources: Resources::Own(Vec::new()),
        });
        if let Resources::Own(entries) = &mut version.resources {
            entries.push(entry);
        }
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
    // another server's version hides one of the same name here
    for (group, versions) in remotes {
        for (name, remote) in versions {
            let version = Version {
                name,
                priorities: remote.spec.priorities,
                resources: Resources::Remote(remote),
            };
            all.entry(group).or_default().insert(name, version);
        }
    }
    let mut groups: Vec<Group<'_>> = all
        .into_iter()
        .map(|(name, versions)| {
            let mut versions: Vec<Version<'_>> = versions.into_values().collect();
            versions.sort_by(|a, b| order(a.priorities.version, a.name, b.priorities.version, b.name));
            for version in &mut versions {
                if let Resources::Own(entries) = &mut version.resources {
                    entries.sort_by(|a, b| a.plural.cmp(b.plural));
                }
            }
            Group {
                name,
                priority: versions.iter().map(|v| v.priorities.group).max().unwrap_or_default(),
                versions,
            }
        })
        .collect();
    groups.sort_by(|a, b| b.priority.cmp(&a.priority).then(a.name.cmp(b.name)));
    groups
}

/// Versions by priority, then by stability and age.
fn order(a: i64, a_name: &str, b: i64, b_name: &str) -> Ordering {
    b.cmp(&a).then_with(|| compare_versions(a_name, b_name))
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
    let mut list = json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": resources });
    // the oldest group's says nothing of its version
    if group_version.contains('/') {
        list["apiVersion"] = json!("v1");
    }
    list
}

fn group_document<'a>(name: &str, versions: impl Iterator<Item = &'a str>) -> Value {
    let list: Vec<Value> = versions
        .map(|version| json!({ "groupVersion": api::gvk::join_api_version(name, version), "version": version }))
        .collect();
    json!({ "name": name, "versions": list, "preferredVersion": list.first() })
}

/// The groups of the APIServices that there are, in the order of their priorities (`SortedByGroupAndVersion`), with their versions.
fn registered(registry: &Registry) -> Result<Vec<(String, Vec<String>)>> {
    let text = |tree: &Value, path: &str| {
        tree.pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut all = Vec::new();
    for object in registry.list(api_services::GROUP, api_services::PLURAL, "") {
        let tree = object.tree()?;
        all.push((
            Priorities::read(&tree),
            text(&tree, "/spec/group"),
            text(&tree, "/spec/version"),
        ));
    }
    // their names begin with the version
    let name = |version: &str, group: &str| format!("{version}.{group}");
    all.sort_by(|a, b| {
        b.0.group
            .cmp(&a.0.group)
            .then_with(|| name(&a.2, &a.1).cmp(&name(&b.2, &b.1)))
    });
    let mut groups: Vec<(String, Vec<(i64, String)>)> = Vec::new();
    for (priorities, group, version) in all {
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, versions)) => versions.push((priorities.version, version)),
            None => groups.push((group, vec![(priorities.version, version)])),
        }
    }
    Ok(groups
        .into_iter()
        .map(|(group, mut versions)| {
            versions.sort_by(|a, b| order(a.0, &a.1, b.0, &b.1));
            (group, versions.into_iter().map(|(_, version)| version).collect())
        })
        .collect())
}

fn resource_discovery(group: &str, version: &str, e: &Entry<'_>) -> Value {
    let mut one = json!({
        "resource": e.plural,
        "responseKind": { "group": group, "version": version, "kind": e.kind },
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
}

fn aggregated(groups: &[Group<'_>], core: bool) -> Value {
    let mut items = Vec::new();
    for group in groups.iter().filter(|group| group.name.is_empty() == core) {
        let version = |version: &Version<'_>| match &version.resources {
            Resources::Own(entries) => {
                let resources = entries.iter().map(|e| resource_discovery(group.name, version.name, e));
                let resources: Vec<Value> = resources.collect();
                Some(json!({ "version": version.name, "resources": resources, "freshness": "Current" }))
            }
            // before it was asked nobody knows that it is there
            Resources::Remote(remote) => remote.said().discovery.as_ref().map(Discovery::listed),
        };
        let list: Vec<Value> = group.versions.iter().filter_map(version).collect();
        if list.is_empty() {
            continue;
        }
        let metadata = if group.name.is_empty() {
            json!({})
        } else {
            json!({ "name": group.name })
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
        let remotes = server.aggregator.remotes();
        let groups = groups(&catalog, &remotes);
        let parts: Vec<&str> = request.info.path.trim_matches('/').split('/').collect();
        let find = |group: &str| groups.iter().find(|g| g.name == group);
        let resources = |group: &str, version: &str| {
            let version = find(group)?.versions.iter().find(|v| v.name == version)?;
            match &version.resources {
                Resources::Own(entries) => {
                    let name = api::gvk::join_api_version(group, version.name);
                    Some(list_document(&name, entries))
                }
                // it answers for itself
                Resources::Remote(_) => None,
            }
        };
        let own = |group: &Group<'_>| group_document(group.name, group.versions.iter().map(|v| v.name));
        let of = |group: &str, versions: &[String]| group_document(group, versions.iter().map(String::as_str));
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
                let registered = registered(&server.registry)?;
                let others = registered
                    .iter()
                    .filter(|(group, _)| !group.is_empty() && group != api_services::GROUP);
                let list = find(api_services::GROUP).map(own).into_iter();
                let list: Vec<Value> = list
                    .chain(others.map(|(group, versions)| of(group, versions)))
                    .collect();
                Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list }))
            }
            ["api", version] => resources("", version),
            ["apis", group] => {
                let registered = registered(&server.registry)?;
                let named = registered.iter().find(|(name, _)| name == group && !group.is_empty());
                let named = named.filter(|_| *group != api_services::GROUP);
                // what nobody has registered may be served nevertheless
                let document = named
                    .map(|(group, versions)| of(group, versions))
                    .or_else(|| find(group).map(own));
                document.map(|mut document| {
                    document["kind"] = json!("APIGroup");
                    document["apiVersion"] = json!("v1");
                    document
                })
            }
            ["apis", group, version] => resources(group, version),
            _ => None,
        };
        let built_in = |group: &str| api::resources::all().iter().any(|row| row.group == group);
        // documents of groups are made by other handlers than those of what is built in, which know only one method
        if let ["apis", group, _] | [group @ "api", _] = parts.as_slice()
            && (*group == "api" || built_in(group))
            && document.is_some()
            && request.method != http::Method::GET
        {
            return Err(ApiError::method_not_allowed());
        }
        if let ["apis", group, ..] = parts.as_slice()
            && document.is_none()
            && !built_in(group)
        {
            return Ok(body::no_such_page());
        }
        let document = document.ok_or_else(ApiError::no_such_path)?;
        // older protobuf clients ask for protobuf here as well
        Ok(body::tree_response(StatusCode::OK, request.accept, &document))
    }
}
