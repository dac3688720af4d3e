//! One scheduling cycle: from a pod and the snapshot to a node, or to the reasons why there is none. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use crate::framework::{ClusterEvent, Cycle, Plugin, Refusal};
use crate::meter::Meter;
use crate::metrics::Point;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// Shapes whose answers are remembered.
const SHAPES: usize = 16;

/// What a node says to a pod: its raw scores by scoring plugin, or why not.
#[derive(Debug, Clone)]
enum Verdict {
    Feasible(SmallVec<[i64; 8]>),
    Refused(Refusal),
}

/// A verdict and the state of the node it is true of.
#[derive(Debug, Clone)]
struct Remembered {
    generation: u64,
    verdict: Verdict,
}

/// Why no node will do.
#[derive(Debug, Clone)]
pub struct Failure {
    pub nodes: usize,
    /// By the node's place in the snapshot; empty when the pod was refused as a whole.
    pub refusals: Vec<Refusal>,
    pub whole: Option<Refusal>,
}

impl Failure {
    /// The plugins that refused.
    pub fn plugins(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.refusals.iter().chain(&self.whole).map(|r| r.plugin).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The message of the event and the condition: each reason with the number of nodes that gave it.
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let head = format!("0/{} nodes are available:", self.nodes);
        if let Some(whole) = &self.whole {
            return format!("{head} {}.", whole.reasons.join(", "));
        }
        format!(
            "{head} {}.",
            histogram(self.refusals.iter().flat_map(|r| r.reasons.iter()))
        )
    }
}

/// `1 Insufficient cpu, 2 node(s) were unschedulable`, sorted as text.
pub(crate) fn histogram<'a>(reasons: impl Iterator<Item = &'a Cow<'static, str>>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_insert(0) += 1;
    }
    let mut texts: Vec<String> = counts.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    texts.sort();
    texts.join(", ")
}

/// Asks the plugins, and remembers what nodes said to pods of the same shape.
pub struct Decider {
    plugins: Vec<Box<dyn Plugin>>,
    shapes: HashMap<u64, Vec<Option<Remembered>>>,
}

/// The place of a node in the snapshot, and its raw scores by plugin.
type Scored = (usize, SmallVec<[i64; 8]>);

impl Decider {
    /// Decides by these plugins, in their order.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Decider {
        Decider {
            plugins,
            shapes: HashMap::new(),
        }
    }

    /// PreEnqueue: why the pod may not wait for a node yet.
    pub fn gate(&self, pod: &PodInfo) -> Result<(), Refusal> {
        self.plugins.iter().try_for_each(|p| p.pre_enqueue(pod))
    }

    /// Whether the event can help a pod that the plugins refused. One that met no node is helped by anything.
    pub fn wakes(&self, pod: &PodInfo, refused_by: &[&'static str], event: &ClusterEvent<'_>) -> bool {
        let refused = |name: &str| {
            refused_by.contains(&name) || name == "VolumeBinding" && refused_by.contains(&"VolumeRestrictions")
        };
        let asked = self.plugins.iter().filter(|p| refused(p.name()));
        refused_by.is_empty() || asked.into_iter().any(|p| p.wakes(pod, event))
    }

    pub(crate) fn adjust(&self, cycle: &mut Cycle<'_>, pod: &PodInfo, node: &NodeInfo, sign: i64) {
        for plugin in &self.plugins {
            plugin.adjust(cycle, pod, node, sign);
        }
    }

    pub(crate) fn prepare(&self, cycle: &mut Cycle<'_>) -> Result<(), Refusal> {
        self.plugins.iter().try_for_each(|p| p.pre_filter(cycle))
    }

    pub(crate) fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Refusal> {
        self.plugins.iter().try_for_each(|p| p.filter(cycle, node))
    }

    /// Filter, also with those that keep room on the node by a nomination and are at least as important.
    pub(crate) fn filter_beside_nominated(&self, cycle: &mut Cycle<'_>, node: &NodeInfo) -> Result<(), Refusal> {
        let pod = cycle.pod;
        let before = |p: &&std::sync::Arc<PodInfo>| p.priority >= pod.priority && p.uid() != pod.uid();
        let nominated: Vec<_> = cycle
            .snapshot
            .nominated_to(&node.name)
            .iter()
            .filter(before)
            .cloned()
            .collect();
        if !nominated.is_empty() {
            let mut fuller = node.clone();
            for other in &nominated {
                self.adjust(cycle, other, node, 1);
                fuller.add(other.clone());
            }
            let verdict = self.filter(cycle, &fuller);
            for other in &nominated {
                self.adjust(cycle, other, node, -1);
            }
            verdict?;
        }
        self.filter(cycle, node)
    }

    fn ask(&self, cycle: &mut Cycle<'_>, node: &NodeInfo) -> Verdict {
        match self.filter_beside_nominated(cycle, node) {
            Err(refusal) => Verdict::Refused(refusal),
            Ok(()) => Verdict::Feasible(SmallVec::new()),
        }
    }

    fn raw_scores(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> SmallVec<[i64; 8]> {
        let scoring = self.plugins.iter().filter(|p| p.weight().is_some());
        scoring.map(|p| p.score(cycle, node)).collect()
    }

    /// As `decide_measured`, without a meter.
    #[cfg(test)]
    pub fn decide(
        &mut self,
        snapshot: &Snapshot,
        pod: &PodInfo,
        chance: &mut dyn FnMut(usize) -> usize,
    ) -> Result<usize, Failure> {
        self.decide_measured(snapshot, pod, chance, &Meter::none())
    }

    /// The place in the snapshot of the best node. `chance(n)` draws one of `n` equals; the meter is told how long the extension
    /// points took.
    pub fn decide_measured(
        &mut self,
        snapshot: &Snapshot,
        pod: &PodInfo,
        chance: &mut dyn FnMut(usize) -> usize,
        meter: &Meter<'_>,
    ) -> Result<usize, Failure> {
        let nodes = snapshot.nodes.len();
        let mut cycle = Cycle::new(snapshot, pod);
        let prepared = meter.point(
            Point::PreFilter,
            || {
                self.plugins
                    .iter()
                    .try_for_each(|plugin| meter.plugin(Point::PreFilter, &**plugin, || plugin.pre_filter(&mut cycle)))
            },
            Result::is_ok,
        );
        meter.asked(&self.plugins, Point::PreFilter, 1);
        if let Err(whole) = prepared {
            return Err(Failure {
                nodes,
                refusals: Vec::new(),
                whole: Some(whole),
            });
        }
        let alike = pod.is_plain() && !snapshot.has_affinity() && !snapshot.has_nominated();
        if self.shapes.len() > SHAPES {
            self.shapes.clear();
        }
        let mut answers = if alike {
            self.shapes.remove(&pod.shape).unwrap_or_default()
        } else {
            Vec::new()
        };
        answers.resize(nodes, None);
        self.ask_all(&mut cycle, &mut answers, meter);
        self.pre_score(&mut cycle, meter).map_err(|whole| Failure {
            nodes,
            refusals: Vec::new(),
            whole: Some(whole),
        })?;
        meter.asked(&self.plugins, Point::PreScore, 1);
        let (feasible, refusals, scored) = self.scored(&cycle, &mut answers);
        if alike {
            self.shapes.insert(pod.shape, answers);
        }
        meter.asked(&self.plugins, Point::Score, scored);
        let best = meter.point(Point::Score, || self.best(&cycle, &feasible, chance), Option::is_some);
        best.ok_or(Failure {
            nodes,
            refusals,
            whole: None,
        })
    }

    /// Asks the filters about every node whose answer is not known or not current.
    fn ask_all(&self, cycle: &mut Cycle<'_>, answers: &mut [Option<Remembered>], meter: &Meter<'_>) {
        let snapshot = cycle.snapshot;
        let mut asked = 0;
        meter.point(
            Point::Filter,
            || {
                let mut feasible = false;
                for (node, answer) in snapshot.nodes.iter().zip(answers.iter_mut()) {
                    if answer.as_ref().is_none_or(|a| a.generation != node.generation) {
                        asked += 1;
                        let verdict = self.ask(cycle, node);
                        *answer = Some(Remembered {
                            generation: node.generation,
                            verdict,
                        });
                    }
                    feasible |= matches!(answer.as_ref().map(|a| &a.verdict), Some(Verdict::Feasible(_)));
                }
                feasible
            },
            |feasible| *feasible,
        );
        meter.asked(&self.plugins, Point::Filter, asked);
        meter.filters(&self.plugins, cycle);
    }

    fn pre_score(&self, cycle: &mut Cycle<'_>, meter: &Meter<'_>) -> Result<(), Refusal> {
        meter.point(
            Point::PreScore,
            || {
                for plugin in &self.plugins {
                    meter.plugin(Point::PreScore, &**plugin, || {
                        plugin.pre_score(cycle);
                        Ok(())
                    })?;
                }
                Ok::<(), Refusal>(())
            },
            Result::is_ok,
        )
    }

    /// The nodes that fit with their raw scores, why the others do not, and how many were scored anew.
    fn scored(&self, cycle: &Cycle<'_>, answers: &mut [Option<Remembered>]) -> (Vec<Scored>, Vec<Refusal>, u64) {
        let mut feasible: Vec<Scored> = Vec::new();
        let mut refusals = Vec::new();
        let mut scored = 0;
        for (at, answer) in answers.iter_mut().enumerate() {
            match answer.as_mut().map(|a| &mut a.verdict) {
                Some(Verdict::Refused(refusal)) => refusals.push(refusal.clone()),
                Some(Verdict::Feasible(scores)) => {
                    if scores.is_empty() {
                        scored += 1;
                        *scores = self.raw_scores(cycle, &cycle.snapshot.nodes[at]);
                    }
                    feasible.push((at, scores.clone()));
                }
                None => {}
            }
        }
        (feasible, refusals, scored)
    }

    /// NormalizeScore, the weighted sum, and one of those that share the first place.
    fn best(&self, cycle: &Cycle<'_>, feasible: &[Scored], chance: &mut dyn FnMut(usize) -> usize) -> Option<usize> {
        if let [(only, _)] = feasible {
            return Some(*only);
        }
        let mut totals = vec![0i64; feasible.len()];
        let mut scores = vec![0i64; feasible.len()];
        let scoring = self.plugins.iter().filter_map(|p| Some((p, p.weight()?)));
        for (column, (plugin, weight)) in scoring.enumerate() {
            for (score, (_, raw)) in scores.iter_mut().zip(feasible) {
                *score = raw[column];
            }
            plugin.normalize(cycle, &mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += weight * score;
            }
        }
        let max = totals.iter().copied().max()?;
        let first: Vec<usize> = (0..totals.len()).filter(|i| totals[*i] == max).collect();
        let drawn = first[chance(first.len()) % first.len()];
        Some(feasible[drawn].0)
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)]
mod tests {
    use std::sync::Arc;

    use api::object::Object;
    use serde_json::{Value, json};

    use super::*;
    use crate::node::NodeFacts;

    fn add_node(snapshot: &mut Snapshot, name: &str, labels: Value, spec: Value, cpu: &str) {
        let tree = json!({
            "metadata": { "name": name, "labels": labels }, "spec": spec,
            "status": { "allocatable": { "cpu": cpu, "memory": "4Gi", "pods": "10" } },
        });
        let object = Object::parse(tree.to_string().into()).unwrap();
        let facts = NodeFacts::of(&object).unwrap();
        snapshot.set_node(name, facts);
    }

    fn pod(name: &str, more: Value) -> Arc<PodInfo> {
        let mut spec = json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": "500m" } } }] });
        for (k, v) in more.as_object().into_iter().flatten() {
            spec[k] = v.clone();
        }
        let tree = json!({ "metadata": { "name": name, "uid": name, "labels": { "app": "web" } }, "spec": spec });
        crate::pod::tests::pod(tree)
    }

    fn decide(decider: &mut Decider, snapshot: &Snapshot, pod: &PodInfo) -> Result<String, Failure> {
        let decision = decider.decide(snapshot, pod, &mut |_| 0);
        decision.map(|at| snapshot.nodes[at].name.to_string())
    }

    #[test]
    fn the_message_counts_every_reason() {
        let mut snapshot = Snapshot::default();
        let mut decider = Decider::new(crate::plugins::default_plugins());
        let plain = pod("p", json!({}));
        assert_eq!(
            decide(&mut decider, &snapshot, &plain).unwrap_err().message(),
            "no nodes available to schedule pods"
        );
        let taint = json!({ "taints": [{ "key": "k", "effect": "NoSchedule" }] });
        add_node(&mut snapshot, "a", json!({}), taint, "2");
        add_node(&mut snapshot, "b", json!({}), json!({ "unschedulable": true }), "2");
        add_node(&mut snapshot, "c", json!({}), json!({}), "100m");
        add_node(&mut snapshot, "d", json!({}), json!({}), "200m");
        assert_eq!(
            decide(&mut decider, &snapshot, &plain).unwrap_err().message(),
            "0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu."
        );
    }

    #[test]
    fn pods_of_one_shape_fill_nodes_as_if_each_were_asked_alone() {
        let mut snapshot = Snapshot::default();
        let mut decider = Decider::new(crate::plugins::default_plugins());
        add_node(&mut snapshot, "a", json!({}), json!({}), "1");
        add_node(&mut snapshot, "b", json!({}), json!({}), "1");
        let mut taken = Vec::new();
        for i in 0..5 {
            let pod = pod(&format!("p{i}"), json!({}));
            match decide(&mut decider, &snapshot, &pod) {
                Ok(node) => {
                    snapshot.add_pod(&pod, &node);
                    taken.push(node);
                }
                Err(failure) => taken.push(failure.message()),
            }
        }
        taken[..4].sort();
        assert_eq!(
            taken,
            ["a", "a", "b", "b", "0/2 nodes are available: 2 Insufficient cpu."]
        );
        snapshot.remove_pod("p0");
        let next = pod("p5", json!({}));
        assert!(decide(&mut decider, &snapshot, &next).is_ok());
    }

    #[test]
    fn anti_affinity_keeps_pods_apart_and_spread_keeps_them_even() {
        let mut snapshot = Snapshot::default();
        let mut decider = Decider::new(crate::plugins::default_plugins());
        for name in ["a", "b"] {
            add_node(&mut snapshot, name, json!({ "host": name }), json!({}), "4");
        }
        let selector = json!({ "matchLabels": { "app": "web" } });
        let anti = json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
            { "topologyKey": "host", "labelSelector": selector },
        ] } } });
        for expected in [
            Ok(()),
            Ok(()),
            Err("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.".to_owned()),
        ] {
            let name = format!("p{}", snapshot.nodes.iter().map(|n| n.pods.len()).sum::<usize>());
            let pod = pod(&name, anti.clone());
            let decision = decide(&mut decider, &snapshot, &pod);
            if let Ok(node) = &decision {
                snapshot.add_pod(&pod, node);
            }
            assert_eq!(decision.map(|_| ()).map_err(|failure| failure.message()), expected);
        }
        let plain = pod("plain", json!({}));
        assert_eq!(
            decide(&mut decider, &snapshot, &plain).unwrap_err().message(),
            "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules."
        );
        snapshot.remove_pod("p0");
        snapshot.remove_pod("p1");
        let even = json!({ "topologySpreadConstraints": [
            { "maxSkew": 1, "topologyKey": "host", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector },
        ] });
        for i in 0..4 {
            let pod = pod(&format!("s{i}"), even.clone());
            let node = decide(&mut decider, &snapshot, &pod).unwrap();
            snapshot.add_pod(&pod, &node);
        }
        let counts: Vec<usize> = snapshot.nodes.iter().map(|n| n.pods.len()).collect();
        assert_eq!(counts, [2, 2]);
    }

    #[test]
    fn preemption_takes_the_least_important_and_says_when_it_cannot_help() {
        let mut snapshot = Snapshot::default();
        let mut decider = Decider::new(crate::plugins::default_plugins());
        add_node(&mut snapshot, "a", json!({}), json!({}), "1");
        add_node(&mut snapshot, "b", json!({}), json!({ "unschedulable": true }), "1");
        for (name, priority) in [("low", 1), ("middle", 5)] {
            let other = pod(name, json!({ "priority": priority }));
            snapshot.add_pod(&other, "a");
        }
        let important = pod("important", json!({ "priority": 10 }));
        let failure = decider.decide(&snapshot, &important, &mut |_| 0).unwrap_err();
        let preemption = decider.preempt(&snapshot, &important, &failure).unwrap();
        let victims: Vec<_> = preemption.victims.iter().map(|v| v.name().to_owned()).collect();
        assert_eq!((&*preemption.node, victims), ("a", vec!["low".to_owned()]));
        let meek = pod("meek", json!({ "priority": 1 }));
        let failure = decider.decide(&snapshot, &meek, &mut |_| 0).unwrap_err();
        assert_eq!(
            decider.preempt(&snapshot, &meek, &failure).unwrap_err().to_string(),
            "0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
        );
        // the others' leaving would not be enough: what still refuses the pod then is told
        let term = json!({ "topologyKey": "none", "labelSelector": { "matchLabels": { "app": "other" } } });
        let affinity = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
        let choosy = pod("choosy", json!({ "priority": 10, "affinity": affinity }));
        let failure = decider.decide(&snapshot, &choosy, &mut |_| 0).unwrap_err();
        assert_eq!(
            decider.preempt(&snapshot, &choosy, &failure).unwrap_err().to_string(),
            "0/2 nodes are available: 1 Preemption is not helpful for scheduling, 1 node(s) didn't match pod affinity rules."
        );
    }
}
