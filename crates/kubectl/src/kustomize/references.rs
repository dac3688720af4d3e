//! References by name, mended after names have changed (`api/filters/nameref`).

use serde_json::{Value, json};

use super::fields::{Field, at};
use super::resource::{Id, Resource};
use super::tables::{Referred, references};
use crate::error::{Result, fail};

/// Writes new names where objects are referred to by old ones.
pub fn fix(resources: &mut [Resource]) -> Result<()> {
    for referred in references() {
        for field in &referred.by {
            for index in 0..resources.len() {
                if field.is_of(&resources[index].original()) {
                    mend(resources, index, field, &referred)?;
                }
            }
        }
    }
    Ok(())
}

fn mend(resources: &mut [Resource], index: usize, field: &Field, referred: &Referred) -> Result<()> {
    let mut object = std::mem::take(&mut resources[index].object);
    // the referrer itself is among those that are looked at
    resources[index].object = object.clone();
    let search = Search {
        referrer: &resources[index],
        id: resources[index].id(),
        all: resources,
        referred,
        is_role: field.path.ends_with("roleRef/name"),
    };
    let done = at(&mut object, field, None, &mut |value| search.set(value));
    resources[index].object = object;
    done
}

struct Search<'a> {
    referrer: &'a Resource,
    id: Id,
    all: &'a [Resource],
    referred: &'a Referred,
    is_role: bool,
}

impl Search<'_> {
    fn set(&self, value: &mut Value) -> Result<()> {
        match value {
            Value::String(name) => {
                if let Some(found) = self.find(name, None, false)? {
                    found.name().clone_into(name);
                }
                Ok(())
            }
            Value::Object(map) => {
                let name = map.get("name").and_then(Value::as_str);
                let Some(name) = name else {
                    return fail("path config error; no 'name' field in node");
                };
                let namespace = map.get("namespace").and_then(Value::as_str);
                if let Some(found) = self.find(name, namespace, true)? {
                    let unchanged = found.name() == name && found.namespace().is_empty();
                    if !unchanged {
                        map.insert("name".to_owned(), json!(found.name()));
                        if !found.namespace().is_empty() {
                            map.insert("namespace".to_owned(), json!(found.namespace()));
                        }
                    }
                }
                Ok(())
            }
            Value::Array(list) => list.iter_mut().try_for_each(|item| self.set(item)),
            _ => Ok(()),
        }
    }

    /// The object that had this name when the reference was written.
    fn find(&self, name: &str, namespace: Option<&str>, with_namespace: bool) -> Result<Option<&Resource>> {
        let mut found: Vec<&Resource> = self.all.iter().filter(|other| self.may_be(other, name)).collect();
        if let Some(namespace) = namespace {
            let first: Vec<&Resource> = found
                .iter()
                .copied()
                .filter(|other| other.original().effective_namespace() == namespace)
                .collect();
            found = match first.is_empty() {
                false => first,
                true => found
                    .into_iter()
                    .filter(|other| other.id().effective_namespace() == namespace)
                    .collect(),
            };
        }
        if found.len() == 1 {
            return Ok(found.pop());
        }
        found.retain(|other| self.same_affixes(other, true));
        if found.len() > 1 {
            found.retain(|other| self.same_affixes(other, false));
        }
        let Some(first) = found.first().copied() else {
            return Ok(None);
        };
        let alike = found
            .iter()
            .all(|other| other.name() == first.name() && (!with_namespace || other.namespace() == first.namespace()));
        if alike {
            return Ok(Some(first));
        }
        let ids: Vec<String> = found.iter().map(|other| other.id().to_string()).collect();
        fail(format!("found multiple possible referrals: {}", ids.join(", ")))
    }

    fn may_be(&self, other: &Resource, name: &str) -> bool {
        let Referred {
            group, version, kind, ..
        } = self.referred;
        let of_role = || {
            let role = &self.referrer.object["roleRef"];
            match (role["apiGroup"].as_str(), role["kind"].as_str()) {
                (Some(group), Some(kind)) => other.previous.iter().any(|id| id.is_selected(group, "", kind)),
                _ => true,
            }
        };
        other.previous.iter().any(|id| id.name == name)
            && other.previous.iter().any(|id| id.is_selected(group, version, kind))
            && (!self.is_role || of_role())
            && self.is_near(other)
    }

    /// Objects refer to those of their own namespace, to those of none, and role bindings to accounts anywhere.
    fn is_near(&self, other: &Resource) -> bool {
        let id = other.id();
        self.id.is_cluster_scoped()
            || id.is_cluster_scoped()
            || other.kind() == "ServiceAccount"
            || self.id.effective_namespace() == id.effective_namespace()
    }

    fn same_affixes(&self, other: &Resource, may_be_empty: bool) -> bool {
        let same = |a: &[String], b: &[String]| {
            if may_be_empty && (a.is_empty() || b.is_empty()) {
                return true;
            }
            a.iter().rev().zip(b.iter().rev()).all(|(a, b)| a == b)
        };
        same(&self.referrer.prefixes, &other.prefixes) && same(&self.referrer.suffixes, &other.suffixes)
    }
}
