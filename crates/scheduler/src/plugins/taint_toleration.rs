//! TaintToleration: taints keep away pods that do not tolerate them, or make them prefer other nodes.

use crate::framework::{ClusterEvent, Cycle, Plugin, Refusal, scale};
use crate::metrics::Point;
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Keeps pods off nodes whose taints they do not tolerate, and prefers nodes with few of those that only say so.
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::Score]
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Refusal> {
        match cycle.pod.untolerated(&node.facts.taints) {
            None => Ok(()),
            Some(_) => Err(Refusal::unresolvable(self.name(), "node(s) had untolerated taint(s)")),
        }
    }

    fn weight(&self) -> Option<i64> {
        Some(3)
    }

    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64 {
        let avoided = |t: &&crate::pod::Taint| t.effect == "PreferNoSchedule" && !cycle.pod.tolerates(t);
        node.facts.taints.iter().filter(avoided).count() as i64
    }

    fn normalize(&self, _: &Cycle<'_>, scores: &mut [i64]) {
        scale(scores, true);
    }

    fn wakes(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => pod.untolerated(&node.facts.taints).is_none(),
            ClusterEvent::NodeChanged { old, new } => {
                pod.untolerated(&old.taints).is_some() && pod.untolerated(&new.facts.taints).is_none()
            }
            _ => false,
        }
    }
}
