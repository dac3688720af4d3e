//! The node's part of the pod network.

use client::Client;
use kubelet::NetworkGate;
use network_policy::NetworkPolicyConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{ClusterSettings, NodeIdentity};
use crate::node_paths::NodePaths;

/// The network of pods whose addresses come from `net`.
pub fn default_network(paths: &NodePaths, net: cni::link::Net) -> cni::DefaultNetwork {
    cni::DefaultNetwork {
        bridge: paths.bridge.clone(),
        pod_cidrs: vec![net],
        data_dir: paths.agent.join("cni/networks"),
        mtu: 0,
        masquerade: true,
    }
}

/// How this node takes part in the pod network of its cluster.
///
/// # Errors
/// For a back end that this version does not have.
pub(super) fn overlay(
    cluster: &ClusterSettings,
    cluster_cidrs: Vec<cni::link::Net>,
    node: &NodeIdentity,
    paths: &NodePaths,
) -> Result<cni::overlay::OverlayConfig, cni::overlay::BackendError> {
    Ok(cni::overlay::OverlayConfig {
        node: node.name.clone(),
        node_ips: node.ips.clone(),
        backend: cluster.flannel_backend.parse()?,
        cluster_cidrs,
        bridge: paths.bridge.clone(),
        addresses: paths.agent.join("cni/networks"),
        conf_dir: paths.cni_conf(),
    })
}

/// The nftables tables of a node's network policies.
pub fn policy_table(paths: &NodePaths) -> String {
    format!("{}-network-policy", paths.bridge)
}

/// Keeps network policies in force until `stop`, and gives what pods have to pass before they start.
pub(super) fn policies(
    node: &NodeIdentity,
    paths: &NodePaths,
    reader: Client,
    components: &TaskTracker,
    stop: &CancellationToken,
) -> NetworkGate {
    let config = NetworkPolicyConfig {
        node_name: node.name.clone(),
        node_ips: node.ips.clone(),
        table: policy_table(paths),
    };
    let (gate, asks) = network_policy::gate();
    components.spawn(network_policy::run(config, reader, asks, stop.clone()));
    NetworkGate::new(move |pod, ips| {
        let gate = gate.clone();
        Box::pin(async move { gate.pass(pod, ips).await })
    })
}
