//! A container's specification for the shim: CRI's configuration over the image's settings.

use std::path::{Path, PathBuf};

use cri::v1;

use super::devices;
use super::error::{Result, RuntimeError};
use super::layer_files;
use crate::capabilities;
use crate::image::manifest::Settings;
use crate::image::store::{Image, ImageStore};
use crate::image::users::{self, Identity};
use crate::spec::{
    BindMount, ContainerSpec, ImageMount, PidNamespace, Process, Propagation, Resources, RootFs, Seccomp,
};

/// What images without a PATH get.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where things are that a container needs.
#[derive(Debug)]
pub struct Places<'a> {
    pub store: &'a ImageStore,
    /// Of the container, with its writable layer.
    pub container: &'a Path,
    /// Of the sandbox, with hosts, hostname and resolv.conf.
    pub sandbox: &'a Path,
    /// Of the shim, with the shared memory.
    pub shim: &'a Path,
    /// Of the node where the sandbox names no parent.
    pub cgroup_parent: &'a str,
}

fn invalid(text: impl Into<String>) -> RuntimeError {
    RuntimeError::Invalid(text.into())
}

/// Command and arguments: what the pod says replaces what the image says; a command alone drops the image's arguments.
pub fn arguments(config: &v1::ContainerConfig, image: &Settings) -> Result<Vec<String>> {
    let (mut command, mut args) = (config.command.clone(), config.args.clone());
    if command.is_empty() {
        if args.is_empty() {
            args.clone_from(&image.cmd);
        }
        command.clone_from(&image.entrypoint);
    }
    command.append(&mut args);
    if command.is_empty() {
        return Err(invalid("no command specified"));
    }
    Ok(command)
}

/// The image's variables with the pod's over them.
pub fn environment(config: &v1::ContainerConfig, image: &Settings, hostname: &str) -> Result<Vec<String>> {
    let mut env: Vec<String> = Vec::with_capacity(image.env.len() + config.envs.len() + 3);
    let mut set = |pair: String| {
        let key = pair.split('=').next().unwrap_or_default();
        match env.iter().position(|e| e.split('=').next() == Some(key)) {
            Some(i) => env[i] = pair,
            None => env.push(pair),
        }
    };
    set(DEFAULT_PATH.to_owned());
    if config.tty {
        set("TERM=xterm".to_owned());
    }
    set(format!("HOSTNAME={hostname}"));
    for pair in &image.env {
        set(pair.clone());
    }
    for pair in &config.envs {
        let value = std::str::from_utf8(&pair.value)
            .map_err(|_| invalid(format!("value of environment variable {} is not UTF-8", pair.key)))?;
        set(format!("{}={value}", pair.key));
    }
    Ok(env)
}

/// `user[:group]` as the pod wants it, else as the image says.
pub(crate) fn user_text(security: &v1::LinuxContainerSecurityContext, image: &Settings) -> Result<String> {
    let user = if security.run_as_username.is_empty() {
        security.run_as_user.as_ref().map(|u| u.value.to_string())
    } else {
        Some(security.run_as_username.clone())
    };
    match (user, &security.run_as_group) {
        (Some(user), Some(group)) => Ok(format!("{user}:{}", group.value)),
        (Some(user), None) => Ok(user),
        (None, Some(_)) => Err(invalid("user group is specified without user")),
        (None, None) => Ok(image.user.clone()),
    }
}

fn identity(security: &v1::LinuxContainerSecurityContext, image: &Image, layer_dir: &Path) -> Result<Identity> {
    let text = user_text(security, &image.settings)?;
    let read = |path: &str| layer_files::read(layer_dir, &image.layers, path);
    let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
    let strict = security.supplemental_groups_policy() == v1::SupplementalGroupsPolicy::Strict;
    let mut identity =
        users::identify(&text, &passwd, &group, !strict).map_err(|e| invalid(format!("failed to set up user: {e}")))?;
    let mut groups = vec![identity.gid];
    groups.append(&mut identity.groups);
    for id in &security.supplemental_groups {
        let id = users::supplemental_group(*id)
            .ok_or_else(|| invalid(format!("supplemental group {id} is out of range")))?;
        groups.push(id);
    }
    groups.sort_unstable();
    groups.dedup();
    identity.groups = groups;
    Ok(identity)
}

pub(crate) fn resources(r: &v1::LinuxContainerResources) -> Resources {
    let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
    let given = |n: i64| Some(n).filter(|n| *n != 0);
    Resources {
        cpu_shares: positive(r.cpu_shares),
        cpu_quota: given(r.cpu_quota),
        cpu_period: positive(r.cpu_period),
        memory: given(r.memory_limit_in_bytes),
        memory_swap: given(r.memory_swap_limit_in_bytes),
        pids: None,
        cpuset_cpus: r.cpuset_cpus.clone(),
        cpuset_mems: r.cpuset_mems.clone(),
        hugepages: r
            .hugepage_limits
            .iter()
            .map(|h| (h.page_size.clone(), h.limit))
            .collect(),
        unified: r.unified.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
    }
}

pub(crate) fn seccomp(security: &v1::LinuxContainerSecurityContext) -> Result<Seccomp> {
    use v1::security_profile::ProfileType;
    let Some(profile) = security.seccomp.as_ref().filter(|_| !security.privileged) else {
        return Ok(Seccomp::Unconfined);
    };
    Ok(match profile.profile_type() {
        ProfileType::Unconfined => Seccomp::Unconfined,
        ProfileType::RuntimeDefault => Seccomp::RuntimeDefault,
        ProfileType::Localhost => {
            let path = PathBuf::from(&profile.localhost_ref);
            if !path.is_file() {
                return Err(invalid(format!(
                    "cannot load seccomp profile {0:?}: open {0}: no such file or directory",
                    profile.localhost_ref
                )));
            }
            Seccomp::Localhost(path)
        }
    })
}

pub(crate) fn apparmor(security: &v1::LinuxContainerSecurityContext) -> Result<()> {
    use v1::security_profile::ProfileType;
    match &security.apparmor {
        Some(profile) if profile.profile_type() == ProfileType::Localhost && !security.privileged => {
            Err(RuntimeError::Unsupported(format!(
                "apparmor profile {:?}: apparmor is not supported",
                profile.localhost_ref
            )))
        }
        _ => Ok(()),
    }
}

fn process(
    config: &v1::ContainerConfig,
    security: &v1::LinuxContainerSecurityContext,
    image: &Image,
    identity: &Identity,
    hostname: &str,
) -> Result<Process> {
    let wanted = security.capabilities.clone().unwrap_or_default();
    let capabilities = if security.privileged {
        capabilities::ALL
    } else {
        capabilities::merge(&wanted.add_capabilities, &wanted.drop_capabilities)
    };
    let ambient = wanted.add_ambient_capabilities.iter();
    let ambient = ambient.filter_map(|n| capabilities::bit(n)).fold(0, |a, b| a | b);
    let mut env = environment(config, &image.settings, hostname)?;
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        let home = identity.home.as_deref().filter(|h| !h.is_empty()).unwrap_or("/");
        env.push(format!("HOME={home}"));
    }
    let cwd = [&config.working_dir, &image.settings.working_dir]
        .into_iter()
        .find(|d| !d.is_empty());
    let score = config
        .linux
        .as_ref()
        .and_then(|l| l.resources.as_ref())
        .map_or(0, |r| r.oom_score_adj);
    Ok(Process {
        args: arguments(config, &image.settings)?,
        env,
        cwd: cwd.map_or("/", String::as_str).to_owned(),
        tty: config.tty,
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups.clone(),
        capabilities: capabilities | ambient,
        ambient,
        no_new_privs: security.no_new_privs,
        seccomp: seccomp(security)?,
        oom_score_adj: score.clamp(-1000, 1000) as i32,
        rlimits: Vec::new(),
    })
}

/// Binds of the pod, images as volumes, and the files every container has unless the pod brings its own.
fn mounts(
    config: &v1::ContainerConfig,
    private_ipc: bool,
    readonly: bool,
    places: &Places,
) -> Result<(Vec<BindMount>, Vec<ImageMount>)> {
    let (mut binds, mut images) = (Vec::new(), Vec::new());
    for mount in &config.mounts {
        if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
            return Err(RuntimeError::Unsupported(format!(
                "mount {:?}: id-mapped mounts are not supported",
                mount.container_path
            )));
        }
        if !mount.mount_options.is_empty() {
            return Err(RuntimeError::Unsupported(format!(
                "mount {:?}: mount options are not supported",
                mount.container_path
            )));
        }
        if let Some(spec) = mount.image.as_ref().filter(|i| !i.image.is_empty()) {
            let image = places.store.find(&spec.image).ok_or_else(|| RuntimeError::NotFound {
                kind: "image",
                id: spec.image.clone(),
            })?;
            images.push(ImageMount {
                target: mount.container_path.clone(),
                layers: image.layers,
                sub_path: mount.image_sub_path.clone(),
            });
            continue;
        }
        if mount.recursive_read_only && !mount.readonly {
            return Err(invalid(format!(
                "mount {:?}: recursive read-only needs read-only",
                mount.container_path
            )));
        }
        let source = PathBuf::from(&mount.host_path);
        if !source.exists() {
            std::fs::create_dir_all(&source)
                .map_err(|e| invalid(format!("failed to mkdir {:?}: {e}", mount.host_path)))?;
        }
        binds.push(BindMount {
            source,
            target: mount.container_path.clone(),
            readonly: mount.readonly,
            recursive_readonly: mount.recursive_read_only,
            propagation: match mount.propagation() {
                v1::MountPropagation::PropagationPrivate => Propagation::Private,
                v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
                v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
            },
        });
    }
    let mut add = |source: PathBuf, target: &str, readonly| {
        if !binds.iter().any(|b| Path::new(&b.target) == Path::new(target)) {
            binds.push(BindMount {
                source,
                target: target.to_owned(),
                readonly,
                ..BindMount::default()
            });
        }
    };
    for name in ["hostname", "hosts", "resolv.conf"] {
        add(places.sandbox.join(name), &format!("/etc/{name}"), readonly);
    }
    let shm = if private_ipc {
        places.shim.join("shm")
    } else {
        PathBuf::from("/dev/shm")
    };
    add(shm, "/dev/shm", false);
    Ok((binds, images))
}

/// What the image declares as volumes and the pod does not mount over.
fn volumes(image: &Settings, mounts: &[BindMount]) -> Vec<String> {
    let mounted = |path: &str| mounts.iter().any(|m| Path::new(&m.target) == Path::new(path));
    let declared = image
        .volumes
        .keys()
        .filter(|path| path.starts_with('/') && !mounted(path));
    declared.cloned().collect()
}

/// The whole of it. Reads the image's user files and the node's devices; changes nothing but makes missing host paths.
pub fn build(
    id: &str,
    config: &v1::ContainerConfig,
    sandbox: &v1::PodSandboxConfig,
    image: &Image,
    hostname: &str,
    places: &Places,
) -> Result<(ContainerSpec, Identity)> {
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    apparmor(&security)?;
    let sandbox_linux = sandbox.linux.clone().unwrap_or_default();
    let namespaces = security.namespace_options.clone().unwrap_or_default();
    let node = v1::NamespaceMode::Node;
    let (private_network, private_ipc) = (namespaces.network() != node, namespaces.ipc() != node);
    let layer_dir = places.store.layer_dir();
    let identity = identity(&security, image, &layer_dir)?;
    let (mounts, images) = mounts(config, private_ipc, security.readonly_rootfs, places)?;
    let parent = if sandbox_linux.cgroup_parent.is_empty() {
        places.cgroup_parent
    } else {
        &sandbox_linux.cgroup_parent
    };
    let log = (!sandbox.log_directory.is_empty() && !config.log_path.is_empty())
        .then(|| Path::new(&sandbox.log_directory).join(&config.log_path));
    let spec = ContainerSpec {
        id: id.to_owned(),
        process: process(config, &security, image, &identity, hostname)?,
        root: RootFs {
            layers: image.layers.clone(),
            layer_dir,
            upper: places.container.join("upper"),
            work: places.container.join("work"),
            mountpoint: places.container.join("rootfs"),
            readonly: security.readonly_rootfs,
            volumes: volumes(&image.settings, &mounts),
        },
        pid: match namespaces.pid() {
            v1::NamespaceMode::Pod => PidNamespace::Sandbox,
            v1::NamespaceMode::Container => PidNamespace::Own,
            v1::NamespaceMode::Node => PidNamespace::Host,
            v1::NamespaceMode::Target => PidNamespace::Target(namespaces.target_id.clone()),
        },
        private_network,
        private_ipc,
        mounts,
        images,
        devices: devices::of(&config.devices, security.privileged)?,
        masked_paths: security.masked_paths.clone(),
        readonly_paths: security.readonly_paths.clone(),
        privileged: security.privileged,
        cgroup: format!("{}/{id}", parent.trim_end_matches('/')),
        resources: resources(&linux.resources.unwrap_or_default()),
        log,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
    };
    Ok((spec, identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn a_command_of_the_pod_drops_the_image_s_arguments() {
        let image = Settings {
            entrypoint: strings(&["e"]),
            cmd: strings(&["c"]),
            ..Settings::default()
        };
        for (command, args, want) in [
            (vec![], vec![], vec!["e", "c"]),
            (vec!["x"], vec![], vec!["x"]),
            (vec![], vec!["y"], vec!["e", "y"]),
            (vec!["x"], vec!["y"], vec!["x", "y"]),
        ] {
            let config = v1::ContainerConfig {
                command: strings(&command),
                args: strings(&args),
                ..Default::default()
            };
            assert_eq!(arguments(&config, &image).unwrap(), strings(&want));
        }
        assert!(arguments(&v1::ContainerConfig::default(), &Settings::default()).is_err());
    }

    #[test]
    fn variables_of_the_pod_replace_those_of_the_image() {
        let image = Settings {
            env: strings(&["PATH=/image", "A=1"]),
            ..Settings::default()
        };
        let config = v1::ContainerConfig {
            envs: vec![v1::KeyValue {
                key: "A".into(),
                value: b"2".to_vec(),
            }],
            ..Default::default()
        };
        assert_eq!(
            environment(&config, &image, "h").unwrap(),
            strings(&["PATH=/image", "HOSTNAME=h", "A=2"])
        );
    }

    #[test]
    fn a_group_without_a_user_is_refused() {
        let mut security = v1::LinuxContainerSecurityContext {
            run_as_group: Some(v1::Int64Value { value: 5 }),
            ..Default::default()
        };
        assert!(user_text(&security, &Settings::default()).is_err());
        security.run_as_user = Some(v1::Int64Value { value: 7 });
        assert_eq!(user_text(&security, &Settings::default()).unwrap(), "7:5");
    }
}
