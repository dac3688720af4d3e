//! The objects of a request in the version that somebody wants to see them in.

use api::gvk::GroupVersionKind;
use api::schema::structural::whole_numbers;
use api::schema::{Schema, TypeId};
use serde_json::Value;

use super::criteria::Version;
use crate::admission::Attributes;
use crate::http::status::{ApiError, Result};
use crate::registry::resource::Resource;

/// The object of a request and the one that it replaces, in one version.
#[derive(Debug, Clone)]
pub struct Shown {
    pub version: Version,
    /// Null where there is none.
    pub object: Value,
    pub old: Value,
}

impl Version {
    fn resource<'a>(&'a self, asked: &'a Attributes<'_>) -> &'a Resource {
        match self {
            Version::Asked => asked.resource,
            Version::Other(other) => other,
        }
    }

    /// Whether objects are wanted in the same version.
    pub fn is(&self, other: &Version) -> bool {
        let name = |version: &Version| match version {
            Version::Asked => None,
            Version::Other(resource) => Some(resource.api_version()),
        };
        name(self) == name(other)
    }

    /// The kind of what is written, where it is of another group than the resource: the body of a subresource.
    pub fn borrowed_kind(&self, asked: &Attributes<'_>) -> Option<GroupVersionKind> {
        let resource = self.resource(asked);
        let kind = resource.kind_of(asked.subresource);
        (kind.group != resource.group).then_some(kind)
    }

    /// The schema of what is written, and its type.
    ///
    /// # Errors
    /// When a subresource's kind has none.
    pub fn shape<'a>(&'a self, asked: &'a Attributes<'_>) -> Result<(&'a Schema, TypeId)> {
        let resource = self.resource(asked);
        let kind = resource.kind_of(asked.subresource);
        if kind.kind == resource.kind && kind.group == resource.group {
            return Ok((resource.schema.get(), resource.root));
        }
        let schema = Schema::builtin();
        let root = schema.type_for(&kind);
        root.map(|root| (schema, root))
            .ok_or_else(|| ApiError::internal(format!("{kind} has no schema")))
    }
}

impl Shown {
    /// The objects of a request as they were sent.
    pub fn of(asked: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<Shown> {
        let mut shown = Shown {
            version: Version::Asked,
            object: object.clone(),
            old: old.cloned().unwrap_or_default(),
        };
        shown.normalize(asked)?;
        Ok(shown)
    }

    fn normalize(&mut self, asked: &Attributes<'_>) -> Result<()> {
        let (schema, root) = self.version.shape(asked)?;
        for tree in [&mut self.object, &mut self.old] {
            if schema.is_structural() {
                whole_numbers(tree);
            } else if tree.is_object() {
                schema.normalize(root, tree);
            }
        }
        Ok(())
    }

    /// The same objects in another version.
    ///
    /// # Errors
    /// Those of a webhook that converts them.
    pub async fn turn(&mut self, asked: &Attributes<'_>, to: &Version) -> Result<()> {
        if self.version.is(to) {
            return Ok(());
        }
        let (from, into) = (self.version.resource(asked), to.resource(asked));
        // a subresource of a kind of its own is the same in all versions
        let kind = from.kind_of(asked.subresource);
        if kind.kind == from.kind && kind.group == from.group {
            for tree in [&mut self.object, &mut self.old] {
                if tree.is_object() {
                    *tree = from.to_version(into, tree.take()).await?;
                }
            }
        }
        self.version = to.clone();
        self.normalize(asked)
    }

    /// Puts a patched object in the place of the one that is shown. Returns whether it has changed.
    ///
    /// # Errors
    /// When it is no object of the kind.
    pub fn replace(&mut self, asked: &Attributes<'_>, patched: Value) -> Result<bool> {
        let internal = |why: &dyn std::fmt::Display| ApiError::internal(why);
        let (schema, root) = self.version.shape(asked)?;
        let text = |tree: &Value, key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let of = |tree: &Value| [text(tree, "apiVersion"), text(tree, "kind")];
        let (before, after) = (of(&self.object), of(&patched));
        if schema.is_structural() {
            if after[1].is_empty() {
                return Err(internal(&format!("Object 'Kind' is missing in '{patched}'")));
            }
            let mut object = patched;
            let changed = object != self.object;
            schema.prune(&mut object);
            schema.set_defaults(root, &mut object);
            self.object = object;
            return Ok(changed);
        }
        let decoded = schema.decode_value(root, patched).map_err(|e| internal(&e))?;
        // what a patch takes away of the two stays as it was
        let [version, kind] = [0, 1].map(|at| if after[at].is_empty() { &before[at] } else { &after[at] });
        if [version, kind] != [&before[0], &before[1]] {
            return Err(internal(&format!(
                "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
            )));
        }
        let mut object = decoded.value;
        for (key, text) in ["apiVersion", "kind"].into_iter().zip(before) {
            object[key] = Value::String(text);
        }
        schema.normalize(root, &mut object);
        let changed = object != self.object;
        schema.set_defaults(root, &mut object);
        // defaults take fields that are not set out, and others are asked of this object too
        schema.normalize(root, &mut object);
        self.object = object;
        Ok(changed)
    }
}
