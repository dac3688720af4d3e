//! What all parts of the kubelet share.

use std::collections::BTreeMap;
use std::path::PathBuf;

use client::{Cache, Client, EventRecorder};
use k8s_openapi::api::core::v1::Service;

use crate::cgroups::Cgroups;
use crate::cri_config::NodeSettings;
use crate::images::Images;
use crate::objects::Objects;
use crate::runtime::Runtime;

#[derive(Debug)]
pub struct NodeContext {
    pub client: Client,
    pub runtime: Runtime,
    /// As in `containerd://...`.
    pub runtime_name: String,
    pub recorder: EventRecorder,
    pub images: Images,
    pub objects: Objects,
    pub cgroups: Cgroups,
    pub settings: NodeSettings,
    /// `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// `/var/log/containers`: links by pod and container names.
    pub container_log_links: PathBuf,
    pub services: Cache,
    pub host_ips: Vec<String>,
    /// In thousandths, by resource.
    pub allocatable: BTreeMap<String, i64>,
    pub pod_pids_limit: Option<i64>,
}

impl NodeContext {
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    /// The services that a pod of this namespace may see.
    pub fn services_of(&self, namespace: &str) -> Vec<Service> {
        let mut objects = self.services.by_index("namespace", namespace);
        if namespace != "default" {
            objects.extend(self.services.get("default/kubernetes"));
        }
        objects.iter().filter_map(|o| o.decode().ok()).collect()
    }
}
