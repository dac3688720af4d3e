//! How long admission took: as a whole, plugin by plugin, webhook by webhook, policy by policy.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Family, Histogram, Metric, Page};

/// Seconds.
const DURATIONS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOKS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const POLICIES: [f64; 5] = [0.000_000_5, 0.001, 0.01, 0.1, 1.0];

const STEP: Metric = Metric::stable(
    "apiserver_admission_step_admission_duration_seconds",
    "Seconds that all plugins together took, by operation and by step (admit, validate).",
);
const PLUGIN: Metric = Metric::stable(
    "apiserver_admission_controller_admission_duration_seconds",
    "Seconds that a plugin took, by its name, operation and step (admit, validate).",
);
const WEBHOOK: Metric = Metric::stable(
    "apiserver_admission_webhook_admission_duration_seconds",
    "Seconds that a webhook took, by its name, operation and step (admit, validating).",
);
const CHECKS: Metric = Metric::beta(
    "apiserver_validating_admission_policy_check_total",
    "Requests held against a policy by one of its bindings, by what came of it.",
);
const CHECK: Metric = Metric::beta(
    "apiserver_validating_admission_policy_check_duration_seconds",
    "Seconds that it took to hold a request against a policy by one of its bindings.",
);

/// The steps of admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Admit,
    Validate,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Admit => "admit",
            Step::Validate => "validate",
        }
    }
}

const YES_OR_NO: [&str; 2] = ["false", "true"];

/// What is counted of admission.
pub struct Admissions {
    steps: Family<3, Histogram>,
    plugins: Family<4, Histogram>,
    webhooks: Family<4, Histogram>,
    checks: Family<4, Counter>,
    checked: Family<4, Histogram>,
}

/// The times of one plugin, or of all together, by step, operation and outcome; found once.
#[derive(Debug, Default)]
pub struct PluginTimes([OnceLock<Arc<Histogram>>; 16]);

impl Admissions {
    pub(super) fn new() -> Admissions {
        let labels = ["name", "operation", "rejected", "type"];
        let of_policy = ["enforcement_action", "error_type", "policy", "policy_binding"];
        Admissions {
            steps: Family::histograms(STEP, ["operation", "rejected", "type"], &DURATIONS),
            plugins: Family::histograms(PLUGIN, labels, &DURATIONS),
            webhooks: Family::histograms(WEBHOOK, labels, &WEBHOOKS),
            checks: Family::counters(CHECKS, of_policy),
            checked: Family::histograms(CHECK, of_policy, &POLICIES),
        }
    }

    pub(super) fn show(&self, page: &mut Page) {
        self.steps.show(page);
        self.plugins.show(page);
        self.webhooks.show(page);
        self.checks.show(page);
        self.checked.show(page);
    }

    /// A plugin took so long; without a name, all of them. The operation has a number below four and a name.
    pub fn took(
        &self,
        times: &PluginTimes,
        plugin: Option<&str>,
        step: Step,
        (number, operation): (usize, &str),
        rejected: bool,
        took: Duration,
    ) {
        let at = (number * 2 + usize::from(step == Step::Validate)) * 2 + usize::from(rejected);
        let rejected = YES_OR_NO[usize::from(rejected)];
        let find = || match plugin {
            Some(name) => self.plugins.with([name, operation, rejected, step.name()]),
            None => self.steps.with([operation, rejected, step.name()]),
        };
        if let Some(place) = times.0.get(at) {
            place.get_or_init(find).observe_time(took);
        }
    }

    /// A webhook took so long. `step` is `admit` or `validating`.
    pub fn webhook(&self, name: &str, operation: &str, step: &str, rejected: bool, took: Duration) {
        let rejected = YES_OR_NO[usize::from(rejected)];
        self.webhooks.with([name, operation, rejected, step]).observe_time(took);
    }

    /// A policy was held against a request by a binding, which did what `action` says (`allow`, `deny`, `audit`, `warn`).
    pub fn policy(&self, policy: &str, binding: &str, error: &str, action: &str, took: Duration) {
        let labels = [action, error, policy, binding];
        self.checks.with(labels).increment();
        self.checked.with(labels).observe_time(took);
    }

    /// Forgets a policy that is gone.
    pub fn forget_policy(&self, gone: impl Fn(&str) -> bool) {
        self.checks.forget(|labels| gone(&labels[2]));
        self.checked.forget(|labels| gone(&labels[2]));
    }
}
