//! Quantities, requests and limits, QoS classes, and the cgroup settings they stand for.

use api::quantity::{Format, Quantity as Amount};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod::{PodExt, is_sidecar};

fn parse(text: &str) -> Option<Amount> {
    text.parse().ok()
}

/// A quantity in thousandths, rounded up, at most the largest number. `None` if it is not one.
pub fn parse_milli(text: &str) -> Option<i64> {
    parse(text).map(|amount| amount.milli_value())
}

/// Thousandths of a unit: millicores for CPU.
pub fn milli(quantity: &Quantity) -> i64 {
    parse_milli(&quantity.0).unwrap_or(0)
}

/// Whole units, rounded up: bytes for memory.
pub fn value(quantity: &Quantity) -> i64 {
    parse(&quantity.0).map_or(0, |amount| amount.value())
}

/// What a container asks for, or may use at most, of one resource.
pub fn get<'a>(container: &'a Container, limits: bool, name: &str) -> Option<&'a Quantity> {
    let resources = container.resources.as_ref()?;
    if limits {
        resources.limits.as_ref()?.get(name)
    } else {
        resources.requests.as_ref()?.get(name)
    }
}

/// What a container may use at most: its own limit, or else the pod's.
pub fn limit<'a>(pod: &'a Pod, container: &'a Container, name: &str) -> Option<&'a Quantity> {
    let of_pod = || pod.spec.as_ref()?.resources.as_ref()?.limits.as_ref()?.get(name);
    get(container, true, name).or_else(of_pod)
}

/// A number of thousandths of a CPU as quantities are written.
pub fn cpu_quantity(milli: i64) -> Quantity {
    Quantity(Amount::from_milli(milli, Format::DecimalSi).to_string())
}

/// A number of bytes as quantities are written.
pub fn memory_quantity(bytes: i64) -> Quantity {
    Quantity(Amount::new(bytes, Format::BinarySi).to_string())
}

/// A sum that ends at the largest number: two containers may ask for all there can be.
pub fn sum(amounts: impl Iterator<Item = i64>) -> i64 {
    amounts.fold(0, i64::saturating_add)
}

/// Sum over the pod as the scheduler counts it: the larger of all regular containers with sidecars, and any init
/// container with the sidecars started before it, plus overhead. In thousandths.
pub fn pod_total(pod: &Pod, limits: bool, name: &str) -> i64 {
    let amount = |c: &Container| get(c, limits, name).map_or(0, milli);
    let mut sidecars = 0i64;
    let mut peak = 0i64;
    for container in pod.init_containers() {
        if is_sidecar(container) {
            sidecars = sidecars.saturating_add(amount(container));
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.saturating_add(amount(container)));
        }
    }
    let regular = sum(pod.containers().iter().map(amount));
    let overhead = pod
        .spec
        .as_ref()
        .and_then(|s| s.overhead.as_ref())
        .and_then(|o| o.get(name))
        .map_or(0, milli);
    let pod_level = pod.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| {
        if limits {
            r.limits.as_ref()?.get(name)
        } else {
            r.requests.as_ref()?.get(name)
        }
    });
    pod_level
        .map_or(regular.saturating_add(sidecars).max(peak), milli)
        .saturating_add(overhead)
}

/// The class of a pod, by what its containers request and may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    /// The class as the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }
}

/// The class the pod has by its CPU and memory.
pub fn qos_class(pod: &Pod) -> QosClass {
    if let Some(class) = pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        match class {
            "Guaranteed" => return QosClass::Guaranteed,
            "Burstable" => return QosClass::Burstable,
            "BestEffort" => return QosClass::BestEffort,
            _ => {}
        }
    }
    let mut any = false;
    let mut guaranteed = true;
    for container in pod.containers().iter().chain(pod.init_containers()) {
        for name in ["cpu", "memory"] {
            let request = get(container, false, name).map_or(0, milli);
            let limit = get(container, true, name).map_or(0, milli);
            any |= request > 0 || limit > 0;
            guaranteed &= limit > 0 && (request == limit || request == 0 && get(container, false, name).is_none());
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// Microseconds of one CFS period.
pub const CPU_PERIOD: i64 = 100_000;

/// `cpu.shares` (v1) of a request; 2 is the kernel's least.
pub fn cpu_shares(milli_cpu: i64) -> i64 {
    (milli_cpu * 1024 / 1000).clamp(2, 262_144)
}

/// `cpu.weight` (v2) of `cpu.shares`, by the formula every runtime uses.
pub fn cpu_weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// `cpu.cfs_quota_us` of a limit; 0 means none.
pub fn cpu_quota(milli_cpu: i64) -> i64 {
    if milli_cpu <= 0 {
        0
    } else {
        (milli_cpu * CPU_PERIOD / 1000).max(1000)
    }
}

/// Thousandths of a CPU that `cpu.shares` stand for.
pub fn milli_of_shares(shares: i64) -> i64 {
    if shares < 2 { 0 } else { (shares * 1000 + 1023) / 1024 }
}

/// How early the kernel kills the container's processes when memory runs out.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    if pod
        .spec
        .as_ref()
        .and_then(|s| s.priority)
        .is_some_and(|p| p >= 2_000_000_000)
    {
        return -997;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = get(container, false, "memory").map_or(0, value);
            let score = 1000 - 1000i64.saturating_mul(request) / node_memory.max(1);
            score.clamp(3, 999)
        }
    }
}

/// The name of a size of huge pages in CRI and cgroups (`2MB`) by that of its resource (`hugepages-2Mi`).
pub fn page_size_name(resource: &str) -> String {
    let size = resource.strip_prefix("hugepages-").unwrap_or(resource);
    match size.strip_suffix('i') {
        Some(unit) => format!("{unit}B"),
        None => size.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_all_notations() {
        for (text, milli) in [
            ("1", 1000),
            ("500m", 500),
            ("0.1", 100),
            ("1.5Gi", 1_610_612_736_000),
            ("100k", 100_000_000),
            ("1e3", 1_000_000),
            ("1u", 1),
            ("128Mi", 134_217_728_000),
            ("-2", -2000),
        ] {
            assert_eq!(parse_milli(text), Some(milli), "{text}");
        }
        // more thousandths than a number holds are still not nothing
        assert_eq!(parse_milli("9E"), Some(i64::MAX));
        assert_eq!(parse_milli("x"), None);
        assert_eq!(parse_milli("1Qi"), None);
    }

    #[test]
    fn the_classes_follow_requests_and_limits() {
        let pod = |resources: &str| -> Pod {
            serde_json::from_str(&format!(
                r#"{{"spec":{{"containers":[{{"name":"a","resources":{resources}}}]}}}}"#
            ))
            .unwrap()
        };
        assert_eq!(qos_class(&pod("{}")), QosClass::BestEffort);
        assert_eq!(qos_class(&pod(r#"{"requests":{"cpu":"1"}}"#)), QosClass::Burstable);
        assert_eq!(
            qos_class(&pod(
                r#"{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"1","memory":"1Gi"}}"#
            )),
            QosClass::Guaranteed
        );
        assert_eq!(
            qos_class(&pod(
                r#"{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"2","memory":"1Gi"}}"#
            )),
            QosClass::Burstable
        );
    }

    #[test]
    fn cpu_settings_have_the_kernels_bounds() {
        assert_eq!((cpu_shares(0), cpu_shares(1000), cpu_weight(1024)), (2, 1024, 39));
        assert_eq!((cpu_quota(0), cpu_quota(500), cpu_quota(1)), (0, 50_000, 1000));
        for milli in [2, 15, 100, 1000, 2500] {
            assert_eq!(milli_of_shares(cpu_shares(milli)), milli);
        }
    }

    #[test]
    fn amounts_are_written_as_quantities_are() {
        let memory = |bytes| memory_quantity(bytes).0;
        assert_eq!(
            (memory(31_457_280), memory(1001), memory(1024), memory(0)),
            ("30Mi".into(), "1001".into(), "1Ki".into(), "0".into())
        );
        assert_eq!(
            (cpu_quantity(2000).0.as_str(), cpu_quantity(15).0.as_str()),
            ("2", "15m")
        );
    }
}
