//! DefaultPreemption (PostFilter): which less important pods would have to leave which node. Pure.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use smallvec::SmallVec;

use crate::cycle::{Decider, Failure, histogram};
use crate::framework::Cycle;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// The way out: these pods leave this node.
#[derive(Debug, Clone)]
pub struct Preemption {
    pub node: Arc<str>,
    pub victims: Vec<Arc<PodInfo>>,
}

type Reasons = SmallVec<[Cow<'static, str>; 1]>;

struct Candidate {
    node: Arc<str>,
    victims: Vec<Arc<PodInfo>>,
    /// How many victims a disruption budget protects.
    violations: usize,
}

/// The more important first, then the one that runs longer: the order in which pods are spared.
fn importance(pod: &PodInfo) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority), pod.started.unwrap_or(Timestamp::MAX))
}

/// Why no preemption makes room for a pod, in the words of its event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPreemption {
    #[error("not eligible due to preemptionPolicy=Never.")]
    Never,
    /// An earlier preemption is still under way.
    #[error("not eligible due to terminating pod on the nominated node.")]
    Terminating,
    /// No node would have room: so many nodes, and how many of them say why.
    #[error("0/{nodes} nodes are available: {reasons}.")]
    Unhelpful { nodes: usize, reasons: String },
}

impl Decider {
    /// The cheapest preemption.
    ///
    /// # Errors
    /// Why there is none.
    pub fn preempt(&self, snapshot: &Snapshot, pod: &PodInfo, failure: &Failure) -> Result<Preemption, NoPreemption> {
        if pod.never_preempts {
            return Err(NoPreemption::Never);
        }
        let leaving = |p: &Arc<PodInfo>| p.object.meta.deleting && p.priority < pod.priority;
        if snapshot
            .node(&pod.nominated_node)
            .is_some_and(|n| n.pods.iter().any(leaving))
        {
            return Err(NoPreemption::Terminating);
        }
        let not_helpful = || Cow::Borrowed("Preemption is not helpful for scheduling");
        let mut reasons: Vec<Cow<'static, str>> = Vec::new();
        let mut candidates = Vec::new();
        for (at, node) in snapshot.nodes.iter().enumerate() {
            let refusal = failure.whole.as_ref().or_else(|| failure.refusals.get(at));
            if refusal.is_none_or(|r| !r.resolvable) {
                reasons.push(not_helpful());
                continue;
            }
            match self.victims(snapshot, pod, node) {
                Ok(candidate) => candidates.push(candidate),
                Err(why) => reasons.extend(why),
            }
        }
        let latest = |c: &Candidate| {
            let highest = c.victims.iter().map(|v| v.priority).max();
            let important = c.victims.iter().filter(|v| Some(v.priority) == highest);
            important.filter_map(|v| v.started).min().unwrap_or(Timestamp::MAX)
        };
        let best = candidates.into_iter().min_by_key(|c| {
            let highest = c.victims.iter().map(|v| v.priority).max().unwrap_or(i32::MIN);
            let sum: i64 = c
                .victims
                .iter()
                .map(|v| i64::from(v.priority) + i64::from(i32::MAX) + 1)
                .sum();
            (c.violations, highest, sum, c.victims.len(), Reverse(latest(c)))
        });
        best.map(|c| Preemption {
            node: c.node,
            victims: c.victims,
        })
        .ok_or_else(|| NoPreemption::Unhelpful {
            nodes: snapshot.nodes.len(),
            reasons: histogram(reasons.iter()),
        })
    }

    /// The fewest and least important pods whose leaving makes room, or why none do.
    fn victims(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Result<Candidate, Reasons> {
        let nobody = || Reasons::from_iter([Cow::Borrowed("No preemption victims found for incoming pod")]);
        let mut lower: Vec<Arc<PodInfo>> = node
            .pods
            .iter()
            .filter(|p| p.priority < pod.priority)
            .cloned()
            .collect();
        if lower.is_empty() {
            return Err(nobody());
        }
        let mut cycle = Cycle::new(snapshot, pod);
        self.prepare(&mut cycle).map_err(|refusal| refusal.reasons)?;
        let mut emptier = node.clone();
        for other in &lower {
            emptier.remove(other.uid());
            self.adjust(&mut cycle, other, node, -1);
        }
        // with all of them gone it does not fit either
        self.filter_beside_nominated(&mut cycle, &emptier)
            .map_err(|refusal| refusal.reasons)?;
        lower.sort_by_key(|p| importance(p));
        // those a budget protects are spared first
        let mut left: Vec<i64> = snapshot.budgets.values().map(|b| b.disruptions_allowed).collect();
        let (protected, free): (Vec<_>, Vec<_>) = lower.into_iter().partition(|p| {
            let mut violates = false;
            for (budget, left) in snapshot.budgets.values().zip(&mut left) {
                if *budget.namespace == *p.namespace()
                    && !budget.selector.is_empty()
                    && budget.selector.matches(|k| p.label(k))
                {
                    *left -= 1;
                    violates |= *left < 0;
                }
            }
            violates
        });
        let mut victims = Vec::new();
        let mut violations = 0;
        for (other, guarded) in protected
            .into_iter()
            .map(|p| (p, true))
            .chain(free.into_iter().map(|p| (p, false)))
        {
            emptier.add(other.clone());
            self.adjust(&mut cycle, &other, node, 1);
            if self.filter_beside_nominated(&mut cycle, &emptier).is_err() {
                emptier.remove(other.uid());
                self.adjust(&mut cycle, &other, node, -1);
                violations += usize::from(guarded);
                victims.push(other);
            }
        }
        if victims.is_empty() {
            return Err(nobody());
        }
        Ok(Candidate {
            node: node.name.clone(),
            victims,
            violations,
        })
    }
}
