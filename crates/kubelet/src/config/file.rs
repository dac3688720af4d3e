//! `KubeletConfiguration` files (`kubelet.config.k8s.io/v1beta1`). Fields that are not supported are refused, never ignored.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serving::TlsSettings;

use super::{KubeletConfig, ServerTls, unfit};
use crate::eviction::thresholds;
use crate::flags::FieldFlags;
use crate::image_gc;
use crate::pull_records::VerificationPolicy;

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file is no KubeletConfiguration.
    #[error("{path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A flag cannot be used.
    #[error("--{flag}: {value:?}: {why}")]
    Flag {
        /// Its name.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with that.
        why: String,
    },
    /// A field cannot be used.
    #[error("{field}: {reason}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    api_version: String,
    kind: String,
    #[serde(rename = "staticPodPath")]
    static_pod_path: Option<PathBuf>,
    address: Option<IpAddr>,
    port: Option<u16>,
    healthz_bind_address: Option<IpAddr>,
    healthz_port: Option<u16>,
    tls_cert_file: Option<PathBuf>,
    tls_private_key_file: Option<PathBuf>,
    rotate_certificates: Option<bool>,
    #[serde(rename = "serverTLSBootstrap")]
    server_tls_bootstrap: Option<bool>,
    tls_cipher_suites: Option<Vec<String>>,
    tls_min_version: Option<String>,
    streaming_connection_idle_timeout: Option<String>,
    #[serde(rename = "eventRecordQPS")]
    event_record_qps: Option<u32>,
    event_burst: Option<u32>,
    enable_system_log_handler: Option<bool>,
    enable_system_log_query: Option<bool>,
    protect_kernel_defaults: Option<bool>,
    authentication: Authentication,
    authorization: Authorization,
    #[serde(rename = "clusterDNS")]
    cluster_dns: Option<Vec<String>>,
    cluster_domain: Option<String>,
    cgroup_driver: Option<String>,
    cgroup_root: Option<String>,
    container_runtime_endpoint: Option<String>,
    resolv_conf: Option<PathBuf>,
    max_pods: Option<i64>,
    pod_pids_limit: Option<i64>,
    seccomp_default: Option<bool>,
    container_log_max_size: Option<String>,
    container_log_max_files: Option<u32>,
    pod_logs_dir: Option<PathBuf>,
    system_reserved: BTreeMap<String, String>,
    kube_reserved: BTreeMap<String, String>,
    eviction_hard: BTreeMap<String, String>,
    eviction_soft: BTreeMap<String, String>,
    eviction_soft_grace_period: BTreeMap<String, String>,
    eviction_minimum_reclaim: BTreeMap<String, String>,
    eviction_pressure_transition_period: Option<String>,
    eviction_max_pod_grace_period: Option<i64>,
    merge_default_eviction_settings: bool,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_gc_high_threshold_percent: Option<i64>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    image_gc_low_threshold_percent: Option<i64>,
    #[serde(rename = "imageMinimumGCAge")]
    image_minimum_gc_age: Option<String>,
    #[serde(rename = "imageMaximumGCAge")]
    image_maximum_gc_age: Option<String>,
    allowed_unsafe_sysctls: Option<Vec<String>>,
    image_pull_credentials_verification_policy: Option<String>,
    preloaded_images_verification_allowlist: Vec<String>,
    #[serde(rename = "failCgroupV1")]
    fail_cgroup_v1: Option<bool>,
    fail_swap_on: Option<bool>,
    register_node: Option<bool>,
    register_with_taints: Option<Vec<k8s_openapi::api::core::v1::Taint>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Authentication {
    anonymous: Enabled,
    webhook: Enabled,
    x509: X509,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Enabled {
    enabled: Option<bool>,
    cache_ttl: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct X509 {
    #[serde(rename = "clientCAFile")]
    client_ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Authorization {
    mode: Option<String>,
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// Sets what a text in Go's notation says. Zero stands for the default where there is one.
fn set_duration(
    target: &mut Duration,
    field: &'static str,
    text: &Option<String>,
    zero: Option<Duration>,
) -> Result<(), ConfigError> {
    if let Some(text) = text {
        let given = api::time::flag_duration(text).map_err(|why| ConfigError::Field {
            field,
            reason: format!("{text:?} {why}"),
        })?;
        *target = zero.filter(|_| given.is_zero()).unwrap_or(given);
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

fn unsupported<T>(field: &'static str, reason: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Field {
        field,
        reason: reason.to_owned(),
    })
}

/// A quantity in thousandths.
fn quantity(field: &'static str, text: &str) -> Result<i64, ConfigError> {
    let milli = crate::resources::parse_milli(text);
    milli.ok_or_else(|| ConfigError::Field {
        field,
        reason: format!("{text:?} is not a quantity"),
    })
}

/// Refuses values that the kubelet does not have.
fn refuse(file: &File) -> Result<(), ConfigError> {
    let cached = [&file.authentication.webhook, &file.authentication.anonymous];
    if file.cgroup_driver.as_deref().is_some_and(|driver| driver != "cgroupfs") {
        return unsupported("cgroupDriver", "only cgroupfs is supported");
    }
    if file.register_node == Some(false) {
        return unsupported("registerNode", "the kubelet always registers its node");
    }
    if cached.iter().any(|one| one.cache_ttl.is_some()) {
        return unsupported("authentication.webhook.cacheTTL", "is not supported");
    }
    Ok(())
}

impl KubeletConfig {
    /// Applies a file. The runtime endpoint it names, if any.
    pub fn apply_file(&mut self, path: &Path) -> Result<Option<String>, ConfigError> {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        self.apply_text(path, &text)
    }

    /// Applies the text of a file. The runtime endpoint it names, if any.
    pub(crate) fn apply_text(&mut self, path: &Path, text: &str) -> Result<Option<String>, ConfigError> {
        let parse = |reason: String| ConfigError::Parse {
            path: path.to_owned(),
            reason,
        };
        let mut tree = serde_saphyr::from_str(text).map_err(|e| parse(e.to_string()))?;
        super::unsaid::drop_from(&mut tree);
        let file: File = serde_json::from_value(tree).map_err(|e| parse(e.to_string()))?;
        if file.kind != "KubeletConfiguration" || file.api_version != "kubelet.config.k8s.io/v1beta1" {
            return Err(parse(format!(
                "expected kubelet.config.k8s.io/v1beta1 KubeletConfiguration, got {} {}",
                file.api_version, file.kind
            )));
        }
        self.apply(file)
    }

    /// Applies what flags say of the same fields. The runtime endpoint they name, if any.
    pub(crate) fn apply_flags(&mut self, flags: &FieldFlags) -> Result<Option<String>, ConfigError> {
        let file = serde_json::from_value(flags.to_file()?).map_err(|e| ConfigError::Field {
            field: "flags",
            reason: e.to_string(),
        })?;
        self.apply(file)
    }

    fn apply(&mut self, mut file: File) -> Result<Option<String>, ConfigError> {
        refuse(&file)?;
        self.apply_eviction(&file)?;
        self.apply_image_gc(&file)?;
        self.apply_access(
            std::mem::take(&mut file.authentication),
            file.authorization.mode.as_deref(),
        )?;
        self.apply_tls(&mut file)?;
        self.apply_logs(&file)?;
        self.apply_images(&mut file)?;
        self.apply_reserved(&file)?;
        set(&mut self.address, file.address);
        set(&mut self.port, file.port);
        set(&mut self.healthz_address, file.healthz_bind_address);
        set(&mut self.healthz_port, file.healthz_port);
        set(&mut self.cluster_dns, file.cluster_dns);
        set(&mut self.cluster_domain, file.cluster_domain);
        set(&mut self.cgroup_root, file.cgroup_root);
        set(&mut self.resolv_conf, file.resolv_conf);
        set(&mut self.max_pods, file.max_pods);
        set(&mut self.seccomp_default, file.seccomp_default);
        set(&mut self.protect_kernel_defaults, file.protect_kernel_defaults);
        set(&mut self.fail_swap_on, file.fail_swap_on);
        set(&mut self.fail_cgroup_v1, file.fail_cgroup_v1);
        set(&mut self.event_qps, file.event_record_qps);
        set(&mut self.event_burst, file.event_burst);
        set(&mut self.pod_log_dir, file.pod_logs_dir);
        set(&mut self.register_taints, file.register_with_taints);
        set(&mut self.allowed_unsafe_sysctls, file.allowed_unsafe_sysctls);
        set_duration(
            &mut self.streaming_idle_timeout,
            "streamingConnectionIdleTimeout",
            &file.streaming_connection_idle_timeout,
            None,
        )?;
        self.static_pod_path = file.static_pod_path.or(self.static_pod_path.take());
        if let Some(limit) = file.pod_pids_limit {
            self.pod_pids_limit = (limit > 0).then_some(limit);
        }
        Ok(file.container_runtime_endpoint)
    }

    /// Who may ask the kubelet's server for what.
    fn apply_access(&mut self, given: Authentication, mode: Option<&str>) -> Result<(), ConfigError> {
        set(&mut self.anonymous, given.anonymous.enabled);
        if let Some(path) = given.x509.client_ca_file {
            self.client_ca = Some(read(&path)?);
        }
        match mode {
            None => {}
            Some("Webhook") => self.webhook = true,
            Some("AlwaysAllow") => self.webhook = false,
            Some(other) => return unsupported("authorization.mode", &format!("{other:?} is not a mode")),
        }
        match given.webhook.enabled == Some(false) && self.webhook {
            true => unsupported(
                "authentication.webhook.enabled",
                "needs authorization.mode AlwaysAllow when false",
            ),
            false => Ok(()),
        }
    }

    fn apply_tls(&mut self, file: &mut File) -> Result<(), ConfigError> {
        if file.tls_cipher_suites.is_some() || file.tls_min_version.is_some() {
            let suites = file.tls_cipher_suites.take().unwrap_or_default();
            let min = file.tls_min_version.take().unwrap_or_default();
            self.tls = TlsSettings::new(&suites, &min).map_err(unfit("tlsCipherSuites, tlsMinVersion"))?;
        }
        match (&file.tls_cert_file, &file.tls_private_key_file) {
            (Some(cert), Some(key)) => {
                self.server_tls = ServerTls::Pem {
                    cert: read(cert)?,
                    key: read(key)?,
                }
            }
            (None, None) => {}
            _ => return unsupported("tlsCertFile", "needs tlsPrivateKeyFile, and the other way round"),
        }
        set(&mut self.rotate_certificates, file.rotate_certificates);
        set(&mut self.server_tls_bootstrap, file.server_tls_bootstrap);
        Ok(())
    }

    /// The logs of containers, and the node's own.
    fn apply_logs(&mut self, file: &File) -> Result<(), ConfigError> {
        if let Some(size) = &file.container_log_max_size {
            self.container_log_max_size = u64::try_from(quantity("containerLogMaxSize", size)? / 1000).unwrap_or(0);
        }
        set(&mut self.container_log_max_files, file.container_log_max_files);
        set(&mut self.enable_system_log_handler, file.enable_system_log_handler);
        set(&mut self.enable_system_log_query, file.enable_system_log_query);
        match self.enable_system_log_query && !self.enable_system_log_handler {
            true => unsupported("enableSystemLogQuery", "enableSystemLogHandler is required for it"),
            false => Ok(()),
        }
    }

    /// Which images on the node are verified.
    fn apply_images(&mut self, file: &mut File) -> Result<(), ConfigError> {
        let allowlist = std::mem::take(&mut file.preloaded_images_verification_allowlist);
        let policy = file.image_pull_credentials_verification_policy.take();
        if policy.is_some() || !allowlist.is_empty() {
            let verification = VerificationPolicy::parse(&policy.unwrap_or_default(), allowlist);
            self.image_verification = verification.map_err(unfit("imagePullCredentialsVerificationPolicy"))?;
        }
        Ok(())
    }

    /// Resources that are not for pods: both fields together.
    fn apply_reserved(&mut self, file: &File) -> Result<(), ConfigError> {
        for (field, amounts) in [
            ("systemReserved", &file.system_reserved),
            ("kubeReserved", &file.kube_reserved),
        ] {
            for (name, amount) in amounts {
                *self.reserved.entry(name.clone()).or_insert(0) += quantity(field, amount)?;
            }
        }
        Ok(())
    }

    fn apply_eviction(&mut self, file: &File) -> Result<(), ConfigError> {
        let eviction = &mut self.eviction;
        if !file.eviction_hard.is_empty() {
            let given = thresholds::parse(&file.eviction_hard).map_err(unfit("evictionHard"))?;
            // what a file does not name is off, unless it asks for the defaults
            let defaults = thresholds::defaults().into_iter();
            eviction.hard = match file.merge_default_eviction_settings {
                true => defaults.chain(given).collect(),
                false => given,
            };
        }
        if !file.eviction_soft.is_empty() {
            eviction.soft = thresholds::parse(&file.eviction_soft).map_err(unfit("evictionSoft"))?;
        }
        if !file.eviction_soft_grace_period.is_empty() {
            let given = thresholds::parse_grace(&file.eviction_soft_grace_period);
            eviction.soft_grace = given.map_err(unfit("evictionSoftGracePeriod"))?;
        }
        if !file.eviction_minimum_reclaim.is_empty() {
            let given = thresholds::parse_minimum_reclaim(&file.eviction_minimum_reclaim);
            eviction.minimum_reclaim = given.map_err(unfit("evictionMinimumReclaim"))?;
        }
        let period = &file.eviction_pressure_transition_period;
        set_duration(
            &mut eviction.transition,
            "evictionPressureTransitionPeriod",
            period,
            Some(thresholds::TRANSITION),
        )?;
        set(&mut eviction.max_pod_grace, file.eviction_max_pod_grace_period);
        if eviction.max_pod_grace < 0 {
            return Err(ConfigError::Field {
                field: "evictionMaxPodGracePeriod",
                reason: "must not be negative".to_owned(),
            });
        }
        Ok(())
    }

    fn apply_image_gc(&mut self, file: &File) -> Result<(), ConfigError> {
        let policy = &mut self.image_gc;
        set(&mut policy.high_threshold, file.image_gc_high_threshold_percent);
        set(&mut policy.low_threshold, file.image_gc_low_threshold_percent);
        let least = Some(image_gc::Policy::default().minimum_age);
        set_duration(
            &mut policy.minimum_age,
            "imageMinimumGCAge",
            &file.image_minimum_gc_age,
            least,
        )?;
        set_duration(
            &mut policy.maximum_age,
            "imageMaximumGCAge",
            &file.image_maximum_gc_age,
            None,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_fields_are_applied_and_unknown_ones_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        std::fs::write(
            &path,
            format!("{head}clusterDNS: [10.0.0.10]\nmaxPods: 7\ncontainerLogMaxSize: 1Mi\n"),
        )
        .unwrap();
        let mut config = KubeletConfig::new("n");
        config.apply_file(&path).unwrap();
        assert_eq!((config.max_pods, config.container_log_max_size), (7, 1 << 20));
        std::fs::write(&path, format!("{head}topologyManagerPolicy: best-effort\n")).unwrap();
        assert!(
            config
                .apply_file(&path)
                .unwrap_err()
                .to_string()
                .contains("topologyManagerPolicy")
        );
    }
}
