//! The kubelet's settings, and `KubeletConfiguration` files (`kubelet.config.k8s.io/v1beta1`). Fields that are not
//! supported are refused, never ignored.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serving::TlsSettings;

use crate::eviction::thresholds;
use crate::flags::FieldFlags;
use crate::image_gc;
use crate::machine::Machine;
use crate::network_gate::NetworkGate;
use crate::pull_records::VerificationPolicy;

/// Everything `run` needs to know.
#[derive(Debug, Clone)]
pub struct KubeletConfig {
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    /// Addresses that reach the node from outside of its network: told in its status, used for nothing.
    pub node_external_ips: Vec<IpAddr>,
    pub node_labels: BTreeMap<String, String>,
    pub register_taints: Vec<k8s_openapi::api::core::v1::Taint>,
    /// `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// `/var/log`: the node's logs, which its server shows.
    pub log_dir: PathBuf,
    /// `/var/log/pods`.
    pub pod_log_dir: PathBuf,
    /// `/var/log/containers`.
    pub container_log_links: PathBuf,
    pub cgroup_root: String,
    /// Whether each pod has a cgroup.
    pub pod_cgroups: bool,
    /// What the node has, in place of what this machine has.
    pub machine: Option<Machine>,
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    pub resolv_conf: PathBuf,
    pub static_pod_path: Option<PathBuf>,
    pub max_pods: i64,
    pub pod_pids_limit: Option<i64>,
    pub seccomp_default: bool,
    pub address: IpAddr,
    pub port: u16,
    pub healthz_address: IpAddr,
    /// 0 switches it off.
    pub healthz_port: u16,
    pub server_tls: ServerTls,
    /// PEM of those who sign client certificates.
    pub client_ca: Option<Vec<u8>>,
    pub anonymous: bool,
    /// Ask the API server about tokens and permissions.
    pub webhook: bool,
    /// Bytes of a log before it is rotated, and how many files are kept.
    pub container_log_max_size: u64,
    pub container_log_max_files: u32,
    /// Resources kept from pods, in thousandths.
    pub reserved: BTreeMap<String, i64>,
    /// What must stay free; pods are evicted where it does not.
    pub eviction: thresholds::Policy,
    /// Which images go that nobody uses.
    pub image_gc: image_gc::Policy,
    /// Kernel settings that pods may have besides the safe ones; patterns may end in `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Which images on the node are verified to be for the pod that asks.
    pub image_verification: VerificationPolicy,
    /// Below 0 only if the kernel lets this process; see `LinuxContainerResources.oom_score_adj`.
    pub least_oom_score_adj: i64,
    /// Do not start when the kernel's settings are others than the kubelet wants.
    pub protect_kernel_defaults: bool,
    pub fail_swap_on: bool,
    pub fail_cgroup_v1: bool,
    /// How long a stream may be silent; zero for ever.
    pub streaming_idle_timeout: Duration,
    /// How many events are recorded in a second, and at once.
    pub event_qps: u32,
    pub event_burst: u32,
    /// Serve the node's logs below `/logs/`, and answer questions about them.
    pub enable_system_log_handler: bool,
    pub enable_system_log_query: bool,
    /// Versions and cipher suites that the server offers.
    pub tls: TlsSettings,
    /// What pods pass once they have their addresses.
    pub network_gate: NetworkGate,
}

/// The serving certificate.
#[derive(Debug, Clone)]
pub enum ServerTls {
    Pem {
        cert: Vec<u8>,
        key: Vec<u8>,
    },
    /// Its owner replaces it before it expires.
    Renewed(std::sync::Arc<serving::Certificate>),
    /// Made at start, trusted by nobody.
    SelfSigned,
}

impl KubeletConfig {
    pub fn new(node_name: &str) -> KubeletConfig {
        KubeletConfig {
            node_name: node_name.to_owned(),
            node_ips: Vec::new(),
            node_external_ips: Vec::new(),
            node_labels: BTreeMap::new(),
            register_taints: Vec::new(),
            root_dir: "/var/lib/kubelet".into(),
            log_dir: "/var/log".into(),
            pod_log_dir: "/var/log/pods".into(),
            container_log_links: "/var/log/containers".into(),
            cgroup_root: "/".to_owned(),
            pod_cgroups: true,
            machine: None,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: "/etc/resolv.conf".into(),
            static_pod_path: None,
            max_pods: 110,
            pod_pids_limit: None,
            seccomp_default: false,
            address: IpAddr::from([0, 0, 0, 0]),
            port: 10250,
            healthz_address: IpAddr::from([127, 0, 0, 1]),
            healthz_port: 10248,
            server_tls: ServerTls::SelfSigned,
            client_ca: None,
            anonymous: false,
            webhook: true,
            container_log_max_size: 10 << 20,
            container_log_max_files: 5,
            reserved: BTreeMap::new(),
            eviction: thresholds::Policy::default(),
            image_gc: image_gc::Policy::default(),
            allowed_unsafe_sysctls: Vec::new(),
            image_verification: VerificationPolicy::default(),
            least_oom_score_adj: least_oom_score_adj(),
            protect_kernel_defaults: false,
            fail_swap_on: false,
            fail_cgroup_v1: false,
            streaming_idle_timeout: Duration::from_secs(4 * 60 * 60),
            event_qps: 50,
            event_burst: 100,
            enable_system_log_handler: true,
            enable_system_log_query: false,
            tls: TlsSettings::default(),
            network_gate: NetworkGate::default(),
        }
    }
}

impl KubeletConfig {
    /// The settings in force as a `KubeletConfiguration`, which `/configz` shows.
    pub fn to_json(&self) -> Value {
        let reserved: BTreeMap<&String, String> = self
            .reserved
            .iter()
            .map(|(name, milli)| (name, format!("{milli}m")))
            .collect();
        let mut all = serde_json::json!({
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "staticPodPath": self.static_pod_path,
            "podLogsDir": self.pod_log_dir,
            "address": self.address,
            "port": self.port,
            "healthzBindAddress": self.healthz_address,
            "healthzPort": self.healthz_port,
            "authentication": {"anonymous": {"enabled": self.anonymous}, "webhook": {"enabled": self.webhook}},
            "authorization": {"mode": if self.webhook { "Webhook" } else { "AlwaysAllow" }},
            "clusterDNS": self.cluster_dns,
            "clusterDomain": self.cluster_domain,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup_root,
            "cgroupsPerQOS": self.pod_cgroups,
            "resolvConf": self.resolv_conf,
            "maxPods": self.max_pods,
            "podPidsLimit": self.pod_pids_limit.unwrap_or(-1),
            "seccompDefault": self.seccomp_default,
            "protectKernelDefaults": self.protect_kernel_defaults,
            "failSwapOn": self.fail_swap_on,
            "failCgroupV1": self.fail_cgroup_v1,
            "streamingConnectionIdleTimeout": format!("{}s", self.streaming_idle_timeout.as_secs_f64()),
            "eventRecordQPS": self.event_qps,
            "eventBurst": self.event_burst,
            "enableSystemLogHandler": self.enable_system_log_handler,
            "enableSystemLogQuery": self.enable_system_log_query,
            "readOnlyPort": 0,
            "rotateCertificates": false,
            "makeIPTablesUtilChains": false,
            "containerLogMaxSize": self.container_log_max_size.to_string(),
            "containerLogMaxFiles": self.container_log_max_files,
            "systemReserved": reserved,
            "allowedUnsafeSysctls": self.allowed_unsafe_sysctls,
            "imagePullCredentialsVerificationPolicy": self.image_verification.as_str(),
        });
        if let (Some(all), Value::Object(space)) = (all.as_object_mut(), self.space_to_json()) {
            all.extend(space);
        }
        all
    }

    /// What it does about space that runs short.
    fn space_to_json(&self) -> Value {
        let amounts = |of: &thresholds::Thresholds| -> BTreeMap<&str, String> {
            of.iter()
                .map(|(signal, amount)| (signal.as_str(), amount.to_string()))
                .collect()
        };
        let grace: BTreeMap<&str, String> = self
            .eviction
            .soft_grace
            .iter()
            .map(|(signal, grace)| (signal.as_str(), duration(*grace)))
            .collect();
        serde_json::json!({
            "imageGCHighThresholdPercent": self.image_gc.high_threshold,
            "imageGCLowThresholdPercent": self.image_gc.low_threshold,
            "imageMinimumGCAge": duration(self.image_gc.minimum_age),
            "imageMaximumGCAge": duration(self.image_gc.maximum_age),
            "evictionHard": amounts(&self.eviction.hard),
            "evictionSoft": amounts(&self.eviction.soft),
            "evictionSoftGracePeriod": grace,
            "evictionMinimumReclaim": amounts(&self.eviction.minimum_reclaim),
            "evictionPressureTransitionPeriod": duration(self.eviction.transition),
            "evictionMaxPodGracePeriod": self.eviction.max_pod_grace,
        })
    }
}

/// In Go's notation.
pub(crate) fn duration(d: Duration) -> String {
    api::time::format_duration(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// Without CAP_SYS_RESOURCE the kernel refuses a score below the process's own.
fn least_oom_score_adj() -> i64 {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let caps = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|c| u64::from_str_radix(c.trim(), 16).ok());
    if caps.is_some_and(|c| c >> CAP_SYS_RESOURCE & 1 == 1) {
        return -1000;
    }
    std::fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(0)
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error("--{flag}: {value:?}: {why}")]
    Flag {
        flag: &'static str,
        value: String,
        why: String,
    },
    #[error("{field}: {reason}")]
    Field { field: &'static str, reason: String },
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

impl KubeletConfig {
    /// Applies a file. The runtime endpoint it names, if any.
    pub fn apply_file(&mut self, path: &Path) -> Result<Option<String>, ConfigError> {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        let parse = |reason: String| ConfigError::Parse {
            path: path.to_owned(),
            reason,
        };
        let file: File = serde_saphyr::from_str(&text).map_err(|e| parse(e.to_string()))?;
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

    fn apply(&mut self, file: File) -> Result<Option<String>, ConfigError> {
        let unsupported = |field, reason: &str| {
            Err(ConfigError::Field {
                field,
                reason: reason.to_owned(),
            })
        };
        if file.cgroup_driver.as_deref().is_some_and(|d| d != "cgroupfs") {
            return unsupported("cgroupDriver", "only cgroupfs is supported");
        }
        if file.register_node == Some(false) {
            return unsupported("registerNode", "the kubelet always registers its node");
        }
        if file.authentication.webhook.cache_ttl.is_some() || file.authentication.anonymous.cache_ttl.is_some() {
            return unsupported("authentication.webhook.cacheTTL", "is not supported");
        }
        self.apply_eviction(&file)?;
        self.apply_image_gc(&file)?;
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
        set(&mut self.enable_system_log_handler, file.enable_system_log_handler);
        set(&mut self.enable_system_log_query, file.enable_system_log_query);
        if self.enable_system_log_query && !self.enable_system_log_handler {
            return unsupported("enableSystemLogQuery", "enableSystemLogHandler is required for it");
        }
        set(&mut self.container_log_max_files, file.container_log_max_files);
        set(&mut self.pod_log_dir, file.pod_logs_dir);
        set(&mut self.register_taints, file.register_with_taints);
        set(&mut self.anonymous, file.authentication.anonymous.enabled);
        set(&mut self.allowed_unsafe_sysctls, file.allowed_unsafe_sysctls);
        let allowlist = file.preloaded_images_verification_allowlist;
        if file.image_pull_credentials_verification_policy.is_some() || !allowlist.is_empty() {
            let policy = file.image_pull_credentials_verification_policy.unwrap_or_default();
            self.image_verification =
                VerificationPolicy::parse(&policy, allowlist).map_err(|reason| ConfigError::Field {
                    field: "imagePullCredentialsVerificationPolicy",
                    reason,
                })?;
        }
        if file.tls_cipher_suites.is_some() || file.tls_min_version.is_some() {
            let suites = file.tls_cipher_suites.unwrap_or_default();
            let min = file.tls_min_version.unwrap_or_default();
            self.tls = TlsSettings::new(&suites, &min).map_err(|reason| ConfigError::Field {
                field: "tlsCipherSuites, tlsMinVersion",
                reason,
            })?;
        }
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
        if let Some(path) = file.authentication.x509.client_ca_file {
            self.client_ca = Some(read(&path)?);
        }
        match file.authorization.mode.as_deref() {
            None => {}
            Some("Webhook") => self.webhook = true,
            Some("AlwaysAllow") => self.webhook = false,
            Some(other) => return unsupported("authorization.mode", &format!("{other:?} is not a mode")),
        }
        if file.authentication.webhook.enabled == Some(false) && self.webhook {
            return unsupported(
                "authentication.webhook.enabled",
                "needs authorization.mode AlwaysAllow when false",
            );
        }
        match (file.tls_cert_file, file.tls_private_key_file) {
            (Some(cert), Some(key)) => {
                self.server_tls = ServerTls::Pem {
                    cert: read(&cert)?,
                    key: read(&key)?,
                }
            }
            (None, None) => {}
            _ => return unsupported("tlsCertFile", "needs tlsPrivateKeyFile, and the other way round"),
        }
        let quantity = |field: &'static str, text: &str| {
            let milli = crate::resources::parse_milli(text);
            milli.ok_or_else(|| ConfigError::Field {
                field,
                reason: format!("{text:?} is not a quantity"),
            })
        };
        if let Some(size) = &file.container_log_max_size {
            self.container_log_max_size = u64::try_from(quantity("containerLogMaxSize", size)? / 1000).unwrap_or(0);
        }
        for (field, amounts) in [
            ("systemReserved", &file.system_reserved),
            ("kubeReserved", &file.kube_reserved),
        ] {
            for (name, amount) in amounts {
                *self.reserved.entry(name.clone()).or_insert(0) += quantity(field, amount)?;
            }
        }
        Ok(file.container_runtime_endpoint)
    }

    fn apply_eviction(&mut self, file: &File) -> Result<(), ConfigError> {
        let bad = |field| move |reason| ConfigError::Field { field, reason };
        let eviction = &mut self.eviction;
        if !file.eviction_hard.is_empty() {
            let given = thresholds::parse(&file.eviction_hard).map_err(bad("evictionHard"))?;
            // what a file does not name is off, unless it asks for the defaults
            let defaults = thresholds::defaults().into_iter();
            eviction.hard = match file.merge_default_eviction_settings {
                true => defaults.chain(given).collect(),
                false => given,
            };
        }
        if !file.eviction_soft.is_empty() {
            eviction.soft = thresholds::parse(&file.eviction_soft).map_err(bad("evictionSoft"))?;
        }
        if !file.eviction_soft_grace_period.is_empty() {
            let given = thresholds::parse_grace(&file.eviction_soft_grace_period);
            eviction.soft_grace = given.map_err(bad("evictionSoftGracePeriod"))?;
        }
        if !file.eviction_minimum_reclaim.is_empty() {
            let given = thresholds::parse_minimum_reclaim(&file.eviction_minimum_reclaim);
            eviction.minimum_reclaim = given.map_err(bad("evictionMinimumReclaim"))?;
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
            return Err(bad("evictionMaxPodGracePeriod")("must not be negative".to_owned()));
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

    /// What no single field can say: whether they fit each other.
    ///
    /// # Errors
    /// Names the field that does not fit.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bad = |field| move |reason| ConfigError::Field { field, reason };
        self.eviction.thresholds().map_err(bad("evictionSoft"))?;
        self.image_gc.check().map_err(bad("image garbage collection"))
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
