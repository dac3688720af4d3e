//! What all parts of the kubelet share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use client::{Cache, Client, EventRecorder};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};

use crate::cgroups::Cgroups;
use crate::cri_config::NodeSettings;
use crate::eviction::Pressures;
use crate::figures::Figures;
use crate::images::Images;
use crate::network_gate::NetworkGate;
use crate::objects::Objects;
use crate::runtime::Runtime;
use crate::shared_watch::SharedWatch;
use crate::sysctl::Allowlist;
use crate::trust_bundles::TrustBundles;

/// What all parts of a kubelet share.
#[derive(Debug)]
pub struct NodeContext {
    pub client: Client,
    pub runtime: Runtime,
    /// As in `containerd://...`.
    pub runtime_name: String,
    pub recorder: EventRecorder,
    pub images: Images,
    pub objects: Objects,
    pub trust_bundles: TrustBundles,
    /// The PodCertificateRequests of this node.
    pub certificate_requests: SharedWatch,
    /// Kernel settings that pods may have.
    pub sysctls: Allowlist,
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
    /// What it counts of its own work.
    pub figures: Figures,
    /// What the node is short of.
    pub pressures: Pressures,
    /// What pods pass once they have their addresses.
    pub network_gate: NetworkGate,
    /// The kernel enforces AppArmor's profiles.
    pub apparmor: bool,
    /// What the runtime said of its handlers last.
    pub handlers: RwLock<Vec<cri::v1::RuntimeHandler>>,
}

impl NodeContext {
    /// Whether the pod's runtime makes mounts read-only with all below them.
    pub fn recursive_read_only(&self, pod: &Pod) -> bool {
        self.has_feature(pod, |f| f.recursive_read_only_mounts)
    }

    /// Whether the pod's runtime gives pods users of their own.
    pub fn user_namespaces(&self, pod: &Pod) -> bool {
        self.has_feature(pod, |f| f.user_namespaces)
    }

    fn has_feature(&self, pod: &Pod, feature: fn(&cri::v1::RuntimeHandlerFeatures) -> bool) -> bool {
        let handlers = self.handlers.read().unwrap_or_else(PoisonError::into_inner);
        // A class's handler is not known here; the handlers of a runtime differ in other things.
        let class = pod.spec.as_ref().and_then(|s| s.runtime_class_name.as_deref());
        handlers
            .iter()
            .any(|h| (class.is_some() || h.name.is_empty()) && h.features.as_ref().is_some_and(feature))
    }

    /// Remembers what the runtime says of its handlers.
    pub fn learn_handlers(&self, status: &cri::v1::StatusResponse) {
        let mut known = self.handlers.write().unwrap_or_else(PoisonError::into_inner);
        known.clone_from(&status.runtime_handlers);
    }

    /// The node, for events about it.
    pub fn reference(&self) -> ObjectReference {
        let name = Some(self.settings.node_name.clone());
        // Upstream's events name the node in place of its uid.
        ObjectReference {
            kind: Some("Node".to_owned()),
            uid: name.clone(),
            name,
            ..ObjectReference::default()
        }
    }

    /// The directory of a pod: its volumes, and the logs of how its containers ended.
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
