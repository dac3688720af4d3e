//! How objects move between the versions of a resource; custom ones may be converted by a webhook of their definition
//! (`k8s.io/apiextensions-apiserver/pkg/apiserver/conversion`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::http::status::{ApiError, Result};
use crate::kinds::Cursor;
use crate::kinds::rules::{self, Errors};
use crate::registry::Registry;
use crate::registry::cached::Cached;
use crate::webhook::{CallError, ConfigError, Webhook};

/// How objects move between the served and the stored version.
#[derive(Debug, Clone)]
pub enum Conversion {
    /// The versions differ in nothing but their name.
    Rename,
    /// `to` is the version wanted.
    Function(fn(tree: Value, to: &str) -> Value),
    Webhook(Arc<Converter>),
}

/// How long a webhook is waited for.
const LONGEST: Duration = Duration::from_secs(30);
/// Objects, and bytes of them, that a webhook is asked to convert at once.
const MOST: usize = 500;
const MOST_BYTES: usize = 2 << 20;

/// The webhook of a definition.
pub struct Converter {
    registry: Arc<Registry>,
    way: std::result::Result<Webhook, ConfigError>,
    /// The version of reviews that both sides know.
    review: Option<&'static str>,
    /// Objects of the cache that are being converted, and when that is over: others that want the same wait for it.
    busy: Mutex<HashMap<Key, watch::Receiver<()>>>,
}

/// An object's place in memory, which is its own while it is being converted, and the version wanted.
type Key = (usize, String);

/// Objects that its holder converts, and nobody else meanwhile. Who waits for them learns that it is gone, not how it went.
pub struct Claim<'a> {
    converter: &'a Converter,
    pub objects: Vec<Arc<Cached>>,
    keys: Vec<Key>,
    _over: watch::Sender<()>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut busy = self.converter.busy.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            busy.remove(key);
        }
    }
}

impl std::fmt::Debug for Converter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Converter")
            .field("review", &self.review)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: &'static str,
    api_version: &'a str,
    request: Request<'a>,
    response: Value,
}

#[derive(Serialize)]
struct Request<'a> {
    uid: &'a str,
    #[serde(rename = "desiredAPIVersion")]
    desired: &'a str,
    objects: &'a [Value],
}

const KIND: &str = "ConversionReview";

impl Converter {
    /// Reads `spec.conversion.webhook` of a definition.
    pub fn read(webhook: &Value, registry: &Arc<Registry>) -> Converter {
        let versions = webhook.get("conversionReviewVersions").and_then(Value::as_array);
        let mut versions = versions.into_iter().flatten().filter_map(Value::as_str);
        let config = webhook.get("clientConfig").unwrap_or(&Value::Null);
        Converter {
            registry: registry.clone(),
            way: Webhook::read(config, registry),
            review: versions.find_map(|version| match version {
                "v1" => Some("apiextensions.k8s.io/v1"),
                "v1beta1" => Some("apiextensions.k8s.io/v1beta1"),
                _ => None,
            }),
            busy: Mutex::default(),
        }
    }

    /// When an answer that is asked for now comes too late.
    pub fn deadline() -> Instant {
        Instant::now() + LONGEST
    }

    /// Splits the objects that lack a form: those that nobody converts yet are the caller's from now on; of the others it is said
    /// when their conversions are over.
    pub fn claim(
        &self,
        objects: &[&Arc<Cached>],
        to: &str,
        lacks: impl Fn(&Cached) -> bool,
    ) -> (Claim<'_>, Vec<watch::Receiver<()>>) {
        let (over, watched) = watch::channel(());
        let mut claim = Claim {
            converter: self,
            objects: Vec::new(),
            keys: Vec::new(),
            _over: over,
        };
        let mut others: Vec<watch::Receiver<()>> = Vec::new();
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        for object in objects {
            let key = (Arc::as_ptr(object) as usize, to.to_owned());
            match busy.get(&key) {
                // one list converts many of them
                Some(other) if others.last().is_some_and(|last| last.same_channel(other)) => {}
                Some(other) => others.push(other.clone()),
                None if lacks(object) => {
                    busy.insert(key.clone(), watched.clone());
                    claim.keys.push(key);
                    claim.objects.push(Arc::clone(object));
                }
                None => {}
            }
        }
        (claim, others)
    }

    /// Converts objects to a version; none is of that version already.
    ///
    /// # Errors
    /// In upstream's words, when the webhook does not answer with what was asked for.
    pub async fn convert(&self, objects: &[Value], to: &str, deadline: Instant) -> Result<Vec<Value>> {
        let Some(first) = objects.first() else {
            return Ok(Vec::new());
        };
        let about = |text: &str| ApiError::plain(format!("conversion webhook for {} {text}", gvk(first)));
        let uid = self.registry.uid();
        let version = self.review;
        let version = version.ok_or_else(|| ApiError::plain("no supported conversion review versions"))?;
        let way = self.way.as_ref().map_err(|why| ApiError::plain(why.to_string()))?;
        let review = Review {
            kind: KIND,
            api_version: version,
            request: Request {
                uid: &uid,
                desired: to,
                objects,
            },
            response: json!({ "uid": "", "convertedObjects": null, "result": { "metadata": {} } }),
        };
        let body = serde_json::to_vec(&review).map_err(ApiError::internal)?;
        // every read and write would have room for it in its future, and hardly any needs it
        let posted = Box::pin(way.post(Bytes::from(body), deadline));
        // the room of a large answer is held until this returns
        let (answer, _room) = posted
            .await
            .map_err(|why: CallError| about(&format!("failed: {why}")))?;
        let converted = converted(answer, version, &uid).map_err(|why| about(&format!("failed: {why}")))?;
        let (got, expected) = (converted.len(), objects.len());
        if got != expected {
            return Err(about(&format!("returned {got} objects, expected {expected}")));
        }
        let mut done = Vec::with_capacity(expected);
        for (original, converted) in objects.iter().zip(converted) {
            // upstream asks for each object that it reads alone, and never says which of many it was
            done.push(checked(original, converted, to).map_err(|fault| about(&fault.to_string()))?);
        }
        Ok(done)
    }
}

/// Splits objects, by their sizes, into what a webhook is asked to convert at once.
pub fn batches(sizes: impl Iterator<Item = usize>) -> Vec<usize> {
    let (mut lengths, mut count, mut bytes) = (Vec::new(), 0, 0);
    for size in sizes {
        if count > 0 && (count == MOST || bytes + size > MOST_BYTES) {
            lengths.push(count);
            (count, bytes) = (0, 0);
        }
        count += 1;
        bytes += size;
    }
    if count > 0 {
        lengths.push(count);
    }
    lengths
}

fn text<'a>(tree: &'a Value, key: &str) -> &'a str {
    tree.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn of_metadata<'a>(tree: &'a Value, key: &str) -> &'a str {
    tree.get("metadata").map_or("", |metadata| text(metadata, key))
}

fn gvk(tree: &Value) -> String {
    format!("{}, Kind={}", text(tree, "apiVersion"), text(tree, "kind"))
}

/// Why an answer holds no objects, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum AnswerError {
    /// It is of another kind or version.
    #[error("expected webhook response of {wanted}, Kind={KIND}, got {got}")]
    Kind {
        /// The version that was asked in.
        wanted: String,
        /// Its group, version and kind.
        got: String,
    },
    #[error("no response provided")]
    NoResponse,
    /// It answers another review.
    #[error("expected response.uid={wanted:?}, got {got:?}")]
    Uid { wanted: String, got: String },
    #[error("response.result.status was '{0}', not 'Success'")]
    Status(String),
    /// What the webhook says of its failure.
    #[error("{0}")]
    Failed(String),
}

/// The objects in an answer.
fn converted(mut answer: Value, version: &str, uid: &str) -> std::result::Result<Vec<Value>, AnswerError> {
    // of v1beta1 neither kind nor uid was checked when it was the only one
    let strict = version.ends_with("/v1");
    if strict && (text(&answer, "kind"), text(&answer, "apiVersion")) != (KIND, version) {
        let (group, short) = api::gvk::split_api_version(text(&answer, "apiVersion"));
        let kind = text(&answer, "kind");
        return Err(AnswerError::Kind {
            wanted: version.to_owned(),
            got: format!("{group}/{short}, Kind={kind}"),
        });
    }
    let Some(response) = answer.get_mut("response").filter(|r| r.is_object()) else {
        return Err(AnswerError::NoResponse);
    };
    if strict && text(response, "uid") != uid {
        return Err(AnswerError::Uid {
            wanted: uid.to_owned(),
            got: text(response, "uid").to_owned(),
        });
    }
    let result = response.get("result").unwrap_or(&Value::Null);
    let (status, message) = (text(result, "status"), text(result, "message"));
    if status != "Success" {
        return Err(match message {
            "" => AnswerError::Status(status.to_owned()),
            message => AnswerError::Failed(message.to_owned()),
        });
    }
    match response.get_mut("convertedObjects").map(Value::take) {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// What is wrong with a converted object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("returned invalid object at index 0: {0}")]
    Type(String),
    #[error("returned invalid object: must have the same {0}")]
    Identity(String),
    #[error("returned invalid metadata: {0}")]
    Metadata(#[from] MetadataFault),
}

/// What is wrong with the metadata of a converted object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum MetadataFault {
    #[error("missing metadata in converted object")]
    Missing,
    /// The field is no object: its path and the type of its value.
    #[error("invalid {0} of type {1} in converted object")]
    NoObject(String, &'static str),
    /// The value of a label or annotation is no text: its path and its type.
    #[error("{0} must be a string, but is {1} in converted object")]
    NoText(String, &'static str),
    /// Labels or annotations break their rules.
    #[error("{0}")]
    Rules(String),
}

/// A converted object with the metadata of the original, but for labels and annotations.
fn checked(original: &Value, mut converted: Value, to: &str) -> std::result::Result<Value, Fault> {
    if !converted.is_object() || text(&converted, "kind").is_empty() {
        return Err(Fault::Type(format!("Object 'Kind' is missing in '{converted}'")));
    }
    let version = text(&converted, "apiVersion");
    if version != to {
        return Err(Fault::Type(format!(
            "invalid groupVersion (expected {to}, received {version})"
        )));
    }
    let (expected, got) = (text(original, "kind"), text(&converted, "kind"));
    if expected != got {
        return Err(Fault::Type(format!(
            "invalid kind (expected {expected}, received {got})"
        )));
    }
    for (key, called) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (had, has) = (of_metadata(original, key), of_metadata(&converted, key));
        if had != has {
            return Err(Fault::Identity(format!("{called}: {had} != {has}")));
        }
    }
    let metadata = match converted.get_mut("metadata") {
        None => return Err(MetadataFault::Missing.into()),
        Some(Value::Object(metadata)) => std::mem::take(metadata),
        Some(other) => {
            let of = api::go::type_of(other);
            return Err(MetadataFault::NoObject("metadata".into(), of).into());
        }
    };
    converted["metadata"] = restored(original, metadata)?;
    Ok(converted)
}

fn restored(original: &Value, mut theirs: Map<String, Value>) -> std::result::Result<Value, MetadataFault> {
    let mut metadata = original.get("metadata").cloned().unwrap_or_else(|| json!({}));
    for field in ["labels", "annotations"] {
        let given = match theirs.remove(field) {
            None | Some(Value::Null) => {
                crate::tree::take(&mut metadata, field);
                continue;
            }
            Some(Value::Object(given)) => given,
            Some(other) => {
                let of = api::go::type_of(&other);
                return Err(MetadataFault::NoObject(format!("metadata.{field}"), of));
            }
        };
        if let Some((key, value)) = given.iter().find(|(_, value)| !value.is_string()) {
            let of = api::go::type_of(value);
            return Err(MetadataFault::NoText(format!("metadata.{field}[{key}]"), of));
        }
        let given = Value::Object(given);
        if metadata.get(field) != Some(&given) {
            let mut errors = Errors::new();
            match field {
                "labels" => rules::labels(&mut errors, &Cursor::of(Some(&given), "metadata.labels")),
                _ => rules::annotations(&mut errors, &Cursor::of(Some(&given), "metadata.annotation")),
            }
            if !errors.is_empty() {
                let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                return Err(MetadataFault::Rules(match texts.as_slice() {
                    [one] => one.clone(),
                    many => format!("[{}]", many.join(", ")),
                }));
            }
        }
        metadata[field] = given;
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, more: Value) -> Value {
        json!({ "apiVersion": version, "kind": "K", "metadata": { "name": "a", "uid": "u", "labels": { "l": "1" } }, "spec": more })
    }

    #[test]
    fn a_converted_object_keeps_its_metadata_but_labels_and_annotations() {
        let original = object("g/v1", json!({}));
        let mut made = object("g/v2", json!({ "x": 1 }));
        made["metadata"]["labels"] = json!({ "l": "2" });
        made["metadata"]["generation"] = json!(9);
        let done = checked(&original, made, "g/v2").unwrap();
        assert_eq!(
            done["metadata"],
            json!({ "name": "a", "uid": "u", "labels": { "l": "2" } })
        );
        assert_eq!(done["spec"], json!({ "x": 1 }));
    }

    #[test]
    fn what_is_not_the_same_object_is_refused_in_upstreams_words() {
        let original = object("g/v1", json!({}));
        let with = |path: &str, value: Value| {
            let mut made = object("g/v2", json!({}));
            *made.pointer_mut(path).unwrap() = value;
            checked(&original, made, "g/v2").unwrap_err().to_string()
        };
        for (path, value, want) in [
            (
                "/apiVersion",
                json!("g/v1"),
                "returned invalid object at index 0: invalid groupVersion (expected g/v2, received g/v1)",
            ),
            (
                "/kind",
                json!("L"),
                "returned invalid object at index 0: invalid kind (expected K, received L)",
            ),
            (
                "/metadata/name",
                json!("b"),
                "returned invalid object: must have the same name: a != b",
            ),
            (
                "/metadata/uid",
                json!("v"),
                "returned invalid object: must have the same UID: u != v",
            ),
            (
                "/metadata/labels",
                json!({ "a": 1 }),
                "returned invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object",
            ),
            (
                "/metadata/labels",
                json!([]),
                "returned invalid metadata: invalid metadata.labels of type []interface {} in converted object",
            ),
        ] {
            assert_eq!(with(path, value), want, "{path}");
        }
    }

    #[test]
    fn an_answer_is_of_the_request_and_a_success() {
        let of = |response: Value| {
            let answer = json!({ "kind": KIND, "apiVersion": "apiextensions.k8s.io/v1", "response": response });
            converted(answer, "apiextensions.k8s.io/v1", "u")
        };
        let success = json!({ "uid": "u", "result": { "status": "Success" }, "convertedObjects": [1] });
        assert_eq!(of(success), Ok(vec![json!(1)]));
        let told = |response: Value| of(response).unwrap_err().to_string();
        assert_eq!(told(json!(null)), "no response provided");
        assert_eq!(told(json!({ "uid": "x" })), "expected response.uid=\"u\", got \"x\"");
        assert_eq!(
            told(json!({ "uid": "u" })),
            "response.result.status was '', not 'Success'"
        );
        let failed = json!({ "uid": "u", "result": { "status": "Failure", "message": "no" } });
        assert_eq!(told(failed), "no");
    }

    #[test]
    fn a_list_is_converted_in_batches_of_a_bounded_size() {
        assert_eq!(batches(std::iter::repeat_n(10, 1200)), [500, 500, 200]);
        assert_eq!(batches([MOST_BYTES, 1, MOST_BYTES + 1, 5].into_iter()), [1, 1, 1, 1]);
        assert!(batches(std::iter::empty()).is_empty());
    }
}
