//! NodeName: a pod that names its node runs nowhere else.

use crate::framework::{ClusterEvent, Cycle, Plugin, Refusal};
use crate::metrics::Point;
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Keeps a pod to the node that it names.
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Refusal> {
        if cycle.pod.node_name.is_empty() || *cycle.pod.node_name == *node.name {
            return Ok(());
        }
        Err(Refusal::unresolvable(
            self.name(),
            "node(s) didn't match the requested node name",
        ))
    }

    fn wakes(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        matches!(event, ClusterEvent::NodeAdded(node) if *pod.node_name == *node.name)
    }
}
