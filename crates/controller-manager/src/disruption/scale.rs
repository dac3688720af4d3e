//! How many pods the controllers of a budget's pods want.

use std::collections::{HashMap, HashSet};

use http::Method;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use super::Controller;
use crate::discovery::group_path;
use crate::meta::{controller_of, name, namespace};
use crate::ownership::controller_key;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scale {
    pub replicas: i32,
    /// Some pods have no controller and do not count.
    pub unmanaged: bool,
}

/// Why it is not known how many pods there should be: the message of the condition.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScaleError {
    #[error("found no controllers for pod {0:?}")]
    NoController(String),
    #[error(transparent)]
    Decode(#[from] serde_json::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("no matches for kind {kind:?} in version {version:?}")]
    NoKind { kind: String, version: String },
    #[error("{0} does not implement the scale subresource")]
    NoScale(String),
}

impl Controller {
    /// The sum of what the pods' controllers want, each asked once.
    pub(super) async fn scale(&self, pods: &[Pod]) -> Result<Scale, ScaleError> {
        let mut by_owner: HashMap<String, i32> = HashMap::new();
        let (mut unmanaged, mut seen) = (false, HashSet::new());
        for pod in pods {
            let Some(owner) = controller_of(pod) else {
                unmanaged = true;
                continue;
            };
            if !seen.insert(owner.uid.as_str()) {
                continue;
            }
            let found = match self.known(owner, namespace(pod))? {
                Some(found) => Some(found),
                None => self.asked(owner, namespace(pod)).await?,
            };
            // ReplicaSets of one Deployment count once, as it
            let (uid, replicas) = found.ok_or_else(|| ScaleError::NoController(name(pod).to_owned()))?;
            by_owner.insert(uid, replicas);
        }
        Ok(Scale {
            replicas: by_owner.values().fold(0, |sum, n| sum.saturating_add(*n)),
            unmanaged,
        })
    }

    /// The controllers that budgets are mostly about, from the caches: uid and wanted pods.
    fn known(&self, owner: &OwnerReference, namespace: &str) -> Result<Option<(String, i32)>, ScaleError> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let cache = match (group, owner.kind.as_str()) {
            ("apps" | "extensions", "ReplicaSet") => &self.sets,
            ("apps", "StatefulSet") => &self.stateful,
            ("", "ReplicationController") => &self.replication,
            _ => return Ok(None),
        };
        let found = cache.get(&format!("{namespace}/{}", owner.name));
        let Some(found) = found.filter(|o| *o.meta.uid == *owner.uid) else {
            return Ok(None);
        };
        let of = controller_key(&found, "Deployment", "apps");
        let found = of.and_then(|key| self.deployments.get(&key)).unwrap_or(found);
        let tree: Value = found.decode()?;
        let replicas = tree["spec"]["replicas"].as_i64().unwrap_or(1);
        Ok(Some((
            found.meta.uid.to_string(),
            i32::try_from(replicas).unwrap_or(i32::MAX),
        )))
    }

    /// Any other kind, by its scale subresource.
    async fn asked(&self, owner: &OwnerReference, namespace: &str) -> Result<Option<(String, i32)>, ScaleError> {
        let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let base = group_path(group, version);
        let get = |path: String| async move {
            let answer = self.client.json::<Value>(Method::GET, &path, &[], None::<&()>).await;
            match answer {
                Ok(tree) => Ok(Some(tree)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        };
        let list = get(base.clone()).await?.unwrap_or_default();
        let served = list["resources"].as_array().map_or(&[][..], Vec::as_slice);
        let named = |r: &Value| r["name"].as_str().unwrap_or_default().to_owned();
        let mut plurals = served.iter().filter(|r| r["kind"] == *owner.kind).map(named);
        let Some(plural) = plurals.find(|name| !name.contains('/')) else {
            return Err(ScaleError::NoKind {
                kind: owner.kind.clone(),
                version: owner.api_version.clone(),
            });
        };
        let scale = format!("{plural}/scale");
        if !served.iter().any(|r| named(r) == scale && r["kind"] == "Scale") {
            let dot = if group.is_empty() { "" } else { "." };
            return Err(ScaleError::NoScale(format!("{plural}{dot}{group}")));
        }
        let path = format!("{base}/namespaces/{namespace}/{plural}/{}/scale", owner.name);
        let Some(tree) = get(path).await?.filter(|scale| scale["metadata"]["uid"] == *owner.uid) else {
            return Ok(None);
        };
        let replicas = tree["spec"]["replicas"].as_i64().unwrap_or(0);
        Ok(Some((owner.uid.clone(), i32::try_from(replicas).unwrap_or(i32::MAX))))
    }
}
