//! The checks of the baseline level: known ways to more rights are closed.
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline>

use std::collections::BTreeSet;

use serde_json::Value;

use super::pod::{Pod, Setters, at, containers, items, name, note, plural, quoted, text};
use super::policy::{Check, Finding, Look};

const fn check(id: &'static str, since: &'static [(u64, Look)]) -> Check {
    Check {
        id,
        since,
        overrides: "",
    }
}

/// Sorted by id: the order that violations are told in.
pub static BASELINE: [Check; 12] = [
    check("appArmorProfile", &[(0, app_armor_profile)]),
    check("capabilities_baseline", &[(0, capabilities)]),
    check("hostNamespaces", &[(0, host_namespaces)]),
    check("hostPathVolumes", &[(0, host_path_volumes)]),
    check("hostPorts", &[(0, host_ports)]),
    check("hostProbesAndHostLifecycle", &[(34, probe_hosts)]),
    check("privileged", &[(0, privileged)]),
    check("procMount", &[(0, proc_mount), (35, proc_mount_without_user_namespace)]),
    check(
        "seLinuxOptions",
        &[
            (0, |pod| se_linux_options(pod, &SE_LINUX_TYPES[..3])),
            (31, |pod| se_linux_options(pod, &SE_LINUX_TYPES)),
        ],
    ),
    check(
        "seccompProfile_baseline",
        &[(0, seccomp_annotations), (19, seccomp_profile)],
    ),
    check(
        "sysctls",
        &[
            (0, |pod| sysctls(pod, &SYSCTLS[..5])),
            (27, |pod| sysctls(pod, &SYSCTLS[..6])),
            (29, |pod| sysctls(pod, &SYSCTLS[..10])),
            (32, |pod| sysctls(pod, &SYSCTLS[..12])),
            (37, |pod| sysctls(pod, &SYSCTLS)),
        ],
    ),
    check("windowsHostProcess", &[(0, windows_host_process)]),
];

fn app_armor_profile(pod: Pod<'_>) -> Finding {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut types = BTreeSet::new();
    let setters = Setters::find(pod, |context| {
        let Some(profile) = at(context, &["appArmorProfile"]) else {
            return false;
        };
        let kind = text(profile, &["type"]).unwrap_or_default();
        note(!matches!(kind, "RuntimeDefault" | "Localhost"), kind, &mut types)
    });
    let allowed = |value: &str| matches!(value, "" | "runtime/default") || value.starts_with("localhost/");
    let mut annotations: Vec<String> = pod
        .annotations()
        .filter(|(key, value)| key.starts_with(ANNOTATION) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    annotations.sort();
    let mut setters = setters.shown();
    if !annotations.is_empty() {
        setters.push(plural(annotations.len(), "annotation", "annotations").into());
    }
    let values: Vec<String> = types.into_iter().map(str::to_owned).chain(annotations).collect();
    let reason = plural(
        values.len(),
        "forbidden AppArmor profile",
        "forbidden AppArmor profiles",
    );
    (!setters.is_empty()).then(|| {
        let values = quoted(&values);
        let detail = format!(
            "{} must not set AppArmor profile type to {values}",
            setters.join(" and ")
        );
        (reason, detail)
    })
}

/// What container runtimes give by themselves, without NET_RAW.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn capabilities(pod: Pod<'_>) -> Finding {
    let mut added = BTreeSet::new();
    let bad: Vec<&str> = pod
        .containers()
        .filter(|c| adds_capabilities(c, &CAPABILITIES, &mut added))
        .map(name)
        .collect();
    (!bad.is_empty()).then(|| ("non-default capabilities", must_not_add(&bad, &added)))
}

/// Whether a container adds capabilities beyond those allowed, which are noted.
pub fn adds_capabilities<'a>(container: &'a Value, allowed: &[&str], added: &mut BTreeSet<&'a str>) -> bool {
    let adds = items(container, &["securityContext", "capabilities", "add"]).filter_map(Value::as_str);
    let bad: Vec<&str> = adds.filter(|capability| !allowed.contains(capability)).collect();
    added.extend(&bad);
    !bad.is_empty()
}

/// The detail of a finding about capabilities that containers add.
pub fn must_not_add(bad: &[&str], added: &BTreeSet<&str>) -> String {
    format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers(bad),
        quoted(added)
    )
}

fn host_namespaces(pod: Pod<'_>) -> Finding {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| at(pod.spec, &[field]) == Some(&Value::Bool(true)))
        .map(|field| format!("{field}=true"))
        .collect();
    (!shared.is_empty()).then(|| ("host namespaces", shared.join(", ")))
}

fn host_path_volumes(pod: Pod<'_>) -> Finding {
    let bad: Vec<&str> = items(pod.spec, &["volumes"])
        .filter(|v| at(v, &["hostPath"]).is_some())
        .map(name)
        .collect();
    let detail = format!("{} {}", plural(bad.len(), "volume", "volumes"), quoted(&bad));
    (!bad.is_empty()).then_some(("hostPath volumes", detail))
}

fn host_ports(pod: Pod<'_>) -> Finding {
    let ports_of = |container| {
        items(container, &["ports"])
            .filter_map(|port| at(port, &["hostPort"])?.as_i64())
            .filter(|port| *port != 0)
            // upstream sorts them as texts
            .map(|port| port.to_string())
            .collect::<BTreeSet<String>>()
    };
    let mut ports = BTreeSet::new();
    let mut bad = Vec::new();
    for container in pod.containers() {
        let its = ports_of(container);
        if !its.is_empty() {
            bad.push(name(container));
            ports.extend(its);
        }
    }
    let ports: Vec<String> = ports.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&bad),
        plural(bad.len(), "uses", "use"),
        plural(ports.len(), "hostPort", "hostPorts"),
        ports.join(", ")
    );
    (!bad.is_empty()).then_some(("hostPort", detail))
}

fn probe_hosts(pod: Pod<'_>) -> Finding {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let (mut bad, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for container in pod.containers() {
        for handler in HANDLERS.iter().filter_map(|path| at(container, path)) {
            for action in ["httpGet", "tcpSocket"] {
                let host = text(handler, &[action, "host"]).unwrap_or_default();
                if note(!host.is_empty(), host, &mut hosts) {
                    bad.insert(name(container));
                }
            }
        }
    }
    let bad: Vec<&str> = bad.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&bad),
        plural(bad.len(), "uses", "use"),
        plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts"),
        quoted(&hosts)
    );
    (!bad.is_empty()).then_some(("probe or lifecycle host", detail))
}

fn privileged(pod: Pod<'_>) -> Finding {
    let is = |c: &&Value| at(c, &["securityContext", "privileged"]) == Some(&Value::Bool(true));
    let bad: Vec<&str> = pod.containers().filter(is).map(name).collect();
    let detail = format!("{} must not set securityContext.privileged=true", containers(&bad));
    (!bad.is_empty()).then_some(("privileged", detail))
}

/// Containers see `/proc` as the runtime masks it.
pub fn proc_mount(pod: Pod<'_>) -> Finding {
    let mut types = BTreeSet::new();
    let bad: Vec<&str> = pod
        .containers()
        .filter(|c| {
            let kind = text(c, &["securityContext", "procMount"]);
            kind.is_some_and(|kind| note(kind != "Default", kind, &mut types))
        })
        .map(name)
        .collect();
    let types = quoted(&types);
    let detail = format!("{} must not set securityContext.procMount to {types}", containers(&bad));
    (!bad.is_empty()).then_some(("procMount", detail))
}

fn proc_mount_without_user_namespace(pod: Pod<'_>) -> Finding {
    (!pod.has_user_namespace()).then(|| proc_mount(pod))?
}

/// The last one since 1.31.
const SE_LINUX_TYPES: [&str; 4] = [
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

fn se_linux_options(pod: Pod<'_>, allowed: &[&str]) -> Finding {
    let mut types = BTreeSet::new();
    let (mut user, mut role) = (false, false);
    let setters = Setters::find(pod, |context| {
        let value = |key| text(context, &["seLinuxOptions", key]).unwrap_or_default();
        let kind = value("type");
        let bad = [
            note(!kind.is_empty() && !allowed.contains(&kind), kind, &mut types),
            !value("user").is_empty(),
            !value("role").is_empty(),
        ];
        user |= bad[1];
        role |= bad[2];
        bad.contains(&true)
    })
    .shown();
    let mut found = Vec::new();
    if !types.is_empty() {
        found.push(format!("{} {}", plural(types.len(), "type", "types"), quoted(&types)));
    }
    if user {
        found.push("user may not be set".into());
    }
    if role {
        found.push("role may not be set".into());
    }
    let (setters, found) = (setters.join(" and "), found.join("; "));
    let detail = format!("{setters} set forbidden securityContext.seLinuxOptions: {found}");
    (!setters.is_empty()).then_some(("seLinuxOptions", detail))
}

/// Seccomp before it had fields.
fn seccomp_annotations(pod: Pod<'_>) -> Finding {
    let of_containers = pod
        .containers()
        .map(|c| format!("container.seccomp.security.alpha.kubernetes.io/{}", name(c)));
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned()).chain(of_containers);
    let forbidden: BTreeSet<String> = keys
        .filter_map(|key| {
            let value = pod.annotation(&key)?;
            let allowed = matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
            (!allowed).then(|| format!("{key}={value:?}"))
        })
        .collect();
    let forbidden: Vec<String> = forbidden.into_iter().collect();
    let annotations = plural(forbidden.len(), "annotation", "annotations");
    let detail = format!("forbidden {annotations} {}", forbidden.join(", "));
    (!forbidden.is_empty()).then_some(("seccompProfile", detail))
}

/// The type of a security context's seccomp profile, if it has one.
pub fn seccomp_type(context: &Value) -> Option<&str> {
    let profile = at(context, &["seccompProfile"])?;
    Some(text(profile, &["type"]).unwrap_or_default())
}

/// Returns whether a type of seccomp profile filters system calls.
pub fn seccomp_is_valid(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

/// Seccomp profiles are those of the runtime or of a file, and never `Unconfined`.
pub fn seccomp_profile(pod: Pod<'_>) -> Finding {
    let mut types = BTreeSet::new();
    let setters = Setters::find(pod, |context| {
        seccomp_type(context).is_some_and(|kind| note(!seccomp_is_valid(kind), kind, &mut types))
    })
    .shown();
    let (setters, types) = (setters.join(" and "), quoted(&types));
    let detail = format!("{setters} must not set securityContext.seccompProfile.type to {types}");
    (!setters.is_empty()).then_some(("seccompProfile", detail))
}

/// The first five always, one more since 1.27, four since 1.29, two since 1.32, the last two since 1.37.
const SYSCTLS: [&str; 14] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_notsent_lowat",
];

fn sysctls(pod: Pod<'_>, allowed: &[&str]) -> Finding {
    let bad: Vec<&str> = items(pod.spec, &["securityContext", "sysctls"])
        .map(name)
        .filter(|sysctl| !allowed.contains(sysctl))
        .collect();
    (!bad.is_empty()).then(|| ("forbidden sysctls", bad.join(", ")))
}

fn windows_host_process(pod: Pod<'_>) -> Finding {
    let setters = Setters::find(pod, |context| {
        at(context, &["windowsOptions", "hostProcess"]) == Some(&Value::Bool(true))
    })
    .shown()
    .join(" and ");
    let detail = format!("{setters} must not set securityContext.windowsOptions.hostProcess=true");
    (!setters.is_empty()).then_some(("hostProcess", detail))
}
