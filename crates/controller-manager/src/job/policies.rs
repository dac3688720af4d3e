//! `podFailurePolicy` and `successPolicy`.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::Pod;

use super::indexes;
use crate::meta::{name, namespace};

/// What a failed pod means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Count,
    Ignore,
    /// The index has failed, whatever its limit.
    FailIndex,
    FailJob(String),
}

fn on_exit_codes(rule: &PodFailurePolicyRule, pod: &Pod, at: usize) -> Option<String> {
    let requirement = rule.on_exit_codes.as_ref()?;
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let all = status.container_statuses.iter().flatten().chain(init);
    for container in all {
        if requirement
            .container_name
            .as_ref()
            .is_some_and(|n| *n != container.name)
        {
            continue;
        }
        let Some(ended) = container.state.as_ref().and_then(|s| s.terminated.as_ref()) else {
            continue;
        };
        let listed = requirement.values.contains(&ended.exit_code);
        let matches = match requirement.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed && ended.exit_code != 0,
            _ => false,
        };
        if matches && ended.exit_code != 0 {
            return Some(format!(
                "Container {} for pod {}/{} failed with exit code {} matching {} rule at index {at}",
                container.name,
                namespace(pod),
                name(pod),
                ended.exit_code,
                rule.action
            ));
        }
    }
    None
}

fn on_conditions(rule: &PodFailurePolicyRule, pod: &Pod, at: usize) -> Option<String> {
    let patterns = rule.on_pod_conditions.as_ref()?;
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| {
        let same = |p: &k8s_openapi::api::batch::v1::PodFailurePolicyOnPodConditionsPattern| {
            p.type_ == c.type_ && p.status.as_deref().unwrap_or("True") == c.status
        };
        patterns.iter().any(same)
    })?;
    Some(format!(
        "Pod {}/{} has condition {} matching {} rule at index {at}",
        namespace(pod),
        name(pod),
        found.type_,
        rule.action
    ))
}

/// The first rule that matches, and its message.
fn rule<'j>(job: &'j Job, pod: &Pod) -> Option<(&'j PodFailurePolicyRule, String)> {
    let policy = job.spec.as_ref().and_then(|s| s.pod_failure_policy.as_ref());
    let mut rules = policy.into_iter().flat_map(|p| p.rules.iter()).enumerate();
    rules.find_map(|(at, rule)| {
        let message = match rule.on_exit_codes {
            Some(_) => on_exit_codes(rule, pod, at),
            None => on_conditions(rule, pod, at),
        };
        Some((rule, message?))
    })
}

/// The action of the rule that a failed pod matches, if it matches one.
pub(super) fn action<'j>(job: &'j Job, pod: &Pod) -> Option<&'j str> {
    rule(job, pod).map(|(rule, _)| rule.action.as_str())
}

/// The first rule that matches decides; a pod that matches none counts.
pub(super) fn judge_failure(job: &Job, pod: &Pod) -> Failure {
    match rule(job, pod) {
        None => Failure::Count,
        Some((rule, message)) => match rule.action.as_str() {
            "Ignore" => Failure::Ignore,
            "FailIndex" => Failure::FailIndex,
            "FailJob" => Failure::FailJob(message),
            _ => Failure::Count,
        },
    }
}

/// The message of the success rule that is met, if one is.
pub(super) fn success(job: &Job, succeeded: &BTreeSet<i32>) -> Option<String> {
    let spec = job.spec.as_ref()?;
    let completions = spec.completions?;
    if succeeded.is_empty() {
        return None;
    }
    for (at, rule) in spec.success_policy.as_ref()?.rules.iter().enumerate() {
        let enough = |have: usize| {
            rule.succeeded_count
                .is_some_and(|c| have >= usize::try_from(c).unwrap_or(0))
        };
        let met = match &rule.succeeded_indexes {
            Some(text) => {
                let wanted = indexes::parse(text, completions);
                let have = wanted.intersection(succeeded).count();
                !wanted.is_empty() && (have == wanted.len() || enough(have))
            }
            None => enough(succeeded.len()),
        };
        if met {
            return Some(format!("Matched rules at index {at}"));
        }
    }
    None
}
