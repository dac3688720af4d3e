//! The resource table: one row per resource that is served by default, from `data/resources.txt`.
//! Regenerate with `gen/resources.py`.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::gvk::GroupVersionKind;
use crate::schema::{Schema, TypeId};

/// One subresource of a resource, such as `pods/binding`.
#[derive(Debug)]
pub struct Subresource {
    /// The name behind the resource's, as `status`.
    pub name: &'static str,
    /// Group, version and kind of the body.
    pub group: &'static str,
    /// The version of the body, which may differ from the resource's.
    pub version: &'static str,
    /// The kind of the body.
    pub kind: &'static str,
    /// Verbs of the API, as `get` and `patch`.
    pub verbs: Vec<&'static str>,
}

/// A row of the table: one resource in one version. What a server serves is made of it.
#[derive(Debug)]
pub struct Row {
    /// Empty for the core group.
    pub group: &'static str,
    /// The version in the group.
    pub version: &'static str,
    /// Whether this is the group's preferred version.
    pub preferred: bool,
    /// The name in paths and in RBAC, as `pods`.
    pub plural: &'static str,
    /// The name that kubectl takes beside the plural, as `pod`.
    pub singular: &'static str,
    /// The kind of the objects.
    pub kind: &'static str,
    /// The kind of their list.
    pub list_kind: String,
    /// Whether objects are in namespaces, or of the cluster.
    pub namespaced: bool,
    /// Short names that kubectl takes, as `po`.
    pub short_names: Vec<&'static str>,
    /// Groups of resources that kubectl takes, as `all`.
    pub categories: Vec<&'static str>,
    /// Verbs of the API that it answers, in discovery's order.
    pub verbs: Vec<&'static str>,
    /// What is below an object's path.
    pub subresources: Vec<Subresource>,
    /// Beside `metadata.name` and `metadata.namespace`, which every resource has.
    pub field_selectors: Vec<&'static str>,
    /// The type of the objects in [`Schema::builtin`].
    pub type_id: TypeId,
}

impl Row {
    /// The name of the objects' kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group, self.version, self.kind)
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        crate::gvk::join_api_version(self.group, self.version)
    }

    /// Returns whether it answers the verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether a field selector may name `field`.
    pub fn selects_by(&self, field: &str) -> bool {
        field == "metadata.name"
            || (field == "metadata.namespace" && self.namespaced)
            || self.field_selectors.contains(&field)
    }
}

struct Table {
    rows: Vec<Row>,
    by_plural: HashMap<(&'static str, &'static str, &'static str), usize>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), usize>,
}

fn list(text: &'static str) -> Vec<&'static str> {
    if text == "-" {
        Vec::new()
    } else {
        text.split(',').collect()
    }
}

fn dash(text: &'static str) -> &'static str {
    if text == "-" { "" } else { text }
}

fn parse(text: &'static str, schema: &Schema) -> Table {
    let mut rows: Vec<Row> = Vec::new();
    for line in text.lines() {
        if let Some(sub) = line.strip_prefix(' ') {
            let mut words = sub.split(' ');
            let (Some(row), Some(name), Some(group), Some(version), Some(kind), Some(verbs)) = (
                rows.last_mut(),
                words.next(),
                words.next(),
                words.next(),
                words.next(),
                words.next(),
            ) else {
                continue;
            };
            let verbs = list(verbs);
            row.subresources.push(Subresource {
                name,
                group: dash(group),
                version,
                kind: dash(kind),
                verbs,
            });
            continue;
        }
        let words: Vec<&'static str> = line.split(' ').collect();
        let [
            group,
            version,
            plural,
            kind,
            singular,
            scope,
            short_names,
            categories,
            verbs,
            fields,
        ] = words[..]
        else {
            continue;
        };
        let group = dash(group);
        let Some(type_id) = schema.type_for(&GroupVersionKind::new(group, version, kind)) else {
            continue;
        };
        rows.push(Row {
            group,
            version,
            // Upstream's discovery names the preferred version of a group first.
            preferred: !rows.iter().any(|r| r.group == group && r.version != version),
            plural,
            singular: dash(singular),
            kind,
            list_kind: format!("{kind}List"),
            namespaced: scope == "Namespaced",
            short_names: list(short_names),
            categories: list(categories),
            verbs: list(verbs),
            subresources: Vec::new(),
            field_selectors: list(fields),
            type_id,
        });
    }
    let by_plural = rows
        .iter()
        .enumerate()
        .map(|(i, r)| ((r.group, r.version, r.plural), i))
        .collect();
    let by_kind = rows
        .iter()
        .enumerate()
        .map(|(i, r)| ((r.group, r.version, r.kind), i))
        .collect();
    Table {
        rows,
        by_plural,
        by_kind,
    }
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| parse(include_str!("../data/resources.txt"), Schema::builtin()))
}

/// Every built-in resource, groups in upstream's order of discovery.
pub fn all() -> &'static [Row] {
    &table().rows
}

/// The resource of a request path.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Row> {
    let table = table();
    table.by_plural.get(&(group, version, plural)).map(|&i| &table.rows[i])
}

/// The resource whose objects are of a kind.
pub fn find_kind(gvk: &GroupVersionKind) -> Option<&'static Row> {
    let table = table();
    table
        .by_kind
        .get(&(gvk.group.as_str(), gvk.version.as_str(), gvk.kind.as_str()))
        .map(|&i| &table.rows[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_has_a_type() {
        let rows = include_str!("../data/resources.txt")
            .lines()
            .filter(|l| !l.starts_with(' '))
            .count();
        assert_eq!(all().len(), rows);
        assert!(rows > 60);
    }

    #[test]
    fn pods_have_their_names_and_subresources() {
        let pods = find("", "v1", "pods").unwrap();
        assert_eq!(
            (pods.kind, pods.singular, pods.namespaced, pods.preferred),
            ("Pod", "pod", true, true)
        );
        assert_eq!(pods.short_names, ["po"]);
        let eviction = pods.subresource("eviction").unwrap();
        assert_eq!(
            (eviction.group, eviction.version, eviction.kind),
            ("policy", "v1", "Eviction")
        );
        assert!(
            pods.selects_by("spec.nodeName") && pods.selects_by("metadata.namespace") && !pods.selects_by("spec.x")
        );
    }

    #[test]
    fn a_group_prefers_the_version_it_names_first() {
        assert!(find("autoscaling", "v2", "horizontalpodautoscalers").unwrap().preferred);
        assert!(!find("autoscaling", "v1", "horizontalpodautoscalers").unwrap().preferred);
        assert!(
            find_kind(&GroupVersionKind::from_api_version("apps/v1", "Deployment"))
                .unwrap()
                .preferred
        );
    }
}
