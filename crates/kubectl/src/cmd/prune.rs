//! `apply --prune`: deletes what was applied before and is not in the files any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::apply::last_applied;
use crate::api::{Call, Query};
use crate::change::Changer;
use crate::cmd::describe::{items, str_of};
use crate::discovery::ResourceType;
use crate::error::{Result, fail, message};
use crate::select::Info;
use crate::session::Session;

/// What is pruned where no list is given (`pkg/util/prune/prune.go`): group, version, kind.
const DEFAULT: [[&str; 3]; 16] = [
    ["", "v1", "ConfigMap"],
    ["", "v1", "Endpoints"],
    ["", "v1", "PersistentVolumeClaim"],
    ["", "v1", "Pod"],
    ["", "v1", "ReplicationController"],
    ["", "v1", "Secret"],
    ["", "v1", "Service"],
    ["batch", "v1", "Job"],
    ["batch", "v1", "CronJob"],
    ["networking.k8s.io", "v1", "Ingress"],
    ["apps", "v1", "DaemonSet"],
    ["apps", "v1", "Deployment"],
    ["apps", "v1", "ReplicaSet"],
    ["apps", "v1", "StatefulSet"],
    ["", "v1", "Namespace"],
    ["", "v1", "PersistentVolume"],
];
const WITH_NAMESPACE: &str = "Deprecated: kubectl apply will no longer prune non-namespaced resources by default when used with the \
                              --namespace flag in a future release. To preserve the current behaviour, list the resources you want to \
                              target explicitly in the --prune-allowlist flag.";

/// Prunes after an apply.
pub struct Pruner<'a> {
    pub changer: &'a Changer<'a>,
    selector: &'a str,
    types: Vec<Arc<ResourceType>>,
    /// What was applied, by uid, and where.
    uids: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl<'a> Pruner<'a> {
    /// Looks up what may be pruned: `allowed` has entries of the form `group/version/kind`, with "core" for the group without a name.
    ///
    /// # Errors
    /// When an entry has another form, or the server knows no such kind.
    pub async fn new(changer: &'a Changer<'a>, allowed: &[String], selector: &'a str) -> Result<Pruner<'a>> {
        let discovery = changer.session.resources().await?;
        let kinds = kinds_of(allowed)?;
        let mut types = Vec::new();
        for [group, version, kind] in &kinds {
            let api_version = join(group, version);
            let found = discovery.kind(&api_version, kind);
            let unknown = || message(format!("no matches for kind {kind:?} in version {api_version:?}"));
            types.push(found.ok_or_else(unknown)?);
        }
        // upstream says so whether the namespace was named or not
        if allowed.is_empty() {
            changer.session.warn(WITH_NAMESPACE);
        }
        Ok(Pruner {
            changer,
            selector,
            types,
            uids: BTreeSet::new(),
            namespaces: BTreeSet::new(),
        })
    }

    /// Notes an object that stays.
    pub fn keep(&mut self, info: &Info) {
        self.uids.insert(str_of(&info.object["metadata"]["uid"]).to_owned());
        if info.ty.namespaced {
            self.namespaces.insert(info.namespace.clone());
        }
    }

    /// Deletes the others.
    pub async fn run(&self) -> Result<()> {
        for namespace in &self.namespaces {
            for ty in self.types.iter().filter(|ty| ty.namespaced) {
                self.prune(ty, namespace)
                    .await
                    .map_err(|e| self.failed("namespaced", ty, &e))?;
            }
        }
        for ty in self.types.iter().filter(|ty| !ty.namespaced) {
            self.prune(ty, "")
                .await
                .map_err(|e| self.failed("nonNamespaced", ty, &e))?;
        }
        Ok(())
    }

    fn failed(&self, what: &str, ty: &ResourceType, error: &crate::error::Error) -> crate::error::Error {
        let kind = format!("{}, Kind={}", join(&ty.group, &ty.version), ty.kind);
        message(format!("error pruning {what} object {kind}: {error}"))
    }

    async fn prune(&self, ty: &Arc<ResourceType>, namespace: &str) -> Result<()> {
        let session: &Session = self.changer.session;
        let query: Query = match self.selector {
            "" => Vec::new(),
            selector => vec![("labelSelector", selector.to_owned())],
        };
        let list = session
            .api()?
            .json(&Call::get(ty.collection(namespace)).query(query))
            .await?;
        for object in items(&list["items"]) {
            let stays = last_applied(object).is_none() || self.uids.contains(str_of(&object["metadata"]["uid"]));
            if stays {
                continue;
            }
            let object = typed(ty, object);
            let info = Info::of(ty, object);
            if !self.changer.is_local() {
                self.changer.delete(&info, None, "Background").await?;
            }
            self.changer.tell(&info.object, "pruned")?;
        }
        Ok(())
    }
}

/// An item of a list with the type that it lacks.
fn typed(ty: &ResourceType, object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = Value::from(ty.api_version());
    object["kind"] = Value::from(ty.kind.clone());
    object
}

fn join(group: &str, version: &str) -> String {
    api::gvk::join_api_version(group, version)
}

/// Reads a list of kinds; the default one where none is given.
///
/// # Errors
/// When an entry has not the form `group/version/kind`.
pub fn kinds_of(allowed: &[String]) -> Result<Vec<[String; 3]>> {
    if allowed.is_empty() {
        return Ok(DEFAULT.iter().map(|kind| kind.map(str::to_owned)).collect());
    }
    let read = |text: &String| match text.split('/').collect::<Vec<_>>().as_slice() {
        [group, version, kind] => {
            let group = if *group == "core" { "" } else { group };
            Ok([group, version, kind].map(|part| (*part).to_owned()))
        }
        _ => fail(format!(
            "invalid GroupVersionKind format: {text}, please follow <group/version/kind>"
        )),
    };
    allowed.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_kinds_is_read_as_upstream_reads_it() {
        let read = |text: &str| {
            kinds_of(&[text.to_owned()])
                .map(|kinds| kinds[0].join("|"))
                .map_err(|e| e.to_string())
        };
        assert_eq!(read("core/v1/ConfigMap").unwrap(), "|v1|ConfigMap");
        assert_eq!(read("apps/v1/Deployment").unwrap(), "apps|v1|Deployment");
        assert_eq!(
            read("v1/ConfigMap").unwrap_err(),
            "invalid GroupVersionKind format: v1/ConfigMap, please follow <group/version/kind>"
        );
        assert_eq!(kinds_of(&[]).unwrap().len(), DEFAULT.len());
    }
}
