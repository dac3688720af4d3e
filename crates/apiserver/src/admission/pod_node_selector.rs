//! PodNodeSelector: the pods of a namespace run on the nodes that its annotation or the cluster's configuration selects.

use std::collections::BTreeMap;

use api::field::FieldError;
use serde_json::{Value, json};

use crate::admission::error::PluginError;
use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::{ApiError, Result};
use crate::registry::metadata;

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// The entry of the configuration for namespaces without an annotation.
const DEFAULT: &str = "clusterDefaultNodeSelector";

type Labels = BTreeMap<String, String>;

/// Selects the nodes of a namespace's pods. The configuration has the default selector and, by namespace, all that its pods may select.
pub struct PodNodeSelector {
    configured: BTreeMap<String, String>,
}

impl PodNodeSelector {
    /// Reads `podNodeSelectorPluginConfig`, selectors by namespace.
    ///
    /// # Errors
    /// When that is not what the configuration is.
    pub fn new(config: Option<&Value>) -> Result<PodNodeSelector, PluginError> {
        let field = "podNodeSelectorPluginConfig";
        let given = config
            .and_then(|config| config.get(field))
            .filter(|given| !given.is_null());
        let configured = match given {
            None => BTreeMap::new(),
            Some(given) => {
                serde_json::from_value(given.clone()).map_err(|source| PluginError::Field { field, source })?
            }
        };
        Ok(PodNodeSelector { configured })
    }

    fn configured(&self, entry: &str) -> Result<Labels> {
        labels(self.configured.get(entry).map_or("", String::as_str))
    }

    /// What the pods of a namespace select at least.
    fn selector(&self, asked: &Attributes<'_>) -> Result<Labels> {
        let Some(namespace) = asked.registry.get("", "namespaces", "", asked.namespace) else {
            return Err(ApiError::internal(format!(
                "namespace {} does not exist",
                asked.namespace
            )));
        };
        let namespace = namespace.tree()?;
        match namespace["metadata"]["annotations"][ANNOTATION].as_str() {
            Some(text) => labels(text),
            None => self.configured(DEFAULT),
        }
    }

    fn check(&self, asked: &Attributes<'_>, tree: &Value, selector: &Labels) -> Result<()> {
        let own = own(tree);
        let refuse = |why: &str| Err(asked.resource.forbidden(metadata::text(tree, "name"), why));
        if conflicts(selector, &own) {
            return refuse("pod node label selector conflicts with its namespace node label selector");
        }
        let allowed = self.configured(asked.namespace)?;
        if !allowed.is_empty() && own.iter().any(|(key, value)| allowed.get(key) != Some(value)) {
            return refuse("pod node label selector labels conflict with its namespace whitelist");
        }
        Ok(())
    }
}

fn own(pod: &Value) -> Labels {
    let own = pod.pointer("/spec/nodeSelector").and_then(Value::as_object);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    own.into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}

fn conflicts(one: &Labels, other: &Labels) -> bool {
    one.iter()
        .any(|(key, value)| other.get(key).is_some_and(|own| own != value))
}

/// Reads `a=b,c=d` (`labels.ConvertSelectorToLabelsMap`).
fn labels(text: &str) -> Result<Labels> {
    let mut labels = Labels::new();
    if text.is_empty() {
        return Ok(labels);
    }
    for part in text.split(',') {
        let words: Vec<&str> = part.split('=').collect();
        let [key, value] = words[..] else {
            return Err(ApiError::plain(format!("invalid selector: [{}]", words.join(" "))));
        };
        let (key, value) = (key.trim(), value.trim());
        let invalid = |path: &str, given: &str, why: &[String]| {
            ApiError::plain(FieldError::invalid(path, json!(given), why.join("; ")).to_string())
        };
        let problems = api::names::qualified_name_errors(key);
        if !problems.is_empty() {
            return Err(invalid("<nil>", key, &problems));
        }
        let problems = api::names::label_value_errors(value);
        if !problems.is_empty() {
            return Err(invalid(&format!("[{key}]"), value, &problems));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

impl Plugin for PodNodeSelector {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "pods", Operation::Create)
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        let selector = self.selector(asked)?;
        if conflicts(&selector, &own(tree)) {
            let why = "pod node label selector conflicts with its namespace node label selector";
            return Err(asked.resource.forbidden(metadata::text(tree, "name"), why));
        }
        for (key, value) in &selector {
            tree["spec"]["nodeSelector"][key] = json!(value);
        }
        self.check(asked, tree, &selector)
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, _: Option<&Value>) -> Result<()> {
        self.check(asked, tree, &self.selector(asked)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_a_list_of_labels() {
        let read = |text: &str| labels(text).map_err(|error| error.message);
        assert_eq!(
            read("a=b, c = d").unwrap(),
            Labels::from([("a".into(), "b".into()), ("c".into(), "d".into())])
        );
        assert!(read("").unwrap().is_empty());
        assert_eq!(read("a=b=c").unwrap_err(), "invalid selector: [a b c]");
        assert!(
            read("a=b,-=c")
                .unwrap_err()
                .starts_with("<nil>: Invalid value: \"-\": ")
        );
    }
}
