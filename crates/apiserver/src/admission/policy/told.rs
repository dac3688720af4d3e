//! What policies have said of a request: denials, and what its record is to show.

use std::collections::BTreeMap;
use std::time::Duration;

use api::go;
use serde::Serialize;

use super::compiled::{Binding, Policy};
use super::decision::{Annotation, Decision, Verdict};
use crate::admission::Attributes;
use crate::audit::policy::Level;

const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";
/// Failures that are shown: many bindings of one policy must not fill a log.
const MOST_FAILURES: usize = 50;

/// A denial: who denied, and why.
pub struct Denial {
    pub policy: String,
    pub binding: Option<String>,
    pub message: String,
    pub reason: &'static str,
}

/// A validation that failed, as the annotation shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    message: String,
    policy: String,
    binding: String,
    expression_index: usize,
    validation_actions: Vec<String>,
}

/// What metrics call the error of a decision that is no admission (`validating/errors.go`).
fn error_type(message: &str) -> &'static str {
    match message {
        text if text.starts_with("compilation") => "compile_error",
        text if text.starts_with("validation failed due to running out of cost budget") => "out_of_budget",
        _ => "invalid_error",
    }
}

/// What was said so far.
#[derive(Default)]
pub struct Told {
    pub denials: Vec<Denial>,
    failures: Vec<Failure>,
    /// The annotations of one policy: bindings with different parameters may have different values for the same key.
    annotations: BTreeMap<String, Vec<String>>,
}

impl Told {
    /// Does what a binding wants done about what a policy says.
    pub fn enforce(
        &mut self,
        policy: &Policy,
        binding: &Binding,
        verdict: Verdict,
        asked: &Attributes<'_>,
        took: Duration,
    ) {
        let counted = |message: &str, action: &str| {
            let error = error_type(message);
            let counted = &asked.registry.metrics.admission;
            counted.policy(&policy.name, &binding.name, error, action, took);
        };
        for (place, decision) in verdict.decisions.into_iter().enumerate() {
            let Decision::Deny { message, reason } = decision else {
                continue;
            };
            for action in &binding.actions {
                counted(&message, &action.to_lowercase());
                match action.as_str() {
                    "Deny" => self.deny(policy, binding, message.clone(), reason),
                    "Warn" => asked.warnings.add(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                        policy.name, binding.name
                    )),
                    _ if asked.trail.level() == Level::None => {}
                    _ => self.failures.push(Failure {
                        message: message.clone(),
                        policy: policy.name.clone(),
                        binding: binding.name.clone(),
                        expression_index: place,
                        validation_actions: binding.actions.clone(),
                    }),
                }
            }
        }
        for annotation in verdict.annotations {
            match annotation {
                Annotation::Failed(why) => {
                    counted(&why, "deny");
                    self.deny(policy, binding, why, "Invalid");
                }
                Annotation::Made { key, value } => {
                    let values = self.annotations.entry(key).or_default();
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
            }
        }
    }

    fn deny(&mut self, policy: &Policy, binding: &Binding, message: String, reason: &'static str) {
        self.denials.push(Denial {
            policy: policy.name.clone(),
            binding: Some(binding.name.clone()),
            message,
            reason,
        });
    }

    /// Shows the annotations of a policy.
    pub fn publish(&mut self, policy: &str, asked: &Attributes<'_>) {
        for (key, values) in std::mem::take(&mut self.annotations) {
            asked.annotate(Level::Metadata, || (format!("{policy}/{key}"), values.join(", ")));
        }
    }

    /// Shows the validations that failed where that is to be recorded.
    pub fn publish_failures(&self, asked: &Attributes<'_>) {
        if self.failures.is_empty() {
            return;
        }
        let shown = &self.failures[..self.failures.len().min(MOST_FAILURES)];
        match serde_json::to_string(shown) {
            Ok(text) => asked.annotate(Level::Metadata, || (FAILURES.to_owned(), go::html_escaped(text))),
            Err(error) => tracing::error!(%error, "failures of policies cannot be recorded"),
        }
    }
}
