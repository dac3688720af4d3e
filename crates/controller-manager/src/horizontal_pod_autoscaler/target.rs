//! The scale of whatever an autoscaler names: kinds are looked up in discovery, numbers read and written by the `scale` subresource.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::selectors::LabelSelector;
use client::Client;
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::answers::{Told, said};
use crate::discovery::group_path;

/// How often a write that another one outran is tried, and how long after it.
const TRIES: usize = 5;
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Where the objects of a kind are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    group: String,
    /// The path of the group's version that is asked.
    base: String,
    pub plural: String,
}

impl Mapping {
    /// `deployments.apps`, as upstream names a resource.
    pub(super) fn resource(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

/// Kinds and where they are. What was found is kept until something there is not found.
#[derive(Debug)]
pub(super) struct Mapper {
    client: Client,
    known: Mutex<HashMap<(String, String), Mapping>>,
}

/// The versions of a group.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    versions: Vec<Version>,
    preferred_version: Option<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Resources {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    kind: String,
}

impl Mapper {
    pub(super) fn new(client: Client) -> Mapper {
        Mapper {
            client,
            known: Mutex::default(),
        }
    }

    /// The resource of a kind, in the version that its group prefers or the first other one that has it.
    ///
    /// # Errors
    /// In upstream's words when there is none.
    pub(super) async fn find(&self, group: &str, kind: &str) -> Result<Mapping, Told> {
        let key = (group.to_owned(), kind.to_owned());
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        for version in self.versions(group).await? {
            let base = group_path(group, &version);
            let Some(list) = self.get::<Resources>(&base).await? else {
                continue;
            };
            let mut resources = list.resources.into_iter();
            if let Some(resource) = resources.find(|r| r.kind == kind && !r.name.contains('/')) {
                let mapping = Mapping {
                    group: group.to_owned(),
                    base,
                    plural: resource.name,
                };
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(key, mapping.clone());
                return Ok(mapping);
            }
        }
        Err(format!("no matches for kind {kind:?} in group {group:?}").into())
    }

    /// What was found may be gone.
    fn forget(&self, group: &str, kind: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(group.to_owned(), kind.to_owned()));
    }

    /// The versions of a group that are served, the preferred one first; of one that is not there none.
    async fn versions(&self, group: &str) -> Result<Vec<String>, Told> {
        if group.is_empty() {
            return Ok(vec!["v1".to_owned()]);
        }
        let Some(found) = self.get::<Group>(&format!("/apis/{}", client::encode(group))).await? else {
            return Ok(Vec::new());
        };
        let first = found.preferred_version.map(|v| v.version);
        let others = found
            .versions
            .into_iter()
            .map(|v| v.version)
            .filter(|v| Some(v) != first.as_ref());
        let others: Vec<String> = others.collect();
        Ok(first.into_iter().chain(others).collect())
    }

    /// A document of discovery; `None` if it is not there.
    async fn get<R: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Option<R>, Told> {
        match self.client.json(Method::GET, path, &[], None::<&()>).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(Told::of(error)),
        }
    }
}

/// The scale of a target as it was read, and where it is.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    path: String,
    resource: String,
    name: String,
    tree: Value,
}

impl Scale {
    fn number(&self, path: &str) -> i32 {
        let number = self.tree.pointer(path).and_then(Value::as_i64).unwrap_or(0);
        i32::try_from(number).unwrap_or(i32::MAX)
    }

    /// How many replicas there are to be.
    pub(super) fn wanted(&self) -> i32 {
        self.number("/spec/replicas")
    }

    /// How many replicas there are.
    pub(super) fn there(&self) -> i32 {
        self.number("/status/replicas")
    }

    /// The selector of the target's pods as text; empty if there is none.
    pub(super) fn selector(&self) -> &str {
        self.tree
            .pointer("/status/selector")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    async fn read(&mut self, client: &Client) -> Result<(), client::Error> {
        self.tree = client.json(Method::GET, &self.path, &[], None::<&()>).await?;
        Ok(())
    }

    /// Gives the target another number of replicas. One that was written meanwhile is read again and written again.
    ///
    /// # Errors
    /// The server's words.
    pub(super) async fn write(&mut self, client: &Client, replicas: i32) -> Result<(), Told> {
        for tried in 1.. {
            self.tree["spec"]["replicas"] = replicas.into();
            let answer = client
                .json::<Value>(Method::PUT, &self.path, &[], Some(&self.tree))
                .await;
            let Err(error) = answer else { return Ok(()) };
            if !error.is_conflict() || tried == TRIES {
                return Err(said(&error, "put", &self.resource, &self.name));
            }
            if let Err(error) = self.read(client).await {
                tracing::debug!(path = %self.path, %error, "cannot read a scale again");
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
        Ok(())
    }
}

/// Reads the scale of a target.
///
/// # Errors
/// As events tell it.
pub(super) async fn scale(
    mapper: &Mapper,
    client: &Client,
    (namespace, name): (&str, &str),
    (group, kind): (&str, &str),
) -> Result<Scale, Told> {
    let mapping = mapper.find(group, kind).await?;
    let (base, plural, escaped) = (&mapping.base, &mapping.plural, client::encode(name));
    let mut scale = Scale {
        path: format!("{base}/namespaces/{namespace}/{plural}/{escaped}/scale"),
        // upstream's client of scales knows no group
        resource: plural.clone(),
        name: name.to_owned(),
        tree: Value::Null,
    };
    match scale.read(client).await {
        Ok(()) => {
            readable(scale.selector()).map_err(|e| {
                format!("received an object from a /scale endpoint which was not convertible to autoscaling Scale: failed to parse target selector: {e}")
            })?;
            Ok(scale)
        }
        Err(error) => {
            if error.is_not_found() {
                mapper.forget(group, kind);
            }
            Err(said(&error, "get", &scale.resource, &scale.name))
        }
    }
}

/// Whether upstream's client can read the selector of a scale: as a `LabelSelector`, which cannot say everything that a text can.
fn readable(selector: &str) -> Result<(), Told> {
    LabelSelector::parse(selector).map_err(|e| format!("couldn't parse the selector string {selector:?}: {e}"))?;
    // neither keys nor values have these letters
    match (selector.contains("!="), selector.find(['<', '>'])) {
        (true, _) => Err("\"!=\" is not a valid label selector operator".into()),
        (_, Some(at)) => {
            let operator = if selector[at..].starts_with('>') { "gt" } else { "lt" };
            Err(format!("{operator:?} isn't supported in label selectors").into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_of_scales_say_what_label_selectors_can_say() {
        for good in ["", "a=b", "a==b,c in (d,e),!f,g,h notin (i)"] {
            assert_eq!(readable(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            (
                "app in a",
                "couldn't parse the selector string \"app in a\": unable to parse requirement: found 'a' expected: '('",
            ),
            ("a=b,x!=y", "\"!=\" is not a valid label selector operator"),
            ("a>1", "\"gt\" isn't supported in label selectors"),
        ] {
            assert_eq!(readable(bad), Err(why.into()), "{bad}");
        }
    }
}
