//! NodeUnschedulable: nodes that were cordoned take only pods that tolerate it.

use crate::framework::{ClusterEvent, Cycle, Plugin, Refusal};
use crate::metrics::Point;
use crate::node::{NodeFacts, NodeInfo};
use crate::pod::{PodInfo, Taint};

/// Keeps pods off nodes that are cordoned, unless they tolerate that.
pub struct NodeUnschedulable;

fn allows(pod: &PodInfo, facts: &NodeFacts) -> bool {
    !facts.unschedulable
        || pod.tolerates(&Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            value: String::new(),
            effect: "NoSchedule".into(),
        })
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Refusal> {
        if allows(cycle.pod, &node.facts) {
            return Ok(());
        }
        Err(Refusal::unresolvable(self.name(), "node(s) were unschedulable"))
    }

    fn wakes(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => allows(pod, &node.facts),
            ClusterEvent::NodeChanged { old, new } => !allows(pod, old) && allows(pod, &new.facts),
            _ => false,
        }
    }
}
