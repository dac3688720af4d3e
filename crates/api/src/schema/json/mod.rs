//! Decodes JSON and YAML by the schema in one pass: types and ranges are checked, unknown fields dropped and reported,
//! duplicate fields reported.

mod free;
mod members;
mod seed;

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::{DeserializeSeed, Deserializer};
use serde_json::Value;

use self::seed::Seed;
use crate::go::quote;
use crate::schema::document::Document;
use crate::schema::path::Path;
use crate::schema::weight::{TooHeavy, Weight};
use crate::schema::{Schema, TypeId};

/// Why a body is not of its type. The message is what upstream's decoder says, where practical.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// A decoded object and what strict decoding objects to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object, without the fields that its type does not have.
    pub value: Value,
    /// Paths such as `spec.containers[0].foo`.
    pub unknown: Vec<String>,
    /// Paths of keys that stand more than once.
    pub duplicate: Vec<String>,
    /// What the reader of the text itself objects to.
    pub text: Option<String>,
}

impl Decoded {
    /// The messages of strict field validation, as upstream words them.
    pub fn strict_errors(&self) -> Vec<String> {
        let unknown = self.unknown.iter().map(|p| format!("unknown field {}", quote(p)));
        // a field that nobody knows is told once
        let known = self.duplicate.iter().filter(|p| !self.unknown.contains(p));
        let duplicate = known.map(|p| format!("duplicate field {}", quote(p)));
        self.text.clone().into_iter().chain(unknown).chain(duplicate).collect()
    }

    /// The same of a custom object, whose text and whose fields are looked at one after the other: a field that nobody knows may
    /// stand twice, too.
    pub fn strict_errors_of_custom(&self) -> Vec<String> {
        let duplicate = self.duplicate.iter().map(|p| format!("duplicate field {}", quote(p)));
        let unknown = self.unknown.iter().map(|p| format!("unknown field {}", quote(p)));
        self.text.clone().into_iter().chain(duplicate).chain(unknown).collect()
    }
}

/// Which of upstream's two decoders speaks where a value is not of its type: the one that reads JSON, or the one that makes a typed
/// object of an untyped one, after a merge. The latter also takes a number without a fraction for an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// The decoder of JSON.
    Json,
    /// The converter from an untyped object.
    Converter,
}

impl Schema {
    /// Decodes a JSON document.
    pub fn decode_json(&self, root: TypeId, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let decoded = self.decode_with(root, &mut deserializer, Voice::Json, false)?;
        deserializer.end().map_err(|e| DecodeError(e.to_string()))?;
        Ok(decoded)
    }

    /// Decodes one YAML document.
    pub fn decode_yaml(&self, root: TypeId, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let document =
            Document::from_yaml(bytes).map_err(|e| DecodeError(format!("error converting YAML to JSON: {e}")))?;
        let text = document.yaml_problem();
        let decoded = self.decode_value(root, document.value)?;
        Ok(Decoded { text, ..decoded })
    }

    /// Checks a tree against the schema and drops what the schema does not know: for the result of a patch.
    pub fn decode_value(&self, root: TypeId, value: Value) -> Result<Decoded, DecodeError> {
        self.decode_with(root, value, Voice::Json, false)
    }

    /// As `decode_value`, for the result of a merge of trees.
    pub fn convert_value(&self, root: TypeId, value: &Value) -> Result<Decoded, DecodeError> {
        // Go goes through the fields of a struct: which of several mistakes it meets first hangs on that
        self.decode_with(root, value, Voice::Converter, false)
            .or_else(|_| self.decode_with(root, value, Voice::Converter, true))
    }

    fn decode_with<'de, D: Deserializer<'de>>(
        &self,
        root: TypeId,
        deserializer: D,
        voice: Voice,
        declared: bool,
    ) -> Result<Decoded, DecodeError> {
        let context = Context {
            schema: self,
            voice,
            declared,
            found: RefCell::default(),
            weight: Weight::default(),
        };
        let seed = Seed {
            context: &context,
            ty: root,
            owner: None,
            path: &Path::Root,
            unseen: false,
        };
        let read = seed.deserialize(deserializer);
        let found = context.found.into_inner();
        match read {
            Ok(value) => {
                if let Some(misfit) = found.misfit {
                    return Err(DecodeError(misfit));
                }
                Ok(Decoded {
                    value,
                    unknown: found.unknown,
                    duplicate: found.duplicate,
                    text: None,
                })
            }
            // The text of serde's error has a position appended, which upstream's has not.
            Err(e) => Err(DecodeError(found.error.unwrap_or_else(|| e.to_string()))),
        }
    }
}

/// What strict decoding objects to is told a hundred times, as upstream's decoder does; each text once.
pub(super) const OBJECTIONS: usize = 100;

#[derive(Default)]
struct Found {
    unknown: Vec<String>,
    duplicate: Vec<String>,
    told: HashSet<String>,
    /// What ended the reading.
    error: Option<String>,
    /// The first value that is not of its type. Go reads on, and says so if nothing worse comes.
    misfit: Option<String>,
}

impl Found {
    fn unknown(&mut self, path: &Path<'_>) {
        if self.told.len() < OBJECTIONS {
            let text = path.text(true);
            if self.told.insert(format!("u{text}")) {
                self.unknown.push(text);
            }
        }
    }

    fn duplicate(&mut self, path: &Path<'_>) {
        if self.told.len() < OBJECTIONS {
            let text = path.text(true);
            if self.told.insert(format!("d{text}")) {
                self.duplicate.push(text);
            }
        }
    }
}

struct Context<'s> {
    schema: &'s Schema,
    voice: Voice,
    /// Fields are read in the order in which their struct declares them, and not in that of the document.
    declared: bool,
    found: RefCell<Found>,
    weight: Weight,
}

impl Context<'_> {
    fn weigh<E: serde::de::Error>(&self, weighed: Result<(), TooHeavy>) -> Result<(), E> {
        weighed.map_err(|error| {
            self.found.borrow_mut().error = Some(error.to_string());
            E::custom(error)
        })
    }
}

/// A number with a fraction or an exponent. A zero with a sign is an integer to Go.
pub(super) fn real(v: f64) -> Value {
    if v == 0.0 && v.is_sign_negative() {
        return Value::from(0);
    }
    v.into()
}

/// Bytes of a text.
pub(super) fn text_of(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gvk::GroupVersionKind;

    /// `fromUnstructured` of `apimachinery/pkg/runtime/converter.go`.
    #[test]
    fn a_number_that_is_too_large_for_its_field_loses_its_high_bits_when_it_is_converted() {
        let schema = Schema::builtin();
        let root = schema
            .type_for(&GroupVersionKind::new("apps", "v1", "Deployment"))
            .unwrap();
        let converted = |replicas: Value| {
            let decoded = schema.convert_value(root, &json!({ "spec": { "replicas": replicas } }));
            decoded
                .map(|decoded| decoded.value["spec"]["replicas"].clone())
                .map_err(|e| e.to_string())
        };
        assert_eq!(converted(json!(4_294_967_297_i64)), Ok(json!(1)));
        assert_eq!(converted(json!(1e300)), Ok(json!(0)));
        assert_eq!(converted(json!(1.5)), Err("cannot convert float64 to int32".to_owned()));
        let read = schema.decode_value(root, json!({ "spec": { "replicas": 4_294_967_297_i64 } }));
        assert!(read.is_err());
    }

    /// `encoding/json` keeps the first value that is not of its type and reads on; a type that reads itself ends it.
    #[test]
    fn what_a_type_does_not_know_is_told_before_a_value_of_another_type() {
        let schema = Schema::builtin();
        let pod = schema.type_for(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        let why = |spec: &str| {
            let text = format!(r#"{{"spec":{spec}}}"#);
            schema.decode_json(pod, text.as_bytes()).unwrap_err().to_string()
        };
        let two = why(r#"{"nodeName":1,"hostname":[{"a":1}]}"#);
        assert!(two.ends_with("spec.nodeName of type string"), "{two}");
        let one = why(r#"{"hostname":[{"a":[1]}],"subdomain":{"b":{}},"nodeName":"a"}"#);
        assert!(one.ends_with("spec.hostname of type string"), "{one}");
        assert_eq!(why(r#"{"nodeName":1,"overhead":{"cpu":"x"}}"#), crate::quantity::FORMAT);
        let kind = GroupVersionKind::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let definition = schema.type_for(&kind).unwrap();
        let read = |schema_of_v1: &str| {
            let text = format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{schema_of_v1}}}}}]}}}}"#);
            schema
                .decode_json(definition, text.as_bytes())
                .map_err(|e| e.to_string())
        };
        let inner = read(r#"{"title":1,"items":{"maximum":"x"}}"#).unwrap_err();
        assert!(inner.contains("cannot unmarshal string"), "{inner}");
        assert_eq!(
            read(r#"{"title":1,"additionalProperties":[]}"#).unwrap_err(),
            "boolean or JSON schema expected"
        );
        assert!(read(r#"{"items":-1}"#).is_ok());
    }

    fn read(kind: (&str, &str), text: &str) -> Result<Value, String> {
        let schema = Schema::builtin();
        let root = schema
            .type_for(&GroupVersionKind::from_api_version(kind.0, kind.1))
            .unwrap();
        let decoded = schema.decode_json(root, text.as_bytes());
        decoded.map(|decoded| decoded.value).map_err(|e| e.to_string())
    }

    /// `decodeState` of `encoding/json`: a value of another type is kept for the end, an error of a value that reads itself is not.
    #[test]
    fn of_several_mistakes_the_first_is_told_but_what_reads_itself_goes_first() {
        let told = |text: &str| read(("v1", "Pod"), text).unwrap_err();
        let first = told(r#"{"spec": {"hostPID": "x", "containers": 5, "hostIPC": [1, {}]}, "kind": {"a": 1}}"#);
        assert!(
            first.starts_with("json: cannot unmarshal string into Go struct field PodSpec.spec.hostPID"),
            "{first}"
        );
        let time = told(r#"{"spec": {"hostPID": "x"}, "metadata": {"creationTimestamp": "now"}}"#);
        assert!(time.starts_with("parsing time"), "{time}");
        let quantity = told(r#"{"spec": {"overhead": {"cpu": ""}, "hostPID": 1}}"#);
        assert!(quantity.starts_with("quantities must match"), "{quantity}");
    }

    #[test]
    fn managed_fields_are_any_json_until_they_are_looked_into() {
        for fields in [r#""x""#, "5", "true", "[1]", "{}"] {
            let text = format!(r#"{{"metadata": {{"managedFields": [{{"fieldsV1": {fields}}}]}}}}"#);
            assert!(read(("v1", "Pod"), &text).is_ok(), "{fields}");
        }
    }

    /// `decodeState` of `encoding/json` reads into what is there.
    #[test]
    fn a_field_that_is_given_twice_is_read_over_what_it_was() {
        let map = read(
            ("v1", "ConfigMap"),
            r#"{"data": {"a": "1"}, "data": {"b": "2"}, "immutable": true, "immutable": null}"#,
        );
        assert_eq!(
            map.unwrap(),
            json!({ "data": { "a": "1", "b": "2" }, "immutable": null })
        );
        let pod = r#"{"spec": {"hostname": "a", "containers": [{"name": "c", "tty": true}, {"name": "d"}]},
                      "spec": {"hostname": null, "containers": [{"name": "e"}]}}"#;
        let want = json!({ "spec": { "hostname": "a", "containers": [{ "name": "e", "tty": true }] } });
        assert_eq!(read(("v1", "Pod"), pod).unwrap(), want);
    }

    /// `structFromUnstructured` of `apimachinery/pkg/runtime/converter.go`.
    #[test]
    fn a_tree_is_converted_in_the_order_of_the_struct() {
        let schema = Schema::builtin();
        let root = schema
            .type_for(&GroupVersionKind::new("autoscaling", "v1", "HorizontalPodAutoscaler"))
            .unwrap();
        let tree = json!({ "spec": { "maxReplicas": 1.5, "scaleTargetRef": { "kind": [{}] } } });
        let told = schema.convert_value(root, &tree).unwrap_err().to_string();
        assert_eq!(told, "unrecognized type: string");
    }

    #[test]
    fn a_field_that_nobody_knows_is_told_once_and_quoted() {
        let schema = Schema::builtin();
        let root = schema.type_for(&GroupVersionKind::new("", "v1", "ConfigMap")).unwrap();
        let text = br#"{"immutable":true,"q\"q":1,"q\"q":2,"immutable":true}"#;
        let told = schema.decode_json(root, text).unwrap().strict_errors();
        assert_eq!(told, [r#"unknown field "q\"q""#, r#"duplicate field "immutable""#]);
    }
}
