//! CRI configurations of sandboxes and containers: made from a pod and what was prepared for it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::env::expand;
use crate::pod::{PodExt, container_hash};
use crate::resources;
use crate::security;

/// The label of a sandbox or container with the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// The label with the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The label with the pod's UID.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// The label with the container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// Settings of the node that every pod's configuration needs.
#[derive(Debug, Clone, Default)]
pub struct NodeSettings {
    pub node_name: String,
    /// `/var/log/pods`.
    pub pod_log_dir: String,
    pub seccomp_root: String,
    pub seccomp_default: bool,
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    /// The text of the node's own resolv.conf.
    pub resolv_conf: String,
    /// Bytes.
    pub memory: i64,
    /// Whether volumes of memory are mounted.
    pub memory_volumes: bool,
    /// The resources that stand for the sizes of huge pages the node has.
    pub hugepages: Vec<String>,
    /// Never below the kubelet's own score where the kernel refuses that.
    pub least_oom_score_adj: i64,
}

/// `/var/log/pods/<namespace>_<name>_<uid>`.
pub fn log_directory(pod: &Pod, settings: &NodeSettings) -> String {
    format!(
        "{}/{}_{}_{}",
        settings.pod_log_dir,
        pod.namespace(),
        pod.name(),
        pod.uid()
    )
}

/// The host name of a pod, and its domain when it has a subdomain.
pub fn hostname(pod: &Pod, settings: &NodeSettings) -> (String, Option<String>) {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|s| s.hostname_override.clone()) {
        return (name, None);
    }
    if pod.host_network() {
        return (settings.node_name.clone(), None);
    }
    let mut name = spec
        .and_then(|s| s.hostname.clone())
        .filter(|h| !h.is_empty())
        .unwrap_or_else(|| pod.name().to_owned());
    name.truncate(63);
    let name = name.trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec.and_then(|s| s.subdomain.as_deref()).filter(|s| !s.is_empty());
    let domain = subdomain.map(|s| format!("{s}.{}.svc.{}", pod.namespace(), settings.cluster_domain));
    (name, domain)
}

/// The pod's `/etc/hosts`.
pub fn hosts_file(pod: &Pod, settings: &NodeSettings, ips: &[String], node_hosts: &str) -> String {
    let mut text = String::new();
    if pod.host_network() {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(node_hosts);
    } else {
        text.push_str("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        let (name, domain) = hostname(pod, settings);
        for ip in ips {
            match &domain {
                Some(domain) => text.push_str(&format!("{ip}\t{name}.{domain}\t{name}\n")),
                None => text.push_str(&format!("{ip}\t{name}\n")),
            }
        }
    }
    let aliases = pod
        .spec
        .as_ref()
        .and_then(|s| s.host_aliases.as_deref())
        .unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            text.push_str(&format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.as_deref().unwrap_or_default().join("\t")
            ));
        }
    }
    text
}

/// As many as the C library takes.
const MOST_SERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
/// Bytes of all search domains with a space between them, and of one.
const LONGEST_SEARCH_LINE: usize = 2048;
const LONGEST_SEARCH: usize = 253;

/// The pod's resolver settings by its policy, as many as may be.
pub fn dns(pod: &Pod, settings: &NodeSettings) -> v1::DnsConfig {
    let mut config = whole_dns(pod, settings);
    config.servers.truncate(MOST_SERVERS);
    config.searches = fitting(&config.searches);
    config
}

fn fitting(searches: &[String]) -> Vec<String> {
    let short = searches
        .iter()
        .take(MOST_SEARCHES)
        .filter(|s| s.len() <= LONGEST_SEARCH);
    let mut line = 0;
    short
        .take_while(|search| {
            line += search.len() + usize::from(line > 0);
            line <= LONGEST_SEARCH_LINE
        })
        .cloned()
        .collect()
}

/// What is to be said of settings that had to be left out.
pub fn dns_over_limits(pod: &Pod, settings: &NodeSettings) -> Vec<String> {
    let (whole, used) = (whole_dns(pod, settings), dns(pod, settings));
    let mut said = Vec::new();
    if whole.servers != used.servers {
        said.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            used.servers.join(" ")
        ));
    }
    if whole.searches != used.searches {
        said.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            used.searches.join(" ")
        ));
    }
    said
}

fn whole_dns(pod: &Pod, settings: &NodeSettings) -> v1::DnsConfig {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let cluster = policy == "ClusterFirstWithHostNet" || policy == "ClusterFirst" && !pod.host_network();
    let (mut servers, mut searches, mut options) = (Vec::new(), Vec::new(), Vec::new());
    if policy != "None" {
        for line in settings.resolv_conf.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => searches = words.map(str::to_owned).collect(),
                Some("options") => options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
    }
    if cluster && !settings.cluster_dns.is_empty() {
        servers = settings.cluster_dns.clone();
        let domain = &settings.cluster_domain;
        let ours = [
            format!("{}.svc.{domain}", pod.namespace()),
            format!("svc.{domain}"),
            domain.clone(),
        ];
        searches.splice(0..0, ours);
        options = vec!["ndots:5".to_owned()];
    }
    if let Some(config) = spec.and_then(|s| s.dns_config.as_ref()) {
        servers.extend(config.nameservers.iter().flatten().cloned());
        searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            options.retain(|o| o.split(':').next() != Some(name));
            options.push(
                option
                    .value
                    .as_ref()
                    .map_or_else(|| name.clone(), |v| format!("{name}:{v}")),
            );
        }
    }
    let mut seen = std::collections::HashSet::new();
    servers.retain(|s| seen.insert(s.clone()));
    seen.clear();
    searches.retain(|s| seen.insert(s.clone()));
    v1::DnsConfig {
        servers,
        searches,
        options,
    }
}

fn labels(pod: &Pod) -> HashMap<String, String> {
    [
        (POD_NAME, pod.name()),
        (POD_NAMESPACE, pod.namespace()),
        (POD_UID, pod.uid()),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect()
}

/// What the runtime is told of a pod; `attempt` counts its sandboxes.
pub fn sandbox(pod: &Pod, attempt: u32, cgroup_parent: &str, settings: &NodeSettings) -> v1::PodSandboxConfig {
    let mut all_labels = labels(pod);
    all_labels.extend(
        pod.metadata
            .labels
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone())),
    );
    let mut port_mappings = Vec::new();
    for port in pod
        .init_containers()
        .iter()
        .chain(pod.containers())
        .flat_map(|c| c.ports.iter().flatten())
    {
        if let Some(host_port) = port.host_port.filter(|p| *p > 0 && !pod.host_network()) {
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp,
                Some("SCTP") => v1::Protocol::Sctp,
                _ => v1::Protocol::Tcp,
            };
            let host_ip = port.host_ip.clone().unwrap_or_default();
            port_mappings.push(v1::PortMapping {
                protocol: protocol as i32,
                container_port: port.container_port,
                host_port,
                host_ip,
            });
        }
    }
    let sysctls = pod
        .spec
        .iter()
        .filter_map(|s| s.security_context.as_ref())
        .flat_map(|c| c.sysctls.iter().flatten());
    let (hostname, domain) = hostname(pod, settings);
    let as_fqdn = pod.spec.as_ref().and_then(|s| s.set_hostname_as_fqdn) == Some(true);
    let hostname = match domain.filter(|_| as_fqdn) {
        Some(domain) => format!("{hostname}.{domain}"),
        None if pod.host_network() => String::new(),
        None => hostname,
    };
    let total = |limits: bool, name: &str| resources::pod_total(pod, limits, name);
    let overhead = pod.spec.as_ref().and_then(|s| s.overhead.as_ref());
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            attempt,
        }),
        hostname,
        log_directory: log_directory(pod, settings),
        dns_config: Some(dns(pod, settings)),
        port_mappings,
        labels: all_labels,
        annotations: pod
            .metadata
            .annotations
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.to_owned(),
            security_context: Some(security::sandbox(pod, &settings.seccomp_root)),
            sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
            overhead: overhead.map(|o| v1::LinuxContainerResources {
                cpu_shares: o.get("cpu").map_or(0, |q| resources::cpu_shares(resources::milli(q))),
                memory_limit_in_bytes: o.get("memory").map_or(0, resources::value),
                ..Default::default()
            }),
            resources: Some(v1::LinuxContainerResources {
                cpu_period: resources::CPU_PERIOD,
                cpu_quota: resources::cpu_quota(total(true, "cpu")),
                cpu_shares: resources::cpu_shares(total(false, "cpu")),
                memory_limit_in_bytes: total(true, "memory") / 1000,
                ..Default::default()
            }),
        }),
        windows: None,
    }
}

/// What was prepared for one container.
#[derive(Debug)]
pub struct Prepared<'a> {
    pub attempt: u32,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<v1::Mount>,
    /// The image's id or digest as the runtime knows it.
    pub image_ref: String,
    pub security: v1::LinuxContainerSecurityContext,
    /// The host's file that becomes the termination message.
    pub termination_log: &'a Path,
}

/// What the runtime is told of a container.
pub fn container(pod: &Pod, container: &Container, prepared: Prepared, settings: &NodeSettings) -> v1::ContainerConfig {
    let vars: BTreeMap<&str, &str> = prepared.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter()
            .flatten()
            .map(|text| expand(text, &|name| vars.get(name).map(|v| (*v).to_owned())))
            .collect()
    };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let mut labels = labels(pod);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let path = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    let mut annotations: HashMap<String, String> = [
        ("io.kubernetes.container.hash", container_hash(container)),
        ("io.kubernetes.container.restartCount", prepared.attempt.to_string()),
        ("io.kubernetes.container.terminationMessagePath", path.to_owned()),
        ("io.kubernetes.container.terminationMessagePolicy", policy.to_owned()),
        (
            "io.kubernetes.pod.terminationGracePeriod",
            pod.grace_period().to_string(),
        ),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect();
    if let Some(hook) = container
        .lifecycle
        .as_ref()
        .and_then(|l| l.pre_stop.as_ref())
        .and_then(|h| serde_json::to_string(h).ok())
    {
        annotations.insert("io.kubernetes.container.preStopHandler".to_owned(), hook);
    }
    let mut mounts = prepared.mounts;
    if !path.is_empty() {
        mounts.push(v1::Mount {
            container_path: path.to_owned(),
            host_path: prepared.termination_log.to_string_lossy().into_owned(),
            ..Default::default()
        });
    }
    let interactive = |on: Option<bool>| on.unwrap_or(false);
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: container.name.clone(),
            attempt: prepared.attempt,
        }),
        image: Some(v1::ImageSpec {
            image: prepared.image_ref.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: prepared
            .env
            .iter()
            .map(|(k, v)| v1::KeyValue {
                key: k.clone(),
                value: v.clone().into_bytes(),
            })
            .collect(),
        mounts,
        labels,
        annotations,
        log_path: format!("{}/{}.log", container.name, prepared.attempt),
        stdin: interactive(container.stdin),
        stdin_once: interactive(container.stdin_once),
        tty: interactive(container.tty),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(container_resources(pod, container, settings)),
            security_context: Some(prepared.security),
        }),
        ..Default::default()
    }
}

/// What the container may use.
pub fn container_resources(pod: &Pod, container: &Container, settings: &NodeSettings) -> v1::LinuxContainerResources {
    let limit = |name: &str| resources::limit(pod, container, name);
    let cpu_request = resources::get(container, false, "cpu").or_else(|| limit("cpu"));
    v1::LinuxContainerResources {
        cpu_period: resources::CPU_PERIOD,
        cpu_quota: resources::cpu_quota(limit("cpu").map_or(0, resources::milli)),
        cpu_shares: resources::cpu_shares(cpu_request.map_or(0, resources::milli)),
        memory_limit_in_bytes: limit("memory").map_or(0, resources::value),
        oom_score_adj: resources::oom_score_adj(pod, container, settings.memory).max(settings.least_oom_score_adj),
        hugepage_limits: hugepage_limits(container, settings),
        ..Default::default()
    }
}

/// A limit for every size of huge pages that the node has: what the container asks for, or none.
fn hugepage_limits(container: &Container, settings: &NodeSettings) -> Vec<v1::HugepageLimit> {
    let limit = |name: &String| v1::HugepageLimit {
        page_size: resources::page_size_name(name),
        limit: resources::get(container, true, name)
            .map_or(0, resources::value)
            .unsigned_abs(),
    };
    settings.hugepages.iter().map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> NodeSettings {
        NodeSettings {
            node_name: "node".into(),
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            resolv_conf: "nameserver 1.1.1.1\nsearch corp\noptions rotate\n".into(),
            ..Default::default()
        }
    }

    fn pod(spec: &str) -> Pod {
        serde_json::from_str(&format!(
            r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u"}},"spec":{spec}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn resolver_settings_follow_the_policy() {
        let first = dns(&pod(r#"{"containers":[]}"#), &settings());
        assert_eq!(
            first.searches,
            ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp"]
        );
        assert_eq!(
            (first.servers, first.options),
            (vec!["10.96.0.10".to_owned()], vec!["ndots:5".to_owned()])
        );
        let many = r#"{"dnsConfig":{"nameservers":["192.0.2.1","192.0.2.2","192.0.2.3"]},"containers":[]}"#;
        assert_eq!(
            dns_over_limits(&pod(many), &settings()),
            [
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 10.96.0.10 192.0.2.1 192.0.2.2"
            ]
        );
        assert!(dns_over_limits(&pod(r#"{"containers":[]}"#), &settings()).is_empty());
        let host = dns(&pod(r#"{"hostNetwork":true,"containers":[]}"#), &settings());
        assert_eq!(
            (host.servers, host.options),
            (vec!["1.1.1.1".to_owned()], vec!["rotate".to_owned()])
        );
        let none = dns(
            &pod(
                r#"{"dnsPolicy":"None","dnsConfig":{"nameservers":["9.9.9.9"],"options":[{"name":"ndots","value":"2"}]},"containers":[]}"#,
            ),
            &settings(),
        );
        assert_eq!(
            (none.servers, none.options),
            (vec!["9.9.9.9".to_owned()], vec!["ndots:2".to_owned()])
        );
    }

    #[test]
    fn the_hosts_file_names_the_pod_and_its_aliases() {
        let pod = pod(
            r#"{"hostname":"h","subdomain":"s","hostAliases":[{"ip":"1.2.3.4","hostnames":["a","b"]}],"containers":[]}"#,
        );
        let text = hosts_file(&pod, &settings(), &["10.0.0.1".to_owned()], "");
        assert!(text.contains("10.0.0.1\th.s.n.svc.cluster.local\th\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
    }
}
