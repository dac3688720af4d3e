//! Priority: a pod's number comes from its priority class.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin};
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

/// Resolves the priority classes of pods, and keeps the default one single.
pub struct Priority;

impl Plugin for Priority {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "pods", Operation::Create) || asked.resource.is("scheduling.k8s.io", "priorityclasses")
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        if !asked.is("", "pods", Operation::Create) {
            return Ok(());
        }
        let name = text(tree, &["spec", "priorityClassName"])
            .unwrap_or_default()
            .to_owned();
        let class = if name.is_empty() {
            let default = default_class(asked)?;
            if let Some((name, _)) = &default {
                tree["spec"]["priorityClassName"] = json!(name);
            }
            default.map(|(_, class)| class)
        } else {
            let found = asked.registry.get("scheduling.k8s.io", "priorityclasses", "", &name);
            let Some(found) = found else {
                let why = format!("no PriorityClass with name {name} was found");
                return Err(asked.resource.forbidden(asked.name, &why));
            };
            Some(read(&found)?)
        };
        let value = class.as_ref().map_or(0, |c| c.value);
        let policy = class.as_ref().and_then(|c| c.preemption_policy.as_deref());
        let policy = policy.unwrap_or("PreemptLowerPriority");
        if let Some(given) = tree.pointer("/spec/priority").and_then(Value::as_i64)
            && given != value
        {
            let why = format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            );
            return Err(asked.resource.forbidden(asked.name, &why));
        }
        if let Some(given) = text(tree, &["spec", "preemptionPolicy"])
            && given != policy
        {
            let why = format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            );
            return Err(asked.resource.forbidden(asked.name, &why));
        }
        tree["spec"]["priority"] = json!(value);
        tree["spec"]["preemptionPolicy"] = json!(policy);
        Ok(())
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, _: Option<&Value>) -> Result<()> {
        let is = |operation| asked.is("scheduling.k8s.io", "priorityclasses", operation);
        if !(is(Operation::Create) || is(Operation::Update)) || tree["globalDefault"] != true {
            return Ok(());
        }
        let Some((name, _)) = default_class(asked)? else {
            return Ok(());
        };
        if is(Operation::Update) && name == asked.name {
            return Ok(());
        }
        let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
        Err(asked.resource.forbidden(asked.name, &why))
    }
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
