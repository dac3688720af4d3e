//! The kubelet's flags that are fields of its configuration file, by one table: each is in effect, holds what cannot be changed,
//! or is refused. A flag that is not in it is unknown.

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};

use crate::ConfigError;

/// How a flag's text becomes a field's value.
#[derive(Debug, Clone, Copy)]
enum As {
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
enum Effect {
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
const NO_IMAGE_GC: &str = "unused images are not removed by use of the disk; only 100, which is never, is supported";
const NO_SOFT: &str = "soft eviction is not built; --eviction-hard is";
const NO_ROTATION: &str = "requesting certificates is not built";
const NO_RESERVED_CGROUP: &str = "limits on what is reserved are not enforced";

/// A flag, what it does, and its help.
const FLAGS: [(&str, Effect, &str); 95] = [
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
    ("bootstrap-kubeconfig", Refused(NO_ROTATION), ""),
    (
        "cert-dir",
        Refused("name certificates by --tls-cert-file and --tls-private-key-file"),
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
    ("eviction-max-pod-grace-period", Refused(NO_SOFT), ""),
    (
        "eviction-minimum-reclaim",
        Refused("a minimum to reclaim is not built"),
        "",
    ),
    (
        "eviction-pressure-transition-period",
        Refused("the time until a pressure is over is fixed"),
        "",
    ),
    ("eviction-soft", Refused(NO_SOFT), ""),
    ("eviction-soft-grace-period", Refused(NO_SOFT), ""),
    ("exit-on-lock-contention", Only("false", "lock files are not built"), ""),
    (
        "fail-cgroupv1",
        Field("failCgroupV1", Bool),
        "Do not start on version 1 of cgroups",
    ),
    ("fail-swap-on", Field("failSwapOn", Bool), "Do not start with swap"),
    ("feature-gates", Refused("feature gates are as they are by default"), ""),
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
    ("image-gc-high-threshold", Only("100", NO_IMAGE_GC), ""),
    ("image-gc-low-threshold", Refused(NO_IMAGE_GC), ""),
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
    ("minimum-image-ttl-duration", Refused(NO_IMAGE_GC), ""),
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
    ("rotate-certificates", Only("false", NO_ROTATION), ""),
    ("rotate-server-certificates", Only("false", NO_ROTATION), ""),
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

/// The flags that were given, in their order.
#[derive(Debug, Default)]
pub struct FieldFlags {
    given: Vec<(&'static str, Effect, String)>,
}

impl FieldFlags {
    /// The configuration file that says the same.
    ///
    /// # Errors
    /// For flags whose value is not of their kind, and for what is refused.
    pub(crate) fn to_file(&self) -> Result<Value, ConfigError> {
        let mut tree = Value::Object(Map::new());
        for (name, effect, text) in &self.given {
            let bad = |why: &str| ConfigError::Flag {
                flag: name,
                value: text.clone(),
                why: why.to_owned(),
            };
            match effect {
                Field(path, kind) => {
                    let value = kind.read(text).ok_or_else(|| bad(kind.wants()))?;
                    let place = path.split('.').fold(&mut tree, |at, key| &mut at[key]);
                    *place = value;
                }
                Only(value, _) if value == text => {}
                Only(value, why) => return Err(bad(&format!("only {value} is supported: {why}"))),
                Refused(why) => return Err(bad(&format!("not supported: {why}"))),
            }
        }
        Ok(tree)
    }
}

impl As {
    fn read(self, text: &str) -> Option<Value> {
        let words = || text.split(',').map(str::trim).filter(|w| !w.is_empty());
        Some(match self {
            Text => text.into(),
            Number => text.parse::<i64>().ok()?.into(),
            // what Go takes
            Bool => match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => true.into(),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => false.into(),
                _ => return None,
            },
            List => words().collect::<Vec<_>>().into(),
            Pairs(sign) => {
                let pairs = words().map(|w| w.split_once(sign).map(|(k, v)| (k.trim().to_owned(), v.trim().into())));
                Value::Object(pairs.collect::<Option<Map<String, Value>>>()?)
            }
        })
    }

    fn wants(self) -> &'static str {
        match self {
            Text => "is not text",
            Number => "is not a number",
            Bool => "is neither true nor false",
            List => "is not a list",
            Pairs('<') => "is not signal<amount",
            Pairs(_) => "is not name=amount",
        }
    }
}

impl clap::FromArgMatches for FieldFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = FieldFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (name, effect, _) in FLAGS {
            // of what is given several times the last holds, but lists are put together
            let values = matches.get_many::<String>(name).into_iter().flatten();
            let joins = matches!(effect, Field(_, List | Pairs(_)));
            let text = match joins {
                true => values.cloned().reduce(|all, one| format!("{all},{one}")),
                false => values.last().cloned(),
            };
            self.given.extend(text.map(|text| (name, effect, text)));
        }
        Ok(())
    }
}

impl clap::Args for FieldFlags {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, (name, effect, help)| {
            let arg = Arg::new(*name).long(*name).help(*help).action(ArgAction::Append);
            let switch = match effect {
                Field(_, Bool) => true,
                Only(value, _) => matches!(*value, "true" | "false"),
                _ => false,
            };
            let arg = match switch {
                true => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
                false => arg.allow_hyphen_values(true),
            };
            command.arg(arg.hide(help.is_empty()))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KubeletConfig;
    use crate::command::Settings;
    use clap::Parser;

    fn config(flags: &[&str]) -> Result<KubeletConfig, String> {
        let mut config = KubeletConfig::new("n");
        let settings = Settings::try_parse_from(flags).map_err(|e| e.to_string())?;
        settings.apply(&mut config).map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn a_flag_is_in_effect_as_its_field_is() {
        let set = config(&[
            "--pod-max-pids=99",
            "--seccomp-default",
            "--streaming-connection-idle-timeout=5m",
            "--event-qps=7",
            "--anonymous-auth=true",
            "--authorization-mode=AlwaysAllow",
            "--max-pods",
            "12",
            "--eviction-hard=memory.available<5%",
            "--eviction-hard=nodefs.available<1Gi",
            "--kube-reserved=cpu=100m",
            "--cluster-dns=10.0.0.1,10.0.0.2",
            "--tls-min-version=VersionTLS13",
            "--read-only-port=0",
            "--rotate-certificates=false",
            "--image-gc-high-threshold=100",
        ])
        .unwrap();
        assert_eq!(
            (set.pod_pids_limit, set.seccomp_default, set.max_pods),
            (Some(99), true, 12)
        );
        assert_eq!(set.streaming_idle_timeout, std::time::Duration::from_secs(300));
        assert_eq!((set.event_qps, set.anonymous, set.webhook), (7, true, false));
        assert_eq!(
            (set.eviction_hard.len(), set.reserved["cpu"], set.cluster_dns.len()),
            (2, 100, 2)
        );
        assert_eq!(set.tls.versions().len(), 1);
        assert_eq!(config(&["--pod-max-pids=-1"]).unwrap().pod_pids_limit, None);
        assert!(config(&["--seccomp-default=false"]).unwrap().pod_pids_limit.is_none());
    }

    #[test]
    fn what_is_not_built_is_refused_and_what_nobody_knows_is_unknown() {
        for (flag, why) in [
            (
                "--read-only-port=10255",
                "--read-only-port: \"10255\": only 0 is supported: the read-only port is not built",
            ),
            (
                "--rotate-certificates",
                "--rotate-certificates: \"true\": only false is supported",
            ),
            (
                "--make-iptables-util-chains=true",
                "utility chains of iptables are not built",
            ),
            ("--image-gc-high-threshold=85", "only 100, which is never, is supported"),
            ("--eviction-soft=memory.available<1Gi", "soft eviction is not built"),
            ("--cpu-manager-policy=static", "resource managers are not built"),
            ("--pod-max-pids=many", "is not a number"),
            ("--seccomp-default=maybe", "is neither true nor false"),
            ("--eviction-hard=memory.available", "is not signal<amount"),
            ("--authorization-mode=Anything", "is not a mode"),
            (
                "--tls-cipher-suites=TLS_X",
                "Cipher suite TLS_X not supported or doesn't exist",
            ),
            ("--streaming-connection-idle-timeout=long", "is not a duration"),
            ("--no-such-flag=1", "unexpected argument '--no-such-flag'"),
        ] {
            let said = config(&[flag]).map(|_| ()).unwrap_err();
            assert!(said.contains(why), "{flag}: {said}");
        }
    }

    #[test]
    fn a_flag_does_not_reset_what_another_file_has_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.yaml");
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nauthorization: {mode: AlwaysAllow}\n\
                    imagePullCredentialsVerificationPolicy: AlwaysVerify\nmaxPods: 7\nseccompDefault: true\n";
        std::fs::write(&path, text).unwrap();
        let set = config(&["--config", path.to_str().unwrap(), "--max-pods=9"]).unwrap();
        assert_eq!((set.max_pods, set.webhook, set.seccomp_default), (9, false, true));
        assert_eq!(set.image_verification.as_str(), "AlwaysVerify");
    }

    #[test]
    fn flags_are_in_order_and_their_fields_exist() {
        assert!(FLAGS.is_sorted_by_key(|(name, ..)| *name));
        for (name, effect, _) in FLAGS {
            if let Field(path, kind) = effect {
                let text = match kind {
                    Number => "1",
                    Bool => "true",
                    Pairs('<') => "memory.available<1Gi",
                    Pairs(_) => "cpu=1",
                    _ => "1",
                };
                let flags = FieldFlags {
                    given: vec![(name, effect, text.to_owned())],
                };
                let said = KubeletConfig::new("n").apply_flags(&flags).err().map(|e| e.to_string());
                let unknown = said.is_some_and(|s| s.contains("unknown field"));
                assert!(!unknown, "{name}: {path}");
            }
        }
    }
}
