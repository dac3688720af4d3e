//! Which resources the server serves, including those of custom kinds.

use client::Client;
use http::Method;
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
    Watch,
}

impl Verbs {
    fn of(names: &[String]) -> Verbs {
        let bit = |name: &String| match name.as_str() {
            "delete" => 1 << Verb::Delete as u8,
            "deletecollection" => 1 << Verb::DeleteCollection as u8,
            "list" => 1 << Verb::List as u8,
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
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    #[serde(default)]
    versions: Vec<Version>,
    #[serde(default)]
    preferred_version: Option<Version>,
}

#[derive(Deserialize, Clone)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct ApiResource {
    name: String,
    #[serde(default)]
    namespaced: bool,
    kind: String,
    #[serde(default)]
    verbs: Vec<String>,
}

/// What discovery found, and which group versions did not answer.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    pub resources: Vec<ServedResource>,
    pub failed: Vec<(String, String)>,
}

/// All resources, each once: in the preferred version of its group, or the first other version that has it.
pub(crate) async fn discover(client: &Client) -> Result<Discovered, Error> {
    let groups: GroupList = client.json(Method::GET, "/apis", &[], None::<&()>).await?;
    let mut found = Discovered::default();
    let mut seen = std::collections::HashSet::new();
    let core = Group {
        name: String::new(),
        versions: vec![Version { version: "v1".into() }],
        preferred_version: None,
    };
    for group in std::iter::once(core).chain(groups.groups) {
        let preferred = group.preferred_version.iter().cloned();
        let mut asked = std::collections::HashSet::new();
        for version in preferred.chain(group.versions.iter().cloned()) {
            if !asked.insert(version.version.clone()) {
                continue;
            }
            let path = group_path(&group.name, &version.version);
            let list: ResourceList = match client.json(Method::GET, &path, &[], None::<&()>).await {
                Ok(list) => list,
                Err(error) => {
                    found.failed.push((
                        api::gvk::join_api_version(&group.name, &version.version),
                        error.to_string(),
                    ));
                    continue;
                }
            };
            for r in list.resources {
                if r.name.contains('/') || !seen.insert((group.name.clone(), r.name.clone())) {
                    continue;
                }
                found.resources.push(ServedResource {
                    group: group.name.clone(),
                    version: version.version.clone(),
                    plural: r.name,
                    kind: r.kind,
                    namespaced: r.namespaced,
                    verbs: Verbs::of(&r.verbs),
                });
            }
        }
    }
    Ok(found)
}
