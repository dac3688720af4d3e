//! Static pods and their mirrors in the API.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::Kubelet;
use crate::pod::PodExt;
use crate::worker::{self, Message};

impl Kubelet {
    pub(super) async fn manifests_changed(&mut self, files: BTreeMap<String, Pod>) {
        let gone: Vec<String> = self
            .static_pods
            .keys()
            .filter(|k| {
                files.get(*k).map(|p| p.uid().to_owned()) != self.static_pods.get(*k).map(|p| p.uid().to_owned())
            })
            .cloned()
            .collect();
        for key in gone {
            if let Some(old) = self.static_pods.remove(&key) {
                self.allocations.forget(old.uid());
                self.end(old.uid());
            }
            if !files.contains_key(&key)
                && let Some(mirror) = self.table.by_key(&key)
            {
                self.delete_mirror(&mirror).await;
            }
        }
        self.table.set_static(files.values().cloned().collect());
        for (key, pod) in files {
            if self.static_pods.contains_key(&key) {
                continue;
            }
            if self.takes(&pod).await.is_err() {
                // nothing of it is shown to the API
                self.static_pods.insert(key, pod);
                continue;
            }
            self.allocations.note(&pod);
            self.workers
                .insert(pod.uid().to_owned(), worker::spawn(self.context.clone(), pod.clone()));
            self.static_pods.insert(key.clone(), pod.clone());
            match self.table.by_key(&key) {
                Some(mirror) => self.mirror_changed(&key, mirror).await,
                None => self.make_mirror(&pod).await,
            }
        }
    }

    pub(super) async fn mirror_changed(&mut self, key: &str, mirror: Pod) {
        match self.static_pods.get(key) {
            Some(pod)
                if mirror.annotation(crate::pod::MIRROR_ANNOTATION) == pod.annotation(crate::pod::HASH_ANNOTATION)
                    && !mirror.deleting() =>
            {
                if let Some(worker) = self.workers.get(pod.uid()) {
                    worker.send(Message::Mirror(Box::new(mirror)));
                }
            }
            // Of an older manifest, of none, or being deleted: a new one follows when it is gone.
            _ if self.cleaned || self.static_pods.contains_key(key) => self.delete_mirror(&mirror).await,
            _ => {}
        }
    }

    pub(super) async fn make_mirror(&self, pod: &Pod) {
        let mut mirror = pod.clone();
        let hash = pod
            .annotation(crate::pod::HASH_ANNOTATION)
            .unwrap_or_default()
            .to_owned();
        mirror.metadata.uid = None;
        mirror
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(crate::pod::MIRROR_ANNOTATION.to_owned(), hash);
        mirror.status = None;
        if let Ok(node) = self
            .context
            .client
            .get::<k8s_openapi::api::core::v1::Node>("", &self.config.node_name)
            .await
        {
            mirror.metadata.owner_references =
                Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Node".to_owned(),
                    name: self.config.node_name.clone(),
                    uid: node.metadata.uid.unwrap_or_default(),
                    controller: Some(true),
                    block_owner_deletion: None,
                }]);
        }
        match self.context.client.create(&mirror).await {
            Err(error) if !error.is_already_exists() => {
                tracing::warn!(pod = pod.describe(), %error, "mirror pod not made");
            }
            _ => {}
        }
    }

    async fn delete_mirror(&self, mirror: &Pod) {
        let params = client::DeleteParams::now(mirror.uid());
        match self
            .context
            .client
            .delete::<Pod>(mirror.namespace(), mirror.name(), &params)
            .await
        {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                tracing::warn!(pod = mirror.describe(), %error, "mirror pod not deleted");
            }
            _ => {}
        }
    }
}
