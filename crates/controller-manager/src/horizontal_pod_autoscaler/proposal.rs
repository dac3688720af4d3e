//! What one metric of an autoscaler proposes: replicas, the status of the metric, or why there is none.

use api::quantity::{Format, Quantity};
use api::selectors::LabelSelector;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, HorizontalPodAutoscaler, MetricIdentifier, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::answers::Told;
use super::draft::Inactive;
use super::replicas::{self, Held, Samples, Tolerances};
use crate::meta::selector_text;

/// What a metrics API says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reported {
    /// Of each pod.
    Pods(Samples),
    /// Of one object, in thousandths.
    Object(i64),
    /// Of something outside the cluster: any number of values, in thousandths.
    External(Vec<i64>),
}

/// What a metrics API is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Question<'a> {
    /// The usage of a resource by pods, or by one container of each unless `container` is empty.
    Resource {
        resource: &'a str,
        container: &'a str,
    },
    /// A custom metric of pods.
    Pods(&'a MetricIdentifier),
    /// A custom metric of an object.
    Object {
        kind: &'a str,
        api_version: &'a str,
        name: &'a str,
        metric: &'a MetricIdentifier,
    },
    External(&'a MetricIdentifier),
}

/// Replicas that a metric asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proposal {
    pub replicas: i32,
    /// The metric as events name it.
    pub metric: String,
    pub status: MetricStatus,
}

/// Why a metric proposes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    /// The reason of the condition and of the event.
    pub reason: &'static str,
    /// As the event has it.
    pub told: String,
    /// As it goes into the sum of all metrics.
    pub error: String,
    /// The specification is at fault, and nothing inside the cluster.
    pub by_spec: bool,
}

impl Failed {
    pub(super) fn condition(&self) -> Inactive {
        Inactive {
            reason: self.reason,
            message: format!("the HPA was unable to compute the replica count: {}", self.told),
        }
    }
}

/// What is known of the target while its metrics are held against their targets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub namespace: &'a str,
    pub held: Held<'a>,
    /// How many replicas there are.
    pub there: i32,
}

/// The tolerances of an autoscaler; its own go before those of the cluster.
pub(super) fn tolerances(autoscaler: &HorizontalPodAutoscaler, of_cluster: f64) -> Tolerances {
    let behavior = autoscaler.spec.behavior.as_ref();
    let behavior = behavior.filter(|_| api::features::enabled("HPAConfigurableTolerance"));
    let own = |text: Option<&Text>| text.and_then(|t| t.0.parse::<Quantity>().ok()).map(|q| q.as_f64());
    let down = behavior
        .and_then(|b| b.scale_down.as_ref())
        .and_then(|r| own(r.tolerance.as_ref()));
    let up = behavior
        .and_then(|b| b.scale_up.as_ref())
        .and_then(|r| own(r.tolerance.as_ref()));
    Tolerances {
        down: down.unwrap_or(of_cluster),
        up: up.unwrap_or(of_cluster),
    }
}

fn milli(text: &Text) -> i64 {
    text.0.parse::<Quantity>().map_or(0, |q| q.milli_value())
}

fn quantity(milli: i64) -> Text {
    Text(Quantity::from_milli(milli, Format::DecimalSi).to_string())
}

/// As metrics-server shows the resource.
fn quantity_of(resource: &str, milli: i64) -> Text {
    let format = if resource == "memory" {
        Format::BinarySi
    } else {
        Format::DecimalSi
    };
    Text(Quantity::from_milli(milli, format).to_string())
}

fn average_value(milli: i64) -> MetricValueStatus {
    MetricValueStatus {
        average_value: Some(quantity(milli)),
        ..MetricValueStatus::default()
    }
}

fn value(milli: i64) -> MetricValueStatus {
    MetricValueStatus {
        value: Some(quantity(milli)),
        ..MetricValueStatus::default()
    }
}

/// What has to be asked for a metric, if anything.
pub(super) fn question(spec: &MetricSpec) -> Option<Question<'_>> {
    let by_usage = |target: &MetricTarget| target.average_value.is_some() || target.average_utilization.is_some();
    match spec.type_.as_str() {
        "Resource" => {
            let source = spec.resource.as_ref().filter(|s| by_usage(&s.target))?;
            Some(Question::Resource {
                resource: &source.name,
                container: "",
            })
        }
        "ContainerResource" => {
            let source = spec.container_resource.as_ref().filter(|s| by_usage(&s.target))?;
            Some(Question::Resource {
                resource: &source.name,
                container: &source.container,
            })
        }
        "Pods" => {
            let source = spec.pods.as_ref()?;
            valid(&source.metric).ok()?;
            Some(Question::Pods(&source.metric))
        }
        "Object" => {
            let source = spec.object.as_ref().filter(|s| object_target(&s.target).is_some())?;
            valid(&source.metric).ok()?;
            Some(Question::Object {
                kind: &source.described_object.kind,
                api_version: source.described_object.api_version.as_deref().unwrap_or_default(),
                name: &source.described_object.name,
                metric: &source.metric,
            })
        }
        "External" => {
            let source = spec.external.as_ref()?;
            valid(&source.metric).ok()?;
            let any = source.target.average_value.is_some() || source.target.value.is_some();
            any.then_some(Question::External(&source.metric))
        }
        _ => None,
    }
}

/// Whether the selector of a metric is one. The API server does not ask.
fn valid(metric: &MetricIdentifier) -> Result<(), Told> {
    let tree = serde_json::to_value(&metric.selector).map_err(Told::of)?;
    LabelSelector::from_tree(&tree).map(|_| ()).map_err(Told::of)
}

/// A value, or an average value for each replica, in thousandths.
enum Target {
    Value(i64),
    Share(i64),
}

fn object_target(target: &MetricTarget) -> Option<Target> {
    match target.type_.as_str() {
        "Value" => target.value.as_ref().map(|v| Target::Value(milli(v))),
        "AverageValue" => target.average_value.as_ref().map(|v| Target::Share(milli(v))),
        _ => None,
    }
}

/// Holds what was said of a metric against its target. `answer` is to the [`question`], or why there is none.
pub(super) fn propose(
    spec: &MetricSpec,
    answer: Option<Result<Reported, Told>>,
    scene: &Scene,
) -> Result<Proposal, Failed> {
    match spec.type_.as_str() {
        "Resource" => of_resource(spec, answer, scene),
        "ContainerResource" => of_container(spec, answer, scene),
        "Pods" => of_pods(spec, answer, scene),
        "Object" => of_object(spec, answer, scene),
        "External" => of_external(spec, answer, scene),
        other => {
            let error = format!("unknown metric source type {other:?}");
            Err(Failed {
                reason: "InvalidMetricSourceType",
                told: error.clone(),
                error,
                by_spec: true,
            })
        }
    }
}

fn failed(reason: &'static str, told: String, error: String) -> Failed {
    Failed {
        reason,
        told,
        error,
        by_spec: false,
    }
}

fn samples(answer: Option<Result<Reported, Told>>, what: &str) -> Result<Samples, Told> {
    match answer {
        Some(Ok(Reported::Pods(samples))) => Ok(samples),
        Some(Err(error)) => Err(format!("unable to get {what}: {error}").into()),
        _ => Err(format!("unable to get {what}: not asked for").into()),
    }
}

/// Replicas for a target of usage, the usage, and the metric as events name it.
fn usage(
    target: &MetricTarget,
    (resource, container): (&str, &str),
    answer: Option<Result<Reported, Told>>,
    scene: &Scene,
) -> Result<(i32, MetricValueStatus, String), Told> {
    let what = format!("metrics for resource {resource}");
    if let Some(target) = &target.average_value {
        let samples = samples(answer, &what);
        let found = samples.and_then(|s| replicas::for_average(&scene.held, &s, resource, milli(target)));
        let (replicas, average) = found.map_err(|e| format!("failed to get {resource} usage: {e}"))?;
        let status = MetricValueStatus {
            average_value: Some(quantity_of(resource, average)),
            ..MetricValueStatus::default()
        };
        return Ok((replicas, status, format!("{resource} resource")));
    }
    let Some(percent) = target.average_utilization else {
        let why = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
        return Err(why.into());
    };
    let samples = samples(answer, &what);
    let found = samples.and_then(|s| replicas::for_utilization(&scene.held, &s, (resource, container), percent));
    let found = found.map_err(|e| format!("failed to get {resource} utilization: {e}"))?;
    let status = MetricValueStatus {
        average_utilization: Some(found.percent),
        average_value: Some(quantity_of(resource, found.average)),
        ..MetricValueStatus::default()
    };
    let of = if container.is_empty() {
        "resource"
    } else {
        "container resource"
    };
    let metric = format!("{resource} {of} utilization (percentage of request)");
    Ok((found.replicas, status, metric))
}

fn of_resource(spec: &MetricSpec, answer: Option<Result<Reported, Told>>, scene: &Scene) -> Result<Proposal, Failed> {
    let source = spec.resource.clone().unwrap_or_default();
    let found = usage(&source.target, (&source.name, ""), answer, scene);
    let (replicas, current, metric) = found.map_err(|e| {
        let error = format!("failed to get {} resource metric value: {e}", source.name);
        failed("FailedGetResourceMetric", e.to_string(), error)
    })?;
    let resource = ResourceMetricStatus {
        current,
        name: source.name,
    };
    let status = MetricStatus {
        type_: spec.type_.clone(),
        resource: Some(resource),
        ..MetricStatus::default()
    };
    Ok(Proposal {
        replicas,
        metric,
        status,
    })
}

fn of_container(spec: &MetricSpec, answer: Option<Result<Reported, Told>>, scene: &Scene) -> Result<Proposal, Failed> {
    let source = spec.container_resource.clone().unwrap_or_default();
    let found = usage(&source.target, (&source.name, &source.container), answer, scene);
    let (replicas, current, metric) = found.map_err(|e| {
        let error = format!("failed to get {} container metric value: {e}", source.container);
        failed("FailedGetContainerResourceMetric", e.to_string(), error)
    })?;
    let of_container = ContainerResourceMetricStatus {
        container: source.container,
        current,
        name: source.name,
    };
    let status = MetricStatus {
        type_: spec.type_.clone(),
        container_resource: Some(of_container),
        ..MetricStatus::default()
    };
    Ok(Proposal {
        replicas,
        metric,
        status,
    })
}

fn of_pods(spec: &MetricSpec, answer: Option<Result<Reported, Told>>, scene: &Scene) -> Result<Proposal, Failed> {
    let source = spec.pods.clone().unwrap_or_default();
    let target = source.target.average_value.as_ref().map_or(0, milli);
    let samples = valid(&source.metric).and_then(|()| samples(answer, &format!("metric {}", source.metric.name)));
    let found = samples.and_then(|s| replicas::for_average(&scene.held, &s, "", target));
    let (replicas, average) = found.map_err(|e| {
        let error = format!("failed to get pods metric value: {e}");
        failed("FailedGetPodsMetric", e.to_string(), error)
    })?;
    let metric = format!("pods metric {}", source.metric.name);
    let pods = PodsMetricStatus {
        current: average_value(average),
        metric: source.metric,
    };
    let status = MetricStatus {
        type_: spec.type_.clone(),
        pods: Some(pods),
        ..MetricStatus::default()
    };
    Ok(Proposal {
        replicas,
        metric,
        status,
    })
}

fn of_object(spec: &MetricSpec, answer: Option<Result<Reported, Told>>, scene: &Scene) -> Result<Proposal, Failed> {
    const REASON: &str = "FailedGetObjectMetric";
    let source = spec.object.clone().unwrap_or_default();
    let (object, name) = (&source.described_object, &source.metric.name);
    let whole = |error: &dyn std::fmt::Display| format!("failed to get object metric value: {error}");
    if let Err(e) = valid(&source.metric) {
        let error = whole(&e);
        return Err(failed(REASON, e.to_string(), error));
    }
    let Some(target) = object_target(&source.target) else {
        let why = "invalid object metric source: neither a value target nor an average value target was set";
        return Err(failed(REASON, why.to_owned(), whole(&why)));
    };
    let usage = match answer {
        Some(Ok(Reported::Object(usage))) => Ok(usage),
        Some(Err(error)) => Err(error),
        _ => Err("not asked for".into()),
    };
    let usage = usage.map_err(|e| {
        let (kind, of) = (&object.kind, &object.name);
        Told::from(format!(
            "unable to get metric {name} on {kind} {}/{of}: {e}",
            scene.namespace
        ))
    });
    let (replicas, current, metric) = match target {
        Target::Value(target) => {
            let found = usage.and_then(|usage| Ok((replicas::for_value(&scene.held, usage, target)?, usage)));
            let (replicas, usage) = found.map_err(|e| {
                let error = whole(&e);
                failed(REASON, e.to_string(), error)
            })?;
            (replicas, value(usage), format!("{} metric {name}", object.kind))
        }
        Target::Share(target) => {
            let usage = usage.map_err(|e| {
                let error = whole(&format!("failed to get {name} object metric: {e}"));
                failed(REASON, e.to_string(), error)
            })?;
            let (replicas, share) = replicas::for_share(scene.held.tolerances, scene.there, usage, target);
            (replicas, average_value(share), external_name(&source.metric))
        }
    };
    let object = ObjectMetricStatus {
        current,
        described_object: source.described_object,
        metric: source.metric,
    };
    let status = MetricStatus {
        type_: spec.type_.clone(),
        object: Some(object),
        ..MetricStatus::default()
    };
    Ok(Proposal {
        replicas,
        metric,
        status,
    })
}

/// Upstream names average values of objects so too.
fn external_name(metric: &MetricIdentifier) -> String {
    format!(
        "external metric {}({})",
        metric.name,
        selector_text(metric.selector.as_ref())
    )
}

fn of_external(spec: &MetricSpec, answer: Option<Result<Reported, Told>>, scene: &Scene) -> Result<Proposal, Failed> {
    const REASON: &str = "FailedGetExternalMetric";
    let source = spec.external.clone().unwrap_or_default();
    let name = &source.metric.name;
    let whole = |error: &dyn std::fmt::Display| format!("failed to get {name} external metric value: {error}");
    let target = match (&source.target.average_value, &source.target.value) {
        (Some(share), _) => Target::Share(milli(share)),
        (None, Some(value)) => Target::Value(milli(value)),
        (None, None) => {
            let why = "invalid external metric source: neither a value target nor an average value target was set";
            return Err(failed(REASON, why.to_owned(), whole(&why)));
        }
    };
    let values = match answer {
        Some(Ok(Reported::External(values))) => Ok(values),
        Some(Err(error)) => Err(error),
        _ => Err("not asked for".into()),
    };
    let values = values.map_err(|e| {
        let selector = selector_text(source.metric.selector.as_ref());
        Told::from(format!(
            "unable to get external metric {}/{name}/{selector}: {e}",
            scene.namespace
        ))
    });
    let values = valid(&source.metric).and(values);
    let (replicas, current) = match target {
        Target::Share(target) => {
            let values = values.map_err(|e| {
                let error = whole(&format!("failed to get {name} external metric: {e}"));
                failed(REASON, e.to_string(), error)
            })?;
            let usage = sum_without_sign(&values);
            let (replicas, share) = replicas::for_share(scene.held.tolerances, scene.there, usage, target);
            (replicas, average_value(if usage == i64::MAX { usage } else { share }))
        }
        Target::Value(target) => {
            let found = values.and_then(|values| {
                let usage = values.iter().fold(0i64, |sum, value| sum.saturating_add(*value));
                Ok((replicas::for_value(&scene.held, usage, target)?, usage))
            });
            let (replicas, usage) = found.map_err(|e| {
                let error = whole(&format!("failed to get external metric {name}: {e}"));
                failed(REASON, e.to_string(), error)
            })?;
            (replicas, value(usage))
        }
    };
    let metric = external_name(&source.metric);
    let external = ExternalMetricStatus {
        current,
        metric: source.metric,
    };
    let status = MetricStatus {
        type_: spec.type_.clone(),
        external: Some(external),
        ..MetricStatus::default()
    };
    Ok(Proposal {
        replicas,
        metric,
        status,
    })
}

/// The sum as upstream makes it of what replicas share: once it is below zero it is taken for too large.
pub(super) fn sum_without_sign(values: &[i64]) -> i64 {
    let mut sum = 0i64;
    for value in values {
        match sum.checked_add(*value) {
            Some(more) if more >= 0 => sum = more,
            _ => return i64::MAX,
        }
    }
    sum
}
