//! No custom object is made while its CustomResourceDefinition is being deleted: it would hold the definition back.

use crate::admission::{Attributes, Operation};
use crate::custom::{GROUP, PLURAL};
use crate::http::status::Result;

pub fn admit(attributes: &Attributes<'_>) -> Result<()> {
    let resource = attributes.resource;
    if !resource.is_custom() || attributes.operation != Operation::Create {
        return Ok(());
    }
    let name = format!("{}.{}", resource.plural, resource.group);
    let definition = attributes.registry.get(GROUP, PLURAL, "", &name);
    if definition.is_some_and(|d| d.object.meta.deleting) {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(resource.forbidden(attributes.name, why));
    }
    Ok(())
}
