//! DenyServiceExternalIPs: Services get no external addresses but those that they have.

use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;

/// Refuses external addresses.
pub struct DenyServiceExternalIps;

fn addresses(service: &Value) -> impl Iterator<Item = &Value> {
    let list = service.pointer("/spec/externalIPs").and_then(Value::as_array);
    list.into_iter().flatten()
}

impl Plugin for DenyServiceExternalIps {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "services", Operation::Create) || asked.is("", "services", Operation::Update)
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
        let known = |ip: &Value| old.is_some_and(|old| addresses(old).any(|known| known == ip));
        match addresses(tree).all(known) {
            true => Ok(()),
            false => Err(asked.refuse(tree, "Use of external IPs is denied by admission control")),
        }
    }
}
