//! SchedulingGates: a pod with gates does not wait for a node yet.

use crate::framework::{ClusterEvent, Plugin, Refusal};
use crate::metrics::Point;
use crate::pod::PodInfo;

/// Keeps pods out of the queue that have scheduling gates.
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> &'static [Point] {
        &[]
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Refusal> {
        if pod.gates.is_empty() {
            return Ok(());
        }
        let why = format!("waiting for scheduling gates: [{}]", pod.gates.join(" "));
        Err(Refusal::unresolvable(self.name(), why))
    }

    fn wakes(&self, _: &PodInfo, _: &ClusterEvent<'_>) -> bool {
        false
    }
}
