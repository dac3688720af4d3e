//! AlwaysDeny: nothing may be written.

use serde_json::Value;

use crate::admission::{Attributes, Plugin};
use crate::http::status::Result;

/// Refuses every write.
pub struct AlwaysDeny;

impl Plugin for AlwaysDeny {
    fn handles(&self, _: &Attributes<'_>) -> bool {
        true
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        Err(asked.refuse(tree, "admission control is denying all modifications"))
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, _: Option<&Value>) -> Result<()> {
        Err(asked.refuse(tree, "admission control is denying all modifications"))
    }
}
