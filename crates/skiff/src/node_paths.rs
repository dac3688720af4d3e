//! Where a node keeps its things. The node of the default data directory uses the places that programs beside Kubernetes
//! know (`/var/lib/kubelet`, `/var/log/pods`); one of another data directory keeps to itself, so that several nodes fit on
//! one machine.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where state is kept unless `--data-dir` says otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/skiff";
const DEFAULT_KUBELET: &str = "/var/lib/kubelet";

/// Where a node keeps what it has.
#[derive(Debug, Clone)]
pub struct NodePaths {
    pub agent: PathBuf,
    /// Sockets and namespaces of this boot. Short: they are part of socket addresses.
    pub run: PathBuf,
    /// The cgroup below which everything of the node is.
    pub cgroup: String,
    /// The bridge that pods hang on.
    pub bridge: String,
    pub kubelet: PathBuf,
    pub pod_logs: PathBuf,
    pub container_logs: PathBuf,
}

impl NodePaths {
    /// The paths of a node with this folder for its state.
    pub fn of(data_dir: &Path) -> NodePaths {
        let agent = data_dir.join("agent");
        if data_dir == Path::new(DEFAULT_DATA_DIR) {
            return NodePaths {
                agent,
                run: "/run/skiff".into(),
                cgroup: "/skiff".into(),
                bridge: "skiff0".into(),
                kubelet: DEFAULT_KUBELET.into(),
                pod_logs: "/var/log/pods".into(),
                container_logs: "/var/log/containers".into(),
            };
        }
        let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        let tag: String = digest[..4].iter().map(|b| format!("{b:02x}")).collect();
        NodePaths {
            run: format!("/run/skiff-{tag}").into(),
            cgroup: format!("/skiff-{tag}"),
            bridge: format!("skiff{tag}"),
            kubelet: agent.join("kubelet"),
            pod_logs: agent.join("log/pods"),
            container_logs: agent.join("log/containers"),
            agent,
        }
    }

    /// The folder of the network's configuration.
    pub fn cni_conf(&self) -> PathBuf {
        self.agent.join("etc/cni/net.d")
    }

    /// The folder of static pods.
    pub fn manifests(&self) -> PathBuf {
        self.agent.join("pod-manifests")
    }

    /// What the node is known by: its password, and its number if its name has one. Not with the data, so that a node whose data was
    /// removed is still itself.
    pub fn node_config(&self) -> PathBuf {
        match self.kubelet == Path::new(DEFAULT_KUBELET) {
            true => "/etc/skiff/node".into(),
            false => self.agent.join("etc/node"),
        }
    }

    /// Archives that are imported at start.
    pub fn images(&self) -> PathBuf {
        self.agent.join("images")
    }

    /// Where the runtime answers CRI.
    pub fn socket(&self) -> PathBuf {
        self.run.join("cri.sock")
    }
}
