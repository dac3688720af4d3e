//! Where a container sees the pod's volumes: mount paths, sub-paths that cannot leave their volume, propagation.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;

use crate::env::expand;

/// Why a mount cannot be made (`CreateContainerConfigError`).
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume { volume: String, container: String },
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}: {reason}")]
    SubPath {
        volume: String,
        container: String,
        reason: String,
    },
    #[error("volumeMount {volume:?} of container {container:?}: {reason}")]
    Unsupported {
        volume: String,
        container: String,
        reason: String,
    },
}

/// Why a mount cannot be read-only with all that is mounted below it, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecursiveError {
    #[error("volume {0:?} requested recursive read-only mode, but it is not read-only")]
    Writable(String),
    #[error("volume {volume:?} requested recursive read-only mode, but it is not compatible with propagation {mode:?}")]
    Propagation { volume: String, mode: String },
    #[error("volume {0:?} requested recursive read-only mode, but it is not supported by the runtime")]
    Unsupported(String),
    #[error("unknown recursive read-only mode {0:?}")]
    Mode(String),
}

/// Whether the mount is read-only with all that is mounted below it. `supported` is whether the runtime can do that.
pub fn recursive_read_only(mount: &VolumeMount, supported: bool) -> Result<bool, RecursiveError> {
    let mode = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
    let name = || mount.name.clone();
    if mode == "Disabled" {
        return Ok(false);
    }
    if mount.read_only != Some(true) {
        return Err(RecursiveError::Writable(name()));
    }
    match mount.mount_propagation.as_deref() {
        None | Some("None") => {}
        Some(other) => {
            return Err(RecursiveError::Propagation {
                volume: name(),
                mode: other.to_owned(),
            });
        }
    }
    match mode {
        "IfPossible" => Ok(supported),
        "Enabled" if supported => Ok(true),
        "Enabled" => Err(RecursiveError::Unsupported(name())),
        other => Err(RecursiveError::Mode(other.to_owned())),
    }
}

/// What the kubelet itself writes into is never a container's to change.
fn is_kubelets_own(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// The mounts of one container. `env` expands `subPathExpr`; `recursive` is whether the runtime makes mounts read-only
/// with all below them.
pub fn container_mounts(
    pod: &Pod,
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    env: &[(String, String)],
    pod_dir: &Path,
    recursive: bool,
) -> Result<Vec<v1::Mount>, MountError> {
    let mut mounts = Vec::new();
    if container.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
        let reason = "block devices are not supported by this node".to_owned();
        return Err(MountError::Unsupported {
            volume: String::new(),
            container: container.name.clone(),
            reason,
        });
    }
    let place = Place {
        pod,
        container,
        volumes,
        env,
        pod_dir,
        recursive,
    };
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        mounts.push(place.mount(index, mount)?);
    }
    Ok(mounts)
}

/// The container whose mounts are made, and what there is to mount.
struct Place<'a> {
    pod: &'a Pod,
    container: &'a Container,
    volumes: &'a BTreeMap<String, PathBuf>,
    env: &'a [(String, String)],
    pod_dir: &'a Path,
    recursive: bool,
}

impl Place<'_> {
    /// The mount at a place of the container's list.
    fn mount(&self, index: usize, mount: &VolumeMount) -> Result<v1::Mount, MountError> {
        let names = || (mount.name.clone(), self.container.name.clone());
        let recursive_read_only = recursive_read_only(mount, self.recursive).map_err(|reason| {
            let (volume, container) = names();
            MountError::Unsupported {
                volume,
                container,
                reason: format!("failed to resolve recursive read-only mode: {reason}"),
            }
        })?;
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
            _ => v1::MountPropagation::PropagationPrivate,
        };
        let mut made = v1::Mount {
            container_path: mount.mount_path.clone(),
            readonly: mount.read_only.unwrap_or(false),
            propagation: propagation as i32,
            recursive_read_only,
            mount_options: mount.bind_mount_options.clone().unwrap_or_default(),
            ..Default::default()
        };
        let spec = self
            .pod
            .spec
            .iter()
            .flat_map(|s| s.volumes.iter().flatten())
            .find(|v| v.name == mount.name);
        let claim = spec.and_then(|v| v.persistent_volume_claim.as_ref());
        made.readonly |= claim.is_some_and(|c| c.read_only == Some(true)) || spec.is_some_and(is_kubelets_own);
        if let Some(image) = spec.and_then(|v| v.image.as_ref()) {
            made.readonly = true;
            made.image_sub_path = mount.sub_path.clone().unwrap_or_default();
            made.image = Some(v1::ImageSpec {
                image: image.reference.clone().unwrap_or_default(),
                ..Default::default()
            });
            return Ok(made);
        }
        let Some(path) = self.volumes.get(&mount.name) else {
            let (volume, container) = names();
            return Err(MountError::NoVolume { volume, container });
        };
        let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) if !path.is_empty() => path.clone(),
            (_, Some(expr)) => expand(expr, &|name| {
                self.env.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone())
            }),
            _ => String::new(),
        };
        let host = if sub_path.is_empty() {
            path.clone()
        } else {
            let at = self
                .pod_dir
                .join("volume-subpaths")
                .join(&mount.name)
                .join(&self.container.name)
                .join(index.to_string());
            bind_sub_path(path, &sub_path, &at).map_err(|reason| {
                let (volume, container) = names();
                MountError::SubPath {
                    volume,
                    container,
                    reason: reason.to_string(),
                }
            })?;
            at
        };
        if !host.exists() {
            // A hostPath without a type: the runtime needs something to mount.
            fs::create_dir_all(&host).map_err(|e| {
                let (volume, container) = names();
                MountError::Unsupported {
                    volume,
                    container,
                    reason: e.to_string(),
                }
            })?;
        }
        made.host_path = host.to_string_lossy().into_owned();
        Ok(made)
    }
}

/// Opens below the volume's root; a link that leads out of it is refused by the kernel, so a container cannot swap one in.
fn open_beneath(root: &OwnedFd, path: &str) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    nix::fcntl::openat2(root, path, how)
}

fn bind_sub_path(volume: &Path, sub_path: &str, target: &Path) -> io::Result<()> {
    if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{sub_path:?} must be a relative path without \"..\""),
        ));
    }
    let root = nix::fcntl::open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let opened = match open_beneath(&root, sub_path) {
        Err(nix::errno::Errno::ENOENT) => {
            // As open to others as the volume itself.
            let mode = nix::sys::stat::fstat(&root)?.st_mode & 0o7777;
            make_dirs(&root, sub_path, Mode::from_bits_truncate(mode))?;
            open_beneath(&root, sub_path)?
        }
        other => other?,
    };
    let source = format!("/proc/self/fd/{}", opened.as_raw_fd());
    if target.exists() {
        // From an earlier start of the container; the sub-path may be another file by now.
        match nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::metadata(&source)?.is_dir() {
            fs::create_dir(target)?;
        } else {
            fs::File::create(target)?;
        }
    }
    nix::mount::mount(
        Some(source.as_str()),
        target,
        None::<&str>,
        nix::mount::MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(())
}

fn make_dirs(root: &OwnedFd, path: &str, mode: Mode) -> nix::Result<()> {
    let mut at = root
        .try_clone()
        .map_err(|e| nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        at = match open_beneath(&at, part) {
            Err(nix::errno::Errno::ENOENT) => {
                nix::sys::stat::mkdirat(&at, part, Mode::from_bits_truncate(0o750))?;
                // mkdir(2) applies the umask.
                nix::sys::stat::fchmodat(&at, part, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)?;
                open_beneath(&at, part)?
            }
            other => other?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(spec: &str, supported: bool) -> Result<Vec<v1::Mount>, MountError> {
        let pod: Pod = serde_json::from_str(&format!(r#"{{"spec":{spec}}}"#)).unwrap();
        let here = std::env::temp_dir();
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let paths = volumes.map(|v| (v.name.clone(), here.clone())).collect();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        container_mounts(&pod, container, &paths, &[], &here, supported)
    }

    #[test]
    fn what_the_kubelet_writes_is_read_only_for_containers() {
        for (source, readonly) in [
            (r#""configMap":{"name":"x"}"#, true),
            (r#""secret":{"secretName":"x"}"#, true),
            (r#""downwardAPI":{}"#, true),
            (r#""projected":{"sources":[]}"#, true),
            (r#""emptyDir":{}"#, false),
            (r#""hostPath":{"path":"/x"}"#, false),
        ] {
            let made = mounts(
                &format!(
                    r#"{{"containers":[{{"name":"c","volumeMounts":[{{"name":"v","mountPath":"/v"}}]}}],"volumes":[{{"name":"v",{source}}}]}}"#
                ),
                true,
            );
            assert_eq!(made.unwrap()[0].readonly, readonly, "{source}");
        }
    }

    #[test]
    fn read_only_goes_down_where_it_is_asked_for_and_possible() {
        let made = |mount: &str, supported| {
            let spec = format!(
                r#"{{"containers":[{{"name":"c","volumeMounts":[{{"name":"v","mountPath":"/v",{mount}}}]}}],"volumes":[{{"name":"v","emptyDir":{{}}}}]}}"#
            );
            mounts(&spec, supported).map(|m| m[0].recursive_read_only).ok()
        };
        for (mount, supported, recursive) in [
            (r#""readOnly":true"#, true, Some(false)),
            (r#""readOnly":true,"recursiveReadOnly":"Enabled""#, true, Some(true)),
            (r#""readOnly":true,"recursiveReadOnly":"Enabled""#, false, None),
            (r#""readOnly":true,"recursiveReadOnly":"IfPossible""#, true, Some(true)),
            (
                r#""readOnly":true,"recursiveReadOnly":"IfPossible""#,
                false,
                Some(false),
            ),
            (r#""recursiveReadOnly":"Enabled""#, true, None),
            (
                r#""readOnly":true,"recursiveReadOnly":"Enabled","mountPropagation":"HostToContainer""#,
                true,
                None,
            ),
        ] {
            assert_eq!(made(mount, supported), recursive, "{mount} {supported}");
        }
    }
}
