//! NodeResourcesFit with the LeastAllocated score, and NodeResourcesBalancedAllocation.

use smallvec::SmallVec;

use crate::framework::{ClusterEvent, Cycle, MAX_SCORE, Plugin, Refusal};
use crate::metrics::Point;
use crate::node::{NodeFacts, NodeInfo};
use crate::pod::PodInfo;
use crate::resources::Resources;

/// Room for the pod, and how much is left.
pub struct Fit;

/// Use of CPU and memory in proportion.
pub struct BalancedAllocation;

const NAME: &str = "NodeResourcesFit";

/// What is missing for the pod beside `pods` others that request `requested`.
fn missing(pod: &PodInfo, facts: &NodeFacts, requested: &Resources, pods: usize) -> Result<(), Refusal> {
    let mut refusal = Refusal {
        plugin: NAME,
        reasons: SmallVec::new(),
        resolvable: true,
    };
    if pods + 1 > facts.allowed_pods {
        refusal.reasons.push("Too many pods".into());
    }
    let wanted = &pod.requests;
    let has = &facts.allocatable;
    for (want, has, used, why) in [
        (wanted.cpu, has.cpu, requested.cpu, "Insufficient cpu"),
        (wanted.memory, has.memory, requested.memory, "Insufficient memory"),
        (
            wanted.ephemeral_storage,
            has.ephemeral_storage,
            requested.ephemeral_storage,
            "Insufficient ephemeral-storage",
        ),
    ] {
        if want > 0 && want > has - used {
            refusal.reasons.push(why.into());
            refusal.resolvable &= want <= has;
        }
    }
    for (name, want) in &wanted.scalars {
        let has = has.scalar(name);
        if *want > 0 && *want > has - requested.scalar(name) {
            refusal.reasons.push(format!("Insufficient {name}").into());
            refusal.resolvable &= *want <= has;
        }
    }
    if refusal.reasons.is_empty() {
        Ok(())
    } else {
        Err(refusal)
    }
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::Score]
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Refusal> {
        missing(cycle.pod, &node.facts, &node.requested, node.pods.len())
    }

    fn weight(&self) -> Option<i64> {
        Some(1)
    }

    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64 {
        let free = |used: i64, has: i64| if used > has { 0 } else { (has - used) * MAX_SCORE / has };
        let has = &node.facts.allocatable;
        let cpu = (node.nonzero.0 + cycle.pod.nonzero.0, has.cpu);
        let memory = (node.nonzero.1 + cycle.pod.nonzero.1, has.memory);
        let counted: SmallVec<[i64; 2]> = [cpu, memory]
            .into_iter()
            .filter(|(_, has)| *has > 0)
            .map(|(used, has)| free(used, has))
            .collect();
        counted.iter().sum::<i64>() / (counted.len() as i64).max(1)
    }

    fn wakes(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        // an empty node of this kind would do
        let fits = |facts: &NodeFacts| missing(pod, facts, &Resources::default(), 0).is_ok();
        match event {
            ClusterEvent::NodeAdded(node) => fits(&node.facts),
            ClusterEvent::NodeChanged { old, new } => {
                (old.allocatable != new.facts.allocatable || old.allowed_pods != new.facts.allowed_pods)
                    && fits(&new.facts)
            }
            ClusterEvent::PodRemoved(_) => true,
            _ => false,
        }
    }
}

/// 100 when all fractions are equal, less by their deviation.
fn balance(used: (i64, i64), has: (i64, i64)) -> i64 {
    if has.0 == 0 || has.1 == 0 {
        return MAX_SCORE;
    }
    let fraction = |used: i64, has: i64| (used as f64 / has as f64).min(1.0);
    let deviation = ((fraction(used.0, has.0) - fraction(used.1, has.1)) / 2.0).abs();
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Score]
    }

    fn weight(&self) -> Option<i64> {
        Some(1)
    }

    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64 {
        let asked = &cycle.pod.requests;
        if asked.cpu == 0 && asked.memory == 0 {
            // best effort changes no balance
            return 0;
        }
        let has = (node.facts.allocatable.cpu, node.facts.allocatable.memory);
        let before = (node.requested.cpu, node.requested.memory);
        let after = (before.0 + asked.cpu, before.1 + asked.memory);
        MAX_SCORE / 2 + (MAX_SCORE / 2 + balance(after, has) - balance(before, has)) / 2
    }

    fn wakes(&self, _: &PodInfo, _: &ClusterEvent<'_>) -> bool {
        false
    }
}
