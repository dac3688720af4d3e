//! The scheduling framework: the extension points plugins fill, and what they pass to each other.

use std::borrow::Cow;

use smallvec::{SmallVec, smallvec};

use crate::metrics::Point;
use crate::node::{NodeFacts, NodeInfo};
use crate::plugins::inter_pod_affinity::AffinityState;
use crate::plugins::pod_topology_spread::SpreadState;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// The best score of a node.
pub const MAX_SCORE: i64 = 100;

/// Why a plugin turns a node, or a pod as a whole, down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub plugin: &'static str,
    pub reasons: SmallVec<[Cow<'static, str>; 1]>,
    /// Whether the node could do if other pods left it.
    pub resolvable: bool,
}

impl Refusal {
    /// The refusal of a plugin. Another node, or what happens to one, may change it.
    pub fn new(plugin: &'static str, reason: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            plugin,
            reasons: smallvec![reason.into()],
            resolvable: true,
        }
    }

    /// One that no pod's leaving changes.
    pub fn unresolvable(plugin: &'static str, reason: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            resolvable: false,
            ..Refusal::new(plugin, reason)
        }
    }
}

/// One pod's way through the extension points.
pub struct Cycle<'a> {
    pub snapshot: &'a Snapshot,
    pub pod: &'a PodInfo,
    pub affinity: AffinityState,
    pub spread: SpreadState,
}

impl<'a> Cycle<'a> {
    /// The state of one pod's cycle; plugins fill it in before they filter.
    pub fn new(snapshot: &'a Snapshot, pod: &'a PodInfo) -> Cycle<'a> {
        Cycle {
            snapshot,
            pod,
            affinity: AffinityState::default(),
            spread: SpreadState::default(),
        }
    }
}

/// What happens in the cluster and can make an unschedulable pod schedulable.
#[derive(Debug)]
pub enum ClusterEvent<'a> {
    NodeAdded(&'a NodeInfo),
    NodeChanged {
        old: &'a NodeFacts,
        new: &'a NodeInfo,
    },
    NodeRemoved,
    /// A pod came to a node, or its labels changed there.
    PodAssigned(&'a PodInfo),
    /// A pod left its node.
    PodRemoved(&'a PodInfo),
    /// A claim, volume, class or driver changed.
    StorageChanged,
    NamespaceChanged,
}

impl ClusterEvent<'_> {
    /// What metrics call it, as upstream does.
    pub fn name(&self) -> &'static str {
        match self {
            ClusterEvent::NodeAdded(_) => "NodeAdd",
            ClusterEvent::NodeChanged { .. } => "NodeUpdate",
            ClusterEvent::NodeRemoved => "NodeDelete",
            ClusterEvent::PodAssigned(_) => "AssignedPodAdd",
            ClusterEvent::PodRemoved(_) => "AssignedPodDelete",
            ClusterEvent::StorageChanged => "PersistentVolumeUpdate",
            ClusterEvent::NamespaceChanged => "NamespaceUpdate",
        }
    }
}

/// One plugin: the extension points it has something to say at.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// Which of the extension points PreFilter, Filter, PreScore and Score it fills.
    fn points(&self) -> &'static [Point];

    /// PreEnqueue: whether the pod may wait for a node at all.
    fn pre_enqueue(&self, _pod: &PodInfo) -> Result<(), Refusal> {
        Ok(())
    }

    /// PreFilter: prepares what Filter and Score need, or refuses all nodes.
    fn pre_filter(&self, _cycle: &mut Cycle<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Filter: whether the pod can run on the node.
    fn filter(&self, _cycle: &Cycle<'_>, _node: &NodeInfo) -> Result<(), Refusal> {
        Ok(())
    }

    /// What a pod's coming (`1`) to or leaving (`-1`) a node changes in what PreFilter prepared.
    fn adjust(&self, _cycle: &mut Cycle<'_>, _pod: &PodInfo, _node: &NodeInfo, _sign: i64) {}

    /// The weight of the plugin's score; without, the plugin does not score.
    fn weight(&self) -> Option<i64> {
        None
    }

    /// PreScore: prepares what Score needs, once the feasible nodes are known.
    fn pre_score(&self, _cycle: &mut Cycle<'_>) {}

    /// Score: how good the node is, in the plugin's own scale.
    fn score(&self, _cycle: &Cycle<'_>, _node: &NodeInfo) -> i64 {
        0
    }

    /// NormalizeScore: brings the scores of all feasible nodes to 0..=100.
    fn normalize(&self, _cycle: &Cycle<'_>, _scores: &mut [i64]) {}

    /// QueueingHint: whether the event can help a pod that this plugin refused.
    fn wakes(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool;
}

/// Scores scaled so that the highest is 100; reversed, the lowest is.
pub fn scale(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if max == 0 { 0 } else { MAX_SCORE * *score / max };
        *score = match (reverse, max) {
            (true, 0) => MAX_SCORE,
            (true, _) => MAX_SCORE - scaled,
            (false, _) => scaled,
        };
    }
}
