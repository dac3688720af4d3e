//! What of a pod an autoscaler asks for: whether its usage counts, and what it requests.

use std::collections::{BTreeMap, BTreeSet};

use api::object::Object;
use api::pod::Resources;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::answers::Told;
use super::replicas::Samples;
use crate::Error;
use crate::error::decode;

/// A pod that the target's selector selects.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub name: String,
    deleting: bool,
    phase: String,
    started: Option<Timestamp>,
    /// The status of the condition `Ready` and when it last changed.
    ready: Option<(String, Timestamp)>,
    /// What the containers request by name, those of sidecars last.
    containers: Vec<(String, Resources)>,
    /// What the pod requests as a whole, if its own `resources` say so.
    whole: Option<Resources>,
}

#[derive(Deserialize)]
struct Read {
    metadata: ReadMeta,
    #[serde(default)]
    spec: ReadSpec,
    #[serde(default)]
    status: ReadStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadMeta {
    name: String,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ReadSpec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    resources: Requests,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    restart_policy: Option<String>,
    #[serde(default)]
    resources: Requests,
}

#[derive(Deserialize, Default)]
struct Requests {
    requests: Option<BTreeMap<String, String>>,
}

impl Requests {
    fn amounts(self) -> Resources {
        let all = self.requests.unwrap_or_default().into_iter();
        all.filter_map(|(name, amount)| Some((name, amount.parse().ok()?)))
            .collect()
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ReadStatus {
    phase: String,
    start_time: Option<Time>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    #[serde(default)]
    status: String,
    last_transition_time: Option<Time>,
}

impl Pod {
    /// Reads of a cached pod what is asked for here.
    pub(super) fn read(object: &Object) -> Result<Pod, Error> {
        let read: Read = decode(object)?;
        let of_pods = |requests: &BTreeMap<String, String>| requests.keys().any(|name| api::pod::is_of_pods(name));
        let whole = match read.spec.resources.requests.as_ref().is_some_and(of_pods) {
            true if api::features::enabled("PodLevelResources") => {
                Some(api::pod::asked_requests(&decode::<Value>(object)?))
            }
            _ => None,
        };
        let sidecars = read.spec.init_containers.into_iter();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let containers = read.spec.containers.into_iter().chain(sidecars);
        let ready = read
            .status
            .conditions
            .into_iter()
            .flatten()
            .find(|c| c.type_ == "Ready");
        Ok(Pod {
            name: read.metadata.name,
            deleting: read.metadata.deletion_timestamp.is_some(),
            phase: read.status.phase,
            started: read.status.start_time.map(|time| time.0),
            ready: ready.map(|c| (c.status, c.last_transition_time.map_or(Timestamp::MIN, |time| time.0))),
            containers: containers.map(|c| (c.name, c.resources.amounts())).collect(),
            whole,
        })
    }

    /// Running and ready.
    pub(super) fn serves(&self) -> bool {
        self.phase == "Running" && self.ready.as_ref().is_some_and(|(status, _)| status == "True")
    }

    /// What it requests of a resource, in thousandths; an empty container means the whole pod.
    pub(super) fn request(&self, container: &str, resource: &str) -> Result<i64, Told> {
        if let (Some(whole), "") = (&self.whole, container) {
            let request = whole.get(resource).map(api::quantity::Quantity::milli_value);
            return request
                .ok_or_else(|| format!("missing pod-level request for {resource} in Pod {}", self.name).into());
        }
        let mut sum = 0i64;
        for (name, requests) in self
            .containers
            .iter()
            .filter(|(name, _)| container.is_empty() || container == name)
        {
            let Some(request) = requests.get(resource) else {
                return Err(format!(
                    "missing request for {resource} in container {name} of Pod {}",
                    self.name
                )
                .into());
            };
            sum = sum.saturating_add(request.milli_value());
            if container == name {
                return Ok(sum);
            }
        }
        match container {
            "" => Ok(sum),
            _ => Err(format!("container {container} not found in Pod {}", self.name).into()),
        }
    }
}

/// When CPU samples of young pods count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Youth {
    pub cpu_initialization_period: SignedDuration,
    pub initial_readiness_delay: SignedDuration,
    pub now: Timestamp,
}

/// Pods by how their usage counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Groups<'a> {
    /// How many have samples that count.
    pub ready: usize,
    pub unready: BTreeSet<&'a str>,
    /// Those without a sample.
    pub missing: BTreeSet<&'a str>,
    /// Deleted and failed ones.
    pub ignored: BTreeSet<&'a str>,
}

/// Groups pods. Readiness matters to CPU alone, which starting pods use more of.
pub(super) fn group<'a>(pods: &'a [Pod], samples: &Samples, resource: &str, youth: Youth) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in pods {
        let name = pod.name.as_str();
        if pod.deleting || pod.phase == "Failed" {
            groups.ignored.insert(name);
        } else if pod.phase == "Pending" {
            groups.unready.insert(name);
        } else if let Some(sample) = samples.get(name) {
            let unready = resource == "cpu"
                && match (&pod.ready, pod.started) {
                    (Some((status, changed)), Some(started)) => {
                        let not_ready = status == "False";
                        if youth.now.duration_since(started) < youth.cpu_initialization_period {
                            // the sample must be of a time that lies whole after the change
                            not_ready || sample.at.duration_since(*changed) < sample.window
                        } else {
                            // not ready, and never has been
                            not_ready && changed.duration_since(started) < youth.initial_readiness_delay
                        }
                    }
                    _ => true,
                };
            if unready {
                groups.unready.insert(name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.insert(name);
        }
    }
    groups
}
