//! Upstream's default plugins, in the order they are asked.

pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod scheduling_gates;
pub mod taint_toleration;
pub mod volume_binding;

use crate::framework::Plugin;

/// The plugins of the default profile.
pub fn default_plugins() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(scheduling_gates::SchedulingGates),
        Box::new(node_unschedulable::NodeUnschedulable),
        Box::new(node_name::NodeName),
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_ports::NodePorts),
        Box::new(node_resources::Fit),
        Box::new(volume_binding::VolumeBinding),
        Box::new(pod_topology_spread::PodTopologySpread),
        Box::new(inter_pod_affinity::InterPodAffinity),
        Box::new(node_resources::BalancedAllocation),
        Box::new(image_locality::ImageLocality),
    ]
}
