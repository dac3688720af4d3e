//! Which resources the server has, and the names people may use for them.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, Call};
use crate::error::{Error, Result, fail, message};
use crate::print::go::quote;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// One resource in one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceType {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub namespaced: bool,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub verbs: Vec<String>,
    pub subresources: Vec<String>,
}

impl ResourceType {
    /// A type of which nothing but its name is known.
    pub fn named(api_version: &str, kind: &str) -> ResourceType {
        let (group, version) = api::gvk::split_api_version(api_version);
        ResourceType {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            ..ResourceType::default()
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api::gvk::join_api_version(&self.group, &self.version)
    }

    /// `/api/v1/namespaces/x/pods`; without a namespace the collection over all of them.
    pub fn collection(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis/" };
        let scope = match namespace {
            ns if self.namespaced && !ns.is_empty() => format!("/namespaces/{ns}"),
            _ => String::new(),
        };
        format!("{root}{}/{}{scope}/{}", self.group, self.version, self.plural)
    }

    pub(crate) fn path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.collection(namespace), crate::api::escape(name))
    }

    /// `deployment.apps`, as messages name it.
    pub fn group_kind(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() {
            kind
        } else {
            format!("{kind}.{}", self.group)
        }
    }

    /// `deployments.apps`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

/// Everything the server serves, in its own order.
#[derive(Debug, Default)]
pub struct Discovery {
    pub types: Vec<Arc<ResourceType>>,
    /// Groups with their versions, preferred ones first.
    pub groups: Vec<(String, Vec<String>)>,
    /// Groups whose server does not answer.
    pub stale: Vec<String>,
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: GroupMeta,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize, Default)]
struct GroupMeta {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Entry>,
    #[serde(default)]
    freshness: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    resource: String,
    response_kind: Option<Kind>,
    scope: String,
    #[serde(default)]
    singular_resource: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    subresources: Vec<Subentry>,
}

#[derive(Deserialize)]
struct Subentry {
    subresource: String,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    kind: String,
}

impl Discovery {
    pub(crate) async fn load(api: &Api) -> Result<Discovery> {
        let (core, groups) = (
            Call::get("/api").accept(AGGREGATED),
            Call::get("/apis").accept(AGGREGATED),
        );
        let (core, groups) = tokio::try_join!(api.json(&core), api.json(&groups))?;
        let mut discovery = Discovery::default();
        discovery.add(core)?;
        discovery.add(groups)?;
        Ok(discovery)
    }

    fn add(&mut self, list: Value) -> Result<()> {
        if list["kind"] != "APIGroupDiscoveryList" {
            return fail("the server has no aggregated discovery; a version before v1.30 is not supported");
        }
        let list: GroupList = serde_json::from_value(list).map_err(|e| message(format!("discovery: {e}")))?;
        for group in list.items {
            let name = group.metadata.name;
            let versions = group.versions.iter().map(|v| v.version.clone()).collect();
            self.groups.push((name.clone(), versions));
            for version in group.versions {
                if version.freshness == "Stale" {
                    self.stale.push(api::gvk::join_api_version(&name, &version.version));
                }
                let entries = version.resources.into_iter();
                self.types
                    .extend(entries.map(|e| Arc::new(entry(&name, &version.version, e))));
            }
        }
        Ok(())
    }

    /// The type of objects in a file.
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<Arc<ResourceType>> {
        let (group, version) = api::gvk::split_api_version(api_version);
        let found = self
            .types
            .iter()
            .find(|t| t.group == group && t.version == version && t.kind == kind && has_objects(t));
        found.cloned()
    }

    /// The resource somebody means by `pods`, `po`, `Pod`, `deploy.apps` or `deployments.v1.apps`.
    pub fn find(&self, name: &str) -> Option<Arc<ResourceType>> {
        let parts: Vec<&str> = name.splitn(3, '.').collect();
        if let [resource, version, group] = parts[..]
            && let Some(found) = self.best(resource, Some(group), Some(version))
        {
            return Some(found);
        }
        let (resource, group) = match name.split_once('.') {
            Some((resource, group)) => (resource, Some(group)),
            None => (name, None),
        };
        self.best(resource, group, None)
    }

    /// A resource's own names count more than a short name, and that more than a kind.
    fn best(&self, resource: &str, group: Option<&str>, version: Option<&str>) -> Option<Arc<ResourceType>> {
        let lower = resource.to_lowercase();
        let fits = |t: &&Arc<ResourceType>| {
            let in_group =
                group.is_none_or(|g| t.group == g || (!g.is_empty() && t.group.starts_with(&format!("{g}."))));
            in_group && version.is_none_or(|v| t.version == v)
        };
        let by = |test: &dyn Fn(&ResourceType) -> bool| self.types.iter().filter(fits).find(|t| test(t)).cloned();
        by(&|t| t.plural == lower || t.singular == lower)
            .or_else(|| by(&|t| t.short_names.contains(&lower)))
            .or_else(|| by(&|t| t.kind == resource && has_objects(t)))
            .or_else(|| by(&|t| t.kind.to_lowercase() == lower))
    }

    pub(crate) fn require(&self, name: &str) -> Result<Arc<ResourceType>> {
        let found = self.find(name).ok_or_else(|| no_type(name))?;
        if let Some(other) = self.shadowed(name, &found) {
            eprintln!(
                "Warning: short name {} could also match lower priority resource {}",
                quote(name),
                other.group_resource()
            );
        }
        Ok(found)
    }

    /// Another resource with the same short name, if it is by that that one was found.
    fn shadowed(&self, name: &str, found: &ResourceType) -> Option<&Arc<ResourceType>> {
        let short = |t: &ResourceType| t.short_names.iter().any(|s| s == name);
        if !short(found) || found.plural == name || found.singular == name {
            return None;
        }
        self.types
            .iter()
            .find(|t| short(t) && t.group_resource() != found.group_resource())
    }

    /// The names of a category's resources (`all`), or the name itself.
    pub fn expand(&self, name: &str) -> Vec<String> {
        let mut seen = HashSet::new();
        let members = self.types.iter().filter(|t| t.categories.iter().any(|c| c == name));
        let names: Vec<String> = members
            .map(|t| t.group_resource())
            .filter(|n| seen.insert(n.clone()))
            .collect();
        if names.is_empty() { vec![name.to_owned()] } else { names }
    }

    /// The types of the preferred versions, each resource once.
    pub fn preferred(&self) -> impl Iterator<Item = &Arc<ResourceType>> {
        let mut seen = HashSet::new();
        self.types
            .iter()
            .filter(move |t| seen.insert((t.group.clone(), t.plural.clone())))
    }
}

/// Whether the resource is more than something to post to.
fn has_objects(t: &ResourceType) -> bool {
    !t.plural.contains('/')
}

fn no_type(name: &str) -> Error {
    let (resource, group) = name.split_once('.').unwrap_or((name, ""));
    let of = match group {
        "" => String::new(),
        group => format!(" in group {}", quote(group)),
    };
    message(format!(
        "the server doesn't have a resource type {}{of}",
        quote(resource)
    ))
}

fn entry(group: &str, version: &str, entry: Entry) -> ResourceType {
    ResourceType {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: entry.resource,
        singular: entry.singular_resource,
        kind: entry.response_kind.map(|k| k.kind).unwrap_or_default(),
        namespaced: entry.scope == "Namespaced",
        short_names: entry.short_names,
        categories: entry.categories,
        verbs: entry.verbs,
        subresources: entry.subresources.into_iter().map(|s| s.subresource).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn discovery() -> Discovery {
        let resource = |plural: &str, kind: &str, short: &str| {
            json!({"resource": plural, "responseKind": {"group": "", "version": "", "kind": kind}, "scope": "Namespaced",
                "singularResource": kind.to_lowercase(), "verbs": ["get"], "shortNames": [short], "categories": ["all"]})
        };
        let mut discovery = Discovery::default();
        for list in [
            json!([{"metadata": {}, "versions": [{"version": "v1", "resources": [resource("pods", "Pod", "po"), resource("events", "Event", "ev")]}]}]),
            json!([{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [resource("deployments", "Deployment", "deploy")]}]},
                {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [resource("events", "Event", "ev")]}]}]),
        ] {
            discovery
                .add(json!({"kind": "APIGroupDiscoveryList", "items": list}))
                .unwrap();
        }
        discovery
    }

    #[test]
    fn resources_have_many_names() {
        let discovery = discovery();
        for name in ["pods", "pod", "po", "Pod", "pods.v1."] {
            assert_eq!(
                discovery.find(name).map(|t| t.plural.clone()).as_deref(),
                Some("pods"),
                "{name}"
            );
        }
        for name in ["deploy", "deployments.apps", "deployment.v1.apps", "deploy.apps"] {
            assert_eq!(
                discovery.find(name).map(|t| t.kind.clone()).as_deref(),
                Some("Deployment"),
                "{name}"
            );
        }
        assert_eq!(discovery.find("events").unwrap().group, "");
        assert_eq!(discovery.find("events.events.k8s.io").unwrap().group, "events.k8s.io");
        let error = discovery.require("nope.apps").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server doesn't have a resource type \"nope\" in group \"apps\""
        );
    }

    #[test]
    fn a_category_stands_for_its_resources() {
        assert_eq!(
            discovery().expand("all"),
            ["pods", "events", "deployments.apps", "events.events.k8s.io"]
        );
        assert_eq!(discovery().expand("pods"), ["pods"]);
    }

    #[test]
    fn paths_follow_scope_and_group() {
        let deployments = discovery().find("deploy").unwrap();
        assert_eq!(deployments.path("n", "x"), "/apis/apps/v1/namespaces/n/deployments/x");
        assert_eq!(deployments.collection(""), "/apis/apps/v1/deployments");
        assert_eq!(deployments.group_kind(), "deployment.apps");
    }
}
