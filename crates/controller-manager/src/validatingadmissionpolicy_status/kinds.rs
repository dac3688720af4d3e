//! The kinds that a policy is for, as far as its rules name them (`k8s.io/apiserver/pkg/admission/plugin/policy/validating`,
//! `typesToCheck`).

use std::collections::BTreeSet;

use api::gvk::GroupVersionKind;
use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use crate::discovery::Kinds;

/// A rule that is for more kinds than this ends the search.
const MOST: usize = 10;

/// Names in their order; none where one of them stands for all.
fn names(of: Option<&Vec<String>>) -> Vec<&str> {
    let mut names: Vec<&str> = of.into_iter().flatten().map(String::as_str).collect();
    if names.iter().any(|name| name.contains('*')) {
        names.clear();
    }
    names.sort_unstable();
    names
}

/// The kinds of all rules, in the order of group, version and kind. Subresources and what stands for all are left out.
pub(super) fn matched(rules: &[NamedRuleWithOperations], served: &Kinds) -> Vec<GroupVersionKind> {
    let mut found = BTreeSet::new();
    'rules: for rule in rules {
        let (groups, versions) = (names(rule.api_groups.as_ref()), names(rule.api_versions.as_ref()));
        let mut resources: Vec<&str> = rule.resources.iter().flatten().map(String::as_str).collect();
        resources.retain(|name| !name.contains(['*', '/']));
        resources.sort_unstable();
        let mut count = 0;
        for group in groups {
            for version in &versions {
                for resource in &resources {
                    for kind in served.of(group, version, resource) {
                        found.insert(kind.clone());
                        count += 1;
                        if count == MOST {
                            break 'rules;
                        }
                    }
                }
            }
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Kinds {
        let all = [
            ("", "v1", "pods", "pod", "Pod"),
            ("", "v1", "events", "event", "Event"),
            ("apps", "v1", "deployments", "deployment", "Deployment"),
            ("events.k8s.io", "v1", "events", "event", "Event"),
            ("x.test", "v1", "odd", "", "Odd"),
        ];
        let mut kinds = Kinds::default();
        for (group, version, plural, singular, kind) in all {
            kinds.add(&GroupVersionKind::new(group, version, kind), plural, singular);
        }
        for n in 0..12 {
            kinds.add(
                &GroupVersionKind::new("many.test", "v1", format!("K{n:02}")),
                &format!("k{n}s"),
                "",
            );
        }
        kinds
    }

    fn of(rules: &serde_json::Value) -> Vec<String> {
        let rules: Vec<NamedRuleWithOperations> = serde_json::from_value(rules.clone()).unwrap();
        matched(&rules, &served()).iter().map(ToString::to_string).collect()
    }

    fn rule(groups: &[&str], versions: &[&str], resources: &[&str]) -> serde_json::Value {
        serde_json::json!({ "apiGroups": groups, "apiVersions": versions, "resources": resources })
    }

    #[test]
    fn what_rules_name_is_found_in_the_order_of_group_version_and_kind() {
        let rules = serde_json::json!([
            rule(&["apps"], &["v1"], &["deployments"]),
            rule(&[""], &["v1"], &["pods", "pods/status"])
        ]);
        assert_eq!(of(&rules), ["v1, Kind=Pod", "apps/v1, Kind=Deployment"]);
        assert!(of(&serde_json::json!([rule(&["apps"], &["v2"], &["deployments"])])).is_empty());
    }

    #[test]
    fn the_core_group_stands_for_all_groups_that_have_such_a_resource() {
        let rules = serde_json::json!([rule(&[""], &["v1"], &["events", "deployments"])]);
        assert_eq!(
            of(&rules),
            [
                "v1, Kind=Event",
                "apps/v1, Kind=Deployment",
                "events.k8s.io/v1, Kind=Event"
            ]
        );
    }

    #[test]
    fn one_name_that_stands_for_all_takes_the_rule_out() {
        for (groups, versions, resources) in [
            (&["*"][..], &["v1"][..], &["pods"][..]),
            (&["", "*"], &["v1"], &["pods"]),
            (&[""], &["v1", "*"], &["pods"]),
            (&[""], &["v1"], &["*"]),
            (&[""], &["v1"], &["pods/*"]),
        ] {
            assert!(of(&serde_json::json!([rule(groups, versions, resources)])).is_empty());
        }
        assert_eq!(
            of(&serde_json::json!([rule(&[""], &["v1"], &["pods", "*"])])),
            ["v1, Kind=Pod"]
        );
    }

    #[test]
    fn names_are_found_in_the_singular_and_in_capitals_and_lists_too() {
        let rules = serde_json::json!([
            rule(&["x.test"], &["v1"], &["ODD", "oddlists"]),
            rule(&["apps"], &["v1"], &["deployment"])
        ]);
        assert_eq!(
            of(&rules),
            [
                "apps/v1, Kind=Deployment",
                "x.test/v1, Kind=Odd",
                "x.test/v1, Kind=OddList"
            ]
        );
    }

    #[test]
    fn the_tenth_kind_of_a_rule_is_the_last() {
        let many: Vec<String> = (0..12).map(|n| format!("k{n}s")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let rules = serde_json::json!([
            rule(&["apps"], &["v1"], &["deployments"]),
            rule(&["many.test"], &["v1"], &many),
            rule(&[""], &["v1"], &["pods"])
        ]);
        let found = of(&rules);
        assert_eq!(found.len(), 11);
        assert!(!found.contains(&"v1, Kind=Pod".to_owned()));
    }
}
