//! Numbers of a rollout: how many pods may be too many or missing, and how a change of size is shared out.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::revision::MAX_REPLICAS;
use crate::meta::annotation;

/// A number or a percentage of `total`.
pub(crate) fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent * i64::from(total);
            let rounded = if round_up {
                (product + 99).div_euclid(100)
            } else {
                product.div_euclid(100)
            };
            i32::try_from(rounded).ok()
        }
    }
}

pub(super) fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref();
    strategy.and_then(|s| s.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// How many pods there may be above the wanted number, and how many may be missing; never both zero.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let strategy = deployment.spec.strategy.as_ref();
    let rolling = strategy.and_then(|s| s.rolling_update.clone()).unwrap_or_default();
    let quarter = || IntOrString::String("25%".to_owned());
    let total = desired(deployment);
    let surge = scaled(&rolling.max_surge.unwrap_or_else(quarter), total, true).unwrap_or(0);
    let unavailable = scaled(&rolling.max_unavailable.unwrap_or_else(quarter), total, false).unwrap_or(0);
    if surge == 0 && unavailable == 0 {
        return (0, 1);
    }
    (surge, unavailable)
}

pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) {
        fenceposts(deployment).0
    } else {
        0
    }
}

pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    let desired = desired(deployment);
    if !is_rolling(deployment) || desired == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(desired)
}

/// The size the new ReplicaSet may have with `all` pods wanted by all ReplicaSets together.
pub(super) fn new_size(deployment: &Deployment, all: i32, new: i32) -> i32 {
    let desired = desired(deployment);
    if !is_rolling(deployment) {
        return desired;
    }
    let most = desired + max_surge(deployment);
    if all >= most {
        return new;
    }
    new + (most - all).min(desired - new)
}

/// A ReplicaSet's share of `to_add` pods (negative: to take away) of which `added` are given out.
pub(super) fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if size(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(deployment, set);
    let allowed = to_add - added;
    if to_add > 0 {
        fraction.min(allowed)
    } else {
        fraction.max(allowed)
    }
}

fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    if desired(deployment) == 0 {
        return -size(set);
    }
    let most = desired(deployment) + max_surge(deployment);
    let before = annotation(set, MAX_REPLICAS)
        .and_then(|m| m.parse::<i32>().ok())
        .filter(|m| *m > 0);
    let total = || deployment.status.as_ref().and_then(|s| s.replicas).unwrap_or(0);
    let before = before.unwrap_or_else(total);
    if before == 0 {
        return 0;
    }
    let share = f64::from(size(set)) * f64::from(most) / f64::from(before);
    share.round() as i32 - size(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_told() {
        let percent = IntOrString::String("25%".into());
        for (total, up, down) in [(0, 0, 0), (1, 1, 0), (3, 1, 0), (4, 1, 1), (10, 3, 2)] {
            assert_eq!(scaled(&percent, total, true), Some(up));
            assert_eq!(scaled(&percent, total, false), Some(down));
        }
        assert_eq!(scaled(&IntOrString::Int(5), 1, false), Some(5));
        assert_eq!(scaled(&IntOrString::String("x".into()), 1, false), None);
    }
}
