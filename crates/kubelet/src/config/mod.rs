//! The kubelet's settings: what they are unless something else is said, and as `/configz` shows them.

mod file;
mod unsaid;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use serving::TlsSettings;

use crate::eviction::thresholds;
use crate::image_gc;
use crate::machine::Machine;
use crate::network_gate::NetworkGate;
use crate::pull_records::VerificationPolicy;
pub use file::ConfigError;

/// Everything `run` needs to know.
#[derive(Debug, Clone)]
pub struct KubeletConfig {
    /// The name of the node's object.
    pub node_name: String,
    /// The node's addresses, one of each family at most.
    pub node_ips: Vec<IpAddr>,
    /// Addresses that reach the node from outside of its network: told in its status, used for nothing.
    pub node_external_ips: Vec<IpAddr>,
    /// Labels for registration.
    pub node_labels: BTreeMap<String, String>,
    /// Taints for registration.
    pub register_taints: Vec<k8s_openapi::api::core::v1::Taint>,
    /// `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// `/var/log`: the node's logs, which its server shows.
    pub log_dir: PathBuf,
    /// `/var/log/pods`.
    pub pod_log_dir: PathBuf,
    /// `/var/log/containers`.
    pub container_log_links: PathBuf,
    /// The cgroup below which pods' are.
    pub cgroup_root: String,
    /// Whether each pod has a cgroup.
    pub pod_cgroups: bool,
    /// Whether secrets and other volumes of memory are file systems of their own, which never reach a disk.
    pub memory_volumes: bool,
    /// What the node has, in place of what this machine has.
    pub machine: Option<Machine>,
    /// The name servers of pods.
    pub cluster_dns: Vec<String>,
    /// The domain of the cluster's names.
    pub cluster_domain: String,
    /// The resolver's configuration of pods that use the node's.
    pub resolv_conf: PathBuf,
    /// The folder or file of static pods.
    pub static_pod_path: Option<PathBuf>,
    /// How many pods may run.
    pub max_pods: i64,
    /// How many processes a pod may have.
    pub pod_pids_limit: Option<i64>,
    /// Whether containers get the runtime's seccomp profile unless they name one.
    pub seccomp_default: bool,
    /// Where the server listens.
    pub address: IpAddr,
    /// The port of the server.
    pub port: u16,
    /// Where health is told without TLS.
    pub healthz_address: IpAddr,
    /// 0 switches it off.
    pub healthz_port: u16,
    /// The server's certificate.
    pub server_tls: ServerTls,
    /// The client's certificate is renewed by requests to the cluster.
    pub rotate_certificates: bool,
    /// The server's certificate is requested of the cluster, and renewed.
    pub server_tls_bootstrap: bool,
    /// PEM of those who sign client certificates.
    pub client_ca: Option<Vec<u8>>,
    /// Whether requests without credentials are those of `system:anonymous`.
    pub anonymous: bool,
    /// Ask the API server about tokens and permissions.
    pub webhook: bool,
    /// Bytes of a log before it is rotated, and how many files are kept.
    pub container_log_max_size: u64,
    /// How many files of a log are kept.
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
    /// Do not start while the node swaps.
    pub fail_swap_on: bool,
    /// Do not start on cgroups of version 1.
    pub fail_cgroup_v1: bool,
    /// How long a stream may be silent; zero for ever.
    pub streaming_idle_timeout: Duration,
    /// How many events are recorded in a second, and at once.
    pub event_qps: u32,
    /// How many events are recorded at once.
    pub event_burst: u32,
    /// Serve the node's logs below `/logs/`, and answer questions about them.
    pub enable_system_log_handler: bool,
    /// Answer questions about the node's logs.
    pub enable_system_log_query: bool,
    /// Versions and cipher suites that the server offers.
    pub tls: TlsSettings,
    /// What pods pass once they have their addresses.
    pub network_gate: NetworkGate,
}

/// The serving certificate.
#[derive(Debug, Clone)]
pub enum ServerTls {
    /// A certificate that stays.
    Pem {
        /// The certificate, and those that vouch for it.
        cert: Vec<u8>,
        /// Its key.
        key: Vec<u8>,
    },
    /// Its owner replaces it before it expires.
    Renewed(std::sync::Arc<serving::Certificate>),
    /// Made at start, trusted by nobody.
    SelfSigned,
}

/// The error of a field whose value cannot be used.
fn unfit<E: std::error::Error>(field: &'static str) -> impl FnOnce(E) -> ConfigError {
    move |error| ConfigError::Field {
        field,
        reason: error.to_string(),
    }
}

impl KubeletConfig {
    /// The defaults for a node of this name.
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
            memory_volumes: true,
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
            rotate_certificates: false,
            server_tls_bootstrap: false,
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
            "rotateCertificates": self.rotate_certificates,
            "serverTLSBootstrap": self.server_tls_bootstrap,
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

    /// What no single field can say: whether they fit each other.
    ///
    /// # Errors
    /// Names the field that does not fit.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.eviction.thresholds().map_err(unfit("evictionSoft"))?;
        self.image_gc.check().map_err(unfit("image garbage collection"))
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
