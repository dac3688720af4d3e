//! The security context of containers and sandboxes: pod and container settings merged into CRI's terms.

use cri::v1;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};

use crate::pod::{Kind, PodExt};

/// `/proc` paths hidden from containers with the default procMount.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
const MASKED_SYS: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Why a container may not run as it is (`CreateContainerConfigError`).
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum SecurityError {
    #[error("container's runAsUser breaks non-root policy (pod: {0:?}, container: {1})")]
    RunsAsRoot(String, String),
    #[error("container has runAsNonRoot and image will run as root (pod: {0:?}, container: {1})")]
    ImageRunsAsRoot(String, String),
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({2}), cannot verify user is non-root (pod: {0:?}, container: {1})"
    )]
    ImageUserUnknown(String, String, String),
}

fn pod_context(pod: &Pod) -> PodSecurityContext {
    pod.spec
        .as_ref()
        .and_then(|s| s.security_context.clone())
        .unwrap_or_default()
}

fn int(value: i64) -> v1::Int64Value {
    v1::Int64Value { value }
}

fn selinux(options: Option<&SELinuxOptions>) -> Option<v1::SeLinuxOption> {
    options.map(|o| v1::SeLinuxOption {
        user: o.user.clone().unwrap_or_default(),
        role: o.role.clone().unwrap_or_default(),
        r#type: o.type_.clone().unwrap_or_default(),
        level: o.level.clone().unwrap_or_default(),
    })
}

/// Localhost profiles lie below `<root>/seccomp`.
fn seccomp(
    profile: Option<&SeccompProfile>,
    seccomp_root: &str,
    privileged: bool,
    by_default: bool,
) -> v1::SecurityProfile {
    use v1::security_profile::ProfileType;
    let unconfined = v1::SecurityProfile {
        profile_type: ProfileType::Unconfined as i32,
        localhost_ref: String::new(),
    };
    if privileged {
        return unconfined;
    }
    match profile.map(|p| (p.type_.as_str(), p)) {
        Some(("RuntimeDefault", _)) => v1::SecurityProfile {
            profile_type: ProfileType::RuntimeDefault as i32,
            localhost_ref: String::new(),
        },
        Some(("Localhost", p)) => v1::SecurityProfile {
            profile_type: ProfileType::Localhost as i32,
            localhost_ref: format!("{seccomp_root}/{}", p.localhost_profile.as_deref().unwrap_or_default()),
        },
        None if by_default => v1::SecurityProfile {
            profile_type: ProfileType::RuntimeDefault as i32,
            localhost_ref: String::new(),
        },
        _ => unconfined,
    }
}

/// The AppArmor profiles that a pod asks for, of itself and of its containers.
pub fn apparmor_profiles(pod: &Pod) -> impl Iterator<Item = AppArmorProfile> {
    let own = pod_context(pod).app_armor_profile;
    let containers = pod.every_container();
    let of = |(_, c): (Kind, Container)| c.security_context.and_then(|s| s.app_armor_profile);
    own.into_iter().chain(containers.into_iter().filter_map(of))
}

fn apparmor(profile: Option<&AppArmorProfile>) -> Option<v1::SecurityProfile> {
    use v1::security_profile::ProfileType;
    let profile = profile?;
    let kind = match profile.type_.as_str() {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    Some(v1::SecurityProfile {
        profile_type: kind as i32,
        localhost_ref: profile.localhost_profile.clone().unwrap_or_default(),
    })
}

fn namespaces(pod: &Pod) -> v1::NamespaceOption {
    let spec = pod.spec.as_ref();
    let node = |on: Option<bool>| if on == Some(true) { v1::NamespaceMode::Node } else { v1::NamespaceMode::Pod } as i32;
    let shared = spec.and_then(|s| s.share_process_namespace) == Some(true);
    let host_pid = spec.and_then(|s| s.host_pid) == Some(true);
    let pid = match (host_pid, shared) {
        (true, _) => v1::NamespaceMode::Node,
        (_, true) => v1::NamespaceMode::Pod,
        _ => v1::NamespaceMode::Container,
    };
    v1::NamespaceOption {
        network: node(spec.and_then(|s| s.host_network)),
        ipc: node(spec.and_then(|s| s.host_ipc)),
        pid: pid as i32,
        target_id: String::new(),
        userns_options: None,
    }
}

fn groups_policy(context: &PodSecurityContext) -> i32 {
    let strict = context.supplemental_groups_policy.as_deref() == Some("Strict");
    if strict {
        v1::SupplementalGroupsPolicy::Strict as i32
    } else {
        v1::SupplementalGroupsPolicy::Merge as i32
    }
}

fn supplemental_groups(context: &PodSecurityContext) -> Vec<i64> {
    context
        .fs_group
        .iter()
        .chain(context.supplemental_groups.iter().flatten())
        .copied()
        .collect()
}

/// What the runtime is told of a sandbox's security.
pub fn sandbox(pod: &Pod, seccomp_root: &str) -> v1::LinuxSandboxSecurityContext {
    let context = pod_context(pod);
    let privileged = pod
        .every_container()
        .iter()
        .any(|(_, c)| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
    v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        selinux_options: selinux(context.se_linux_options.as_ref()),
        run_as_user: context.run_as_user.map(int),
        run_as_group: context.run_as_group.filter(|_| context.run_as_user.is_some()).map(int),
        supplemental_groups: supplemental_groups(&context),
        supplemental_groups_policy: groups_policy(&context),
        privileged,
        seccomp: Some(seccomp(
            context.seccomp_profile.as_ref(),
            seccomp_root,
            privileged,
            true,
        )),
        ..Default::default()
    }
}

/// The user an image would run as: a number, a name, or root.
#[derive(Debug, Clone, Default)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub username: String,
}

/// `target` is the container whose process namespace an ephemeral container joins.
pub fn container(
    pod: &Pod,
    kind: Kind,
    container: &Container,
    image_user: &ImageUser,
    seccomp_root: &str,
    seccomp_default: bool,
    target: Option<&str>,
) -> Result<v1::LinuxContainerSecurityContext, SecurityError> {
    let pod_level = pod_context(pod);
    let own: SecurityContext = container.security_context.clone().unwrap_or_default();
    let run_as_user = own.run_as_user.or(pod_level.run_as_user);
    if own.run_as_non_root.or(pod_level.run_as_non_root) == Some(true) {
        let names = || (pod.describe(), container.name.clone());
        match (run_as_user, image_user.uid, image_user.username.as_str()) {
            (Some(0), ..) => return Err(SecurityError::RunsAsRoot(names().0, names().1)),
            (Some(_), ..) => {}
            (None, Some(0), _) | (None, None, "") => return Err(SecurityError::ImageRunsAsRoot(names().0, names().1)),
            (None, None, user) => return Err(SecurityError::ImageUserUnknown(names().0, names().1, user.to_owned())),
            (None, Some(_), _) => {}
        }
    }
    let privileged = own.privileged.unwrap_or(false);
    let capabilities = own.capabilities.unwrap_or_default();
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let mut namespaces = namespaces(pod);
    if let Some(target) = target.filter(|_| kind == Kind::Ephemeral) {
        namespaces.pid = v1::NamespaceMode::Target as i32;
        namespaces.target_id = target.to_owned();
    }
    let profile = own.seccomp_profile.as_ref().or(pod_level.seccomp_profile.as_ref());
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(namespaces),
        selinux_options: selinux(own.se_linux_options.as_ref().or(pod_level.se_linux_options.as_ref())),
        run_as_user: run_as_user.or(image_user.uid).map(int),
        run_as_username: if run_as_user.is_none() && image_user.uid.is_none() {
            image_user.username.clone()
        } else {
            String::new()
        },
        run_as_group: own.run_as_group.or(pod_level.run_as_group).map(int),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: supplemental_groups(&pod_level),
        supplemental_groups_policy: groups_policy(&pod_level),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if privileged || unmasked {
            Vec::new()
        } else {
            [strings(&MASKED), strings(&MASKED_SYS)].concat()
        },
        readonly_paths: if privileged || unmasked {
            Vec::new()
        } else {
            strings(&READONLY)
        },
        seccomp: Some(seccomp(profile, seccomp_root, privileged, seccomp_default)),
        apparmor: apparmor(own.app_armor_profile.as_ref().or(pod_level.app_armor_profile.as_ref())),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_settings_win_and_root_is_refused() {
        let pod: Pod = serde_json::from_str(
            r#"{"spec":{"securityContext":{"runAsUser":5,"runAsNonRoot":true,"fsGroup":7,"supplementalGroups":[8]},
            "containers":[{"name":"a"},{"name":"b","securityContext":{"runAsUser":0}},{"name":"c","securityContext":{"runAsUser":9,"allowPrivilegeEscalation":false}}]}}"#,
        )
        .unwrap();
        let of = |i: usize| {
            container(
                &pod,
                Kind::Regular,
                &pod.containers()[i],
                &ImageUser::default(),
                "/s",
                false,
                None,
            )
        };
        let a = of(0).unwrap();
        assert_eq!((a.run_as_user, a.supplemental_groups), (Some(int(5)), vec![7, 8]));
        assert!(matches!(of(1), Err(SecurityError::RunsAsRoot(..))));
        assert!(of(2).unwrap().no_new_privs);
    }
}
