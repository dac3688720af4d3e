//! NodePorts: two pods cannot hold the same host port.

use crate::framework::{ClusterEvent, Cycle, Plugin, Refusal};
use crate::metrics::Point;
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Keeps pods off nodes where their host ports are taken.
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Refusal> {
        if !node.has_conflicting_port(&cycle.pod.ports) {
            return Ok(());
        }
        let why = "node(s) didn't have free ports for the requested pod ports";
        Err(Refusal::new(self.name(), why))
    }

    fn wakes(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::PodRemoved(gone) => gone.ports.iter().any(|g| pod.ports.iter().any(|p| p.conflicts(g))),
            _ => false,
        }
    }
}
