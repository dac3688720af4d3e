//! EventRateLimit: so many events a second are taken from all, from a namespace, from a user, or about one thing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use api::field::FieldError;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::error::PluginError;
use crate::admission::{Attributes, Operation, Plugin, aggregate};
use crate::http::status::{ApiError, Result};

const KIND: &str = "Configuration";
const VERSION: &str = "eventratelimit.admission.k8s.io/v1alpha1";
/// Buckets that are kept of one limit unless the configuration says how many.
const BUCKETS: usize = 4096;
const TYPES: [&str; 4] = ["Namespace", "Server", "SourceAndObject", "User"];

/// A limit as the configuration has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    r#type: String,
    qps: i32,
    burst: i32,
    cache_size: i32,
}

/// Tokens of one key: each event takes one, and they come back with time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
    /// When it was used last, for the order in which buckets are forgotten.
    turn: u64,
}

#[derive(Debug, Default)]
struct Buckets {
    by_key: HashMap<String, Bucket>,
    by_turn: BTreeMap<u64, String>,
    turn: u64,
}

/// One limit, and how much of it is left for whom.
#[derive(Debug)]
struct Limit {
    written: Written,
    kept: usize,
    buckets: Mutex<Buckets>,
}

/// Limits how many events are written.
pub struct EventRateLimit(Vec<Limit>);

impl EventRateLimit {
    /// Reads the configuration: `limits`, each with `type`, `qps`, `burst` and `cacheSize`.
    ///
    /// # Errors
    /// In upstream's words, when it is of another kind or a limit is none.
    pub fn new(config: Option<&Value>) -> Result<EventRateLimit, PluginError> {
        let mut written = Vec::new();
        if let Some(config) = config {
            super::check_kind(config, VERSION, KIND)?;
            let limits = config.get("limits").cloned().unwrap_or_default();
            let limits: serde_json::Result<Option<Vec<Written>>> = serde_json::from_value(limits);
            let limits = limits.map_err(|source| PluginError::Field {
                field: "limits",
                source,
            })?;
            written = limits.unwrap_or_default();
        }
        let errors: Vec<String> = check(&written).iter().map(ToString::to_string).collect();
        if !errors.is_empty() {
            return Err(PluginError::Limits(aggregate(&errors)));
        }
        let limit = |written: Written| Limit {
            kept: match (written.r#type.as_str(), written.cache_size) {
                ("Server", _) => 1,
                (_, 0) => BUCKETS,
                (_, size) => usize::try_from(size).unwrap_or(BUCKETS),
            },
            written,
            buckets: Mutex::default(),
        };
        Ok(EventRateLimit(written.into_iter().map(limit).collect()))
    }
}

fn check(limits: &[Written]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if limits.is_empty() {
        errors.push(FieldError::invalid("limits", Value::Null, "must not be empty"));
    }
    for (i, limit) in limits.iter().enumerate() {
        let at = |field: &str| format!("limits[{i}].{field}");
        if !TYPES.contains(&limit.r#type.as_str()) {
            errors.push(FieldError::not_supported(at("type"), json!(limit.r#type), &TYPES));
        }
        for (field, value) in [("burst", limit.burst), ("qps", limit.qps)] {
            if value <= 0 {
                errors.push(FieldError::invalid(at(field), json!(value), "must be positive"));
            }
        }
        if limit.r#type != "Server" && limit.cache_size < 0 {
            errors.push(FieldError::invalid(
                at("cacheSize"),
                json!(limit.cache_size),
                "must not be negative",
            ));
        }
    }
    errors
}

/// Whose bucket an event is taken from.
fn key(kind: &str, asked: &Attributes<'_>, event: &Value) -> String {
    match kind {
        "Namespace" => asked.namespace.to_owned(),
        "User" => asked.user.name.clone(),
        "SourceAndObject" => [
            "/source/component",
            "/source/host",
            "/involvedObject/kind",
            "/involvedObject/namespace",
            "/involvedObject/name",
            "/involvedObject/uid",
            "/involvedObject/apiVersion",
        ]
        .map(|path| event.pointer(path).and_then(Value::as_str).unwrap_or_default())
        .concat(),
        _ => String::new(),
    }
}

impl Limit {
    /// Takes a token, if there is one.
    fn take(&self, key: &str, now: Timestamp) -> bool {
        let most = f64::from(self.written.burst);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.turn += 1;
        let turn = buckets.turn;
        let mut bucket = match buckets.by_key.get(key) {
            Some(bucket) => *bucket,
            None => Bucket {
                tokens: most,
                at: now,
                turn,
            },
        };
        buckets.by_turn.remove(&bucket.turn);
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed * f64::from(self.written.qps)).min(most);
        bucket.at = now;
        bucket.turn = turn;
        let there_is_one = bucket.tokens >= 1.0;
        if there_is_one {
            bucket.tokens -= 1.0;
        }
        buckets.by_key.insert(key.to_owned(), bucket);
        buckets.by_turn.insert(turn, key.to_owned());
        while buckets.by_key.len() > self.kept {
            let Some((_, oldest)) = buckets.by_turn.pop_first() else {
                break;
            };
            buckets.by_key.remove(&oldest);
        }
        there_is_one
    }
}

impl Plugin for EventRateLimit {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        let writes = matches!(asked.operation, Operation::Create | Operation::Update);
        writes && !asked.dry_run && asked.resource.is("", "events")
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, _: Option<&Value>) -> Result<()> {
        let now = asked.registry.environment.now();
        let mut reached = Vec::new();
        // each limit counts the event, also when another refuses it
        for limit in &self.0 {
            let kind = limit.written.r#type.as_str();
            let key = key(kind, asked, tree);
            if !limit.take(&key, now) {
                reached.push(format!("limit reached on type {kind} for key {key}"));
            }
        }
        if reached.is_empty() {
            return Ok(());
        }
        let message = format!("Too many requests: {}", aggregate(&reached));
        Err(ApiError::new(429, "TooManyRequests", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(limits: &Value) -> Result<EventRateLimit, PluginError> {
        EventRateLimit::new(Some(&json!({ "kind": KIND, "apiVersion": VERSION, "limits": limits })))
    }

    #[test]
    fn tokens_come_back_with_time_and_the_oldest_buckets_are_forgotten() {
        let limited = plugin(&json!([{ "type": "Namespace", "qps": 2, "burst": 2, "cacheSize": 2 }])).unwrap();
        let at = |millis: i64| Timestamp::from_millisecond(millis).unwrap();
        let take = |key: &str, millis: i64| limited.0[0].take(key, at(millis));
        assert!(take("a", 0) && take("a", 0) && !take("a", 0));
        assert!(!take("a", 400) && take("a", 500) && !take("a", 500));
        assert!(take("b", 500) && take("c", 500));
        assert!(take("a", 500), "its bucket was forgotten");
        assert_eq!(limited.0[0].buckets.lock().unwrap().by_turn.len(), 2);
    }

    #[test]
    fn a_limit_has_a_type_a_rate_and_a_burst() {
        let why = |limits: Value| plugin(&limits).err().unwrap().to_string();
        assert_eq!(why(json!([])), "limits: Invalid value: null: must not be empty");
        assert_eq!(
            why(json!([{ "type": "Cluster", "qps": 0, "burst": 1, "cacheSize": -1 }])),
            "[limits[0].type: Unsupported value: \"Cluster\": supported values: \"Namespace\", \"Server\", \"SourceAndObject\", \
             \"User\", limits[0].qps: Invalid value: 0: must be positive, limits[0].cacheSize: Invalid value: -1: must not be negative]"
        );
        let other = EventRateLimit::new(Some(&json!({ "kind": "Pod", "apiVersion": "v1" })));
        let why = other.err().unwrap().to_string();
        assert_eq!(why, "no kind \"Pod\" is registered for version \"v1\"");
    }
}
