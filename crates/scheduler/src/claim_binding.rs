//! PreBind of VolumeBinding: the volumes that were chosen are kept for their claims, provisioners are told the node, and
//! the pod waits until the binder has done the rest.

use std::time::Duration;

use client::{Cache, Client, Patch};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use crate::storage::{Claim, ClaimPlan, SELECTED_NODE};

const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// How long provisioning may take: upstream's `bindTimeoutSeconds`.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why a pod did not come to the node that was chosen for it.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(transparent)]
    Api(#[from] client::Error),
    #[error("volume {volume:?} is {owner:?}'s by now")]
    Taken { volume: String, owner: String },
    #[error("claim {0:?} is gone")]
    Gone(String),
    #[error("claim {0:?}: its provisioner wants another node")]
    Rejected(String),
    #[error("claim {claim:?} cannot be read: {source}")]
    Unreadable { claim: String, source: serde_json::Error },
    #[error("binding volumes: timed out waiting for claim {0:?}")]
    Late(String),
}

fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// Binds the claims. Nothing to do takes no time.
pub async fn bind(client: &Client, claims: &Cache, plans: &[ClaimPlan], node: &str) -> Result<(), BindError> {
    if plans.is_empty() {
        return Ok(());
    }
    let mut changes = claims.subscribe();
    for plan in plans {
        match plan {
            ClaimPlan::Volume { claim, volume } => keep(client, claim, volume).await?,
            ClaimPlan::Provision { claim } => select(client, claim, node).await?,
        }
    }
    for plan in plans {
        let (key, told) = (plan.claim(), matches!(plan, ClaimPlan::Provision { .. }));
        let mut seen_node = false;
        let bound = async {
            loop {
                let object = claims.get(key).ok_or_else(|| BindError::Gone(key.to_owned()))?;
                let claim = Claim::of(&object).map_err(|source| BindError::Unreadable {
                    claim: key.to_owned(),
                    source,
                })?;
                if claim.volume.is_some() {
                    return Ok(());
                }
                let selected = claim.selected_node.as_deref() == Some(node);
                if told && seen_node && !selected {
                    return Err(BindError::Rejected(key.to_owned()));
                }
                seen_node |= selected;
                if changes.recv().await.is_none() {
                    return Err(BindError::Late(key.to_owned()));
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, bound).await;
        waited.unwrap_or_else(|_| Err(BindError::Late(key.to_owned())))?;
    }
    Ok(())
}

/// Writes the claim into the volume, if nobody else has it.
async fn keep(client: &Client, key: &str, volume: &str) -> Result<(), BindError> {
    let (namespace, name) = split(key);
    let claim: PersistentVolumeClaim = client.get(namespace, name).await?;
    let found: PersistentVolume = client.get("", volume).await?;
    let owner = found.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let mut annotations = json!({ BOUND_BY_CONTROLLER: "yes" });
    if let Some(owner) = owner {
        let part = |field: &Option<String>| field.clone().unwrap_or_default();
        let ours = part(&owner.name) == name
            && part(&owner.namespace) == namespace
            && (part(&owner.uid).is_empty() || owner.uid == claim.metadata.uid);
        if !ours {
            return Err(BindError::Taken {
                volume: volume.to_owned(),
                owner: format!("{}/{}", part(&owner.namespace), part(&owner.name)),
            });
        }
        // The user kept it for the claim: that stays when the claim goes.
        annotations = json!({});
    }
    let patch = json!({
        "metadata": { "resourceVersion": found.metadata.resource_version, "annotations": annotations },
        "spec": { "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name,
            "uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version,
        } },
    });
    client
        .patch::<PersistentVolume>("", volume, &Patch::Merge(patch))
        .await?;
    Ok(())
}

/// Tells the claim's provisioner where the pod goes.
async fn select(client: &Client, key: &str, node: &str) -> Result<(), BindError> {
    let (namespace, name) = split(key);
    let patch = json!({ "metadata": { "annotations": { SELECTED_NODE: node } } });
    client
        .patch::<PersistentVolumeClaim>(namespace, name, &Patch::Merge(patch))
        .await?;
    Ok(())
}
