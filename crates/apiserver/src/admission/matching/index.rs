//! An index by resource: which of many configured things may concern a request, with one look.

use std::collections::{BTreeSet, HashMap};

use super::rule::Rule;

/// The places of things in their order, by the resources of their rules.
#[derive(Debug, Default)]
pub struct Index {
    /// Those that are for any resource.
    any: Vec<usize>,
    /// Those that are for a resource, with those for any. A resource's versions have one name.
    named: HashMap<Box<str>, Vec<usize>>,
}

impl Index {
    /// The index of things, by their rules.
    pub fn of<'a>(rules: impl Iterator<Item = &'a [Rule]>) -> Index {
        let mut any = BTreeSet::new();
        let mut named: HashMap<Box<str>, BTreeSet<usize>> = HashMap::new();
        for (place, rules) in rules.enumerate() {
            for rule in rules {
                let Some(resources) = rule.resources() else {
                    any.insert(place);
                    continue;
                };
                for resource in resources {
                    named.entry(resource.into()).or_default().insert(place);
                }
            }
        }
        let joined = named.into_iter().map(|(resource, places)| {
            let all: BTreeSet<usize> = places.union(&any).copied().collect();
            (resource, all.into_iter().collect())
        });
        Index {
            named: joined.collect(),
            any: any.into_iter().collect(),
        }
    }

    /// The places of what may concern a resource.
    pub fn candidates(&self, resource: &str) -> &[usize] {
        self.named.get(resource).unwrap_or(&self.any)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn candidates_are_those_of_the_resource_and_of_any_in_their_order() {
        let rules = |resources: &[&str]| vec![Rule::read(&json!({ "resources": resources }))];
        let all = [
            rules(&["pods", "nodes/status"]),
            rules(&["*/*"]),
            rules(&["pods"]),
            Vec::new(),
        ];
        let index = Index::of(all.iter().map(Vec::as_slice));
        assert_eq!(index.candidates("pods"), [0, 1, 2]);
        assert_eq!(index.candidates("nodes"), [0, 1]);
        assert_eq!(index.candidates("secrets"), [1]);
    }
}
