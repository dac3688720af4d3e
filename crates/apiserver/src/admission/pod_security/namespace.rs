//! A namespace's labels when they are written: they must be readable, and pods that violate what is newly enforced are
//! told of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::level::{Level, LevelVersion, Policy};
use super::{part, policy};
use crate::admission::{Attributes, Operation};
use crate::http::status::Result;
use crate::registry::cached::Cached;

/// Pods that are looked at, at most.
const MAX_PODS: usize = 3000;
/// How long pods are looked at.
const MAX_TIME: Duration = Duration::from_secs(1);

/// Refuses labels of a namespace that name no level or version, and warns of pods that break a level that it gets.
///
/// # Errors
/// `422` for such labels.
pub fn validate(attributes: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
    if !attributes.subresource.is_empty() {
        return Ok(());
    }
    let (new, errors) = of(tree);
    let before = old.map(of);
    let known = before.as_ref().is_some_and(|(_, before)| *before == errors);
    if !errors.is_empty() && !known {
        return Err(attributes.resource.invalid(attributes.name, &errors));
    }
    let Some((before, _)) = before.filter(|_| attributes.operation == Operation::Update) else {
        return Ok(());
    };
    if !asks_more(new.enforce, before.enforce) {
        return Ok(());
    }
    let start = attributes.registry.environment.now();
    let expired = || {
        attributes
            .registry
            .environment
            .now()
            .duration_since(start)
            .unsigned_abs()
            >= MAX_TIME
    };
    let pods = attributes.registry.list("", "pods", attributes.name);
    for text in look(attributes.name, new.enforce, pods, expired)? {
        attributes.warnings.add(text);
    }
    Ok(())
}

fn of(namespace: &Value) -> (Policy, Vec<api::field::FieldError>) {
    let labels = namespace.pointer("/metadata/labels");
    Policy::of(|key| labels?.get(key)?.as_str())
}

/// Whether pods that were good enough may not be any more.
fn asks_more(new: LevelVersion, old: LevelVersion) -> bool {
    let relaxed = new.version == old.version && new.level <= old.level;
    new != old && new.level != Level::Privileged && !relaxed
}

/// What is to be said of the pods of a namespace: first those without a controller and one of each controller.
fn look(
    namespace: &str,
    enforce: LevelVersion,
    pods: Vec<Arc<Cached>>,
    expired: impl Fn() -> bool,
) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let (mut first, more): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| {
        let controller = pod.object.meta.controller();
        controller.is_none_or(|owner| seen.insert(owner.uid.clone()))
    });
    first.extend(more);
    let total = first.len();
    let mut checked = 0;
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in first.iter().take(MAX_PODS) {
        let tree = pod.tree()?;
        let violations = policy::violations(enforce, part(&tree));
        checked += 1;
        if !violations.is_empty() {
            let name = pod.object.meta.name.as_ref();
            let (least, count) = found
                .entry(policy::reasons(&violations))
                .or_insert_with(|| (name.to_owned(), 0));
            if name < least.as_str() {
                *least = name.to_owned();
            }
            *count += 1;
        }
        if expired() {
            break;
        }
    }
    Ok(told(namespace, enforce, (checked, total), &found))
}

/// The warnings about violations, by what is violated: the first pod's name and how many there are.
fn told(
    namespace: &str,
    enforce: LevelVersion,
    (checked, total): (usize, usize),
    found: &BTreeMap<String, (String, usize)>,
) -> Vec<String> {
    let mut texts = Vec::new();
    if checked < total {
        texts.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        texts.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut each: Vec<String> = found
        .iter()
        .map(|(reasons, (pod, count))| match count {
            1 => format!("{pod}: {reasons}"),
            2 => format!("{pod} (and 1 other pod): {reasons}"),
            _ => format!("{pod} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    each.sort();
    texts.extend(each);
    texts
}

#[cfg(test)]
mod tests {
    use super::super::level::Version;
    use super::*;

    #[test]
    fn pods_are_looked_at_when_more_is_enforced() {
        let at = |level, version| LevelVersion { level, version };
        use Level::{Baseline, Privileged, Restricted};
        use Version::{Latest, Minor};
        for (new, old, wanted) in [
            (at(Baseline, Latest), at(Privileged, Latest), true),
            (at(Baseline, Latest), at(Baseline, Latest), false),
            (at(Baseline, Latest), at(Restricted, Latest), false),
            (at(Baseline, Minor(34)), at(Restricted, Latest), true),
            (at(Privileged, Minor(34)), at(Restricted, Latest), false),
        ] {
            assert_eq!(asks_more(new, old), wanted, "{new} {old}");
        }
    }

    #[test]
    fn violations_are_told_once_with_the_first_pod_and_how_many_have_them() {
        let enforce = LevelVersion {
            level: Level::Baseline,
            version: Version::Latest,
        };
        let found: BTreeMap<String, (String, usize)> = [
            ("privileged", ("c", 1)),
            ("host namespaces", ("d", 2)),
            ("hostPort", ("a", 9)),
        ]
        .into_iter()
        .map(|(reason, (pod, count))| (reason.to_owned(), (pod.to_owned(), count)))
        .collect();
        let wanted = [
            "new PodSecurity enforce level only checked against the first 12 of 20 existing pods",
            "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 8 other pods): hostPort",
            "c: privileged",
            "d (and 1 other pod): host namespaces",
        ];
        assert_eq!(told("n", enforce, (12, 20), &found), wanted);
        assert!(told("n", enforce, (20, 20), &BTreeMap::new()).is_empty());
    }
}
