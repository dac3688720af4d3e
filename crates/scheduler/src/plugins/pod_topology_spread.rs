//! PodTopologySpread: pods of one selector spread over the values of a node label.

use std::collections::HashMap;

use crate::framework::{ClusterEvent, Cycle, MAX_SCORE, Plugin, Refusal};
use crate::label::LabelText;
use crate::metrics::Point;
use crate::node::NodeInfo;
use crate::pod::{PodInfo, Spread};

/// Spreads pods over the values of a node label.
pub struct PodTopologySpread;

const NAME: &str = "PodTopologySpread";

/// Matching pods by domain, for each constraint of the pod, in order.
#[derive(Debug, Default, Clone)]
pub struct SpreadState {
    counts: Vec<HashMap<LabelText, i64>>,
}

/// Whether pods on the node count for the constraint.
fn counts_on(pod: &PodInfo, constraint: &Spread, required: &[&Spread], node: &NodeInfo) -> bool {
    required.iter().all(|c| node.label(c.topology).is_some())
        && (!constraint.honor_affinity || pod.node_selector.matches(node))
        && (!constraint.honor_taints || pod.untolerated(&node.facts.taints).is_none())
}

fn of_kind(pod: &PodInfo, required: bool) -> Vec<&Spread> {
    pod.spread.iter().filter(|c| c.required == required).collect()
}

fn is_counted(pod: &PodInfo, constraint: &Spread, other: &PodInfo) -> bool {
    !other.object.meta.deleting
        && other.namespace() == pod.namespace()
        && constraint.selector.matches(|key| other.label(key))
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::Score]
    }

    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> Result<(), Refusal> {
        let pod = cycle.pod;
        let mut counts = vec![HashMap::new(); pod.spread.len()];
        for (constraint, counts) in pod.spread.iter().zip(&mut counts) {
            let together = of_kind(pod, constraint.required);
            for node in &cycle.snapshot.nodes {
                let Some(domain) = node.label(constraint.topology) else {
                    continue;
                };
                if !counts_on(pod, constraint, &together, node) {
                    continue;
                }
                let here = node.pods.iter().filter(|p| is_counted(pod, constraint, p)).count();
                *counts.entry(domain).or_insert(0) += here as i64;
            }
        }
        cycle.spread.counts = counts;
        Ok(())
    }

    fn adjust(&self, cycle: &mut Cycle<'_>, other: &PodInfo, node: &NodeInfo, sign: i64) {
        let pod = cycle.pod;
        for (constraint, counts) in pod.spread.iter().zip(&mut cycle.spread.counts) {
            let together = of_kind(pod, constraint.required);
            if is_counted(pod, constraint, other)
                && counts_on(pod, constraint, &together, node)
                && let Some(count) = node.label(constraint.topology).and_then(|d| counts.get_mut(&d))
            {
                *count += sign;
            }
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Refusal> {
        let pod = cycle.pod;
        for (constraint, counts) in pod.spread.iter().zip(&cycle.spread.counts) {
            if !constraint.required {
                continue;
            }
            let Some(domain) = node.label(constraint.topology) else {
                let why = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(Refusal::unresolvable(NAME, why));
            };
            let few = constraint.min_domains.is_some_and(|m| (counts.len() as i64) < m);
            let least = if few {
                0
            } else {
                counts.values().copied().min().unwrap_or(0)
            };
            let own = i64::from(constraint.selector.matches(|key| pod.label(key)));
            let here = counts.get(&domain).copied().unwrap_or(0);
            if here + own - least > constraint.max_skew {
                return Err(Refusal::new(
                    NAME,
                    "node(s) didn't match pod topology spread constraints",
                ));
            }
        }
        Ok(())
    }

    fn weight(&self) -> Option<i64> {
        Some(2)
    }

    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64 {
        let mut cost = 0.0;
        for (constraint, counts) in cycle.pod.spread.iter().zip(&cycle.spread.counts) {
            if constraint.required {
                continue;
            }
            let Some(domain) = node.label(constraint.topology) else {
                // normalize gives those nothing
                return -1;
            };
            // the fewer domains there are, the less one pod more weighs
            let weight = (counts.len() as f64 + 2.0).ln();
            let here = counts.get(&domain).copied().unwrap_or(0);
            cost += here as f64 * weight + (constraint.max_skew - 1) as f64;
        }
        cost.round() as i64
    }

    fn normalize(&self, cycle: &Cycle<'_>, scores: &mut [i64]) {
        if cycle.pod.spread.iter().all(|c| c.required) {
            scores.fill(0);
            return;
        }
        let counted = || scores.iter().copied().filter(|s| *s >= 0);
        let (min, max) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        for score in scores {
            *score = match (*score, max) {
                (-1, _) => 0,
                (_, 0) => MAX_SCORE,
                (cost, max) => MAX_SCORE * (max + min - cost) / max,
            };
        }
    }

    fn wakes(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::PodAssigned(other) | ClusterEvent::PodRemoved(other) => {
                pod.namespace() == other.namespace()
                    && pod.spread.iter().any(|c| c.selector.matches(|key| other.label(key)))
            }
            ClusterEvent::NodeAdded(_) | ClusterEvent::NodeRemoved => true,
            ClusterEvent::NodeChanged { old, new } => {
                old.labels() != new.facts.labels() || old.taints != new.facts.taints
            }
            ClusterEvent::StorageChanged | ClusterEvent::NamespaceChanged => false,
        }
    }
}
