//! Metrics by the APIs `metrics.k8s.io`, `custom.metrics.k8s.io` and `external.metrics.k8s.io`, which others serve behind the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::quantity::Quantity;
use client::Client;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::MetricIdentifier;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::answers::{Told, said};
use super::proposal::{Question, Reported};
use super::replicas::{Sample, Samples};
use super::target::Mapper;

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";
/// The versions of custom metrics that are understood, the best first.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];
/// The window of a custom metric that names none, in seconds.
const WINDOW: i64 = 60;

#[derive(Debug, Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Debug, Deserialize)]
struct PodMetrics {
    metadata: Named,
    timestamp: Timestamp,
    /// As Go writes a duration.
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustomValue {
    described_object: Named,
    timestamp: Timestamp,
    /// `window` in v1beta1.
    #[serde(alias = "window")]
    window_seconds: Option<i64>,
    value: String,
}

#[derive(Debug, Deserialize)]
struct ExternalValue {
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    versions: Vec<Version>,
    preferred_version: Option<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

fn milli(quantity: &str) -> Result<i64, Told> {
    quantity.parse::<Quantity>().map(|q| q.milli_value()).map_err(Told::of)
}

fn not_fetched(error: &Told) -> Told {
    format!("unable to fetch metrics from custom metrics API: {error}").into()
}

/// A selector as text. An absent one asks for nothing in particular, as an empty one does.
fn selector_text(selector: Option<&LabelSelector>) -> String {
    let labels = selector.and_then(|s| s.match_labels.as_ref()).into_iter().flatten();
    let mut terms: Vec<(&str, String)> = labels
        .map(|(key, value)| (key.as_str(), format!("{key}={value}")))
        .collect();
    let expressions = selector
        .and_then(|s| s.match_expressions.as_ref())
        .into_iter()
        .flatten();
    terms.extend(expressions.map(|e| {
        let mut values: Vec<&str> = e.values.iter().flatten().map(String::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let key = &e.key;
        let text = match e.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        };
        (key.as_str(), text)
    }));
    terms.sort_by_key(|(key, _)| *key);
    let terms: Vec<String> = terms.into_iter().map(|(_, text)| text).collect();
    terms.join(",")
}

/// Asks the metrics APIs about one target while it is looked at.
pub(super) struct Metrics<'a> {
    pub client: &'a Client,
    pub mapper: &'a Mapper,
    pub namespace: &'a str,
    /// Selects the target's pods.
    pub selector: &'a str,
    /// The usage of the pods, asked for once for all resources.
    pub usage: OnceCell<Result<Arc<Vec<PodUsage>>, Told>>,
}

/// The usage of the containers of one pod.
#[derive(Debug)]
pub(super) struct PodUsage {
    name: String,
    at: Timestamp,
    window: SignedDuration,
    containers: Vec<ContainerMetrics>,
}

impl PodUsage {
    /// The usage of one container, or of all of them together; `None` unless it is whole.
    fn of(&self, resource: &str, container: &str) -> Option<Result<i64, Told>> {
        let of_this = |c: &&ContainerMetrics| container.is_empty() || c.name == container;
        let mut sum = 0i64;
        let mut any = false;
        for container in self.containers.iter().filter(of_this) {
            any = true;
            match milli(container.usage.get(resource)?) {
                Ok(value) => sum = sum.saturating_add(value),
                Err(error) => return Some(Err(error)),
            }
        }
        any.then_some(Ok(sum))
    }
}

impl Metrics<'_> {
    /// The answer to a question, or the words of the error.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Reported, Told> {
        match question {
            Question::Resource { resource, container } => self.usage(resource, container).await.map(Reported::Pods),
            Question::Pods(metric) => self.of_pods(metric).await.map(Reported::Pods),
            Question::Object {
                kind,
                api_version,
                name,
                metric,
            } => {
                let group = api_version.split_once('/').map_or("", |(group, _)| group);
                self.of_object((group, kind), name, metric).await.map(Reported::Object)
            }
            Question::External(metric) => self.external(metric).await.map(Reported::External),
        }
    }

    async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        (resource, name): (&str, &str),
    ) -> Result<Vec<T>, Told> {
        let query: Vec<(&str, String)> = query.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
        let list = self
            .client
            .json::<List<T>>(Method::GET, path, &query, None::<&()>)
            .await;
        list.map(|list| list.items).map_err(|e| said(&e, "get", resource, name))
    }

    async fn usage(&self, resource: &str, container: &str) -> Result<Samples, Told> {
        let usage = self.usage.get_or_init(|| self.usage_of_pods()).await.as_ref();
        let mut samples = Samples::new();
        for pod in usage.map_err(Clone::clone)?.iter() {
            if let Some(value) = pod.of(resource, container) {
                let sample = Sample {
                    value: value?,
                    at: pod.at,
                    window: pod.window,
                };
                samples.insert(pod.name.clone(), sample);
            }
        }
        Ok(samples)
    }

    async fn usage_of_pods(&self) -> Result<Arc<Vec<PodUsage>>, Told> {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", self.namespace);
        let query = [("labelSelector", self.selector.to_owned())];
        let pods = self
            .list::<PodMetrics>(&path, &query, ("pods.metrics.k8s.io", ""))
            .await;
        let pods = pods.map_err(|e| format!("unable to fetch metrics from resource metrics API: {e}"))?;
        if pods.is_empty() {
            return Err("no metrics returned from resource metrics API".into());
        }
        let pods = pods.into_iter().map(|pod| PodUsage {
            name: pod.metadata.name,
            at: pod.timestamp,
            window: SignedDuration::from_nanos(api::time::parse_duration(&pod.window).unwrap_or(0)),
            containers: pod.containers,
        });
        Ok(Arc::new(pods.collect()))
    }

    /// The version of custom metrics to ask in.
    async fn custom_version(&self) -> Result<&'static str, Told> {
        let path = format!("/apis/{CUSTOM}");
        let group = match self.client.json::<Group>(Method::GET, &path, &[], None::<&()>).await {
            Ok(group) => group,
            Err(error) if error.is_not_found() => {
                return Err(format!("no custom metrics API ({CUSTOM}) registered").into());
            }
            Err(error) => return Err(said(&error, "get", CUSTOM, "")),
        };
        let served = group.preferred_version.into_iter().chain(group.versions);
        let mut known = served.filter_map(|served| CUSTOM_VERSIONS.into_iter().find(|known| *known == served.version));
        known
            .next()
            .ok_or_else(|| "no known available metric versions found".into())
    }

    /// Values of custom metrics, all in a version that was found before.
    async fn custom(
        &self,
        version: &str,
        (resource, name): (&str, &str),
        metric: &MetricIdentifier,
        selector: &str,
    ) -> Result<Vec<CustomValue>, Told> {
        let (base, metric_name) = (
            format!("/apis/{CUSTOM}/{version}/namespaces"),
            client::encode(&metric.name),
        );
        let namespace = self.namespace;
        let (path, asked) = match (resource, name) {
            // metrics of the namespace itself
            ("metrics", _) => (
                format!("{base}/{namespace}/metrics/{metric_name}"),
                metric.name.as_str(),
            ),
            (_, "*") => (format!("{base}/{namespace}/{resource}/*/{metric_name}"), name),
            _ => (
                format!("{base}/{namespace}/{resource}/{}/{metric_name}", client::encode(name)),
                name,
            ),
        };
        let query = [
            ("labelSelector", selector.to_owned()),
            ("metricLabelSelector", selector_text(metric.selector.as_ref())),
        ];
        self.list(&path, &query, (&format!("{resource}.{CUSTOM}"), asked)).await
    }

    async fn of_pods(&self, metric: &MetricIdentifier) -> Result<Samples, Told> {
        let fetched = async {
            let version = self.custom_version().await?;
            self.custom(version, ("pods", "*"), metric, self.selector).await
        };
        let values = fetched.await.map_err(|e| not_fetched(&e))?;
        if values.is_empty() {
            return Err("no metrics returned from custom metrics API".into());
        }
        let sample = |value: CustomValue| {
            let sample = Sample {
                value: milli(&value.value)?,
                at: value.timestamp,
                window: SignedDuration::from_secs(value.window_seconds.unwrap_or(WINDOW)),
            };
            Ok((value.described_object.name, sample))
        };
        values.into_iter().map(sample).collect()
    }

    async fn of_object(&self, of: (&str, &str), name: &str, metric: &MetricIdentifier) -> Result<i64, Told> {
        self.value_of_object(of, name, metric)
            .await
            .map_err(|e| not_fetched(&e))
    }

    async fn value_of_object(
        &self,
        (group, kind): (&str, &str),
        name: &str,
        metric: &MetricIdentifier,
    ) -> Result<i64, Told> {
        let version = self.custom_version().await?;
        let resource = match (group, kind) {
            ("", "Namespace") => "metrics".to_owned(),
            _ => {
                let found = self.mapper.find(group, kind).await;
                let dot = if group.is_empty() { "" } else { "." };
                let found = found.map_err(|e| format!("unable to map kind {kind}{dot}{group} to resource: {e}"));
                found?.resource()
            }
        };
        let values = self.custom(version, (&resource, name), metric, "").await?;
        match values.as_slice() {
            [value] => milli(&value.value),
            _ => {
                let count = values.len();
                Err(
                    format!("the custom metrics API server returned {count} results when we asked for exactly one")
                        .into(),
                )
            }
        }
    }

    async fn external(&self, metric: &MetricIdentifier) -> Result<Vec<i64>, Told> {
        let (namespace, name) = (self.namespace, client::encode(&metric.name));
        let path = format!("/apis/{EXTERNAL}/v1beta1/namespaces/{namespace}/{name}");
        let query = [("labelSelector", selector_text(metric.selector.as_ref()))];
        let resource = format!("{}.{EXTERNAL}", metric.name);
        let values = self.list::<ExternalValue>(&path, &query, (&resource, "")).await;
        let values = values.map_err(|e| format!("unable to fetch metrics from external metrics API: {e}"))?;
        if values.is_empty() {
            return Err("no metrics returned from external metrics API".into());
        }
        values.iter().map(|value| milli(&value.value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn usage(containers: &serde_json::Value) -> PodUsage {
        PodUsage {
            name: "p".into(),
            at: Timestamp::UNIX_EPOCH,
            window: SignedDuration::ZERO,
            containers: serde_json::from_value(containers.clone()).unwrap(),
        }
    }

    #[test]
    fn the_usage_of_a_pod_is_whole_or_not_there() {
        let pod = usage(
            &json!([{"name": "a", "usage": {"cpu": "100m", "memory": "1Ki"}}, {"name": "b", "usage": {"cpu": "1"}}]),
        );
        assert_eq!(pod.of("cpu", ""), Some(Ok(1100)));
        assert_eq!(pod.of("cpu", "a"), Some(Ok(100)));
        assert_eq!(pod.of("memory", "a"), Some(Ok(1_024_000)));
        assert_eq!(pod.of("memory", ""), None, "of one container it is not known");
        assert_eq!(pod.of("cpu", "c"), None);
        assert_eq!(usage(&json!([])).of("cpu", ""), None);
    }

    #[test]
    fn selectors_are_asked_for_in_order() {
        let selector: LabelSelector = serde_json::from_value(json!({"matchLabels": {"z": "1", "b": "2"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}, {"key": "d", "operator": "Exists"}]}))
        .unwrap();
        assert_eq!(selector_text(Some(&selector)), "a in (x,y),b=2,!c,d,z=1");
        assert_eq!(selector_text(None), "");
    }

    #[test]
    fn custom_values_of_both_versions_are_read() {
        for window in ["window", "windowSeconds"] {
            let text = format!(
                r#"{{"items": [{{"describedObject": {{"kind": "Pod", "name": "p"}}, "timestamp": "2026-01-01T00:00:00Z", "{window}": 5, "value": "10"}}]}}"#
            );
            let list: List<CustomValue> = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (list.items[0].window_seconds, list.items[0].value.as_str()),
                (Some(5), "10")
            );
        }
    }
}
