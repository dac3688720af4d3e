//! AlwaysPullImages: nobody starts a container of an image that another's credentials brought to the node.

use std::collections::BTreeSet;

use api::field::FieldError;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin, aggregate};
use crate::http::status::{ApiError, Result};

/// The lists of containers in a pod's spec, in upstream's order.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const ALWAYS: &str = "Always";

/// Has images pulled whenever a container starts.
pub struct AlwaysPullImages;

fn images(pod: &Value) -> BTreeSet<&str> {
    let lists = CONTAINERS.iter().filter_map(|list| pod["spec"][*list].as_array());
    let images = lists.flatten().filter_map(|container| container["image"].as_str());
    images.collect()
}

/// Whether a change brings no image that the pod does not have.
fn brings_nothing(tree: &Value, old: Option<&Value>) -> bool {
    old.is_some_and(|old| images(tree).is_subset(&images(old)))
}

impl Plugin for AlwaysPullImages {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "pods", Operation::Create) || asked.is("", "pods", Operation::Update)
    }

    fn admit(&self, _: &Attributes<'_>, tree: &mut Value, old: Option<&Value>) -> Result<()> {
        if brings_nothing(tree, old) {
            return Ok(());
        }
        for list in CONTAINERS {
            let containers = tree.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                container["imagePullPolicy"] = json!(ALWAYS);
            }
        }
        let volumes = tree.pointer_mut("/spec/volumes").and_then(Value::as_array_mut);
        for image in volumes
            .into_iter()
            .flatten()
            .filter_map(|volume| volume.get_mut("image"))
        {
            if image.is_object() {
                image["pullPolicy"] = json!(ALWAYS);
            }
        }
        Ok(())
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
        if brings_nothing(tree, old) {
            return Ok(());
        }
        let mut errors = Vec::new();
        let mut check = |path: String, policy: &Value| {
            if *policy != ALWAYS {
                let given = json!(policy.as_str().unwrap_or_default());
                let why = FieldError::not_supported(path, given, &[ALWAYS]).to_string();
                errors.push(asked.refuse(tree, &why).message);
            }
        };
        for list in CONTAINERS {
            let containers = tree["spec"][list].as_array().into_iter().flatten();
            for (i, container) in containers.enumerate() {
                check(
                    format!("spec.{list}[{i}].imagePullPolicy"),
                    &container["imagePullPolicy"],
                );
            }
        }
        let volumes = tree["spec"]["volumes"].as_array().into_iter().flatten();
        for (i, volume) in volumes.enumerate().filter(|(_, volume)| volume["image"].is_object()) {
            check(
                format!("spec.volumes[{i}].image.pullPolicy"),
                &volume["image"]["pullPolicy"],
            );
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(ApiError::plain(aggregate(&errors))),
        }
    }
}
