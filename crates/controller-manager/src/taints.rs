//! Taints of nodes and the tolerations of pods against them.

use k8s_openapi::api::core::v1::{Taint, Toleration};

pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// A user says by it that a node is off, and that its pods cannot run any more.
pub(crate) const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
pub(crate) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub(crate) const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
pub(crate) const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
pub(crate) const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
pub(crate) const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";

/// Whether one toleration tolerates one taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}

/// How long a pod may stay on a node with these taints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    ForEver,
    Seconds(i64),
    Not,
}

/// Judges the `NoExecute` taints.
pub(crate) fn stay<'a>(taints: impl Iterator<Item = &'a Taint>, tolerations: &[Toleration]) -> Stay {
    let mut shortest: Option<i64> = None;
    for taint in taints.filter(|t| t.effect == "NoExecute") {
        let mut tolerated = false;
        for toleration in tolerations.iter().filter(|t| tolerates(t, taint)) {
            tolerated = true;
            if let Some(seconds) = toleration.toleration_seconds {
                let seconds = seconds.max(0);
                shortest = Some(shortest.map_or(seconds, |s| s.min(seconds)));
            }
        }
        if !tolerated {
            return Stay::Not;
        }
    }
    match shortest {
        None => Stay::ForEver,
        Some(0) => Stay::Not,
        Some(seconds) => Stay::Seconds(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, effect: &str) -> Taint {
        Taint {
            key: key.to_owned(),
            effect: effect.to_owned(),
            ..Taint::default()
        }
    }

    fn toleration(key: &str, operator: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(key.to_owned()),
            operator: Some(operator.to_owned()),
            toleration_seconds: seconds,
            ..Toleration::default()
        }
    }

    #[test]
    fn pods_stay_as_long_as_they_tolerate() {
        let taints = [taint(NOT_READY, "NoExecute"), taint(UNREACHABLE, "NoSchedule")];
        let table = [
            (vec![], Stay::Not),
            (vec![toleration("", "Exists", None)], Stay::ForEver),
            (vec![toleration(NOT_READY, "Exists", Some(300))], Stay::Seconds(300)),
            (vec![toleration(NOT_READY, "Equal", None)], Stay::ForEver),
            (vec![toleration(UNREACHABLE, "Exists", None)], Stay::Not),
            (
                vec![
                    toleration(NOT_READY, "Exists", Some(300)),
                    toleration("", "Exists", Some(5)),
                ],
                Stay::Seconds(5),
            ),
        ];
        for (tolerations, expected) in table {
            assert_eq!(stay(taints.iter(), &tolerations), expected, "{tolerations:?}");
        }
        assert_eq!(stay([].iter(), &[]), Stay::ForEver);
    }
}
