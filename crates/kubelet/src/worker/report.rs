//! Telling the API how the pod is, and taking leave of it.

use client::{DeleteParams, Patch};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::{Stage, SyncError, Worker};
use crate::figures::Figures;
use crate::pod::PodExt;
use crate::status::{Known, pod_status, status_patch};

/// Counts the containers that the new status says have ended and the old one does not.
fn count_ends(figures: &Figures, old: &PodStatus, new: &PodStatus) {
    let lists = |s: &PodStatus| {
        [
            ("init_container", s.init_container_statuses.clone()),
            ("container", s.container_statuses.clone()),
            ("ephemeral_container", s.ephemeral_container_statuses.clone()),
        ]
    };
    for ((kind, new), (_, old)) in lists(new).into_iter().zip(lists(old)) {
        for status in new.iter().flatten() {
            let Some(end) = status.state.as_ref().and_then(|s| s.terminated.as_ref()) else {
                continue;
            };
            let before = old.iter().flatten().find(|o| o.name == status.name);
            if before.is_none_or(|o| o.state.as_ref().is_none_or(|s| s.terminated.is_none())) {
                figures.ended((kind, end.exit_code, end.reason.clone().unwrap_or_default()));
            }
        }
    }
}

impl Worker {
    /// Sends the status if it changed. The phase.
    pub(super) async fn report(&mut self, terminal: bool) -> Result<String, SyncError> {
        let known = Known {
            pod: &self.pod,
            runtime: &self.runtime,
            probed: &self.probed,
            waiting: &self.waiting,
            actuated: &self.actuated,
            resize: &self.resize,
            recursive_read_only: self.node.recursive_read_only(&self.pod),
            host_ips: &self.node.host_ips,
            runtime_name: &self.node.runtime_name,
            terminal,
            failed: self.failed.as_ref(),
            disruption: self.disruption.as_deref(),
            now: Timestamp::now(),
        };
        let status = pod_status(&known);
        let phase = status.phase.clone().unwrap_or_default();
        let old = self.pod.status.clone().unwrap_or_default();
        if phase == "Running"
            && let Some(came) = self.came.take()
        {
            self.node.figures.pod_started(came.elapsed());
        }
        count_ends(&self.node.figures, &old, &status);
        if self.gone && !self.pod.is_static() || status == old {
            self.pod.status = Some(status);
            return Ok(phase);
        }
        let uid = if self.pod.is_static() {
            match &self.mirror_uid {
                Some(uid) => uid.clone(),
                None => {
                    // Said when there is a mirror to say it of.
                    self.pod.status = Some(status);
                    return Ok(phase);
                }
            }
        } else {
            self.pod.uid().to_owned()
        };
        let patch = status_patch(&uid, &old, &status)?;
        if patch["status"].as_object().is_none_or(serde_json::Map::is_empty) {
            return Ok(phase);
        }
        let answer = self
            .node
            .client
            .patch_status::<Pod>(self.pod.namespace(), self.pod.name(), &Patch::Strategic(patch))
            .await;
        match answer {
            Ok(new) => {
                if !self.pod.is_static() {
                    self.pod.metadata.resource_version = new.metadata.resource_version;
                }
                self.pod.status = new.status;
            }
            // Deleted, or another pod has its name: the watch will tell.
            Err(error) if error.is_not_found() || error.is_conflict() => {
                tracing::debug!(pod = self.pod.describe(), %error, "status has nobody to go to");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(phase)
    }

    /// After the containers: nothing is left to do but to let the API forget a deleted pod.
    pub(super) async fn finish(&mut self) -> Result<bool, SyncError> {
        debug_assert_eq!(self.stage, Stage::Terminated);
        if !self.gone && !self.pod.deleting() {
            return Ok(false);
        }
        if !self.gone && !self.pod.is_static() {
            let params = DeleteParams::now(self.pod.uid());
            match self
                .node
                .client
                .delete::<Pod>(self.pod.namespace(), self.pod.name(), &params)
                .await
            {
                Ok(()) => {}
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.remove_from_node().await?;
        Ok(true)
    }
}
