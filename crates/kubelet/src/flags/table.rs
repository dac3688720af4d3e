//! The table of the flags: a row for each flag of upstream's kubelet (`cmd/kubelet/app/options`) that is a setting.

/// How a flag's text becomes a field's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum As {
    Text,
    Number,
    Bool,
    /// Words between commas.
    List,
    /// `key<sign>value` between commas.
    Map(char),
}

/// What a flag does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    /// Sets this field of a `KubeletConfiguration`.
    Field(&'static str, As),
    /// This is how it is; anything else is refused with the reason.
    Only(&'static str, &'static str),
    /// Refused with the reason.
    Refused(&'static str),
}

use As::{Bool, List, Map as Pairs, Number, Text};
use Effect::{Field, Only, Refused};

const NO_MANAGER: &str = "resource managers are not built";
const NO_RESERVED_CGROUP: &str = "limits on what is reserved are not enforced";

/// A flag, what it does, and its help.
pub(super) const FLAGS: [(&str, Effect, &str); 92] = [
    ("address", Field("address", Text), "Address to serve on"),
    (
        "allowed-unsafe-sysctls",
        Field("allowedUnsafeSysctls", List),
        "Kernel settings that pods may have besides the safe ones; patterns may end in *",
    ),
    (
        "anonymous-auth",
        Field("authentication.anonymous.enabled", Bool),
        "Requests without credentials come from system:anonymous",
    ),
    (
        "authentication-token-webhook",
        Field("authentication.webhook.enabled", Bool),
        "Ask the API server about tokens",
    ),
    (
        "authentication-token-webhook-cache-ttl",
        Refused("the time that answers are kept is fixed"),
        "",
    ),
    (
        "authorization-mode",
        Field("authorization.mode", Text),
        "Webhook or AlwaysAllow",
    ),
    (
        "authorization-webhook-cache-authorized-ttl",
        Refused("the time that answers are kept is fixed"),
        "",
    ),
    (
        "authorization-webhook-cache-unauthorized-ttl",
        Refused("the time that answers are kept is fixed"),
        "",
    ),
    ("cgroup-driver", Field("cgroupDriver", Text), "cgroupfs"),
    (
        "cgroup-root",
        Field("cgroupRoot", Text),
        "The cgroup below which pods run",
    ),
    (
        "cgroups-per-qos",
        Only("true", "pods are always below the cgroup of their class"),
        "",
    ),
    (
        "client-ca-file",
        Field("authentication.x509.clientCAFile", Text),
        "Authorities that sign clients' certificates, PEM",
    ),
    ("cloud-provider", Refused("cloud providers are not built"), ""),
    (
        "cluster-dns",
        Field("clusterDNS", List),
        "Addresses of the cluster's DNS",
    ),
    ("cluster-domain", Field("clusterDomain", Text), "The cluster's domain"),
    ("config-dir", Refused("drop-in files are not built; --config is"), ""),
    (
        "container-log-max-files",
        Field("containerLogMaxFiles", Number),
        "How many files of a container's log are kept",
    ),
    (
        "container-log-max-size",
        Field("containerLogMaxSize", Text),
        "Size of a log at which it is rotated, as 10Mi",
    ),
    (
        "container-runtime-endpoint",
        Field("containerRuntimeEndpoint", Text),
        "The socket of the container runtime",
    ),
    ("contention-profiling", Only("false", "profiling is not built"), ""),
    ("cpu-cfs-quota", Only("true", "limits of CPU are always enforced"), ""),
    ("cpu-cfs-quota-period", Only("100ms", "the period is fixed"), ""),
    ("cpu-manager-policy", Only("none", NO_MANAGER), ""),
    ("cpu-manager-policy-options", Refused(NO_MANAGER), ""),
    ("cpu-manager-reconcile-period", Refused(NO_MANAGER), ""),
    (
        "enable-controller-attach-detach",
        Only("true", "the kubelet attaches no volumes"),
        "",
    ),
    (
        "enable-debugging-handlers",
        Only("true", "logs and exec are always served to who may use them"),
        "",
    ),
    ("enable-server", Only("true", "the kubelet always serves"), ""),
    ("enforce-node-allocatable", Only("pods", NO_RESERVED_CGROUP), ""),
    (
        "event-burst",
        Field("eventBurst", Number),
        "How many events may be recorded at once",
    ),
    (
        "event-qps",
        Field("eventRecordQPS", Number),
        "How many events may be recorded in a second",
    ),
    (
        "eviction-hard",
        Field("evictionHard", Pairs('<')),
        "What must stay free, as memory.available<100Mi,nodefs.available<10%",
    ),
    (
        "eviction-max-pod-grace-period",
        Field("evictionMaxPodGracePeriod", Number),
        "Seconds that a pod has at most to end after a soft threshold",
    ),
    (
        "eviction-minimum-reclaim",
        Field("evictionMinimumReclaim", Pairs('=')),
        "What must be free beyond a threshold that was met, as nodefs.available=500Mi",
    ),
    (
        "eviction-pressure-transition-period",
        Field("evictionPressureTransitionPeriod", Text),
        "How long a pressure stays after its threshold was met last, as 5m0s",
    ),
    (
        "eviction-soft",
        Field("evictionSoft", Pairs('<')),
        "What must stay free, or pods go after a grace period, as memory.available<1Gi",
    ),
    (
        "eviction-soft-grace-period",
        Field("evictionSoftGracePeriod", Pairs('=')),
        "How long a soft threshold is met before pods go, as memory.available=1m30s",
    ),
    ("exit-on-lock-contention", Only("false", "lock files are not built"), ""),
    (
        "fail-cgroupv1",
        Field("failCgroupV1", Bool),
        "Do not start on version 1 of cgroups",
    ),
    ("fail-swap-on", Field("failSwapOn", Bool), "Do not start with swap"),
    (
        "file-check-frequency",
        Refused("static pods are followed as they change"),
        "",
    ),
    (
        "hairpin-mode",
        Only("hairpin-veth", "the pod network's plugin decides"),
        "",
    ),
    (
        "healthz-bind-address",
        Field("healthzBindAddress", Text),
        "Address of the health endpoint",
    ),
    (
        "healthz-port",
        Field("healthzPort", Number),
        "Port of the health endpoint; 0 for none",
    ),
    ("http-check-frequency", Refused("manifests by URL are not built"), ""),
    (
        "image-credential-provider-bin-dir",
        Refused("credential providers are not built"),
        "",
    ),
    (
        "image-credential-provider-config",
        Refused("credential providers are not built"),
        "",
    ),
    (
        "image-gc-high-threshold",
        Field("imageGCHighThresholdPercent", Number),
        "Percent of the disk in use from which unused images are removed; 100 is never",
    ),
    (
        "image-gc-low-threshold",
        Field("imageGCLowThresholdPercent", Number),
        "Percent of the disk in use down to which unused images are removed",
    ),
    (
        "image-service-endpoint",
        Refused("images come by --container-runtime-endpoint"),
        "",
    ),
    (
        "kernel-memcg-notification",
        Only("false", "memory is looked at, not notified of"),
        "",
    ),
    (
        "kube-api-burst",
        Refused("requests to the API server are not limited"),
        "",
    ),
    (
        "kube-api-content-type",
        Only("application/json", "the kubelet speaks JSON"),
        "",
    ),
    (
        "kube-api-qps",
        Refused("requests to the API server are not limited"),
        "",
    ),
    (
        "kube-reserved",
        Field("kubeReserved", Pairs('=')),
        "What is kept from pods for Kubernetes, as cpu=100m,memory=200Mi",
    ),
    ("kube-reserved-cgroup", Refused(NO_RESERVED_CGROUP), ""),
    (
        "kubelet-cgroups",
        Refused("the kubelet stays in the cgroup that it is started in"),
        "",
    ),
    (
        "local-storage-capacity-isolation",
        Only("true", "local storage is always counted"),
        "",
    ),
    ("lock-file", Refused("lock files are not built"), ""),
    (
        "make-iptables-util-chains",
        Only("false", "rules are nftables; utility chains of iptables are not built"),
        "",
    ),
    ("manifest-url", Refused("manifests by URL are not built"), ""),
    ("manifest-url-header", Refused("manifests by URL are not built"), ""),
    (
        "max-open-files",
        Refused("the limit is the one that the kubelet is started with"),
        "",
    ),
    ("max-pods", Field("maxPods", Number), "How many pods the node takes"),
    ("memory-manager-policy", Only("None", NO_MANAGER), ""),
    (
        "minimum-image-ttl-duration",
        Field("imageMinimumGCAge", Text),
        "A younger image is not removed, as 2m0s",
    ),
    (
        "node-status-max-images",
        Refused("the node's status lists the images that it lists"),
        "",
    ),
    (
        "node-status-update-frequency",
        Refused("the node's status is written when it changes"),
        "",
    ),
    (
        "oom-score-adj",
        Refused("the score is the one that the kubelet is started with"),
        "",
    ),
    ("pod-cidr", Refused("the node's network comes from the API server"), ""),
    (
        "pod-manifest-path",
        Field("staticPodPath", Text),
        "A directory of static pods' manifests",
    ),
    (
        "pod-max-pids",
        Field("podPidsLimit", Number),
        "How many processes a pod may have; -1 for no limit",
    ),
    ("pods-per-core", Only("0", "only --max-pods limits pods"), ""),
    ("port", Field("port", Number), "Port to serve on"),
    (
        "protect-kernel-defaults",
        Field("protectKernelDefaults", Bool),
        "Do not start when the kernel's settings are others than the kubelet wants",
    ),
    ("provider-id", Refused("cloud providers are not built"), ""),
    ("qos-reserved", Refused(NO_RESERVED_CGROUP), ""),
    ("read-only-port", Only("0", "the read-only port is not built"), ""),
    (
        "register-node",
        Field("registerNode", Bool),
        "true: the kubelet always registers its node",
    ),
    ("registry-burst", Refused("pulls are not limited by time"), ""),
    ("registry-qps", Refused("pulls are not limited by time"), ""),
    ("reserved-cpus", Refused(NO_MANAGER), ""),
    (
        "resolv-conf",
        Field("resolvConf", Text),
        "The resolv.conf that pods start from",
    ),
    (
        "rotate-certificates",
        Field("rotateCertificates", Bool),
        "Have the client's certificate renewed by the cluster",
    ),
    (
        "rotate-server-certificates",
        Field("serverTLSBootstrap", Bool),
        "Request the serving certificate of the cluster, and have it renewed",
    ),
    (
        "seccomp-default",
        Field("seccompDefault", Bool),
        "Containers that name no seccomp profile get RuntimeDefault",
    ),
    (
        "streaming-connection-idle-timeout",
        Field("streamingConnectionIdleTimeout", Text),
        "How long exec, attach and port-forward may be silent; 0 for ever",
    ),
    (
        "system-reserved",
        Field("systemReserved", Pairs('=')),
        "What is kept from pods for the system, as cpu=100m,memory=200Mi",
    ),
    (
        "tls-cert-file",
        Field("tlsCertFile", Text),
        "The serving certificate, PEM",
    ),
    (
        "tls-cipher-suites",
        Field("tlsCipherSuites", List),
        "Cipher suites of TLS 1.2 that are offered; all that are safe unless given",
    ),
    (
        "tls-min-version",
        Field("tlsMinVersion", Text),
        "VersionTLS12 or VersionTLS13",
    ),
    (
        "tls-private-key-file",
        Field("tlsPrivateKeyFile", Text),
        "The serving certificate's key, PEM",
    ),
];
