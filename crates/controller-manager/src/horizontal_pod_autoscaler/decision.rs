//! What is done about an autoscaler: from what is known to the replicas that its target is to have, and to its status.

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, MetricStatus};

use super::behavior::{History, Wanted};
use super::draft::{ABLE_TO_SCALE, Draft, Inactive, SCALED_TO_ZERO, SCALING_ACTIVE, SCALING_LIMITED};
use super::proposal::{Failed, Proposal};
use super::settings::AutoscalerSettings;

const ABOVE_MAX: &str = "Current number of replicas above Spec.MaxReplicas";
const BELOW_MIN: &str = "Current number of replicas below Spec.MinReplicas";

/// What the number of replicas alone decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Course {
    /// Somebody scaled the target to nothing: it is left alone.
    Disabled,
    /// It is outside of its bounds and goes there, whatever the metrics say.
    Bound(Rescale),
    /// The metrics decide.
    Measure,
}

/// The target is to have another number of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rescale {
    pub replicas: i32,
    pub reason: String,
}

/// What the metrics of an autoscaler come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Replicas and the metric that asks for the most; `None` if the metrics say nothing.
    pub proposal: Option<(i32, String)>,
    /// Of each metric; what failed has an empty one.
    pub statuses: Vec<MetricStatus>,
    /// Why some or all metrics say nothing.
    pub error: Option<String>,
    /// The first of them is the specification's.
    pub by_spec: bool,
}

/// What is fixed while an autoscaler is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub autoscaler: &'a HorizontalPodAutoscaler,
    /// The replicas that the target is to have now.
    pub current: i32,
}

impl<'a> Known<'a> {
    pub(super) fn new(autoscaler: &'a HorizontalPodAutoscaler, current: i32) -> Known<'a> {
        Known { autoscaler, current }
    }

    fn min(&self) -> i32 {
        self.autoscaler.spec.min_replicas.unwrap_or(1)
    }

    /// It was the autoscaler that scaled the target to nothing.
    fn is_scaled_to_zero(&self) -> bool {
        let conditions = self
            .autoscaler
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten());
        let mut zero = conditions.filter(|c| c.type_ == SCALED_TO_ZERO);
        scales_to_zero() && zero.next().is_some_and(|c| c.status == "True")
    }

    /// Whether some metric has a value when there is no pod.
    fn wakes(&self) -> bool {
        let mut metrics = self.autoscaler.spec.metrics.iter().flatten();
        metrics.any(|metric| matches!(metric.type_.as_str(), "Object" | "External"))
    }

    pub(super) fn course(&self) -> Course {
        let bound = |replicas, reason: &str| {
            let reason = reason.to_owned();
            Course::Bound(Rescale { replicas, reason })
        };
        if self.current == 0 {
            return match self.is_scaled_to_zero() && (self.min() != 0 || self.wakes()) {
                true => Course::Measure,
                false => Course::Disabled,
            };
        }
        if self.current > self.autoscaler.spec.max_replicas {
            bound(self.autoscaler.spec.max_replicas, ABOVE_MAX)
        } else if self.current < self.min() {
            bound(self.min(), BELOW_MIN)
        } else {
            Course::Measure
        }
    }

    /// Brings the metrics' proposals together: the highest counts. With a failed metric among them nothing is scaled down.
    pub(super) fn measured(&self, proposals: Vec<Result<Proposal, Failed>>, draft: &mut Draft) -> Measured {
        let all = proposals.len();
        let (mut highest, mut first, mut invalid) = ((0, String::new()), None, 0);
        let mut statuses = Vec::new();
        for proposal in proposals {
            match proposal {
                Ok(proposal) => {
                    if highest.0 == 0 || proposal.replicas > highest.0 {
                        highest = (proposal.replicas, proposal.metric);
                    }
                    statuses.push(proposal.status);
                }
                Err(failed) => {
                    invalid += 1;
                    draft.warning(failed.reason, failed.told.clone());
                    statuses.push(MetricStatus::default());
                    first.get_or_insert(failed);
                }
            }
        }
        let error = first.as_ref().map(|first| {
            let first = &first.error;
            format!("invalid metrics ({invalid} invalid out of {all}), first error is: {first}")
        });
        let by_spec = first.as_ref().is_some_and(|first| first.by_spec);
        let proposal = match first {
            Some(first) if invalid >= all || highest.0 < self.current => {
                draft.inactive(first.condition());
                None
            }
            _ => {
                let metric = &highest.1;
                let message = format!("the HPA was able to successfully calculate a replica count from {metric}");
                draft.condition(SCALING_ACTIVE, true, "ValidMetricFound", message);
                Some(highest)
            }
        };
        Measured {
            proposal,
            statuses,
            error,
            by_spec,
        }
    }

    /// Bounds what the metrics ask for. `None` if the target stays as it is.
    pub(super) fn decide(
        &self,
        (proposed, metric): (i32, &str),
        history: &mut History,
        settings: &AutoscalerSettings,
        draft: &mut Draft,
    ) -> Option<Rescale> {
        let desired = proposed.max(0);
        let metric = if desired > 0 { metric } else { "" };
        let mut reason = String::new();
        if desired > self.current {
            reason = format!("{metric} above target");
        }
        if desired < self.current {
            "All metrics below target".clone_into(&mut reason);
        }
        let wanted = Wanted {
            current: self.current,
            desired,
            min: self.min(),
            max: self.autoscaler.spec.max_replicas,
        };
        let behavior = self.autoscaler.spec.behavior.as_ref();
        let bounded = history.bound(wanted, behavior, settings.downscale_stabilization, draft.now);
        draft.condition(ABLE_TO_SCALE, true, bounded.able.0, bounded.able.1);
        let (limited, why, message) = bounded.limited;
        draft.condition(SCALING_LIMITED, limited, why, message);
        let mut replicas = bounded.replicas;
        if self.current == 0 && replicas < self.min() && self.is_scaled_to_zero() {
            replicas = self.min();
            if reason.is_empty() {
                BELOW_MIN.clone_into(&mut reason);
            }
        }
        (replicas != self.current).then_some(Rescale { replicas, reason })
    }

    /// Nothing is scaled, as somebody wanted the target to have no replicas.
    pub(super) fn disabled(&self, draft: &mut Draft) {
        draft.inactive(Inactive {
            reason: "ScalingDisabled",
            message: "scaling is disabled since the replica count of the target is zero".to_owned(),
        });
        if !scales_to_zero() {
            draft.without(SCALED_TO_ZERO);
        }
        self.rests(Vec::new(), draft);
    }

    /// The metrics say nothing. What was desired last stays in the status.
    pub(super) fn unmeasured(&self, statuses: Vec<MetricStatus>, error: &str, draft: &mut Draft) {
        let desired = draft.status.desired_replicas;
        self.counts(desired, statuses, false, draft);
        draft.warning("FailedComputeMetricsReplicas", error);
    }

    /// The target stays as it is.
    pub(super) fn rests(&self, statuses: Vec<MetricStatus>, draft: &mut Draft) {
        self.counts(self.current, statuses, false, draft);
    }

    /// The target has its new number of replicas.
    pub(super) fn rescaled(&self, to: &Rescale, statuses: Vec<MetricStatus>, history: &mut History, draft: &mut Draft) {
        let Rescale { replicas, reason } = to;
        let message = format!("the HPA controller was able to update the target scale to {replicas}");
        draft.condition(ABLE_TO_SCALE, true, "SucceededRescale", message);
        draft.normal("SuccessfulRescale", format!("New size: {replicas}; reason: {reason}"));
        history.scaled(
            (self.current, *replicas),
            self.autoscaler.spec.behavior.as_ref(),
            draft.now,
        );
        if !scales_to_zero() {
            draft.without(SCALED_TO_ZERO);
        } else if self.current > 0 && *replicas == 0 && self.min() == 0 && self.wakes() {
            let message = "the HPA controller scaled the workload to zero";
            draft.condition(SCALED_TO_ZERO, true, "ScaledToZero", message);
        } else {
            let message = "the HPA controller did not scale the workload to zero";
            draft.condition(SCALED_TO_ZERO, false, "NotScaledToZero", message);
        }
        self.counts(*replicas, statuses, true, draft);
    }

    /// The target could not be given its new number of replicas.
    pub(super) fn not_rescaled(&self, to: &Rescale, error: &str, statuses: Vec<MetricStatus>, draft: &mut Draft) {
        let Rescale { replicas, reason } = to;
        draft.warning(
            "FailedRescale",
            format!("New size: {replicas}; reason: {reason}; error: {error}"),
        );
        let message = format!("the HPA controller was unable to update the target scale: {error}");
        draft.condition(ABLE_TO_SCALE, false, "FailedUpdateScale", message);
        let desired = draft.status.desired_replicas;
        self.counts(desired, statuses, false, draft);
    }

    fn counts(&self, desired: i32, statuses: Vec<MetricStatus>, rescaled: bool, draft: &mut Draft) {
        let generation = self.autoscaler.metadata.generation;
        draft.counts(generation, (self.current, desired), statuses, rescaled);
    }
}

/// The target's scale cannot be read.
pub(super) fn without_scale(error: &str, draft: &mut Draft) {
    draft.warning("FailedGetScale", error);
    let message = format!("the HPA controller was unable to get the target's current scale: {error}");
    draft.condition(ABLE_TO_SCALE, false, "FailedGetScale", message);
}

/// The target's scale could be read.
pub(super) fn with_scale(draft: &mut Draft) {
    let message = "the HPA controller was able to get the target's current scale";
    draft.condition(ABLE_TO_SCALE, true, "SucceededGetScale", message);
}

fn scales_to_zero() -> bool {
    api::features::enabled("HPAScaleToZero")
}
