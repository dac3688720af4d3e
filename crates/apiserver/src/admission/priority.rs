//! Priority: a pod's number comes from its priority class.

use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};
use crate::http::status::Result;
use crate::strategy::text;

pub fn mutate(attributes: &Attributes<'_>, tree: &mut Value) -> Result<()> {
    if !attributes.is("", "pods", Operation::Create) {
        return Ok(());
    }
    let name = text(tree, &["spec", "priorityClassName"])
        .unwrap_or_default()
        .to_owned();
    let class = if name.is_empty() {
        let default = default_class(attributes)?;
        if let Some(class) = &default {
            tree["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
        }
        default
    } else {
        match attributes
            .registry
            .get("scheduling.k8s.io", "priorityclasses", "", &name)
        {
            Some(found) => Some(found.tree()?),
            None => {
                let why = format!("no PriorityClass with name {name} was found");
                return Err(attributes.resource.forbidden(attributes.name, &why));
            }
        }
    };
    let value = class.as_ref().and_then(|c| c["value"].as_i64()).unwrap_or(0);
    let policy = class
        .as_ref()
        .and_then(|c| text(c, &["preemptionPolicy"]))
        .unwrap_or("PreemptLowerPriority");
    if let Some(asked) = tree.pointer("/spec/priority").and_then(Value::as_i64)
        && asked != value
    {
        let why = format!(
            "the integer value of priority ({asked}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        );
        return Err(attributes.resource.forbidden(attributes.name, &why));
    }
    if let Some(asked) = text(tree, &["spec", "preemptionPolicy"])
        && asked != policy
    {
        let why = format!(
            "the string value of PreemptionPolicy ({asked}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(attributes.resource.forbidden(attributes.name, &why));
    }
    tree["spec"]["priority"] = json!(value);
    tree["spec"]["preemptionPolicy"] = json!(policy);
    Ok(())
}

/// There is one default class.
pub fn validate(attributes: &Attributes<'_>, tree: &Value) -> Result<()> {
    let is = |operation| attributes.is("scheduling.k8s.io", "priorityclasses", operation);
    if !(is(Operation::Create) || is(Operation::Update)) || tree["globalDefault"] != true {
        return Ok(());
    }
    let Some(default) = default_class(attributes)? else {
        return Ok(());
    };
    let name = text(&default, &["metadata", "name"]).unwrap_or_default();
    if is(Operation::Update) && name == attributes.name {
        return Ok(());
    }
    let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
    Err(attributes.resource.forbidden(attributes.name, &why))
}

/// Of several global defaults the lowest counts.
fn default_class(attributes: &Attributes<'_>) -> Result<Option<Value>> {
    let mut best: Option<Value> = None;
    for object in attributes.registry.list("scheduling.k8s.io", "priorityclasses", "") {
        let class = object.tree()?;
        if class["globalDefault"] == true
            && best
                .as_ref()
                .is_none_or(|b| class["value"].as_i64() < b["value"].as_i64())
        {
            best = Some(class);
        }
    }
    Ok(best)
}
