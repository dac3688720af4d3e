//! Criteria: the rules and selectors that together decide whether a request concerns something that is configured, and in which
//! version it is to see the objects (`k8s.io/apiserver/pkg/admission/plugin/webhook/generic`, `plugin/policy/matching`).

use std::sync::Arc;

use api::selectors::{LabelSelector, SelectorError};
use serde_json::Value;

use super::rule::{Asked, Rule};
use crate::admission::{Attributes, Operation};
use crate::http::status::{ApiError, Result};
use crate::registry::resource::Resource;

/// A selector, or why there is none.
type Selector = std::result::Result<LabelSelector, SelectorError>;

/// Rules and selectors.
#[derive(Debug)]
pub struct Criteria {
    pub rules: Vec<Rule>,
    /// What matches one of these is left out.
    pub excluded: Vec<Rule>,
    /// Without rules it is for every request.
    all_without_rules: bool,
    /// A request for another version of a resource counts as one for the version that the rules name.
    equivalent: bool,
    namespaces: Selector,
    objects: Selector,
}

/// The version that objects are wanted in.
#[derive(Debug, Clone)]
pub enum Version {
    /// That of the request.
    Asked,
    Other(Arc<Resource>),
}

impl Criteria {
    /// Reads what has `matchPolicy`, `namespaceSelector` and `objectSelector` beside rules in a field.
    pub fn read(tree: &Value, rules: &str) -> Criteria {
        let selector = |key: &str| match tree.get(key) {
            None | Some(Value::Null) => Ok(LabelSelector::default()),
            Some(selector) => LabelSelector::from_tree(selector),
        };
        Criteria {
            rules: Rule::read_all(tree, rules),
            excluded: Rule::read_all(tree, "excludeResourceRules"),
            // a binding says nothing of resources when it is for all of its policy's
            all_without_rules: rules == "resourceRules",
            equivalent: tree.get("matchPolicy").and_then(Value::as_str) != Some("Exact"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The version to be shown the objects in; `None` when the request is not one of these. `object` is null, or `old` absent,
    /// where there is none.
    ///
    /// # Errors
    /// `404` when the request's namespace is not there, `500` when a selector is none.
    pub fn matches(&self, asked: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<Option<Version>> {
        let Some(version) = self.version(asked) else {
            return Ok(None);
        };
        let selected = self.is_in_namespace(asked, object);
        if matches!(selected, Ok(false)) {
            return Ok(None);
        }
        if !self.selects(asked, object, old)? {
            return Ok(None);
        }
        selected.map(|_| Some(version))
    }

    /// The version of the request that one of the rules is for.
    fn version(&self, asked: &Attributes<'_>) -> Option<Version> {
        let own = target(asked, asked.resource);
        let others = match self.equivalent {
            true => others(asked),
            false => Vec::new(),
        };
        let any = |rules: &[Rule], target: &Asked<'_>| rules.iter().any(|rule| rule.matches(target));
        if any(&self.excluded, &own) || others.iter().any(|other| any(&self.excluded, &target(asked, other))) {
            return None;
        }
        if any(&self.rules, &own) || self.rules.is_empty() && self.all_without_rules {
            return Some(Version::Asked);
        }
        let mut found = self.rules.iter().flat_map(|rule| {
            let fits = move |other: &&Arc<Resource>| rule.matches(&target(asked, other));
            others.iter().find(fits).cloned()
        });
        found.next().map(Version::Other)
    }

    fn is_in_namespace(&self, asked: &Attributes<'_>, object: &Value) -> Result<bool> {
        let namespace = asked.namespace_asked();
        let is_namespace = asked.resource.plural == "namespaces";
        if namespace.is_empty() && !is_namespace {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(ApiError::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        let written = is_namespace
            && asked.subresource.is_empty()
            && matches!(asked.operation, Operation::Create | Operation::Update);
        if written {
            return Ok(selector.matches(labels(object)));
        }
        let found = asked.registry.get("", "namespaces", "", namespace);
        let found = found.ok_or_else(|| ApiError::not_found("", "namespaces", namespace))?;
        Ok(selector.matches(|key| found.object.meta.label(key)))
    }

    fn selects(&self, asked: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<bool> {
        let selector = self.objects.as_ref().map_err(ApiError::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        // the options of a connection have no metadata
        if asked.operation == Operation::Connect {
            return Ok(false);
        }
        let mut there = [Some(object), old].into_iter().flatten().filter(|tree| !tree.is_null());
        Ok(there.any(|tree| selector.matches(labels(tree))))
    }
}

fn labels<'a>(object: &'a Value) -> impl Fn(&str) -> Option<&'a str> {
    let labels = object.get("metadata").and_then(|metadata| metadata.get("labels"));
    move |key| labels?.get(key)?.as_str()
}

fn target<'a>(asked: &'a Attributes<'_>, resource: &'a Resource) -> Asked<'a> {
    Asked {
        operation: asked.operation,
        group: &resource.group,
        version: &resource.version,
        resource: &resource.plural,
        subresource: asked.subresource,
        namespace: asked.namespace_asked(),
        name: asked.known_name,
    }
}

/// The resource in its other versions, where these have the subresource that is asked for.
fn others(asked: &Attributes<'_>) -> Vec<Arc<Resource>> {
    let own = asked.resource;
    let catalog = asked.registry.catalog();
    let same = catalog.named(&own.plural).filter(|served| {
        let other = &served.resource;
        other.prefix == own.prefix
            && (&other.group, &other.version) != (&own.group, &own.version)
            && (asked.subresource.is_empty() || other.subresource(asked.subresource).is_some())
    });
    same.map(|served| served.resource.clone()).collect()
}
