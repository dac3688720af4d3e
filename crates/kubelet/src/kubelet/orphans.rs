//! What nobody wants any more is ended and removed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Kubelet;
use crate::cri_config::POD_UID;
use crate::volumes;
use crate::worker::{self, Message};

impl Kubelet {
    /// Pods in the runtime or on disk that nobody wants: they are ended and removed.
    pub(super) async fn clean_orphans(&mut self) {
        let sandboxes = match self.context.runtime.list_sandboxes(None).await {
            Ok(sandboxes) => sandboxes,
            Err(error) => {
                tracing::warn!(%error, "orphaned pods not looked for");
                return;
            }
        };
        let mut unknown: BTreeMap<String, ObjectMeta> = BTreeMap::new();
        for sandbox in sandboxes {
            // A sandbox without the label is not a kubelet's.
            let Some(uid) = sandbox.labels.get(POD_UID) else {
                continue;
            };
            let meta = sandbox.metadata.unwrap_or_default();
            unknown.insert(
                uid.clone(),
                ObjectMeta {
                    uid: Some(uid.clone()),
                    name: Some(meta.name),
                    namespace: Some(meta.namespace),
                    ..ObjectMeta::default()
                },
            );
        }
        let known = |uid: &String| self.workers.contains_key(uid) || self.ending.contains_key(uid);
        unknown.retain(|uid, _| !known(uid));
        if let Ok(dirs) = std::fs::read_dir(self.context.root_dir.join("pods")) {
            for uid in dirs.flatten().filter_map(|d| d.file_name().into_string().ok()) {
                if !known(&uid) && !unknown.contains_key(&uid) {
                    let dir = self.context.pod_dir(&uid);
                    if let Err(error) = volumes::tear_down(&dir).and_then(|()| self.context.cgroups.remove_pod(&uid)) {
                        tracing::warn!(uid, %error, "directory of an orphaned pod not removed");
                    }
                }
            }
        }
        for (uid, metadata) in unknown {
            tracing::info!(
                pod = metadata.name,
                namespace = metadata.namespace,
                "ending an orphaned pod"
            );
            let worker = worker::spawn(
                self.context.clone(),
                Pod {
                    metadata,
                    ..Pod::default()
                },
            );
            worker.send(Message::Gone);
            self.ending.insert(uid, worker);
        }
    }
}
