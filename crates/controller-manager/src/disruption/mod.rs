//! PodDisruptionBudgets: how many more pods may be evicted now.

mod scale;
mod stale;

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Cache, Client, EventRecorder};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::Error;
use crate::context::Context;
use crate::deployment::scaled;
use crate::error::decode;
use crate::informers::BY_NAMESPACE;
use crate::meta::{is_deleting, name, reference, selector, selector_text, selects};
use crate::ownership::spec_selects;
use crate::pods::is_ready;

/// An evicted pod that is still not being deleted after this time counts again.
const DELETION_TIMEOUT_SECONDS: f64 = 120.0;
const ALLOWED: &str = "DisruptionAllowed";

#[derive(Clone)]
struct Controller {
    client: Client,
    budgets: Cache,
    pods: Cache,
    sets: Cache,
    deployments: Cache,
    stateful: Cache,
    replication: Cache,
    recorder: EventRecorder,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let informers = &ctx.informers;
    let controller = Controller {
        client: ctx.client.clone(),
        budgets: informers.get::<PodDisruptionBudget>(),
        pods: informers.get::<Pod>(),
        sets: informers.get::<ReplicaSet>(),
        deployments: informers.get::<Deployment>(),
        stateful: informers.get::<StatefulSet>(),
        replication: informers.get::<ReplicationController>(),
        recorder: ctx.recorder("controllermanager"),
    };
    let c = &controller;
    let all = [
        &c.budgets,
        &c.pods,
        &c.sets,
        &c.deployments,
        &c.stateful,
        &c.replication,
    ];
    if !ctx.synced(&all).await {
        return Ok(());
    }
    let queue = ctx.queue("disruption");
    ctx.each_change(&c.budgets, {
        let queue = queue.clone();
        move |change| {
            if let Some(budget) = change.new {
                queue.add(budget.key());
            }
        }
    });
    ctx.each_change(&c.pods, {
        let (queue, budgets) = (queue.clone(), c.budgets.clone());
        move |change| {
            let Some(object) = change.object() else { return };
            for budget in budgets.by_index(BY_NAMESPACE, &object.meta.namespace) {
                let sides = [&change.old, &change.new];
                let selected = sides
                    .into_iter()
                    .flatten()
                    .any(|pod| pod.meta.labels.is_empty() || spec_selects(&budget, pod) || selects_all(&budget));
                if selected {
                    queue.add(budget.key());
                }
            }
        }
    });
    for owners in [&c.sets, &c.deployments, &c.stateful, &c.replication] {
        let (queue, budgets) = (queue.clone(), c.budgets.clone());
        ctx.each_change(owners, move |change| {
            // Only a new size matters, and that is a new generation.
            if let (Some(old), Some(new)) = (&change.old, &change.new)
                && old.meta.generation != new.meta.generation
            {
                for budget in budgets.by_index(BY_NAMESPACE, &new.meta.namespace) {
                    queue.add(budget.key());
                }
            }
        });
    }
    let pods = c.pods.clone();
    let budgets = ctx.work(queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
    tokio::join!(budgets, stale::run(&ctx, &pods));
    Ok(())
}

/// An empty selector selects every pod of the namespace.
fn selects_all(budget: &api::object::Object) -> bool {
    let budget = budget.decode::<PodDisruptionBudget>();
    let selector = budget.ok().and_then(|b| b.spec).and_then(|s| s.selector);
    selector.is_some_and(|s| {
        s.match_labels.is_none_or(|l| l.is_empty()) && s.match_expressions.is_none_or(|e| e.is_empty())
    })
}

/// Whether a budget speaks of what pods' controllers want, and not of a number of pods.
fn counts_controllers(budget: &PodDisruptionBudget) -> bool {
    let Some(spec) = &budget.spec else { return false };
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// How many pods there should be, and how many of them must stay healthy. `scale` is what their controllers want.
fn expected(budget: &PodDisruptionBudget, pods: usize, scale: i32) -> (i32, i32) {
    let spec = budget.spec.as_ref();
    let pods = i32::try_from(pods).unwrap_or(i32::MAX);
    if let Some(unavailable) = spec.and_then(|s| s.max_unavailable.as_ref()) {
        let unavailable = scaled(unavailable, scale, true).unwrap_or(0);
        return (scale, (scale - unavailable).max(0));
    }
    match spec.and_then(|s| s.min_available.as_ref()) {
        Some(IntOrString::Int(n)) => (pods, *n),
        Some(percent) => (scale, scaled(percent, scale, true).unwrap_or(scale)),
        None => (0, 0),
    }
}

/// Evicted pods whose deletion is still awaited, and the seconds until the first is given up.
fn awaited(budget: &PodDisruptionBudget, pods: &[Pod], now: Timestamp) -> (BTreeMap<String, Time>, Option<f64>) {
    let noted = budget
        .status
        .as_ref()
        .and_then(|s| s.disrupted_pods.clone())
        .unwrap_or_default();
    let mut kept = BTreeMap::new();
    let mut next: Option<f64> = None;
    for pod in pods.iter().filter(|p| !is_deleting(*p)) {
        let Some(at) = noted.get(name(pod)) else { continue };
        let left = DELETION_TIMEOUT_SECONDS - now.duration_since(at.0).as_secs_f64();
        if left > 0.0 {
            next = Some(next.map_or(left, |n| n.min(left)));
            kept.insert(name(pod).to_owned(), at.clone());
        }
    }
    (kept, next)
}

fn status(
    budget: &PodDisruptionBudget,
    pods: &[Pod],
    scale: Result<i32, scale::ScaleError>,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<f64>) {
    let old = budget.status.clone().unwrap_or_default();
    let (disrupted, next) = awaited(budget, pods, now);
    let counts = |p: &&Pod| !is_deleting(*p) && !disrupted.contains_key(name(*p)) && is_ready(p);
    let healthy = i32::try_from(pods.iter().filter(counts).count()).unwrap_or(i32::MAX);
    let (expected, desired, problem) = match scale {
        Ok(scale) => {
            let (expected, desired) = expected(budget, pods.len(), scale);
            (expected, desired, None)
        }
        Err(problem) => (
            old.expected_pods.unwrap_or(0),
            old.desired_healthy.unwrap_or(0),
            Some(problem),
        ),
    };
    let mut allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let (state, reason, message) = match problem {
        Some(problem) => {
            allowed = 0;
            ("False", "SyncFailed", problem.to_string())
        }
        None if allowed > 0 => ("True", "SufficientPods", String::new()),
        None => ("False", "InsufficientPods", String::new()),
    };
    let mut conditions = old.conditions.unwrap_or_default();
    let before = conditions.iter().position(|c| c.type_ == ALLOWED);
    let since = before
        .filter(|i| conditions[*i].status == state)
        .map(|i| conditions[i].last_transition_time.clone());
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: budget.metadata.generation,
        last_transition_time: since.unwrap_or(Time(now)),
    };
    match before {
        Some(i) => conditions[i] = condition,
        None => conditions.push(condition),
    }
    let status = PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        conditions: Some(conditions),
    };
    (status, next)
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.budgets.get(key) else {
            return Ok(None);
        };
        let budget: PodDisruptionBudget = decode(&object)?;
        let about = reference(&budget);
        let wanted = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
        let wanted = wanted.map(|s| selector(key, s)).transpose()?;
        let objects = self.pods.by_index(BY_NAMESPACE, &object.meta.namespace);
        let selected = objects
            .iter()
            .filter(|p| wanted.as_ref().is_some_and(|s| selects(s, p)));
        let pods = selected.map(|p| decode(p)).collect::<Result<Vec<Pod>, _>>()?;
        if pods.is_empty() {
            self.recorder.normal(&about, "NoPods", "No matching pods found");
        }
        let scale = match counts_controllers(&budget) {
            true => self.scale(&pods).await,
            false => Ok(scale::Scale::default()),
        };
        if let Ok(scale::Scale { unmanaged: true, .. }) = scale {
            let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
                selector_text(selector)
            );
            self.recorder.warning(&about, "UnmanagedPods", message);
        }
        let scale = scale.map(|scale| scale.replicas);
        if let Err(problem) = &scale {
            let message = format!("Failed to calculate the number of expected pods: {problem}");
            self.recorder
                .warning(&about, "CalculateExpectedPodCountFailed", message);
        }
        let (status, next) = status(&budget, &pods, scale, Timestamp::now());
        if budget.status.as_ref() != Some(&status) {
            crate::status::put(&self.client, &object, &status).await?;
        }
        Ok(next.map(Duration::from_secs_f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn budget(spec: &Value) -> PodDisruptionBudget {
        serde_json::from_value(
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {}, "spec": spec,
            "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0,
                "disruptedPods": {"a": "1970-01-01T00:01:40Z"}}}),
        )
        .unwrap()
    }

    fn pod(name: &str) -> Pod {
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}))
        .unwrap()
    }

    #[test]
    fn budgets_allow_what_is_left_above_what_must_stay() {
        let pods = [pod("x"), pod("y"), pod("z")];
        let now = Timestamp::from_second(0).unwrap();
        let table = [
            (json!({"minAvailable": 2}), 1),
            (json!({"minAvailable": "50%"}), 1),
            (json!({"maxUnavailable": 1}), 1),
            (json!({"maxUnavailable": "34%"}), 2),
            (json!({"minAvailable": 5}), 0),
        ];
        for (spec, allowed) in table {
            let (status, _) = status(&budget(&spec), &pods, Ok(3), now);
            assert_eq!(status.disruptions_allowed, Some(allowed), "{spec}");
        }
        let (failed, _) = status(
            &budget(&json!({"minAvailable": 0})),
            &pods,
            Err(scale::ScaleError::NoScale("no".into())),
            now,
        );
        assert_eq!(
            (
                failed.disruptions_allowed,
                failed.conditions.unwrap()[0].reason.as_str()
            ),
            (Some(0), "SyncFailed")
        );
    }

    #[test]
    fn a_number_of_pods_asks_no_controller() {
        for (spec, asks) in [
            (json!({"minAvailable": 1}), false),
            (json!({"minAvailable": "10%"}), true),
            (json!({"maxUnavailable": 1}), true),
            (json!({}), false),
        ] {
            assert_eq!(counts_controllers(&budget(&spec)), asks, "{spec}");
        }
    }

    #[test]
    fn an_evicted_pod_counts_as_gone_for_two_minutes() {
        let pods = [pod("a"), pod("b")];
        let spec = json!({"minAvailable": 1});
        let soon = Timestamp::from_second(110).unwrap();
        let (status_soon, next) = status(&budget(&spec), &pods, Ok(2), soon);
        assert_eq!((status_soon.disruptions_allowed, next), (Some(0), Some(110.0)));
        let late = Timestamp::from_second(300).unwrap();
        assert_eq!(
            status(&budget(&spec), &pods, Ok(2), late).0.disruptions_allowed,
            Some(1)
        );
    }
}
