//! InterPodAffinity: near or far from other pods, by the labels of nodes that make a place.

use std::collections::HashMap;

use crate::framework::{ClusterEvent, Cycle, MAX_SCORE, Plugin, Refusal};
use crate::label::LabelText;
use crate::metrics::Point;
use crate::node::NodeInfo;
use crate::pod::{AffinityTerm, PodInfo};
use crate::snapshot::Snapshot;

/// Keeps pods together or apart as their affinity to other pods says.
pub struct InterPodAffinity;

const NAME: &str = "InterPodAffinity";
/// What a required affinity of a pod that is there is worth to those it would like near.
const HARD_WEIGHT: i64 = 1;

/// A place: a label key of nodes and its value.
type Place = (LabelText, LabelText);

/// How many pods matter at each place.
#[derive(Debug, Default, Clone)]
pub struct AffinityState {
    /// Pods there whose anti-affinity keeps this pod away.
    kept_away_by: HashMap<Place, i64>,
    /// Pods that match all of this pod's affinity terms.
    near: HashMap<Place, i64>,
    /// Pods that match an anti-affinity term of this pod.
    far: HashMap<Place, i64>,
    scores: HashMap<Place, i64>,
}

fn matches(snapshot: &Snapshot, term: &AffinityTerm, pod: &PodInfo) -> bool {
    let namespace = pod.namespace();
    let inside = term.namespaces.iter().any(|n| n == namespace)
        || term.namespace_selector.as_ref().is_some_and(|s| {
            let labels = snapshot.namespaces.get(namespace);
            s.is_empty() || labels.is_some_and(|o| s.matches(|key| o.meta.label(key)))
        });
    inside && term.selector.matches(|key| pod.label(key))
}

fn count(map: &mut HashMap<Place, i64>, node: &NodeInfo, topology: LabelText, by: i64) {
    if let Some(value) = node.label(topology) {
        let place = map.entry((topology, value)).or_insert(0);
        *place += by;
        if *place == 0 {
            map.remove(&(topology, value));
        }
    }
}

fn at(map: &HashMap<Place, i64>, node: &NodeInfo, topology: LabelText) -> i64 {
    node.label(topology)
        .and_then(|value| map.get(&(topology, value)))
        .copied()
        .unwrap_or(0)
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> Result<(), Refusal> {
        let snapshot = cycle.snapshot;
        if cycle.pod.affinity.is_empty() && !snapshot.has_affinity() {
            return Ok(());
        }
        for node in &snapshot.nodes {
            for pod in &node.pods {
                self.adjust(cycle, pod, node, 1);
            }
        }
        Ok(())
    }

    fn adjust(&self, cycle: &mut Cycle<'_>, other: &PodInfo, node: &NodeInfo, sign: i64) {
        let snapshot = cycle.snapshot;
        let mine = &cycle.pod.affinity;
        let state = &mut cycle.affinity;
        for term in &other.affinity.required_anti {
            if matches(snapshot, term, cycle.pod) {
                count(&mut state.kept_away_by, node, term.topology, sign);
            }
        }
        if !mine.required.is_empty() && mine.required.iter().all(|t| matches(snapshot, t, other)) {
            for term in &mine.required {
                count(&mut state.near, node, term.topology, sign);
            }
        }
        for term in &mine.required_anti {
            if matches(snapshot, term, other) {
                count(&mut state.far, node, term.topology, sign);
            }
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Refusal> {
        let mine = &cycle.pod.affinity;
        let state = &cycle.affinity;
        if !mine.required.is_empty() {
            let labelled = mine.required.iter().all(|t| node.label(t.topology).is_some());
            let found = mine.required.iter().all(|t| at(&state.near, node, t.topology) > 0);
            // the first of a group that wants to be together may go anywhere
            let first = state.near.is_empty() && mine.required.iter().all(|t| matches(cycle.snapshot, t, cycle.pod));
            if !labelled || !(found || first) {
                return Err(Refusal::unresolvable(NAME, "node(s) didn't match pod affinity rules"));
            }
        }
        if mine.required_anti.iter().any(|t| at(&state.far, node, t.topology) > 0) {
            return Err(Refusal::new(NAME, "node(s) didn't match pod anti-affinity rules"));
        }
        if state.kept_away_by.keys().any(|(k, v)| node.label(*k) == Some(*v)) {
            let why = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Refusal::new(NAME, why));
        }
        Ok(())
    }

    fn weight(&self) -> Option<i64> {
        Some(2)
    }

    fn pre_score(&self, cycle: &mut Cycle<'_>) {
        let snapshot = cycle.snapshot;
        let mine = &cycle.pod.affinity;
        if mine.preferred.is_empty() && mine.preferred_anti.is_empty() && !snapshot.has_affinity() {
            return;
        }
        let scores = &mut cycle.affinity.scores;
        for node in &snapshot.nodes {
            for other in &node.pods {
                let theirs = &other.affinity;
                for (terms, sign, seen) in [
                    (&mine.preferred, 1, &**other),
                    (&mine.preferred_anti, -1, &**other),
                    (&theirs.preferred, 1, cycle.pod),
                    (&theirs.preferred_anti, -1, cycle.pod),
                ] {
                    for term in terms.iter().filter(|t| matches(snapshot, t, seen)) {
                        count(scores, node, term.topology, sign * term.weight);
                    }
                }
                for term in theirs.required.iter().filter(|t| matches(snapshot, t, cycle.pod)) {
                    count(scores, node, term.topology, HARD_WEIGHT);
                }
            }
        }
    }

    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64 {
        let here = |((k, v), score): (&Place, &i64)| (node.label(*k) == Some(*v)).then_some(*score);
        cycle.affinity.scores.iter().filter_map(here).sum()
    }

    fn normalize(&self, cycle: &Cycle<'_>, scores: &mut [i64]) {
        if cycle.affinity.scores.is_empty() {
            return;
        }
        let (Some(min), Some(max)) = (scores.iter().copied().min(), scores.iter().copied().max()) else {
            return;
        };
        for score in scores {
            *score = if max == min {
                0
            } else {
                MAX_SCORE * (*score - min) / (max - min)
            };
        }
    }

    fn wakes(&self, _: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(_)
            | ClusterEvent::PodAssigned(_)
            | ClusterEvent::PodRemoved(_)
            | ClusterEvent::NamespaceChanged => true,
            ClusterEvent::NodeChanged { old, new } => old.labels() != new.facts.labels(),
            ClusterEvent::NodeRemoved | ClusterEvent::StorageChanged => false,
        }
    }
}
