//! Values that have no form in the language: those of libraries, and objects that expressions build.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::{Fault, Value};

/// A value of a library's own type, such as a URL.
pub trait Opaque: Any + Send + Sync + fmt::Debug {
    /// The type's name, such as `kubernetes.URL`.
    fn type_name(&self) -> &str;

    /// The value as what it is.
    fn as_any(&self) -> &dyn Any;

    /// Whether two values are equal; `None` when they cannot be compared.
    fn equals(&self, other: &dyn Opaque) -> Option<bool>;

    /// The size that costs are reckoned by, if there is one.
    fn size(&self) -> Option<u64> {
        None
    }

    /// What comparing costs: one unless the value's size decides.
    fn compares_by_size(&self) -> bool {
        false
    }

    /// The value as a text for messages.
    fn show(&self) -> String;
}

/// An object such as `Object{spec: ...}` or `JSONPatch{op: ...}`.
#[derive(Debug)]
pub struct Object<'a> {
    /// The type's name.
    pub name: Arc<str>,
    /// The fields that were set, in the order they were written.
    pub fields: Vec<(Arc<str>, Value<'a>)>,
}

impl<'a> Object<'a> {
    /// A field that was set.
    pub fn field(&self, name: &str) -> Option<&Value<'a>> {
        self.fields.iter().find(|(n, _)| &**n == name).map(|(_, value)| value)
    }

    /// Whether two objects have the same type and fields.
    pub(crate) fn equals(&self, other: &Object<'_>) -> Result<bool, Fault> {
        if self.name != other.name || self.fields.len() != other.fields.len() {
            return Ok(false);
        }
        for (name, value) in &self.fields {
            match other.field(name) {
                Some(theirs) if value.equals(theirs)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}
