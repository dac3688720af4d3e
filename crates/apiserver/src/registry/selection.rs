//! Which objects of a resource a list or watch asks for.

use std::sync::Arc;

use api::object::Meta;
use api::selectors::{FieldSelector, LabelSelector};

use crate::http::request_info::Query;
use crate::http::status::{ApiError, Result};
use crate::registry::cache::Scope;
use crate::registry::cached::{Cached, Change};
use crate::registry::resource::Resource;

/// Namespace, labels and fields; all must match.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub namespace: String,
    labels: Option<LabelSelector>,
    name: Option<String>,
    /// Index into the values that are kept with an object, value, and whether it must be equal.
    fields: Vec<(usize, String, bool)>,
    /// The resource whose objects a webhook converts, where labels or fields are asked for: they are those of its version.
    converted: Option<Arc<Resource>>,
    /// `metadata.name!=x` and the like.
    name_not: Vec<String>,
    impossible: bool,
}

fn unknown_field(field: &str) -> String {
    format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
}

/// The selectors of a query, before a resource is asked what it knows of their fields.
#[derive(Debug, Default)]
pub struct Selectors {
    labels: Option<LabelSelector>,
    fields: Option<FieldSelector>,
}

impl Selectors {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// `400` when one does not parse.
    pub fn parse(query: &Query) -> Result<Selectors> {
        let labels = query.text("labelSelector").map(LabelSelector::parse).transpose();
        let labels = labels.map_err(|e| ApiError::bad_request(e.to_string()))?;
        let fields = query.text("fieldSelector").map(FieldSelector::parse).transpose();
        let fields = fields.map_err(|e| ApiError::bad_request(e.to_string()))?;
        Ok(Selectors { labels, fields })
    }
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// `400` when one does not parse or names a field that the resource does not know.
    pub fn parse(resource: &Arc<Resource>, namespace: &str, query: &Query) -> Result<Selection> {
        Selection::of(resource, namespace, Selectors::parse(query)?)
    }

    /// Holds selectors against a resource.
    ///
    /// # Errors
    /// `400` when one names a field that the resource does not know.
    pub fn of(resource: &Arc<Resource>, namespace: &str, selectors: Selectors) -> Result<Selection> {
        let mut selection = Selection {
            namespace: namespace.to_owned(),
            labels: selectors.labels,
            ..Selection::default()
        };
        for term in selectors.fields.iter().flat_map(FieldSelector::terms) {
            selection.add_term(resource, &term.field, &term.value, term.equal)?;
        }
        let by_content = selection.labels.is_some() || !selection.fields.is_empty();
        if by_content && resource.is_converted() {
            selection.converted = Some(resource.clone());
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
                let at = resource.selectable_at(field).ok_or_else(|| {
                    // a kind that has fields of its own says less of those it has not
                    ApiError::bad_request(match (&*resource.group, &*resource.kind) {
                        ("batch", "Job") => format!("field label {field:?} not supported for Job"),
                        ("resource.k8s.io", "ResourceSlice") => {
                            let version = resource.api_version();
                            format!("field label not supported for {version}, Kind=ResourceSlice: {field}")
                        }
                        // upstream selects by fields of these that it has no name for
                        ("apps", "ReplicaSet") => unknown_field(field),
                        _ if resource.selectable.is_empty() && !resource.is_custom() => unknown_field(field),
                        _ => format!("field label not supported: {field}"),
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

    /// What is selected as metrics name it: one `resource`, a `namespace`, or the `cluster`.
    pub fn scope_name(&self) -> &'static str {
        match (&self.name, self.namespace.as_str()) {
            (Some(_), _) => "resource",
            (None, "") => "cluster",
            (None, _) => "namespace",
        }
    }

    /// The one name that is selected, where that is so.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether labels or fields narrow the answer.
    pub fn is_filtered(&self) -> bool {
        self.labels.is_some() || self.name.is_some() || !self.fields.is_empty() || !self.name_not.is_empty()
    }

    /// Whether a webhook has to convert objects before it can be said which are selected.
    pub fn is_of_converted(&self) -> bool {
        self.converted.is_some()
    }

    /// Sees to it that it can be said whether objects are selected.
    ///
    /// # Errors
    /// Those of a webhook that converts them.
    pub async fn ready(&self, objects: &[Arc<Cached>]) -> Result<()> {
        let Some(resource) = &self.converted else {
            return Ok(());
        };
        let unsure = objects.iter().filter(|object| self.is_selected(object).is_none());
        resource.ready_list(&unsure.cloned().collect::<Vec<_>>()).await
    }

    /// Whether the object is selected; `None` when a webhook has to convert it first.
    pub fn is_selected(&self, object: &Cached) -> Option<bool> {
        let meta = &object.object.meta;
        let named = !self.impossible
            && (self.namespace.is_empty() || *self.namespace == *meta.namespace)
            && self.name.as_deref().is_none_or(|n| n == &*meta.name)
            && self.name_not.iter().all(|n| **n != *meta.name);
        if !named {
            return Some(false);
        }
        match &self.converted {
            Some(resource) if !resource.is_stored_as_served(object) => {
                let form = object.form(&resource.version)?;
                Some(self.has_content(&form.object.meta, &form.fields))
            }
            _ => Some(self.has_content(meta, &object.fields)),
        }
    }

    fn has_content(&self, meta: &Meta, fields: &[Box<str>]) -> bool {
        let has = |at: usize, value: &str| fields.get(at).map_or("", |v| v) == value;
        self.fields.iter().all(|(at, value, equal)| has(*at, value) == *equal)
            && self.labels.as_ref().is_none_or(|l| l.matches(|key| meta.label(key)))
    }

    /// Whether the object is selected and that can be said: of objects that a webhook converts, those that are `ready`.
    pub fn matches(&self, object: &Cached) -> bool {
        self.is_selected(object) == Some(true)
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
        // the index is of what is stored
        let indexed = self.fields.iter().find(|(at, _, equal)| *at == 0 && *equal);
        if let Some((_, value, _)) = indexed.filter(|_| self.converted.is_none()) {
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
