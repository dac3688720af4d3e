//! Where a container sees the pod's volumes: mount paths, sub-paths that cannot leave their volume, propagation.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod};
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

/// The mounts of one container. `env` expands `subPathExpr`.
pub fn container_mounts(
    pod: &Pod,
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    env: &[(String, String)],
    pod_dir: &Path,
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
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let names = || (mount.name.clone(), container.name.clone());
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
            _ => v1::MountPropagation::PropagationPrivate,
        };
        let mut made = v1::Mount {
            container_path: mount.mount_path.clone(),
            readonly: mount.read_only.unwrap_or(false),
            propagation: propagation as i32,
            recursive_read_only: mount.recursive_read_only.as_deref() == Some("Enabled"),
            ..Default::default()
        };
        let spec = pod
            .spec
            .iter()
            .flat_map(|s| s.volumes.iter().flatten())
            .find(|v| v.name == mount.name);
        let claim = spec.and_then(|v| v.persistent_volume_claim.as_ref());
        made.readonly |= claim.is_some_and(|c| c.read_only == Some(true));
        if let Some(image) = spec.and_then(|v| v.image.as_ref()) {
            made.readonly = true;
            made.image_sub_path = mount.sub_path.clone().unwrap_or_default();
            made.image = Some(v1::ImageSpec {
                image: image.reference.clone().unwrap_or_default(),
                ..Default::default()
            });
            mounts.push(made);
            continue;
        }
        let Some(path) = volumes.get(&mount.name) else {
            let (volume, container) = names();
            return Err(MountError::NoVolume { volume, container });
        };
        let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) if !path.is_empty() => path.clone(),
            (_, Some(expr)) => expand(expr, &|name| {
                env.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone())
            }),
            _ => String::new(),
        };
        let host = if sub_path.is_empty() {
            path.clone()
        } else {
            let at = pod_dir
                .join("volume-subpaths")
                .join(&mount.name)
                .join(&container.name)
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
        mounts.push(made);
    }
    Ok(mounts)
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
