//! Which pods the node takes, and with which resources.

use k8s_openapi::api::core::v1::Pod;

use super::Kubelet;
use super::resize::Restored;
use crate::admission;
use crate::pod::PodExt;
use crate::worker;

impl Kubelet {
    pub(super) async fn admit(&mut self, mut pod: Pod) {
        let restored = self.allocations.restore(&self.context.pod_dir(pod.uid()), &mut pod);
        let phase = pod
            .status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .unwrap_or("Pending");
        if phase == "Pending" && !pod.deleting() {
            let node = self
                .context
                .client
                .get::<k8s_openapi::api::core::v1::Node>("", &self.config.node_name)
                .await
                .ok();
            let labels = node.and_then(|n| n.metadata.labels).unwrap_or_default();
            let admitted = self
                .context
                .pressures
                .admit(&pod)
                .and_then(|()| self.context.sysctls.admit(&pod))
                .and_then(|()| admission::fits_os(&pod))
                .and_then(|()| {
                    admission::admit(
                        &pod,
                        self.allocations.others(pod.uid()),
                        &self.context.allocatable,
                        &labels,
                    )
                })
                .and_then(|()| admission::fits_apparmor(&pod, self.context.apparmor));
            if let Err(verdict) = admitted {
                self.context
                    .recorder
                    .warning(&pod.reference(), &verdict.reason, verdict.message.clone());
                self.rejected.insert(pod.uid().to_owned());
                let status = serde_json::json!({"status": {
                    "phase": "Failed", "reason": verdict.reason, "message": format!("Pod was rejected: {}", verdict.message),
                    "observedGeneration": pod.metadata.generation,
                    "startTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now()),
                }});
                let patch = client::Patch::Strategic(status);
                if let Err(error) = self
                    .context
                    .client
                    .patch_status::<Pod>(pod.namespace(), pod.name(), &patch)
                    .await
                {
                    tracing::warn!(pod = pod.describe(), %error, "rejection not recorded");
                }
                return;
            }
        }
        let uid = pod.uid().to_owned();
        match restored {
            Restored::Nothing if !pod.has_ended() => self.give(&pod),
            Restored::Nothing | Restored::AsAsked => {}
            Restored::Other => self.allocations.wait(&uid),
        }
        self.allocations.note(&pod);
        self.workers.insert(uid, worker::spawn(self.context.clone(), pod));
    }
}
