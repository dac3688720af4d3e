//! A write as the rules of a kind see it.

use api::schema::Schema;
use serde_json::Value;

use crate::http::warnings::Warnings;
use crate::kinds::cursor::Cursor;
use crate::kinds::custom::ScalePaths;
use crate::kinds::custom::rules::Rules;

/// An object that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    pub new: &'a Value,
    /// The object as it is stored, when this is an update.
    pub old: Option<&'a Value>,
    pub subresource: &'a str,
    /// The version that a definition serves, for custom resources.
    pub custom: Option<Custom<'a>>,
    /// The present time, in seconds since 1970.
    pub now: i64,
}

/// A version of a custom resource.
#[derive(Debug, Clone, Copy)]
pub struct Custom<'a> {
    pub schema: &'a Schema,
    pub scale: Option<&'a ScalePaths>,
    pub rules: Option<&'a Rules>,
    /// The metadata is so wrong that no rule is evaluated.
    pub blocked: bool,
    /// What the writer is told beside the answer.
    pub warnings: &'a Warnings,
}

impl<'a> Check<'a> {
    /// The new object.
    pub fn root(&self) -> Cursor<'a> {
        Cursor::root(self.new)
    }

    /// The stored object, when this is an update.
    pub fn before(&self) -> Option<Cursor<'a>> {
        self.old.map(Cursor::root)
    }

    /// Whether the status alone is written.
    pub fn is_status(&self) -> bool {
        self.subresource == "status"
    }
}
