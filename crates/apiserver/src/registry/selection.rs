//! Which objects of a resource a list or watch asks for.

use api::selectors::{FieldSelector, LabelSelector};

use crate::http::request_info::Query;
use crate::http::status::{ApiError, Result};
use crate::registry::cache::{Change, Scope};
use crate::registry::cached::Cached;
use crate::registry::resource::Resource;

/// Namespace, labels and fields; all must match.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub namespace: String,
    labels: Option<LabelSelector>,
    name: Option<String>,
    /// Index into the resource's selectable fields, value, and whether it must be equal.
    fields: Vec<(usize, String, bool)>,
    /// `metadata.name!=x` and the like.
    name_not: Vec<String>,
    impossible: bool,
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// `400` when one does not parse or names a field that the resource does not know.
    pub fn parse(resource: &Resource, namespace: &str, query: &Query) -> Result<Selection> {
        let mut selection = Selection {
            namespace: namespace.to_owned(),
            ..Selection::default()
        };
        if let Some(text) = query.text("labelSelector") {
            let parsed = LabelSelector::parse(text).map_err(|e| ApiError::bad_request(e.to_string()))?;
            selection.labels = Some(parsed);
        }
        if let Some(text) = query.text("fieldSelector") {
            let parsed = FieldSelector::parse(text).map_err(|e| ApiError::bad_request(e.to_string()))?;
            for term in parsed.terms() {
                selection.add_term(resource, &term.field, &term.value, term.equal)?;
            }
        }
        Ok(selection)
    }

    fn add_term(&mut self, resource: &Resource, field: &str, value: &str, equal: bool) -> Result<()> {
        match field {
            "metadata.name" if equal => {
                self.impossible |= self.name.as_deref().is_some_and(|n| n != value);
                self.name = Some(value.to_owned());
            }
            "metadata.name" => self.name_not.push(value.to_owned()),
            // what has no namespace has an empty one
            "metadata.namespace" if !resource.namespaced && resource.selectable.is_empty() && !resource.is_custom() => {
                self.impossible |= value.is_empty() != equal;
            }
            "metadata.namespace" if resource.namespaced => {
                if equal && self.namespace.is_empty() {
                    value.clone_into(&mut self.namespace);
                } else {
                    self.impossible |= (self.namespace == value) != equal;
                }
            }
            field => {
                let at = resource.selectable.iter().position(|f| f == field).ok_or_else(|| {
                    // a kind that has fields of its own says less of those it has not
                    ApiError::bad_request(if resource.selectable.is_empty() && !resource.is_custom() {
                        format!(
                            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                        )
                    } else {
                        format!("field label not supported: {field}")
                    })
                })?;
                self.fields.push((at, value.to_owned(), equal));
            }
        }
        Ok(())
    }

    /// A selection of one object.
    pub fn one(namespace: &str, name: &str) -> Selection {
        Selection {
            namespace: namespace.to_owned(),
            name: Some(name.to_owned()),
            ..Selection::default()
        }
    }

    /// Narrows the selection to one name, as a watch of `.../{name}` asks.
    pub fn with_name(mut self, name: &str) -> Selection {
        self.name = Some(name.to_owned());
        self
    }

    /// The one name that is selected, where that is so.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether labels or fields narrow the answer.
    pub fn is_filtered(&self) -> bool {
        self.labels.is_some() || self.name.is_some() || !self.fields.is_empty() || !self.name_not.is_empty()
    }

    /// Whether the object is selected.
    pub fn matches(&self, object: &Cached) -> bool {
        let meta = &object.object.meta;
        !self.impossible
            && (self.namespace.is_empty() || *self.namespace == *meta.namespace)
            && self.name.as_deref().is_none_or(|n| n == &*meta.name)
            && self.name_not.iter().all(|n| **n != *meta.name)
            && self
                .fields
                .iter()
                .all(|(at, value, equal)| (object.fields.get(*at).map_or("", |v| v) == value) == *equal)
            && self.labels.as_ref().is_none_or(|l| l.matches(|key| meta.label(key)))
    }

    /// The narrowest index to wait on.
    pub fn scope(&self, resource: &Resource) -> Scope {
        if let Some(name) = &self.name {
            return if !resource.namespaced {
                Scope::Key(name.as_str().into())
            } else if self.namespace.is_empty() {
                Scope::All
            } else {
                Scope::Key(format!("{}/{name}", self.namespace).into())
            };
        }
        if let Some((_, value, _)) = self.fields.iter().find(|(at, _, equal)| *at == 0 && *equal) {
            return Scope::Field(value.as_str().into());
        }
        if self.namespace.is_empty() {
            Scope::All
        } else {
            Scope::Namespace(self.namespace.as_str().into())
        }
    }

    /// What a change is to this watcher: an object that begins to match is added, one that ceases to is deleted.
    pub fn event_type(&self, change: &Change) -> Option<&'static str> {
        let before = change.previous.as_ref().is_some_and(|p| self.matches(p));
        let after = !change.deleted && self.matches(&change.current);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
        }
    }
}
