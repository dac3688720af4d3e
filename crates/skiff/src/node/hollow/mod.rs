//! Hollow nodes: many nodes in one process, each with a kubelet of its own and a runtime whose containers are nothing but entries of a
//! table. They show what a cluster of so many nodes costs its servers. Upstream's counterpart is kubemark.

mod runtime;
mod table;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use kubelet::Machine;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{NodeError, NodeIdentity, Start, kubelet_settings};
use crate::node_paths::NodePaths;
use runtime::HollowRuntime;

/// As many as have ports after 10250.
pub const MOST: u16 = 5000;
const FIRST_PORT: u16 = 10250;
/// Pods of hollow nodes have addresses of 100.64.0.0/10, which no network in use has (RFC 6598): 256 for each node.
const FIRST_POD: u32 = u32::from_be_bytes([100, 64, 0, 0]);

/// One of the hollow nodes of a process.
#[derive(Debug, Clone, Copy)]
pub struct Hollow {
    /// From 1.
    pub number: u16,
}

impl Hollow {
    /// The node's name and where its things are, by those of its process.
    pub fn of(self, identity: &NodeIdentity, paths: &NodePaths) -> (NodeIdentity, NodePaths) {
        let name = format!("{}-{}", identity.name, self.number);
        let paths = NodePaths::of(&paths.agent.join("hollow").join(self.number.to_string()));
        (
            NodeIdentity {
                name,
                ..identity.clone()
            },
            paths,
        )
    }

    /// What the node says it has: so much that the number of pods is what fills it.
    fn machine(self, host: &Machine) -> Machine {
        const CPUS: i64 = 64;
        const MEMORY: i64 = 256 << 30;
        const DISK: i64 = 1 << 40;
        Machine {
            cpus: CPUS,
            memory: MEMORY,
            disk: DISK,
            hugepages: Vec::new(),
            machine_id: format!("{:032x}", self.number),
            ..host.clone()
        }
    }

    fn pods(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(FIRST_POD + (u32::from(self.number) << 8))
    }

    /// Starts the node's kubelet; it ends with `stop`.
    ///
    /// # Errors
    /// As [`Start::start`].
    pub fn start(self, start: Start<'_>, components: &TaskTracker, stop: &CancellationToken) -> Result<(), NodeError> {
        let Start {
            args,
            paths,
            identity,
            cluster,
            clients,
            shown,
        } = start;
        let mut config = kubelet_settings::config(args, &cluster, &identity, &paths, &shown)?;
        let label = [("node.skiff.io/hollow".to_owned(), "true".to_owned())];
        config.node_labels.extend(BTreeMap::from(label));
        config.machine = Some(self.machine(&Machine::detect(&paths.agent)));
        config.pod_cgroups = false;
        // so many mounts would be the process's, and each is looked at for every pod that goes
        config.memory_volumes = false;
        config.static_pod_path = None;
        config.port = FIRST_PORT + self.number - 1;
        // what runs short is the process's, not the nodes'
        config.healthz_port = 0;
        config.eviction.hard.clear();
        config.image_gc.high_threshold = 100;
        let cri = HollowRuntime::new(self.pods()).clients();
        let stopped = stop.clone();
        components.spawn(async move {
            if let Err(error) = kubelet::run(config, clients.kubelet, cri, stopped).await {
                tracing::error!(node = identity.name, %error, "the kubelet ended");
            }
        });
        Ok(())
    }
}
