//! Priority: a pod's number comes from its priority class.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};
use crate::http::status::{ApiError, Result};
use crate::registry::cached::Cached;
use crate::tree::text;

/// What pods ask of a class.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Class {
    #[serde(default)]
    value: i64,
    #[serde(default)]
    global_default: bool,
    preemption_policy: Option<String>,
}

pub fn mutate(attributes: &Attributes<'_>, tree: &mut Value) -> Result<()> {
    if !attributes.is("", "pods", Operation::Create) {
        return Ok(());
    }
    let name = text(tree, &["spec", "priorityClassName"])
        .unwrap_or_default()
        .to_owned();
    let class = if name.is_empty() {
        let default = default_class(attributes)?;
        if let Some((name, _)) = &default {
            tree["spec"]["priorityClassName"] = json!(name);
        }
        default.map(|(_, class)| class)
    } else {
        let found = attributes
            .registry
            .get("scheduling.k8s.io", "priorityclasses", "", &name);
        let Some(found) = found else {
            let why = format!("no PriorityClass with name {name} was found");
            return Err(attributes.resource.forbidden(attributes.name, &why));
        };
        Some(read(&found)?)
    };
    let value = class.as_ref().map_or(0, |c| c.value);
    let policy = class.as_ref().and_then(|c| c.preemption_policy.as_deref());
    let policy = policy.unwrap_or("PreemptLowerPriority");
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
    let Some((name, _)) = default_class(attributes)? else {
        return Ok(());
    };
    if is(Operation::Update) && name == attributes.name {
        return Ok(());
    }
    let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
    Err(attributes.resource.forbidden(attributes.name, &why))
}

fn read(class: &Cached) -> Result<Class> {
    class.object.decode().map_err(ApiError::internal)
}

/// Of several global defaults the lowest counts.
fn default_class(attributes: &Attributes<'_>) -> Result<Option<(String, Class)>> {
    let mut best: Option<(String, Class)> = None;
    for object in attributes.registry.list("scheduling.k8s.io", "priorityclasses", "") {
        let class = read(&object)?;
        if class.global_default && best.as_ref().is_none_or(|(_, b)| class.value < b.value) {
            best = Some((object.object.meta.name.to_string(), class));
        }
    }
    Ok(best)
}
