//! The status that an autoscaler is going to have, and the events that are told on the way there.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(super) const ABLE_TO_SCALE: &str = "AbleToScale";
pub(super) const SCALING_ACTIVE: &str = "ScalingActive";
pub(super) const SCALING_LIMITED: &str = "ScalingLimited";
pub(super) const SCALED_TO_ZERO: &str = "ScaledToZero";

/// An event about the autoscaler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

/// Why nothing could be measured: what the condition `ScalingActive` is going to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inactive {
    pub reason: &'static str,
    pub message: String,
}

/// Starts as the status that is stored.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub status: HorizontalPodAutoscalerStatus,
    pub told: Vec<Told>,
    pub now: Timestamp,
}

impl Draft {
    pub(super) fn new(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Draft {
        Draft {
            status: autoscaler.status.clone().unwrap_or_default(),
            told: Vec::new(),
            now,
        }
    }

    /// In whole seconds, as the API keeps times.
    fn time(&self) -> Time {
        Time(Timestamp::from_second(self.now.as_second()).unwrap_or(self.now))
    }

    /// Sets a condition. Its time is that of the last change between true and false.
    pub(super) fn condition(&mut self, type_: &str, holds: bool, reason: &str, message: impl Into<String>) {
        let status = if holds { "True" } else { "False" };
        let time = self.time();
        let conditions = self.status.conditions.get_or_insert_default();
        let at = conditions.iter().position(|c| c.type_ == type_).unwrap_or_else(|| {
            conditions.push(HorizontalPodAutoscalerCondition {
                type_: type_.to_owned(),
                ..HorizontalPodAutoscalerCondition::default()
            });
            conditions.len() - 1
        });
        let condition = &mut conditions[at];
        if condition.status != status {
            condition.last_transition_time = Some(time);
        }
        status.clone_into(&mut condition.status);
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.into());
    }

    pub(super) fn inactive(&mut self, why: Inactive) {
        self.condition(SCALING_ACTIVE, false, why.reason, why.message);
    }

    pub(super) fn without(&mut self, type_: &str) {
        self.status
            .conditions
            .iter_mut()
            .for_each(|all| all.retain(|c| c.type_ != type_));
    }

    pub(super) fn warning(&mut self, reason: &'static str, message: impl Into<String>) {
        self.told.push(Told {
            warning: true,
            reason,
            message: message.into(),
        });
    }

    pub(super) fn normal(&mut self, reason: &'static str, message: impl Into<String>) {
        self.told.push(Told {
            warning: false,
            reason,
            message: message.into(),
        });
    }

    /// Sets all but the conditions; `rescaled` says that the target was scaled just now.
    pub(super) fn counts(
        &mut self,
        generation: Option<i64>,
        (current, desired): (i32, i32),
        metrics: Vec<MetricStatus>,
        rescaled: bool,
    ) {
        let time = self.time();
        let before = std::mem::take(&mut self.status);
        self.status = HorizontalPodAutoscalerStatus {
            current_replicas: Some(current),
            desired_replicas: desired,
            last_scale_time: if rescaled { Some(time) } else { before.last_scale_time },
            current_metrics: (!metrics.is_empty()).then_some(metrics),
            conditions: before.conditions,
            observed_generation: api::features::enabled("HPAGeneration").then_some(generation.unwrap_or(0)),
        };
    }

    /// Whether it differs from the status that is stored. What is absent and what is empty are the same.
    pub(super) fn changes(&self, autoscaler: &HorizontalPodAutoscaler) -> bool {
        let plain = |status: &HorizontalPodAutoscalerStatus| {
            let mut status = status.clone();
            status.current_replicas.get_or_insert_default();
            status.current_metrics = status.current_metrics.filter(|all| !all.is_empty());
            status.conditions = status.conditions.filter(|all| !all.is_empty());
            status
        };
        plain(&autoscaler.status.clone().unwrap_or_default()) != plain(&self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_last_change() {
        let mut autoscaler = HorizontalPodAutoscaler::default();
        let mut draft = Draft::new(&autoscaler, at(10));
        draft.condition(ABLE_TO_SCALE, true, "SucceededGetScale", "first");
        assert!(draft.changes(&autoscaler));
        autoscaler.status = Some(draft.status);
        let mut draft = Draft::new(&autoscaler, at(20));
        assert!(!draft.changes(&autoscaler));
        draft.condition(ABLE_TO_SCALE, true, "SucceededRescale", "second");
        let seen = |draft: &Draft| draft.status.conditions.as_ref().unwrap()[0].clone();
        assert_eq!(seen(&draft).last_transition_time, Some(Time(at(10))));
        assert_eq!(seen(&draft).message.as_deref(), Some("second"));
        draft.condition(ABLE_TO_SCALE, false, "FailedUpdateScale", "third");
        assert_eq!(seen(&draft).last_transition_time, Some(Time(at(20))));
        draft.without(ABLE_TO_SCALE);
        assert_eq!(draft.status.conditions, Some(Vec::new()));
    }

    #[test]
    fn nothing_and_none_of_something_are_the_same_status() {
        let mut autoscaler = HorizontalPodAutoscaler::default();
        let mut draft = Draft::new(&autoscaler, at(1));
        draft.counts(Some(3), (0, 0), Vec::new(), false);
        assert!(draft.changes(&autoscaler), "the generation is new");
        autoscaler.status = Some(HorizontalPodAutoscalerStatus {
            observed_generation: Some(3),
            current_metrics: Some(Vec::new()),
            ..HorizontalPodAutoscalerStatus::default()
        });
        assert!(!draft.changes(&autoscaler));
    }
}
