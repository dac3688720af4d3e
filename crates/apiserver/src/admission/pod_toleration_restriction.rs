//! PodTolerationRestriction: the pods of a namespace tolerate what it says, and nothing that it does not allow.

use serde_json::{Value, json};

use crate::admission::error::PluginError;
use crate::admission::{Attributes, Operation, Plugin, tolerations};
use crate::http::json_text;
use crate::http::status::{ApiError, Result};
use crate::kinds::pod_template::placement;
use crate::kinds::{Cursor, Errors};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const KIND: &str = "Configuration";
const VERSION: &str = "podtolerationrestriction.admission.k8s.io/v1alpha1";

/// Restricts tolerations. What a namespace says comes before what the cluster's configuration says.
pub struct PodTolerationRestriction {
    defaults: Vec<Value>,
    allowed: Vec<Value>,
}

impl PodTolerationRestriction {
    /// Reads the configuration: `default` and `whitelist`, lists of tolerations.
    ///
    /// # Errors
    /// When it is of another kind, or a toleration is not valid.
    pub fn new(config: Option<&Value>) -> Result<PodTolerationRestriction, PluginError> {
        let Some(config) = config else {
            return Ok(PodTolerationRestriction {
                defaults: Vec::new(),
                allowed: Vec::new(),
            });
        };
        super::check_kind(config, VERSION, KIND)?;
        let list = |field: &'static str| match config.get(field).filter(|list| !list.is_null()) {
            None => Ok(Vec::new()),
            Some(list) => serde_json::from_value::<Vec<Value>>(list.clone())
                .map_err(|source| PluginError::Field { field, source }),
        };
        let (defaults, allowed) = (list("default")?, list("whitelist")?);
        let mut errors = Errors::new();
        let shown = json!({ "podtolerationrestriction": { "default": defaults, "whitelist": allowed } });
        for key in ["default", "whitelist"] {
            placement::tolerations(
                &mut errors,
                &Cursor::root(&shown).at(&["podtolerationrestriction", key]),
            );
        }
        if !errors.is_empty() {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Err(PluginError::Tolerations(errors.join(" ")));
        }
        Ok(PodTolerationRestriction { defaults, allowed })
    }

    fn check(&self, asked: &Attributes<'_>, tree: &Value) -> Result<()> {
        let own = of(tree);
        if own.is_empty() {
            return Ok(());
        }
        let (list, scope) = match annotated(asked, ALLOWED)? {
            Some(list) => (list, "namespace"),
            None => (self.allowed.clone(), "cluster"),
        };
        if tolerations::are_allowed(own, &list) {
            return Ok(());
        }
        let why = format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
        );
        Err(ApiError::plain(why))
    }
}

fn of(pod: &Value) -> &[Value] {
    let own = pod.pointer("/spec/tolerations").and_then(Value::as_array);
    own.map_or(&[], Vec::as_slice)
}

/// The tolerations in an annotation of the pod's namespace, if it has one.
fn annotated(asked: &Attributes<'_>, key: &str) -> Result<Option<Vec<Value>>> {
    let namespace = asked.registry.get("", "namespaces", "", asked.namespace);
    let namespace = namespace.ok_or_else(|| ApiError::not_found("", "namespaces", asked.namespace))?;
    let namespace = namespace.tree()?;
    match namespace["metadata"]["annotations"][key].as_str() {
        None => Ok(None),
        Some("") => Ok(Some(Vec::new())),
        Some(text) => read(text).map(Some).map_err(|why| ApiError::plain(why.to_string())),
    }
}

/// Why a text is no list of tolerations, in Go's words.
#[derive(Debug, thiserror::Error)]
enum ListError {
    /// It is no JSON.
    #[error("{0}")]
    Json(String),
    #[error("json: cannot unmarshal {given} into Go value of type {wanted}")]
    Type { given: &'static str, wanted: &'static str },
    #[error("json: cannot unmarshal {given} into Go struct field Toleration.{field} of type {wanted}")]
    Field {
        given: &'static str,
        field: &'static str,
        wanted: &'static str,
    },
}

/// Reads a list of tolerations as Go does: `null` is an empty list or an empty toleration, and fields that nobody knows go.
fn read(text: &str) -> Result<Vec<Value>, ListError> {
    let tree: Value = serde_json::from_str(text).map_err(|_| ListError::Json(json_text::problem(text.as_bytes())))?;
    match tree {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => list.iter().map(toleration).collect(),
        other => Err(ListError::Type {
            given: json_text::kind(&other),
            wanted: "[]v1.Toleration",
        }),
    }
}

fn toleration(tree: &Value) -> Result<Value, ListError> {
    const FIELDS: [(&str, &str); 5] = [
        ("key", "string"),
        ("operator", "v1.TolerationOperator"),
        ("value", "string"),
        ("effect", "v1.TaintEffect"),
        ("tolerationSeconds", "int64"),
    ];
    let mut made = json!({});
    if tree.is_null() {
        return Ok(made);
    }
    let Some(fields) = tree.as_object() else {
        return Err(ListError::Type {
            given: json_text::kind(tree),
            wanted: "v1.Toleration",
        });
    };
    for (field, kind) in FIELDS {
        let Some(value) = fields.get(field).filter(|value| !value.is_null()) else {
            continue;
        };
        let fits = if kind == "int64" {
            value.is_i64()
        } else {
            value.is_string()
        };
        if !fits {
            return Err(ListError::Field {
                given: json_text::kind(value),
                field,
                wanted: kind,
            });
        }
        made[field] = value.clone();
    }
    Ok(made)
}

impl Plugin for PodTolerationRestriction {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "pods", Operation::Create) || asked.is("", "pods", Operation::Update)
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        let mut extra = Vec::new();
        if asked.operation == Operation::Create {
            extra = annotated(asked, DEFAULTS)?.unwrap_or_else(|| self.defaults.clone());
        }
        if api::pod::qos_class(tree) != "BestEffort" {
            extra.push(
                json!({ "key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule" }),
            );
        }
        if !extra.is_empty() {
            let merged = tolerations::merge(of(tree), &extra);
            tree["spec"]["tolerations"] = Value::Array(merged);
        }
        self.check(asked, tree)
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, _: Option<&Value>) -> Result<()> {
        self.check(asked, tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_read_as_go_reads_them() {
        let one = json!({ "key": "a", "operator": "Exists" });
        assert_eq!(
            read(r#"[{"key":"a","operator":"Exists","odd":1}, null]"#).unwrap(),
            [one, json!({})]
        );
        assert!(read("null").unwrap().is_empty() && read("[]").unwrap().is_empty());
        for (text, why) in [
            (
                "{}",
                "json: cannot unmarshal object into Go value of type []v1.Toleration",
            ),
            (
                "[1]",
                "json: cannot unmarshal number into Go value of type v1.Toleration",
            ),
            (
                r#"[{"key":1}]"#,
                "json: cannot unmarshal number into Go struct field Toleration.key of type string",
            ),
            ("[", "unexpected end of JSON input"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), why);
        }
    }
}
