//! How fast an autoscaler may go: limits, policies, and stabilization by what it recommended and did before.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// Without policies the replicas at most double at a time, or grow to this number.
const SCALE_UP_FACTOR: f64 = 2.0;
const SCALE_UP_MINIMUM: f64 = 4.0;

/// What one autoscaler recommended and did a short time ago. A restart forgets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct History {
    /// Replicas as measured, before any limit.
    pub recommendations: Vec<(i32, Timestamp)>,
    /// By how many replicas the target was scaled up.
    pub ups: Vec<(i32, Timestamp)>,
    pub downs: Vec<(i32, Timestamp)>,
}

/// What limits and stabilization make of a recommendation, with reasons and messages of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounded {
    pub replicas: i32,
    /// Of `AbleToScale`.
    pub able: (&'static str, &'static str),
    /// Of `ScalingLimited`, and whether that holds.
    pub limited: (bool, &'static str, &'static str),
}

/// What is measured and what is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub current: i32,
    /// By the metrics.
    pub desired: i32,
    pub min: i32,
    pub max: i32,
}

type Why = (&'static str, &'static str);

const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const WITHIN_RANGE: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: Why = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const TOO_FEW: Why = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const UP_LIMIT: Why = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const DOWN_LIMIT: Why = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);

/// The age of something that was done.
fn age(at: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(at)
}

fn seconds(number: i32) -> SignedDuration {
    SignedDuration::from_secs(number.into())
}

impl History {
    /// The first number of replicas that is seen is a recommendation, so that a start scales nothing down at once.
    pub(super) fn begin(&mut self, replicas: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((replicas, now));
        }
    }

    /// Limits a recommendation and keeps it.
    pub(super) fn bound(
        &mut self,
        wanted: Wanted,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        downscale_stabilization: Duration,
        now: Timestamp,
    ) -> Bounded {
        let (stabilized, stabilizing) = match behavior {
            None => self.highest(wanted.desired, downscale_stabilization, now),
            Some(behavior) => self.stabilize(wanted, behavior, downscale_stabilization, now),
        };
        let (replicas, (reason, message)) = match behavior {
            None => limit(wanted, stabilized),
            Some(behavior) => self.limit_rate(wanted, stabilized, behavior, now),
        };
        Bounded {
            replicas,
            able: if stabilized == wanted.desired {
                READY
            } else {
                stabilizing
            },
            limited: (replicas != stabilized, reason, message),
        }
    }

    /// The highest recommendation within the window.
    pub(super) fn highest(&mut self, desired: i32, window: Duration, now: Timestamp) -> (i32, Why) {
        let window = SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX);
        self.recommendations.retain(|(_, at)| age(*at, now) <= window);
        let recent = self.recommendations.iter().map(|(replicas, _)| *replicas).max();
        self.recommendations.push((desired, now));
        (recent.map_or(desired, |recent| recent.max(desired)), DOWN_STABILIZED)
    }

    /// No more than the lowest recommendation within the window up, no less than the highest within the window down.
    pub(super) fn stabilize(
        &mut self,
        wanted: Wanted,
        behavior: &HorizontalPodAutoscalerBehavior,
        downscale_stabilization: Duration,
        now: Timestamp,
    ) -> (i32, Why) {
        let window = |rules: &Option<HPAScalingRules>| rules.as_ref().and_then(|r| r.stabilization_window_seconds);
        let up = seconds(window(&behavior.scale_up).unwrap_or(0));
        let down = window(&behavior.scale_down).map(seconds);
        let down = down.unwrap_or_else(|| {
            let seconds = i64::try_from(downscale_stabilization.as_secs()).unwrap_or(i64::MAX);
            SignedDuration::from_secs(seconds)
        });
        let (mut least, mut most) = (wanted.desired, wanted.desired);
        for (replicas, at) in &self.recommendations {
            if age(*at, now) < up {
                least = least.min(*replicas);
            }
            if age(*at, now) < down {
                most = most.max(*replicas);
            }
        }
        self.recommendations.retain(|(_, at)| age(*at, now) <= up.max(down));
        self.recommendations.push((wanted.desired, now));
        let stabilizing = if wanted.desired >= wanted.current {
            UP_STABILIZED
        } else {
            DOWN_STABILIZED
        };
        (wanted.current.max(least).min(most), stabilizing)
    }

    /// Limits a change to what the policies allow beside what was done within their periods.
    pub(super) fn limit_rate(
        &self,
        wanted: Wanted,
        desired: i32,
        behavior: &HorizontalPodAutoscalerBehavior,
        now: Timestamp,
    ) -> (i32, Why) {
        if desired > wanted.current {
            let rate = self
                .most(wanted.current, behavior.scale_up.as_ref(), now)
                .max(wanted.current);
            let (most, why) = if wanted.max > rate {
                (rate, UP_LIMIT)
            } else {
                (wanted.max, TOO_MANY)
            };
            if desired > most {
                return (most, why);
            }
        } else if desired < wanted.current {
            let rate = self
                .least(wanted.current, behavior.scale_down.as_ref(), now)
                .min(wanted.current);
            let (least, why) = if wanted.min < rate {
                (rate, DOWN_LIMIT)
            } else {
                (wanted.min, TOO_FEW)
            };
            if desired < least {
                return (least, why);
            }
        }
        (desired, WITHIN_RANGE)
    }

    /// The replicas at the beginning of a policy's period.
    fn before(&self, current: i32, period: i32, now: Timestamp) -> i32 {
        let sum = |events: &[(i32, Timestamp)]| {
            let recent = events.iter().filter(|(_, at)| age(*at, now) < seconds(period));
            recent.fold(0i32, |sum, (change, _)| sum.saturating_add(*change))
        };
        current.saturating_sub(sum(&self.ups)).saturating_add(sum(&self.downs))
    }

    /// How many replicas the policies allow when scaling up.
    pub(super) fn most(&self, current: i32, rules: Option<&HPAScalingRules>, now: Timestamp) -> i32 {
        self.allowed(
            current,
            rules,
            now,
            |smallest| !smallest,
            |start, type_, value| match type_ {
                "Percent" => (start * (1.0 + value / 100.0)).ceil(),
                _ => start + value,
            },
        )
    }

    /// How few replicas the policies allow when scaling down.
    pub(super) fn least(&self, current: i32, rules: Option<&HPAScalingRules>, now: Timestamp) -> i32 {
        self.allowed(
            current,
            rules,
            now,
            |smallest| smallest,
            |start, type_, value| match type_ {
                "Percent" => (start * (1.0 - value / 100.0)).trunc(),
                _ => start - value,
            },
        )
    }

    /// What the policy that is selected proposes. `highest` says whether the highest proposal is the one that is selected, when the smallest
    /// change is asked for and when the largest is; `propose` takes the replicas at the beginning of the period.
    #[allow(clippy::cast_possible_truncation)]
    fn allowed(
        &self,
        current: i32,
        rules: Option<&HPAScalingRules>,
        now: Timestamp,
        highest: impl Fn(bool) -> bool,
        propose: impl Fn(f64, &str, f64) -> f64,
    ) -> i32 {
        let select = rules.and_then(|r| r.select_policy.as_deref()).unwrap_or("Max");
        if select == "Disabled" {
            return current;
        }
        let policies = rules.and_then(|r| r.policies.as_deref()).unwrap_or_default();
        let proposals = policies.iter().map(|policy| {
            let start = self.before(current, policy.period_seconds, now);
            propose(start.into(), &policy.type_, policy.value.into()) as i32
        });
        if highest(select == "Min") {
            proposals.max().unwrap_or(i32::MIN)
        } else {
            proposals.min().unwrap_or(i32::MAX)
        }
    }

    /// Keeps that the target was scaled, if policies are going to ask for it, and forgets what none asks for any more.
    pub(super) fn scaled(
        &mut self,
        (before, after): (i32, i32),
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        now: Timestamp,
    ) {
        let Some(behavior) = behavior else { return };
        let (rules, events) = if after > before {
            (&behavior.scale_up, &mut self.ups)
        } else {
            (&behavior.scale_down, &mut self.downs)
        };
        let policies = rules.as_ref().and_then(|r| r.policies.as_deref()).unwrap_or_default();
        let longest = seconds(policies.iter().map(|p| p.period_seconds).max().unwrap_or(0));
        events.retain(|(_, at)| age(*at, now) <= longest);
        events.push((after.saturating_sub(before).saturating_abs(), now));
    }
}

/// The limits of an autoscaler without a behavior.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn limit(wanted: Wanted, desired: i32) -> (i32, Why) {
    let rate = (SCALE_UP_FACTOR * f64::from(wanted.current)).max(SCALE_UP_MINIMUM) as i32;
    let (most, why) = if wanted.max > rate {
        (rate, UP_LIMIT)
    } else {
        (wanted.max, TOO_MANY)
    };
    if desired < wanted.min {
        (wanted.min, TOO_FEW)
    } else if desired > most {
        (most, why)
    } else {
        (desired, WITHIN_RANGE)
    }
}
