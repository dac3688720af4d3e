//! NodeAffinity: `nodeSelector` and node affinity, required and preferred.

use crate::framework::{ClusterEvent, Cycle, Plugin, Refusal, scale};
use crate::metrics::Point;
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Keeps pods to nodes that their selector and affinity match, and prefers those that they prefer.
pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::Score]
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Refusal> {
        if cycle.pod.node_selector.matches(node) {
            return Ok(());
        }
        let why = "node(s) didn't match Pod's node affinity/selector";
        Err(Refusal::unresolvable(self.name(), why))
    }

    fn weight(&self) -> Option<i64> {
        Some(2)
    }

    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64 {
        let matching = cycle.pod.preferred_nodes.iter().filter(|(_, term)| term.matches(node));
        matching.map(|(weight, _)| weight).sum()
    }

    fn normalize(&self, _: &Cycle<'_>, scores: &mut [i64]) {
        scale(scores, false);
    }

    fn wakes(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => pod.node_selector.matches(node),
            ClusterEvent::NodeChanged { old, new } => {
                old.labels() != new.facts.labels() && pod.node_selector.matches(new)
            }
            _ => false,
        }
    }
}
