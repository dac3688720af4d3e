//! Volumes that a pod has by a claim: which persistent volume that is, and how it comes to the pod.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use client::Client;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use nix::mount::MsFlags;

use super::ownership::own_all_by_group;
use super::{HostPathError, host_path, is_mount_point, plugin_dir};
use crate::pod::PodExt;

/// Why a claim gives no volume now.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("error processing PVC {claim}: {source}")]
    Api { claim: String, source: client::Error },
    #[error("error processing PVC {claim}: {source}")]
    Refused { claim: String, source: Unbound },
}

/// Why a claim has no volume for a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unbound {
    #[error("PVC was not created for the pod")]
    NotOfPod,
    #[error("PVC is being deleted")]
    Deleted,
    #[error("PVC is not bound")]
    Pending,
    #[error("PV {0} spec.claimRef.UID does not match the claim's")]
    Other(String),
}

/// Why a persistent volume does not come to a pod of this node.
#[derive(Debug, thiserror::Error)]
pub enum ClaimedError {
    #[error("the persistent volume has no spec")]
    NoSpec,
    #[error("block devices are not supported by this node")]
    Block,
    #[error("persistent volumes of type {0} are not supported by this node")]
    Type(String),
    #[error(transparent)]
    HostPath(#[from] HostPathError),
    #[error("path {path:?}: {source}")]
    Path { path: String, source: io::Error },
    #[error("path {0:?} is not a directory")]
    NoDirectory(String),
    #[error("{}: {source}", at.display())]
    Bind { at: PathBuf, source: io::Error },
    #[error("fsGroup of {path:?}: {source}")]
    Group { path: String, source: io::Error },
}

/// The claim of a volume: named, or made for the pod.
fn claim_of(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), false));
    }
    volume.ephemeral.as_ref()?;
    Some((format!("{}-{}", pod.name(), volume.name), true))
}

/// The persistent volumes of the pod's claims, by the names of the pod's volumes. What is `known` is not asked for again.
pub async fn resolve(
    client: &Client,
    pod: &Pod,
    known: &mut BTreeMap<String, PersistentVolume>,
) -> Result<(), ClaimError> {
    for volume in super::used(pod) {
        let Some((name, made)) = claim_of(pod, volume) else {
            continue;
        };
        if known.contains_key(&volume.name) {
            continue;
        }
        let about = format!("{}/{name}", pod.namespace());
        let api = |source| ClaimError::Api {
            claim: about.clone(),
            source,
        };
        let claim = client
            .get::<PersistentVolumeClaim>(pod.namespace(), &name)
            .await
            .map_err(api)?;
        let bound_to = check(pod, &claim, made).map_err(|source| ClaimError::Refused {
            claim: about.clone(),
            source,
        })?;
        let found = client.get::<PersistentVolume>("", &bound_to).await.map_err(api)?;
        let owner = found.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        if owner.and_then(|o| o.uid.as_ref()) != claim.metadata.uid.as_ref() {
            let source = Unbound::Other(bound_to);
            return Err(ClaimError::Refused { claim: about, source });
        }
        known.insert(volume.name.clone(), found);
    }
    Ok(())
}

/// The name of the volume that the claim is bound to.
fn check(pod: &Pod, claim: &PersistentVolumeClaim, made: bool) -> Result<String, Unbound> {
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|o| o.controller == Some(true));
    if made && !controllers.any(|o| o.uid == pod.uid()) {
        return Err(Unbound::NotOfPod);
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(Unbound::Deleted);
    }
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    let volume = claim.spec.as_ref().and_then(|s| s.volume_name.clone());
    match volume.filter(|v| !v.is_empty()) {
        Some(volume) if phase == Some("Bound") => Ok(volume),
        _ => Err(Unbound::Pending),
    }
}

/// Where the pod finds the volume on this node.
/// `group` gets the volume when it is mounted: all of it, or with `only_if_needed` where its root is not the group's yet.
pub fn set_up(
    volume: &PersistentVolume,
    pod_dir: &Path,
    group: Option<u32>,
    only_if_needed: bool,
) -> Result<PathBuf, ClaimedError> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let spec = volume.spec.as_ref().ok_or(ClaimedError::NoSpec)?;
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(ClaimedError::Block);
    }
    if let Some(source) = &spec.host_path {
        host_path(source)?;
        return Ok(source.path.clone().into());
    }
    if let Some(source) = &spec.local {
        let path = Path::new(&source.path);
        let found = fs::metadata(path).map_err(|error| ClaimedError::Path {
            path: source.path.clone(),
            source: error,
        })?;
        if !found.is_dir() {
            return Err(ClaimedError::NoDirectory(source.path.clone()));
        }
        let at = plugin_dir(pod_dir, "local-volume", name);
        let fresh = bind(path, &at).map_err(|source| ClaimedError::Bind { at: at.clone(), source })?;
        if let Some(group) = group.filter(|_| fresh) {
            own_all_by_group(&at, group, only_if_needed).map_err(|error| ClaimedError::Group {
                path: source.path.clone(),
                source: error,
            })?;
        }
        return Ok(at);
    }
    let json = serde_json::to_value(spec).unwrap_or_default();
    let known = [
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    let kind = json
        .as_object()
        .and_then(|o| o.keys().find(|k| !known.contains(&k.as_str())));
    Err(ClaimedError::Type(kind.map_or("unknown", String::as_str).to_owned()))
}

/// Whether it was not mounted there before.
fn bind(from: &Path, at: &Path) -> io::Result<bool> {
    fs::create_dir_all(at)?;
    // A directory of the same file system shows no border: the mount table is asked.
    if is_mount_point(at)? || is_listed(at)? {
        return Ok(false);
    }
    nix::mount::mount(
        Some(from),
        at,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?;
    Ok(true)
}

fn is_listed(at: &Path) -> io::Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut points = table.lines().filter_map(|l| l.split(' ').nth(4));
    Ok(points.any(|p| Path::new(&p.replace("\\040", " ")) == at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_gives_its_volume_only_when_it_is_bound_and_stays() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}})).unwrap();
        let claim = |meta: serde_json::Value, phase: &str, volume: &str| -> PersistentVolumeClaim {
            serde_json::from_value(
                json!({"metadata": meta, "spec": {"volumeName": volume}, "status": {"phase": phase}}),
            )
            .unwrap()
        };
        let of_pod = json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]});
        let leaving = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        for (claim, made, want) in [
            (claim(json!({}), "Bound", "v"), false, Ok("v")),
            (claim(json!({}), "Pending", "v"), false, Err("PVC is not bound")),
            (claim(json!({}), "Bound", ""), false, Err("PVC is not bound")),
            (claim(leaving, "Bound", "v"), false, Err("PVC is being deleted")),
            (
                claim(json!({}), "Bound", "v"),
                true,
                Err("PVC was not created for the pod"),
            ),
            (claim(of_pod, "Bound", "v"), true, Ok("v")),
        ] {
            let got = check(&pod, &claim, made).map_err(|e| e.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), want);
        }
    }

    #[test]
    fn a_host_path_volume_is_where_it_is_and_others_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let volume = |source: serde_json::Value| -> PersistentVolume {
            serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": source})).unwrap()
        };
        let at = volume(json!({"hostPath": {"path": "/x"}, "capacity": {"storage": "1Gi"}}));
        assert_eq!(set_up(&at, dir.path(), None, false).unwrap(), Path::new("/x"));
        let nfs = volume(json!({"nfs": {"server": "s", "path": "/"}, "accessModes": ["ReadWriteOnce"]}));
        let refused = set_up(&nfs, dir.path(), None, false).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "persistent volumes of type nfs are not supported by this node"
        );
        let gone = volume(json!({"local": {"path": dir.path().join("gone")}}));
        assert!(set_up(&gone, dir.path(), None, false).is_err());
    }
}
