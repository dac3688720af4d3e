//! The conditions that say why a namespace is still there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What one pass over a namespace's content found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Findings {
    /// Group versions that did not answer discovery.
    pub discovery: Vec<(String, String)>,
    pub errors: Vec<String>,
    /// Objects left, by `resource.group`.
    pub remaining: BTreeMap<String, usize>,
    pub finalizers: BTreeMap<String, usize>,
    /// Pods are left, so nothing else was touched.
    pub only_pods: bool,
}

const TYPES: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

fn problem(findings: &Findings, type_: &str) -> Option<(&'static str, String)> {
    let list = |all: &BTreeMap<String, usize>, with: &str| {
        let texts: Vec<String> = all
            .iter()
            .map(|(what, n)| format!("{what} {with} {n} resource instances"))
            .collect();
        texts.join(", ")
    };
    match type_ {
        "NamespaceDeletionDiscoveryFailure" if !findings.discovery.is_empty() => {
            let failed: Vec<String> = findings.discovery.iter().map(|(gv, e)| format!("{gv}: {e}")).collect();
            let message = format!(
                "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                failed.len(),
                failed.join(", ")
            );
            Some(("DiscoveryFailed", message))
        }
        "NamespaceDeletionContentFailure" if !findings.errors.is_empty() => {
            let mut errors = findings.errors.clone();
            errors.sort();
            let message = format!(
                "Failed to delete all resource types, {} remaining: {}",
                errors.len(),
                errors.join(", ")
            );
            Some(("ContentDeletionFailed", message))
        }
        "NamespaceContentRemaining" if !findings.remaining.is_empty() => Some((
            "SomeResourcesRemain",
            format!("Some resources are remaining: {}", list(&findings.remaining, "has")),
        )),
        "NamespaceFinalizersRemaining" if !findings.finalizers.is_empty() => Some((
            "SomeFinalizersRemain",
            format!(
                "Some content in the namespace has finalizers remaining: {}",
                list(&findings.finalizers, "in")
            ),
        )),
        _ => None,
    }
}

/// The conditions after a pass; `None` if they say the same as before.
pub(super) fn update(
    old: &[NamespaceCondition],
    findings: &Findings,
    now: Timestamp,
) -> Option<Vec<NamespaceCondition>> {
    let mut all = old.to_vec();
    let mut changed = false;
    for (type_, ok_reason, ok_message) in TYPES {
        let (status, reason, message) = match problem(findings, type_) {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", ok_reason, ok_message.to_owned()),
        };
        let found = all.iter().position(|c| c.type_ == type_);
        let before = found.map(|i| all[i].clone());
        let same_status = before.as_ref().is_some_and(|c| c.status == status);
        if same_status
            && let Some(c) = &before
            && c.reason.as_deref() == Some(reason)
            && c.message.as_ref() == Some(&message)
        {
            continue;
        }
        changed = true;
        let new = NamespaceCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: before
                .filter(|_| same_status)
                .and_then(|c| c.last_transition_time)
                .or(Some(Time(now))),
        };
        match found {
            Some(i) => all[i] = new,
            None => all.push(new),
        }
    }
    changed.then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_until_it_is_gone() {
        let now = Timestamp::from_second(0).unwrap();
        let findings = Findings {
            remaining: [("pods.".to_owned(), 2)].into(),
            finalizers: [("x/y".to_owned(), 1)].into(),
            ..Findings::default()
        };
        let first = update(&[], &findings, now).unwrap();
        assert_eq!(first.len(), 5);
        assert_eq!(
            first[3].message.as_deref(),
            Some("Some resources are remaining: pods. has 2 resource instances")
        );
        assert_eq!(
            first[4].message.as_deref(),
            Some("Some content in the namespace has finalizers remaining: x/y in 1 resource instances")
        );
        assert!(update(&first, &findings, now).is_none());
        let last = update(&first, &Findings::default(), now).unwrap();
        assert!(last.iter().all(|c| c.status == "False"));
    }
}
