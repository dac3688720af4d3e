//! No custom object is made while its CustomResourceDefinition is being deleted: it would hold the definition back.

use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;
use crate::kinds::apiextensions::custom_resource_definition::{GROUP, PLURAL};

/// Upstream has it in the handler of custom resources, before all plugins.
pub struct TerminatingDefinition;

impl Plugin for TerminatingDefinition {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.resource.is_custom() && asked.operation == Operation::Create
    }

    fn admit(&self, asked: &Attributes<'_>, _: &mut Value, _: Option<&Value>) -> Result<()> {
        let resource = asked.resource;
        let name = format!("{}.{}", resource.plural, resource.group);
        let definition = asked.registry.get(GROUP, PLURAL, "", &name);
        if definition.is_some_and(|d| d.object.meta.deleting) {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(resource.forbidden(asked.name, why));
        }
        Ok(())
    }
}
