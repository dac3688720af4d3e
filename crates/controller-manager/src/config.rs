//! Settings of the controller manager, with upstream's defaults.

use std::sync::Arc;
use std::time::Duration;

/// Which controllers run: `*`, `name` and `-name`, as `--controllers` takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerSwitch(Vec<String>);

impl Default for ControllerSwitch {
    fn default() -> ControllerSwitch {
        ControllerSwitch(vec!["*".to_owned()])
    }
}

impl ControllerSwitch {
    /// Those that run by default, and bootstrap tokens sign the cluster's address and go when they expire, as kubeadm has it; with `service_lb` nodes answer for Services of type
    /// LoadBalancer.
    pub fn of_server(service_lb: bool) -> ControllerSwitch {
        let always = ["*", "bootstrap-signer-controller", "token-cleaner-controller"];
        let mut names: Vec<String> = always.map(str::to_owned).into();
        if service_lb {
            names.push("service-lb-controller".to_owned());
        }
        ControllerSwitch(names)
    }

    /// Refuses names that are no controller's.
    pub fn new(words: &[String], known: &[&str]) -> Result<ControllerSwitch, crate::Error> {
        for word in words {
            let name = word.trim_start_matches('-');
            if word != "*" && !known.contains(&name) {
                return Err(crate::Error::Config(format!(
                    "{name:?} is not in the list of known controllers"
                )));
            }
        }
        Ok(ControllerSwitch(words.to_vec()))
    }

    pub(crate) fn is_on(&self, name: &str, by_default: bool) -> bool {
        let says = |word: &str| self.0.iter().any(|w| w == word);
        if says(name) {
            return true;
        }
        if says(&format!("-{name}")) {
            return false;
        }
        by_default && says("*")
    }
}

/// Gives the client that acts as a ServiceAccount of `kube-system`.
pub type ClientFor = Arc<dyn Fn(&str) -> client::Client + Send + Sync>;

/// Whose token a Secret is to keep.
#[derive(Debug, Clone, Copy)]
pub struct TokenOf<'a> {
    /// The namespace of the account and the Secret.
    pub namespace: &'a str,
    /// The name of the account.
    pub account: &'a str,
    /// The UID of the account.
    pub uid: &'a str,
    /// The name of the Secret.
    pub secret: &'a str,
}

/// Signs the tokens of ServiceAccounts that Secrets keep.
pub type AccountToken = Arc<dyn Fn(&TokenOf<'_>) -> Result<String, crate::Error> + Send + Sync>;

/// What the controllers are told beside the API.
#[derive(Clone)]
pub struct ControllerConfig {
    /// Every controller acts under its own ServiceAccount, which the default roles know; the caches stay with the
    /// manager's client. `None`: the manager's client does everything and needs the rights for it.
    pub client_for: Option<ClientFor>,
    /// Which controllers run.
    pub controllers: ControllerSwitch,
    /// Pods' addresses; nodes get their parts of it if `allocate_node_cidrs`.
    pub cluster_cidr: Option<String>,
    /// Whether nodes get parts of `cluster_cidr`.
    pub allocate_node_cidrs: bool,
    /// The prefix length of a node's part of IPv4 addresses.
    pub node_cidr_mask_size: u8,
    /// The prefix length of a node's part of IPv6 addresses.
    pub node_cidr_mask_size_ipv6: u8,
    /// PEM of the authority that pods trust; published to every namespace if not empty.
    pub root_ca: String,
    /// Sign certificate requests; without them none is signed.
    pub signing: Option<crate::Signing>,
    /// How long signed certificates hold at most.
    pub cluster_signing_duration: Duration,
    /// Without it Secrets of type `kubernetes.io/service-account-token` stay empty.
    pub account_token: Option<AccountToken>,
    /// How long a silent node stays Ready.
    pub node_monitor_grace_period: Duration,
    /// How fast pods are made to leave nodes that fail.
    pub eviction_rates: crate::node_lifecycle::EvictionRates,
    /// TCP ports of nodes that no Service of type LoadBalancer may have.
    pub reserved_ports: Vec<u16>,
    /// Ended pods kept before the oldest are deleted; 0 keeps all.
    pub terminated_pod_gc_threshold: usize,
    /// Deployments that are looked at at a time.
    pub concurrent_deployment_syncs: usize,
    /// ReplicaSets that are looked at at a time.
    pub concurrent_replicaset_syncs: usize,
    /// ReplicationControllers that are looked at at a time.
    pub concurrent_rc_syncs: usize,
    /// StatefulSets that are looked at at a time.
    pub concurrent_statefulset_syncs: usize,
    /// DaemonSets that are looked at at a time.
    pub concurrent_daemonset_syncs: usize,
    /// Jobs that are looked at at a time.
    pub concurrent_job_syncs: usize,
    /// CronJobs that are looked at at a time.
    pub concurrent_cron_job_syncs: usize,
    /// Endpoints that are made at a time.
    pub concurrent_endpoint_syncs: usize,
    /// Services whose EndpointSlices are made at a time.
    pub concurrent_service_endpoint_syncs: usize,
    /// Namespaces that are emptied at a time.
    pub concurrent_namespace_syncs: usize,
    /// Objects that are collected at a time.
    pub concurrent_gc_syncs: usize,
    /// ResourceQuotas that are counted at a time.
    pub concurrent_resource_quota_syncs: usize,
    /// ServiceAccounts that are looked at at a time.
    pub concurrent_serviceaccount_syncs: usize,
    /// Ended Jobs that are looked at at a time.
    pub concurrent_ttl_after_finished_syncs: usize,
    /// HorizontalPodAutoscalers that are looked at at a time.
    pub concurrent_horizontal_pod_autoscaler_syncs: usize,
    /// How HorizontalPodAutoscalers scale.
    pub autoscaler: crate::horizontal_pod_autoscaler::AutoscalerSettings,
    /// Where what controllers count is shown.
    pub metrics: metrics::Registry,
    /// The Lease `kube-system/kube-controller-manager` decides which instance acts.
    pub leader_elect: bool,
}

impl Default for ControllerConfig {
    fn default() -> ControllerConfig {
        ControllerConfig {
            client_for: None,
            controllers: ControllerSwitch::default(),
            cluster_cidr: None,
            allocate_node_cidrs: false,
            node_cidr_mask_size: 24,
            node_cidr_mask_size_ipv6: 64,
            root_ca: String::new(),
            signing: None,
            cluster_signing_duration: Duration::from_secs(365 * 24 * 3600),
            account_token: None,
            node_monitor_grace_period: Duration::from_secs(50),
            eviction_rates: crate::node_lifecycle::EvictionRates::default(),
            reserved_ports: Vec::new(),
            terminated_pod_gc_threshold: 12500,
            concurrent_deployment_syncs: 5,
            concurrent_replicaset_syncs: 5,
            concurrent_rc_syncs: 5,
            concurrent_statefulset_syncs: 5,
            concurrent_daemonset_syncs: 2,
            concurrent_job_syncs: 5,
            concurrent_cron_job_syncs: 5,
            concurrent_endpoint_syncs: 5,
            concurrent_service_endpoint_syncs: 5,
            concurrent_namespace_syncs: 10,
            concurrent_gc_syncs: 20,
            concurrent_resource_quota_syncs: 5,
            concurrent_serviceaccount_syncs: 5,
            concurrent_ttl_after_finished_syncs: 5,
            concurrent_horizontal_pod_autoscaler_syncs: 5,
            autoscaler: crate::horizontal_pod_autoscaler::AutoscalerSettings::default(),
            metrics: metrics::Registry::default(),
            leader_elect: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_switched_as_upstream_does() {
        let switch = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            ControllerSwitch::new(&words, &["a", "b"])
        };
        let all_but = switch(&["*", "-a"]).unwrap();
        assert!(!all_but.is_on("a", true) && all_but.is_on("b", true) && !all_but.is_on("c", false));
        let only = switch(&["a"]).unwrap();
        assert!(only.is_on("a", false) && !only.is_on("b", true));
        assert!(switch(&["x"]).is_err());
    }
}
