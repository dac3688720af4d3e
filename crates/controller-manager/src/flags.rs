//! Flags that say how the controllers work, by upstream's names: of `skiff kube-controller-manager`, and of `skiff server` by
//! `--kube-controller-manager-arg`.

use std::time::Duration;

use crate::horizontal_pod_autoscaler::AutoscalerSettings;
use crate::node_lifecycle::EvictionRates;
use crate::{ControllerConfig, ControllerSwitch, Error};

/// The flags of controllers by upstream's names.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = None)]
pub struct ControllerFlags {
    /// Controllers to run: '*' all that are on by default, 'foo' this one, '-foo' not this one
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    /// The prefix length of a node's part of the IPv4 cluster CIDR
    #[arg(long, default_value_t = usual().node_cidr_mask_size)]
    pub node_cidr_mask_size: u8,
    /// The prefix length of a node's part of the IPv6 cluster CIDR
    #[arg(long, default_value_t = usual().node_cidr_mask_size_ipv6)]
    pub node_cidr_mask_size_ipv6: u8,
    /// How long signed certificates hold at most
    #[arg(long, default_value = "8760h0m0s", value_parser = api::time::flag_duration)]
    pub cluster_signing_duration: Duration,
    /// How long a silent node stays Ready
    #[arg(long, default_value = "50s", value_parser = api::time::flag_duration)]
    pub node_monitor_grace_period: Duration,
    /// Nodes a second whose pods are made to leave when they fail in a healthy zone
    #[arg(long, default_value_t = EvictionRates::default().normal, value_parser = rate)]
    pub node_eviction_rate: f64,
    /// The same in an unhealthy zone; none in one that is not large
    #[arg(long, default_value_t = EvictionRates::default().secondary, value_parser = rate)]
    pub secondary_node_eviction_rate: f64,
    /// A zone of more nodes than these is large
    #[arg(long, default_value_t = EvictionRates::default().large)]
    pub large_cluster_size_threshold: usize,
    /// The share of nodes that are not ready, at least three, from which on a zone is unhealthy
    #[arg(long, default_value_t = EvictionRates::default().unhealthy, value_parser = rate)]
    pub unhealthy_zone_threshold: f64,
    /// Ended pods kept before the oldest are deleted; 0 keeps all
    #[arg(long, default_value_t = usual().terminated_pod_gc_threshold)]
    pub terminated_pod_gc_threshold: usize,
    /// Deployments that are looked at at a time
    #[arg(long, default_value_t = usual().concurrent_deployment_syncs)]
    pub concurrent_deployment_syncs: usize,
    /// ReplicaSets that are looked at at a time
    #[arg(long, default_value_t = usual().concurrent_replicaset_syncs)]
    pub concurrent_replicaset_syncs: usize,
    /// ReplicationControllers that are looked at at a time
    #[arg(long, default_value_t = usual().concurrent_rc_syncs)]
    pub concurrent_rc_syncs: usize,
    /// StatefulSets that are looked at at a time
    #[arg(long, default_value_t = usual().concurrent_statefulset_syncs)]
    pub concurrent_statefulset_syncs: usize,
    /// DaemonSets that are looked at at a time
    #[arg(long, default_value_t = usual().concurrent_daemonset_syncs)]
    pub concurrent_daemonset_syncs: usize,
    /// Jobs that are looked at at a time
    #[arg(long, default_value_t = usual().concurrent_job_syncs)]
    pub concurrent_job_syncs: usize,
    /// CronJobs that are looked at at a time
    #[arg(long, default_value_t = usual().concurrent_cron_job_syncs)]
    pub concurrent_cron_job_syncs: usize,
    /// Endpoints that are made at a time
    #[arg(long, default_value_t = usual().concurrent_endpoint_syncs)]
    pub concurrent_endpoint_syncs: usize,
    /// Services whose EndpointSlices are made at a time
    #[arg(long, default_value_t = usual().concurrent_service_endpoint_syncs)]
    pub concurrent_service_endpoint_syncs: usize,
    /// Namespaces that are emptied at a time
    #[arg(long, default_value_t = usual().concurrent_namespace_syncs)]
    pub concurrent_namespace_syncs: usize,
    /// Objects that are collected at a time
    #[arg(long, default_value_t = usual().concurrent_gc_syncs)]
    pub concurrent_gc_syncs: usize,
    /// ResourceQuotas that are counted at a time
    #[arg(long, default_value_t = usual().concurrent_resource_quota_syncs)]
    pub concurrent_resource_quota_syncs: usize,
    /// ServiceAccounts that are looked at at a time
    #[arg(long, default_value_t = usual().concurrent_serviceaccount_syncs)]
    pub concurrent_serviceaccount_token_syncs: usize,
    /// Ended Jobs that are looked at at a time
    #[arg(long, default_value_t = usual().concurrent_ttl_after_finished_syncs)]
    pub concurrent_ttl_after_finished_syncs: usize,
    /// HorizontalPodAutoscalers that are looked at at a time
    #[arg(long, default_value_t = usual().concurrent_horizontal_pod_autoscaler_syncs)]
    pub concurrent_horizontal_pod_autoscaler_syncs: usize,
    /// How often each HorizontalPodAutoscaler is looked at
    #[arg(long, default_value = "15s", value_parser = api::time::flag_duration)]
    pub horizontal_pod_autoscaler_sync_period: Duration,
    /// A HorizontalPodAutoscaler goes no lower than what it recommended within this time
    #[arg(long, default_value = "5m0s", value_parser = api::time::flag_duration)]
    pub horizontal_pod_autoscaler_downscale_stabilization: Duration,
    /// How far from 1.0 the ratio of usage to target may be before a HorizontalPodAutoscaler scales
    #[arg(long, default_value_t = AutoscalerSettings::default().tolerance, value_parser = rate)]
    pub horizontal_pod_autoscaler_tolerance: f64,
    /// How long after a pod's start its CPU samples may be skipped
    #[arg(long, default_value = "5m0s", value_parser = api::time::flag_duration)]
    pub horizontal_pod_autoscaler_cpu_initialization_period: Duration,
    /// How long after a pod's start a change of its readiness is taken for the first
    #[arg(long, default_value = "30s", value_parser = api::time::flag_duration)]
    pub horizontal_pod_autoscaler_initial_readiness_delay: Duration,
    /// Features that are switched on or off: A=true,B=false
    #[arg(long, value_parser = api::features::check)]
    pub feature_gates: Vec<String>,
}

/// What the flags are unless they are given; the spans of time, which are texts, are held to it by a test.
fn usual() -> ControllerConfig {
    ControllerConfig::default()
}

/// Why a flag's value is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum RateError {
    #[error("is not a number")]
    NoNumber,
    #[error("must not be negative")]
    Negative,
}

fn rate(text: &str) -> Result<f64, RateError> {
    let rate: f64 = text.parse().map_err(|_| RateError::NoNumber)?;
    if rate.is_finite() && rate >= 0.0 {
        Ok(rate)
    } else {
        Err(RateError::Negative)
    }
}

/// Only the flags, for one that takes them as `flag=value`.
#[derive(Debug, clap::Parser)]
#[command(name = "kube-controller-manager", no_binary_name = true, args_override_self = true)]
struct Alone {
    #[command(flatten)]
    flags: ControllerFlags,
}

impl ControllerFlags {
    /// Reads `flag=value` words.
    ///
    /// # Errors
    /// For flags that are not there and values without sense.
    pub fn of(words: &[String]) -> Result<ControllerFlags, Error> {
        let words = words.iter().map(|word| format!("--{}", word.trim_start_matches("--")));
        let read = <Alone as clap::Parser>::try_parse_from(words);
        read.map(|alone| alone.flags)
            .map_err(|e| Error::Config(e.render().to_string().trim_start_matches("error: ").trim().to_owned()))
    }

    /// Puts them into the settings.
    ///
    /// # Errors
    /// For a controller or a feature that is not known.
    pub fn apply(&self, config: &mut ControllerConfig) -> Result<(), Error> {
        api::features::set(&self.feature_gates.join(","))?;
        if !self.controllers.is_empty() {
            config.controllers = ControllerSwitch::new(&self.controllers, &crate::manager::names())?;
        }
        let syncs = [
            (
                self.concurrent_deployment_syncs,
                &mut config.concurrent_deployment_syncs,
            ),
            (
                self.concurrent_replicaset_syncs,
                &mut config.concurrent_replicaset_syncs,
            ),
            (self.concurrent_rc_syncs, &mut config.concurrent_rc_syncs),
            (
                self.concurrent_statefulset_syncs,
                &mut config.concurrent_statefulset_syncs,
            ),
            (self.concurrent_daemonset_syncs, &mut config.concurrent_daemonset_syncs),
            (self.concurrent_job_syncs, &mut config.concurrent_job_syncs),
            (self.concurrent_cron_job_syncs, &mut config.concurrent_cron_job_syncs),
            (self.concurrent_endpoint_syncs, &mut config.concurrent_endpoint_syncs),
            (
                self.concurrent_service_endpoint_syncs,
                &mut config.concurrent_service_endpoint_syncs,
            ),
            (self.concurrent_namespace_syncs, &mut config.concurrent_namespace_syncs),
            (self.concurrent_gc_syncs, &mut config.concurrent_gc_syncs),
            (
                self.concurrent_resource_quota_syncs,
                &mut config.concurrent_resource_quota_syncs,
            ),
            (
                self.concurrent_serviceaccount_token_syncs,
                &mut config.concurrent_serviceaccount_syncs,
            ),
            (
                self.concurrent_ttl_after_finished_syncs,
                &mut config.concurrent_ttl_after_finished_syncs,
            ),
            (
                self.concurrent_horizontal_pod_autoscaler_syncs,
                &mut config.concurrent_horizontal_pod_autoscaler_syncs,
            ),
        ];
        for (asked, setting) in syncs {
            if asked == 0 {
                return Err(Error::Config(
                    "a number of concurrent syncs must be at least 1".to_owned(),
                ));
            }
            *setting = asked;
        }
        config.node_cidr_mask_size = self.node_cidr_mask_size;
        config.node_cidr_mask_size_ipv6 = self.node_cidr_mask_size_ipv6;
        config.cluster_signing_duration = self.cluster_signing_duration;
        config.node_monitor_grace_period = self.node_monitor_grace_period;
        config.eviction_rates = EvictionRates {
            normal: self.node_eviction_rate,
            secondary: self.secondary_node_eviction_rate,
            large: self.large_cluster_size_threshold,
            unhealthy: self.unhealthy_zone_threshold,
        };
        if self.horizontal_pod_autoscaler_sync_period.is_zero() {
            let why = "--horizontal-pod-autoscaler-sync-period must be greater than 0";
            return Err(Error::Config(why.to_owned()));
        }
        config.autoscaler = AutoscalerSettings {
            sync_period: self.horizontal_pod_autoscaler_sync_period,
            downscale_stabilization: self.horizontal_pod_autoscaler_downscale_stabilization,
            tolerance: self.horizontal_pod_autoscaler_tolerance,
            cpu_initialization_period: self.horizontal_pod_autoscaler_cpu_initialization_period,
            initial_readiness_delay: self.horizontal_pod_autoscaler_initial_readiness_delay,
        };
        config.terminated_pod_gc_threshold = self.terminated_pod_gc_threshold;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(words: &[&str]) -> Result<ControllerConfig, Error> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut config = ControllerConfig::default();
        ControllerFlags::of(&words)?.apply(&mut config)?;
        Ok(config)
    }

    #[test]
    fn without_flags_the_settings_stay_as_they_are() {
        let (usual, config) = (ControllerConfig::default(), applied(&[]).unwrap());
        assert_eq!(config.cluster_signing_duration, usual.cluster_signing_duration);
        assert_eq!(config.node_monitor_grace_period, usual.node_monitor_grace_period);
        assert_eq!(config.autoscaler, usual.autoscaler);
        assert_eq!(config.terminated_pod_gc_threshold, usual.terminated_pod_gc_threshold);
    }

    #[test]
    fn flags_have_upstreams_names_and_the_last_one_stands() {
        let config = applied(&[
            "node-monitor-grace-period=20s",
            "--node-monitor-grace-period=1m30s",
            "node-eviction-rate=1",
            "concurrent-gc-syncs=7",
            "horizontal-pod-autoscaler-tolerance=0.2",
            "horizontal-pod-autoscaler-downscale-stabilization=10s",
            "controllers=*,-cronjob-controller",
        ])
        .unwrap();
        assert_eq!(config.node_monitor_grace_period, Duration::from_secs(90));
        assert!((config.eviction_rates.normal - 1.0).abs() < f64::EPSILON);
        assert_eq!(config.concurrent_gc_syncs, 7);
        let scaling = AutoscalerSettings {
            tolerance: 0.2,
            downscale_stabilization: Duration::from_secs(10),
            ..AutoscalerSettings::default()
        };
        assert_eq!(config.autoscaler, scaling);
        assert!(!config.controllers.is_on("cronjob-controller", true));
        for wrong in [
            "node-monitor-grace-period=20",
            "no-such-flag=1",
            "node-eviction-rate=-1",
            "concurrent-gc-syncs=0",
            "horizontal-pod-autoscaler-sync-period=0s",
            "controllers=nobody",
        ] {
            assert!(applied(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_flags_the_settings_are_the_defaults() {
        let (given, default) = (applied(&[]).unwrap(), ControllerConfig::default());
        assert_eq!(given.node_monitor_grace_period, default.node_monitor_grace_period);
        assert_eq!(given.cluster_signing_duration, default.cluster_signing_duration);
        assert_eq!(given.concurrent_daemonset_syncs, default.concurrent_daemonset_syncs);
        assert_eq!(given.controllers, default.controllers);
        assert_eq!(given.autoscaler, default.autoscaler);
    }
}
