//! One webhook of a configuration, compiled.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::review::ReviewVersion;
use crate::admission::matching::{Conditions, Criteria};
use crate::webhook::{ConfigError, Webhook};

/// One webhook.
pub struct Hook {
    /// As errors name it.
    pub name: String,
    /// Tells it from all others: a configuration may have a name twice.
    pub key: String,
    pub criteria: Criteria,
    pub conditions: Conditions,
    /// A failure to ask it lets the request pass.
    pub ignores_failure: bool,
    /// It may be asked of a write that is only tried; `None` where it does not say.
    pub dry_run: Option<bool>,
    pub timeout: Option<Duration>,
    /// The first version of reviews that both sides know.
    pub review: Option<ReviewVersion>,
    /// It wants to be asked again when the object changes after it was asked.
    pub again: bool,
    /// The way to it, or why there is none.
    pub webhook: Result<Arc<Webhook>, ConfigError>,
}

impl Hook {
    /// The configuration that lists it.
    pub fn configuration(&self) -> &str {
        self.key.split('/').next().unwrap_or_default()
    }

    /// Compiles an item of `webhooks`.
    pub fn read(tree: &Value, key: String, webhook: Result<Arc<Webhook>, ConfigError>) -> Hook {
        let text = |key: &str| tree.get(key).and_then(Value::as_str);
        let versions = tree.get("admissionReviewVersions").and_then(Value::as_array);
        let mut versions = versions.into_iter().flatten().filter_map(Value::as_str);
        let ignores_failure = text("failurePolicy") == Some("Ignore");
        Hook {
            name: text("name").unwrap_or_default().to_owned(),
            key,
            criteria: Criteria::read(tree, "rules"),
            conditions: Conditions::read(tree, !ignores_failure, false),
            ignores_failure,
            dry_run: text("sideEffects").map(|word| matches!(word, "None" | "NoneOnDryRun")),
            timeout: tree
                .get("timeoutSeconds")
                .and_then(Value::as_u64)
                .map(Duration::from_secs),
            review: versions.find_map(ReviewVersion::named),
            again: text("reinvocationPolicy") == Some("IfNeeded"),
            webhook,
        }
    }
}
