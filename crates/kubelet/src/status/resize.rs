//! What the status says of a resize: that it waits, or that it is under way.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Verdict, condition};

pub(super) const PENDING: &str = "PodResizePending";
pub(super) const IN_PROGRESS: &str = "PodResizeInProgress";

/// The two conditions, each while it is true. Upstream: `podResizeConditions` of the status manager.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResizeConditions {
    pending: Option<PodCondition>,
    in_progress: Option<PodCondition>,
}

impl ResizeConditions {
    /// What an earlier kubelet said.
    pub fn of(status: Option<&PodStatus>) -> ResizeConditions {
        let said = |type_: &str| status.and_then(|s| condition(s, type_)).cloned();
        ResizeConditions {
            pending: said(PENDING),
            in_progress: said(IN_PROGRESS),
        }
    }

    /// The conditions that tell of it.
    pub fn conditions(&self) -> impl Iterator<Item = PodCondition> {
        self.pending.iter().chain(&self.in_progress).cloned()
    }

    /// Whether that is news: another reason, or another wish.
    pub fn set_pending(&mut self, verdict: &Verdict, generation: Option<i64>, now: Timestamp) -> bool {
        let said = |o: &PodCondition| (o.reason.clone(), o.message.clone(), o.observed_generation);
        let says = (Some(verdict.reason.clone()), Some(verdict.message.clone()), generation);
        if self.pending.as_ref().is_some_and(|o| said(o) == says) {
            return false;
        }
        let old = self.pending.take();
        let news = old
            .as_ref()
            .is_none_or(|o| o.reason.as_ref() != Some(&verdict.reason) || o.observed_generation != generation);
        self.pending = Some(make(PENDING, old, &verdict.reason, &verdict.message, generation, now));
        news
    }

    /// Nothing waits to be resized any more.
    pub fn clear_pending(&mut self) {
        self.pending = None;
    }

    /// Another resize begins; what was said of the one before is gone.
    pub fn start(&mut self, generation: Option<i64>, now: Timestamp) {
        self.in_progress = Some(make(IN_PROGRESS, None, "", "", generation, now));
    }

    /// Goes on with the one that began, or with one that nobody began here.
    pub fn go_on(&mut self, generation: Option<i64>, now: Timestamp) {
        if self.in_progress.is_none() {
            self.start(generation, now);
        }
    }

    /// Whether that is news. The generation stays that of the beginning.
    pub fn fail(&mut self, message: &str, generation: Option<i64>, now: Timestamp) -> bool {
        let same = |o: &PodCondition| o.reason.as_deref() == Some("Error") && o.message.as_deref() == Some(message);
        if self.in_progress.as_ref().is_some_and(same) {
            return false;
        }
        let old = self.in_progress.take();
        let generation = old.as_ref().map_or(generation, |o| o.observed_generation);
        self.in_progress = Some(make(IN_PROGRESS, old, "Error", message, generation, now));
        true
    }

    /// The generation whose resize is done now.
    pub fn complete(&mut self) -> Option<i64> {
        let done = self.in_progress.take()?;
        Some(done.observed_generation.unwrap_or_default())
    }
}

fn make(
    type_: &str,
    old: Option<PodCondition>,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let since = old
        .filter(|o| o.reason == given(reason))
        .and_then(|o| o.last_transition_time);
    PodCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: given(reason),
        message: given(message),
        last_probe_time: Some(Time(now)),
        last_transition_time: since.or(Some(Time(now))),
        observed_generation: generation,
    }
}
