//! What becomes of a volume whose claim is gone.

use client::DeleteParams;
use k8s_openapi::api::core::v1::PersistentVolume;

use super::Binder;
use super::volume::{Deletion, deletion};
use crate::Error;
use crate::meta::{name, reference, uid};

impl Binder {
    pub(super) async fn reclaim(&self, volume: PersistentVolume) -> Result<(), Error> {
        let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
        let failed = phase == Some("Failed");
        let volume = if failed {
            volume
        } else {
            self.write_phase(volume, "Released", "").await?
        };
        let policy = volume
            .spec
            .as_ref()
            .and_then(|s| s.persistent_volume_reclaim_policy.clone())
            .unwrap_or_default();
        match policy.as_str() {
            "Retain" => Ok(()),
            "Delete" => self.delete(volume).await,
            "Recycle" => {
                let why = "No recycler plugin found for the volume!";
                self.fail(volume, "VolumeFailedRecycle", why).await
            }
            _ => {
                let why = "Volume has unrecognized PersistentVolumeReclaimPolicy";
                self.fail(volume, "VolumeUnknownReclaimPolicy", why).await
            }
        }
    }

    async fn delete(&self, volume: PersistentVolume) -> Result<(), Error> {
        match deletion(&volume) {
            Deletion::External => return Ok(()),
            Deletion::Impossible(why) => return self.fail(volume, "VolumeFailedDelete", &why).await,
            Deletion::Directory(path) => {
                // Asked last, for the claim may have come back.
                let live: PersistentVolume = match self.client.get("", name(&volume)).await {
                    Err(error) if error.is_not_found() => return Ok(()),
                    other => other?,
                };
                if uid(&live) != uid(&volume) || self.claim_of(&live).await?.is_some() {
                    return Ok(());
                }
                let removed = tokio::task::spawn_blocking({
                    let path = path.clone();
                    move || std::fs::remove_dir_all(path)
                })
                .await;
                let removed = removed.map_err(|e| Error::State(format!("removal of {path}: {e}")))?;
                if let Err(error) = removed
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    let why = format!("{path}: {error}");
                    return self.fail(volume, "VolumeFailedDelete", &why).await;
                }
            }
        }
        let only = DeleteParams::uid(uid(&volume));
        match self.client.delete::<PersistentVolume>("", name(&volume), &only).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn fail(&self, volume: PersistentVolume, reason: &str, why: &str) -> Result<(), Error> {
        let known = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Failed");
        let about = reference(&volume);
        self.write_phase(volume, "Failed", why).await?;
        if !known {
            self.recorder.warning(&about, reason, why);
        }
        Ok(())
    }
}
