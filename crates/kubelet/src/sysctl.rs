//! Which kernel settings pods may have: those of their own namespaces that harm nobody else, and those the
//! administrator allows (`allowedUnsafeSysctls`). Upstream: `pkg/kubelet/sysctl`.

use k8s_openapi::api::core::v1::Pod;

use crate::pod::PodExt;
use crate::status::Verdict;

/// The namespace of the kernel that has a setting for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
    User,
    Uts,
}

/// Settings that are a namespace's own and touch no other pod, with the first kernel where that is so.
const SAFE: [(&str, (u32, u32)); 14] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
    ("net.ipv4.tcp_slow_start_after_idle", (4, 15)),
    ("net.ipv4.tcp_notsent_lowat", (4, 6)),
];

/// Settings of the IPC namespace; `kernel.shm` and `kernel.msg` stand for patterns that begin so.
const IPC: [&str; 10] = [
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.shm",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg",
];

/// Why a list of allowed settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    #[error("sysctl {0:?} must have at most 253 characters and be a name or a pattern that ends in *")]
    Pattern(String),
    #[error("the sysctls {0:?} are not known to be namespaced")]
    NotNamespaced(String),
}

/// The settings that pods of this node may have.
#[derive(Debug, Clone, Default)]
pub struct Allowlist {
    names: Vec<(String, Namespace)>,
    prefixes: Vec<(String, Namespace)>,
}

/// With dots between the parts; a name that is written with slashes has the two exchanged.
fn normalized(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('/') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn namespace(name: &str) -> Option<Namespace> {
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return Some(Namespace::Ipc);
    }
    match name.split_once('.')? {
        ("net", _) => Some(Namespace::Net),
        ("user", _) => Some(Namespace::User),
        ("kernel", "domainname") => Some(Namespace::Uts),
        _ => None,
    }
}

/// Segments of letters and digits between dots or slashes; the last one may end with `*`.
fn is_pattern(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let body = text.strip_suffix('*').unwrap_or(text);
    let segments = body.split(['.', '/']).collect::<Vec<_>>();
    let last = segments.len() - 1;
    text.len() <= 253
        && segments.iter().enumerate().all(|(i, segment)| {
            let open = i == last && body.len() < text.len();
            let inside = segment.chars().all(|c| plain(c) || matches!(c, '-' | '_'));
            inside && (open && segment.is_empty() || segment.starts_with(plain)) && (open || segment.ends_with(plain))
        })
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Why a pod may not have a setting, in upstream's words.
#[derive(Debug, thiserror::Error)]
enum Forbidden {
    #[error("{0:?} not allowed with host IPC enabled")]
    HostIpc(String),
    #[error("{0:?} not allowed with host Net enabled")]
    HostNet(String),
    #[error("{0:?} not allowed with host User enabled")]
    HostUser(String),
    #[error("{0:?} not allowlisted")]
    NotListed(String),
}

impl Allowlist {
    /// The safe settings of a kernel (its `uname -r`), and what is allowed besides.
    pub fn new(kernel: &str, unsafe_ones: &[String]) -> Result<Allowlist, SysctlError> {
        let mut list = Allowlist::default();
        let kernel = version(kernel).unwrap_or((0, 0));
        let safe = SAFE.iter().filter(|(_, since)| kernel >= *since).map(|(name, _)| *name);
        for pattern in safe.chain(unsafe_ones.iter().map(String::as_str)) {
            if !is_pattern(pattern) {
                return Err(SysctlError::Pattern(pattern.to_owned()));
            }
            let name = normalized(pattern);
            let (name, prefix) = match name.split_once('*') {
                Some((prefix, _)) => (prefix.to_owned(), true),
                None => (name, false),
            };
            let namespace = namespace(&name).ok_or_else(|| SysctlError::NotNamespaced(name.clone()))?;
            if prefix { &mut list.prefixes } else { &mut list.names }.push((name, namespace));
        }
        Ok(list)
    }

    fn check(&self, name: &str, host_network: bool, host_ipc: bool, host_users: bool) -> Result<(), Forbidden> {
        let name = normalized(name);
        let exact = self.names.iter().find(|(n, _)| *n == name);
        let found = exact.or_else(|| self.prefixes.iter().find(|(p, _)| name.starts_with(p.as_str())));
        match found {
            Some((_, Namespace::Ipc)) if host_ipc => Err(Forbidden::HostIpc(name)),
            Some((_, Namespace::Net)) if host_network => Err(Forbidden::HostNet(name)),
            Some((_, Namespace::User)) if host_users => Err(Forbidden::HostUser(name)),
            Some(_) => Ok(()),
            None => Err(Forbidden::NotListed(name)),
        }
    }

    /// Refuses a pod that has a setting it may not have.
    pub fn admit(&self, pod: &Pod) -> Result<(), Verdict> {
        let spec = pod.spec.as_ref();
        let host_ipc = spec.and_then(|s| s.host_ipc) == Some(true);
        // a pod is in the node's user namespace unless it says otherwise
        let host_users = spec.and_then(|s| s.host_users) != Some(false);
        let context = spec.and_then(|s| s.security_context.as_ref());
        for sysctl in context.iter().flat_map(|c| c.sysctls.iter().flatten()) {
            self.check(&sysctl.name, pod.host_network(), host_ipc, host_users)
                .map_err(|reason| Verdict {
                    reason: "SysctlForbidden".to_owned(),
                    message: format!("forbidden sysctl: {reason}"),
                })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(list: &Allowlist, spec: &str) -> Option<String> {
        let pod: Pod = serde_json::from_str(&format!(r#"{{"spec":{spec}}}"#)).unwrap();
        list.admit(&pod).err().map(|v| format!("{}: {}", v.reason, v.message))
    }

    fn with(name: &str, more: &str) -> String {
        format!(r#"{{{more}"securityContext":{{"sysctls":[{{"name":"{name}","value":"1"}}]}},"containers":[]}}"#)
    }

    #[test]
    fn only_safe_and_allowed_settings_are_admitted() {
        let list = Allowlist::new(
            "6.18.0",
            &["kernel.msg*".into(), "net/core/somaxconn".into(), "user.*".into()],
        )
        .unwrap();
        for (name, more, refused) in [
            ("net.ipv4.tcp_fin_timeout", "", None),
            ("net/ipv4/tcp_fin_timeout", "", None),
            ("kernel.msgmax", "", None),
            ("net.core.somaxconn", "", None),
            ("net.core.rmem_max", "", Some("\"net.core.rmem_max\" not allowlisted")),
            ("vm.swappiness", "", Some("\"vm.swappiness\" not allowlisted")),
            ("net/core/rmem_max", "", Some("\"net.core.rmem_max\" not allowlisted")),
            ("user.max_user_namespaces", r#""hostUsers":false,"#, None),
            (
                "user.max_user_namespaces",
                "",
                Some("\"user.max_user_namespaces\" not allowed with host User enabled"),
            ),
            (
                "net.ipv4.tcp_rmem",
                r#""hostNetwork":true,"#,
                Some("\"net.ipv4.tcp_rmem\" not allowed with host Net enabled"),
            ),
            (
                "kernel.shm_rmid_forced",
                r#""hostIPC":true,"#,
                Some("\"kernel.shm_rmid_forced\" not allowed with host IPC enabled"),
            ),
        ] {
            let want = refused.map(|text| format!("SysctlForbidden: forbidden sysctl: {text}"));
            assert_eq!(verdict(&list, &with(name, more)), want, "{name}");
        }
    }

    #[test]
    fn an_old_kernel_has_fewer_safe_settings() {
        let list = Allowlist::new("4.5.1-generic", &[]).unwrap();
        assert_eq!(verdict(&list, &with("net.ipv4.tcp_keepalive_time", "")), None);
        assert!(verdict(&list, &with("net.ipv4.tcp_fin_timeout", "")).is_some());
    }

    #[test]
    fn what_is_the_machines_own_can_never_be_allowed() {
        for wrong in ["vm.swappiness", "kernel.*", "*", "Net.x", "a..b"] {
            assert!(Allowlist::new("6.18", &[wrong.to_owned()]).is_err(), "{wrong}");
        }
        for right in [
            "net.*",
            "net.ipv4.*",
            "kernel.shm*",
            "fs.mqueue.*",
            "net.core.somaxconn",
        ] {
            assert!(Allowlist::new("6.18", &[right.to_owned()]).is_ok(), "{right}");
        }
    }
}
