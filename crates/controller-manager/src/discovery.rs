//! Which resources the server serves, including those of custom kinds.

use std::collections::HashMap;

use api::gvk::GroupVersionKind;
use client::Client;
use serde::Deserialize;

use crate::Error;

/// `/api/v1` or `/apis/group/version`.
pub(crate) fn group_path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

/// One resource in the version that its group prefers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ServedResource {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: Verbs,
}

/// A set of the verbs that controllers ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Verbs(u8);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    Delete,
    DeleteCollection,
    List,
    Patch,
    Update,
    Watch,
}

impl Verbs {
    fn of(names: &[String]) -> Verbs {
        let bit = |name: &String| match name.as_str() {
            "delete" => 1 << Verb::Delete as u8,
            "deletecollection" => 1 << Verb::DeleteCollection as u8,
            "list" => 1 << Verb::List as u8,
            "patch" => 1 << Verb::Patch as u8,
            "update" => 1 << Verb::Update as u8,
            "watch" => 1 << Verb::Watch as u8,
            _ => 0,
        };
        Verbs(names.iter().map(bit).fold(0, |all, bit| all | bit))
    }
}

impl ServedResource {
    pub(crate) fn can(&self, verb: Verb) -> bool {
        self.verbs.0 & 1 << verb as u8 != 0
    }

    pub(crate) fn api_version(&self) -> String {
        api::gvk::join_api_version(&self.group, &self.version)
    }

    /// The path of the collection; an empty namespace means all.
    pub(crate) fn collection(&self, namespace: &str) -> String {
        let base = group_path(&self.group, &self.version);
        if namespace.is_empty() || !self.namespaced {
            format!("{base}/{}", self.plural)
        } else {
            format!("{base}/namespaces/{namespace}/{}", self.plural)
        }
    }

    pub(crate) fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(namespace))
    }
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    metadata: Metadata,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Metadata {
    /// None has the core group.
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<ApiResource>,
    #[serde(default)]
    freshness: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiResource {
    resource: String,
    #[serde(default)]
    singular_resource: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    response_kind: Option<ResponseKind>,
    #[serde(default)]
    verbs: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ResponseKind {
    kind: String,
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What discovery found, and which group versions did not answer.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    pub resources: Vec<ServedResource>,
    pub failed: Vec<(String, String)>,
}

/// One resource, in the version that its group prefers.
pub(crate) async fn find(client: &Client, group: &str, plural: &str) -> Result<Option<ServedResource>, Error> {
    let found = discover(client).await?;
    let mut resources = found.resources.into_iter();
    if let Some(resource) = resources.find(|r| r.group == group && r.plural == plural) {
        return Ok(Some(resource));
    }
    let mut failed = found.failed.into_iter();
    match failed.find(|(version, _)| api::gvk::split_api_version(version).0 == group) {
        Some((_, why)) => Err(Error::State(why)),
        None => Ok(None),
    }
}

/// All groups with all their versions.
async fn groups(client: &Client) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    for path in ["/api", "/apis"] {
        let list: GroupList = client.document(path, AGGREGATED).await?;
        groups.extend(list.items);
    }
    Ok(groups)
}

/// All resources, each once: in the preferred version of its group, or the first other version that has it.
pub(crate) async fn discover(client: &Client) -> Result<Discovered, Error> {
    let mut found = Discovered::default();
    let mut seen = std::collections::HashSet::new();
    for group in groups(client).await? {
        let name = group.metadata.name;
        for version in group.versions {
            let api_version = api::gvk::join_api_version(&name, &version.version);
            if version.freshness == "Stale" {
                let why = format!("stale GroupVersion discovery: {api_version}");
                found.failed.push((api_version, why));
                continue;
            }
            for r in version.resources {
                if !seen.insert((name.clone(), r.resource.clone())) {
                    continue;
                }
                found.resources.push(ServedResource {
                    group: name.clone(),
                    version: version.version.clone(),
                    plural: r.resource,
                    kind: r.response_kind.map(|k| k.kind).unwrap_or_default(),
                    namespaced: r.scope == "Namespaced",
                    verbs: Verbs::of(&r.verbs.unwrap_or_default()),
                });
            }
        }
    }
    Ok(found)
}

/// The kinds of all resources in all versions, by what clients of upstream's may call these: the plural, the singular and the
/// names that its mapper guesses for lists (`k8s.io/apimachinery/pkg/api/meta`, `DefaultRESTMapper`).
#[derive(Debug, Default)]
pub(crate) struct Kinds(HashMap<String, Vec<GroupVersionKind>>);

impl Kinds {
    fn insert(&mut self, name: String, kind: GroupVersionKind) {
        let all = self.0.entry(name).or_default();
        // a later resource of the version takes the name over
        all.retain(|known| (&known.group, &known.version) != (&kind.group, &kind.version));
        all.push(kind);
    }

    pub(crate) fn add(&mut self, kind: &GroupVersionKind, plural: &str, singular: &str) {
        let lower = kind.kind.to_lowercase();
        let singular = if singular.is_empty() { &lower } else { singular };
        let list = GroupVersionKind {
            kind: format!("{}List", kind.kind),
            ..kind.clone()
        };
        for (name, kind) in [
            (plural.to_owned(), kind),
            (singular.to_owned(), kind),
            (format!("{lower}lists"), &list),
            (format!("{lower}list"), &list),
        ] {
            self.insert(name, kind.clone());
        }
    }

    /// The kinds of a resource. The core group stands for all groups.
    pub(crate) fn of(&self, group: &str, version: &str, resource: &str) -> impl Iterator<Item = &GroupVersionKind> {
        let all = self.0.get(&resource.to_lowercase()).into_iter().flatten();
        all.filter(move |kind| (group.is_empty() || kind.group == group) && kind.version == version)
    }
}

/// The kinds of all resources in all versions that answer.
pub(crate) async fn kinds(client: &Client) -> Result<Kinds, Error> {
    let mut kinds = Kinds::default();
    for group in groups(client).await? {
        for version in group
            .versions
            .into_iter()
            .filter(|version| version.freshness != "Stale")
        {
            for r in version.resources {
                let kind = r.response_kind.map(|kind| kind.kind).unwrap_or_default();
                let kind = GroupVersionKind::new(&group.metadata.name, &version.version, kind);
                kinds.add(&kind, &r.resource, &r.singular_resource);
            }
        }
    }
    Ok(kinds)
}
