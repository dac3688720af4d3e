//! A pod's JSON, as far as the scheduler reads it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::Toleration;
use crate::node_affinity::RawNodeSelectorTerm;

#[derive(Deserialize)]
pub(super) struct RawPod {
    pub(super) spec: RawSpec,
    #[serde(default)]
    pub(super) status: RawStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawSpec {
    #[serde(default)]
    pub(super) node_name: Box<str>,
    #[serde(default)]
    pub(super) scheduler_name: Box<str>,
    pub(super) priority: Option<i32>,
    pub(super) preemption_policy: Option<String>,
    #[serde(default)]
    pub(super) scheduling_gates: Option<Vec<Named>>,
    #[serde(default)]
    pub(super) containers: Vec<RawContainer>,
    #[serde(default)]
    pub(super) init_containers: Option<Vec<RawContainer>>,
    pub(super) overhead: Option<BTreeMap<String, String>>,
    pub(super) resources: Option<RawResources>,
    pub(super) node_selector: Option<BTreeMap<String, String>>,
    pub(super) affinity: Option<RawAffinity>,
    #[serde(default)]
    pub(super) tolerations: Option<Vec<Toleration>>,
    #[serde(default)]
    pub(super) topology_spread_constraints: Option<Vec<RawSpread>>,
    #[serde(default)]
    pub(super) volumes: Option<Vec<RawVolume>>,
    pub(super) resource_claims: Option<Vec<serde::de::IgnoredAny>>,
    #[serde(default)]
    pub(super) host_network: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawStatus {
    pub(super) nominated_node_name: Box<str>,
    pub(super) start_time: Option<Timestamp>,
    pub(super) container_statuses: Option<Vec<RawContainerStatus>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawContainerStatus {
    pub(super) name: String,
    pub(super) allocated_resources: Option<BTreeMap<String, String>>,
    pub(super) resources: Option<RawResources>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawContainer {
    pub(super) name: String,
    #[serde(default)]
    pub(super) image: Option<String>,
    pub(super) resources: Option<RawResources>,
    #[serde(default)]
    pub(super) ports: Option<Vec<RawPort>>,
    pub(super) restart_policy: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RawResources {
    pub(super) requests: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawPort {
    #[serde(default)]
    pub(super) host_port: Option<i32>,
    pub(super) container_port: i32,
    #[serde(default)]
    pub(super) protocol: Option<Box<str>>,
    #[serde(default, rename = "hostIP")]
    pub(super) host_ip: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawVolume {
    pub(super) name: String,
    pub(super) persistent_volume_claim: Option<RawClaim>,
    pub(super) ephemeral: Option<serde::de::IgnoredAny>,
    pub(super) image: Option<RawImage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawClaim {
    pub(super) claim_name: String,
}

#[derive(Deserialize)]
pub(super) struct RawImage {
    pub(super) reference: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawAffinity {
    pub(super) node_affinity: Option<RawNodeAffinity>,
    pub(super) pod_affinity: Option<RawPodAffinity>,
    pub(super) pod_anti_affinity: Option<RawPodAffinity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawNodeAffinity {
    pub(super) required_during_scheduling_ignored_during_execution: Option<RawNodeSelector>,
    pub(super) preferred_during_scheduling_ignored_during_execution: Option<Vec<RawPreferredNode>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawNodeSelector {
    #[serde(default)]
    pub node_selector_terms: Vec<RawNodeSelectorTerm>,
}

#[derive(Deserialize)]
pub(super) struct RawPreferredNode {
    pub(super) weight: i64,
    pub(super) preference: RawNodeSelectorTerm,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawPodAffinity {
    pub(super) required_during_scheduling_ignored_during_execution: Option<Vec<RawAffinityTerm>>,
    pub(super) preferred_during_scheduling_ignored_during_execution: Option<Vec<RawPreferredPod>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawPreferredPod {
    pub(super) weight: i64,
    pub(super) pod_affinity_term: RawAffinityTerm,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawAffinityTerm {
    pub(super) label_selector: Option<Value>,
    #[serde(default)]
    pub(super) namespaces: Option<Vec<String>>,
    pub(super) namespace_selector: Option<Value>,
    pub(super) topology_key: String,
    #[serde(default)]
    pub(super) match_label_keys: Option<Vec<String>>,
    #[serde(default)]
    pub(super) mismatch_label_keys: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawSpread {
    pub(super) max_skew: i64,
    pub(super) topology_key: String,
    pub(super) when_unsatisfiable: String,
    pub(super) label_selector: Option<Value>,
    pub(super) min_domains: Option<i64>,
    pub(super) node_affinity_policy: Option<String>,
    pub(super) node_taints_policy: Option<String>,
    #[serde(default)]
    pub(super) match_label_keys: Option<Vec<String>>,
}
