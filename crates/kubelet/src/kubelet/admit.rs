//! Which pods the node takes, and with which resources.

use k8s_openapi::api::core::v1::Pod;

use super::Kubelet;
use super::resize::Restored;
use crate::admission;
use crate::pod::PodExt;
use crate::status::Verdict;
use crate::worker;

impl Kubelet {
    /// Whether the node takes a pod that it has not taken before. A refusal is told in an event and remembered.
    pub(super) async fn takes(&mut self, pod: &Pod) -> Result<(), Verdict> {
        // the API server may be a static pod that is just to be taken: it is asked only where the answer counts
        let spec = pod.spec.as_ref();
        let chooses = spec.is_some_and(|s| s.node_selector.is_some() || s.affinity.is_some());
        let node = if chooses {
            let client = &self.context.client;
            let name = &self.config.node_name;
            client.get::<k8s_openapi::api::core::v1::Node>("", name).await.ok()
        } else {
            None
        };
        let labels = node.and_then(|n| n.metadata.labels).unwrap_or_default();
        let others = self.allocations.others(pod.uid());
        let admitted = self
            .context
            .pressures
            .admit(pod)
            .and_then(|()| self.context.sysctls.admit(pod))
            .and_then(|()| admission::fits_os(pod))
            .and_then(|()| admission::admit(pod, others, &self.context.allocatable, &labels))
            .and_then(|()| admission::fits_apparmor(pod, self.context.apparmor));
        admitted.inspect_err(|verdict| {
            let about = pod.reference();
            self.context
                .recorder
                .warning(&about, &verdict.reason, verdict.message.clone());
            self.rejected.insert(pod.uid().to_owned());
        })
    }

    pub(super) async fn admit(&mut self, mut pod: Pod) {
        let restored = self.allocations.restore(&self.context.pod_dir(pod.uid()), &mut pod);
        let phase = pod
            .status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .unwrap_or("Pending");
        if phase == "Pending"
            && !pod.deleting()
            && let Err(verdict) = self.takes(&pod).await
        {
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
