//! ImagePolicyWebhook: a server outside says of the images of a pod whether they may run (`imagepolicy.k8s.io/v1alpha1`).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::admission::error::PluginError;
use crate::admission::plugins::Context;
use crate::admission::{Attributes, Charge, Later, Operation, Plugin};
use crate::audit::policy::Level;
use crate::http::status::Result;

/// The beginning of the keys of annotations in the record of a request.
const AUDIT: &str = "imagepolicywebhook.image-policy.k8s.io/";
/// Annotations of pods that the server is told have this in their keys.
const SHOWN: &str = ".image-policy.k8s.io/";
const API_VERSION: &str = "imagepolicy.k8s.io/v1alpha1";
/// Answers that are kept.
const ANSWERS: usize = 1024;
/// Attempts, and how the time between them grows.
const ATTEMPTS: u32 = 5;
const FACTOR: f64 = 1.5;

/// The way to the server that is asked.
pub trait Reviewer: Send + Sync {
    /// Posts a review, and returns the code and the body of the answer; or why there is none.
    fn post(&self, review: Bytes) -> BoxFuture<'_, Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>>>;
}

/// Why there is no review of a pod's images.
#[derive(Debug, thiserror::Error)]
enum ReviewError {
    #[error(transparent)]
    Unanswered(#[from] Box<dyn std::error::Error + Send + Sync>),
    #[error("the webhook was not asked")]
    NotAsked,
    #[error("the answer is no JSON: {0}")]
    Json(serde_json::Error),
    #[error("no kind {kind:?} is registered for version {version:?}")]
    Kind { kind: String, version: String },
    #[error("the status of the answer: {0}")]
    Status(serde_json::Error),
    /// The answer is an error, in the words of `client-go`.
    #[error("{0}")]
    Failed(String),
}

/// Times of the configuration: whole numbers in their units; 0 stands for the default, -1 for none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Written {
    #[serde(rename = "kubeConfigFile")]
    kubeconfig: String,
    #[serde(rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(rename = "denyTTL")]
    deny_ttl: i64,
    #[serde(rename = "retryBackoff")]
    retry_backoff: i64,
    #[serde(rename = "defaultAllow")]
    default_allow: bool,
}

/// What a server said of a pod's images.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    allowed: bool,
    reason: String,
    audit_annotations: BTreeMap<String, String>,
}

/// Asks the server, and keeps its answers for a while.
pub struct ImagePolicyWebhook {
    reviewer: Box<dyn Reviewer>,
    allowed_for: Duration,
    denied_for: Duration,
    backoff: Duration,
    default_allow: bool,
    /// By what was asked, and until when they hold.
    answers: Mutex<HashMap<String, (Instant, Answer)>>,
}

/// A time of the configuration.
fn time(
    field: &'static str,
    unit: Duration,
    value: i64,
    bounds: [Duration; 2],
    default: Duration,
) -> Result<Duration, PluginError> {
    let [least, most] = bounds;
    match u32::try_from(value) {
        Err(_) if value == -1 => Ok(Duration::ZERO),
        Ok(0) => Ok(default),
        Ok(count) if (least..=most).contains(&(unit * count)) => Ok(unit * count),
        _ => Err(PluginError::Time {
            field,
            least,
            most,
            value,
        }),
    }
}

impl ImagePolicyWebhook {
    /// Reads `imagePolicy`, and opens the way to the server of its kubeconfig.
    ///
    /// # Errors
    /// Without a configuration, for times out of their bounds, and for a kubeconfig that names no server.
    pub fn new(context: &Context<'_>) -> Result<ImagePolicyWebhook, PluginError> {
        let config = context.config.ok_or(PluginError::Missing)?;
        let written = config.get("imagePolicy").cloned().unwrap_or_default();
        let written: Option<Written> = serde_json::from_value(written).map_err(|source| PluginError::Field {
            field: "imagePolicy",
            source,
        })?;
        let written = written.unwrap_or_default();
        let (second, half_an_hour) = (Duration::from_secs(1), Duration::from_secs(30 * 60));
        let bounds = [second, half_an_hour];
        let backoff = [Duration::from_nanos(1), Duration::from_secs(5 * 60)];
        Ok(ImagePolicyWebhook {
            backoff: time(
                "retryBackoff",
                Duration::from_millis(1),
                written.retry_backoff,
                backoff,
                Duration::from_millis(500),
            )?,
            allowed_for: time(
                "allowTTL",
                second,
                written.allow_ttl,
                bounds,
                Duration::from_secs(5 * 60),
            )?,
            denied_for: time("denyTTL", second, written.deny_ttl, bounds, Duration::from_secs(30))?,
            default_allow: written.default_allow,
            reviewer: (context.open_reviewer)(Path::new(&written.kubeconfig))?,
            answers: Mutex::default(),
        })
    }

    async fn review(&self, asked: &Attributes<'_>, pod: &Value) -> Result<Charge> {
        let spec = spec(asked, pod);
        let key = spec.to_string();
        let known = self.known(&key);
        let answer = match known {
            Some(answer) => answer,
            None => match self.ask(&spec).await {
                Ok(answer) => {
                    self.keep(key, &answer);
                    answer
                }
                Err(why) if self.default_allow => {
                    tracing::warn!(%why, "the image policy webhook failed and is ignored");
                    asked.annotate(Level::Metadata, || (format!("{AUDIT}failed-open"), "true".into()));
                    return Ok(Charge::default());
                }
                // a refusal within a refusal, as upstream's
                Err(why) => return Err(asked.refuse(pod, &asked.refuse(pod, &why.to_string()).message)),
            },
        };
        for (key, value) in &answer.audit_annotations {
            asked.annotate(Level::Metadata, || (format!("{AUDIT}{key}"), value.clone()));
        }
        if answer.allowed {
            return Ok(Charge::default());
        }
        let why = match answer.reason.as_str() {
            "" => "one or more images rejected by webhook backend".to_owned(),
            reason => format!("image policy webhook backend denied one or more images: {reason}"),
        };
        Err(asked.refuse(pod, &why))
    }

    fn known(&self, key: &str) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, answer) = answers.get(key)?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    fn keep(&self, key: String, answer: &Answer) {
        let time = if answer.allowed {
            self.allowed_for
        } else {
            self.denied_for
        };
        let now = Instant::now();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS {
            answers.retain(|_, (until, _)| now < *until);
        }
        if answers.len() >= ANSWERS
            && let Some(first) = answers
                .iter()
                .min_by_key(|(_, (until, _))| *until)
                .map(|(key, _)| key.clone())
        {
            answers.remove(&first);
        }
        answers.insert(key, (now + time, answer.clone()));
    }

    async fn ask(&self, spec: &Value) -> Result<Answer, ReviewError> {
        let review = json!({ "kind": "ImageReview", "apiVersion": API_VERSION, "metadata": {}, "spec": spec, "status": { "allowed": false } });
        let review = Bytes::from(review.to_string());
        let mut delay = self.backoff;
        for attempt in 1.. {
            let (code, body) = self.reviewer.post(review.clone()).await?;
            match code {
                200..=299 => return read(&body),
                // others may help themselves with time
                429 | 500 | 504 if attempt < ATTEMPTS => {
                    tokio::time::sleep(delay).await;
                    delay = delay.mul_f64(FACTOR);
                }
                _ => return Err(ReviewError::Failed(problem(code, &body))),
            }
        }
        Err(ReviewError::NotAsked)
    }
}

/// What the server is asked: the images, some annotations, and where the pod is.
fn spec(asked: &Attributes<'_>, pod: &Value) -> Value {
    let lists: &[&str] = match asked.subresource {
        "ephemeralcontainers" => &["ephemeralContainers"],
        _ => &["containers", "initContainers"],
    };
    let containers = lists.iter().filter_map(|list| pod["spec"][*list].as_array()).flatten();
    let containers: Vec<Value> = containers
        .map(|container| json!({ "image": container["image"] }))
        .collect();
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    let annotations: Map<String, Value> = annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.contains(SHOWN))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut spec = json!({ "containers": containers, "namespace": asked.namespace });
    if !annotations.is_empty() {
        spec["annotations"] = Value::Object(annotations);
    }
    spec
}

fn read(body: &[u8]) -> Result<Answer, ReviewError> {
    let tree: Value = serde_json::from_slice(body).map_err(ReviewError::Json)?;
    let own = |key: &str| tree[key].as_str().unwrap_or_default();
    if (own("kind"), own("apiVersion")) != ("ImageReview", API_VERSION) {
        return Err(ReviewError::Kind {
            kind: own("kind").to_owned(),
            version: own("apiVersion").to_owned(),
        });
    }
    serde_json::from_value(tree["status"].clone()).map_err(ReviewError::Status)
}

/// What `client-go` says of an answer that is an error.
fn problem(code: u16, body: &[u8]) -> String {
    let said = String::from_utf8_lossy(body);
    let said = said.trim();
    match code {
        401 => "the server has asked for the client to provide credentials".into(),
        403 => said.to_owned(),
        404 => "the server could not find the requested resource".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .into()
        }
        500.. => format!("an error on the server ({said:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

impl Plugin for ImagePolicyWebhook {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.resource.is("", "pods")
            && matches!(asked.operation, Operation::Create | Operation::Update)
            && matches!(asked.subresource, "" | "ephemeralcontainers")
    }

    fn hold<'a>(
        &'a self,
        asked: &'a Attributes<'_>,
        tree: &'a Value,
        _: Option<&'a Value>,
    ) -> Option<Later<'a, Charge>> {
        Some(Box::pin(self.review(asked, tree)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_bounds_or_stand_for_something_else() {
        let second = Duration::from_secs(1);
        let read = |value: i64| time("allowTTL", second, value, [second, second * 60], second * 30);
        assert_eq!(read(0).unwrap(), second * 30);
        assert_eq!(read(-1).unwrap(), Duration::ZERO);
        assert_eq!(read(60).unwrap(), second * 60);
        assert!(read(61).is_err() && read(-2).is_err());
    }

    #[test]
    fn an_answer_is_a_review_with_a_status() {
        let answer =
            |status: Value| json!({ "kind": "ImageReview", "apiVersion": API_VERSION, "status": status }).to_string();
        let read = |text: &str| super::read(text.as_bytes());
        assert!(read(&answer(json!({ "allowed": true }))).unwrap().allowed);
        let denied = read(&answer(json!({ "reason": "no" }))).unwrap();
        assert!(!denied.allowed && denied.reason == "no");
        assert!(read("{}").is_err() && read(&answer(json!({ "allowed": "yes" }))).is_err());
    }
}
