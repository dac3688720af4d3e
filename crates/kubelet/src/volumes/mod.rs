//! The volumes of a pod on the node: made before its containers, kept current, removed after them.

mod atomic_writer;
mod claim;
mod mounts;
mod ownership;
mod payload;
mod projected;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, HostPathVolumeSource, PersistentVolume, Pod, Volume, VolumeProjection};

pub use claim::{ClaimError, resolve};
pub use mounts::{MountError, container_mounts, recursive_read_only};
pub use payload::TokenKey;
pub use projected::{Bundles, Certificates, Place, Projected, sources};

use crate::cgroups::PodLimits;
use crate::env::Sources;
use crate::pod::PodExt;
use crate::resources;

/// Why a volume cannot be set up (the `FailedMount` event).
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("MountVolume.SetUp failed for volume {volume:?} : {source}")]
    Setup { volume: String, source: SetupError },
}

/// What is wrong with a volume.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Claimed(#[from] claim::ClaimedError),
    #[error(transparent)]
    HostPath(#[from] HostPathError),
    #[error("unknown storage medium {0:?}")]
    Medium(String),
    #[error(transparent)]
    HugePages(#[from] HugePagesError),
    #[error(transparent)]
    Payload(#[from] payload::PayloadError),
    #[error("volumes of type {0} are not supported by this node")]
    Type(String),
}

/// Why what is at a path of the node is not what the pod asks for.
#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0:?} is an invalid volume type")]
    Type(String),
    #[error("hostPath type check failed: {path} is not {what}")]
    Not { path: String, what: &'static str },
}

/// Why a volume of huge pages cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum HugePagesError {
    #[error("medium HugePages-{size}: no container of the pod asks for hugepages-{size}")]
    NotAsked { size: String },
    #[error("medium HugePages: hugePages storage requested, but there is no resource request for huge pages")]
    NoRequest,
    #[error("medium HugePages: the pod asks for pages of several sizes, so their size must be named")]
    Several,
    #[error(transparent)]
    Mount(#[from] io::Error),
}

fn failed(volume: &str, source: impl Into<SetupError>) -> VolumeError {
    VolumeError::Setup {
        volume: volume.to_owned(),
        source: source.into(),
    }
}

/// The pod's volumes that a container has: the others are not waited for, whatever is wrong with them. Upstream:
/// `GetPodVolumeNames` of the volume manager.
pub fn used(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let mut names = BTreeSet::new();
    for (_, container) in pod.every_container() {
        names.extend(container.volume_mounts.into_iter().flatten().map(|m| m.name));
        names.extend(container.volume_devices.into_iter().flatten().map(|d| d.name));
    }
    let all = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    all.filter(move |volume| names.contains(&volume.name))
}

/// Names a pod's volumes and image pull secrets refer to: ConfigMaps, Secrets.
pub fn references(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    let spec = pod.spec.as_ref();
    for volume in used(pod) {
        maps.extend(volume.config_map.as_ref().map(|c| c.name.clone()));
        secrets.extend(volume.secret.as_ref().and_then(|s| s.secret_name.clone()));
        for source in projections(volume) {
            maps.extend(source.config_map.as_ref().map(|c| c.name.clone()));
            secrets.extend(source.secret.as_ref().map(|s| s.name.clone()));
        }
    }
    secrets.extend(
        spec.iter()
            .flat_map(|s| s.image_pull_secrets.iter().flatten())
            .map(|s| s.name.clone()),
    );
    (maps, secrets)
}

fn projections(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
    volume.projected.iter().flat_map(|p| p.sources.iter().flatten())
}

/// The service-account tokens a pod's volumes ask for.
pub fn token_keys(pod: &Pod) -> Vec<TokenKey> {
    used(pod)
        .flat_map(projections)
        .filter_map(|p| p.service_account_token.as_ref())
        .map(TokenKey::of)
        .collect()
}

/// Where a pod's directory is and what fills it.
#[derive(Debug)]
pub struct Setup<'a> {
    pub pod: &'a Pod,
    /// `<root>/pods/<uid>`.
    pub pod_dir: &'a Path,
    pub sources: &'a Sources,
    pub tokens: &'a HashMap<TokenKey, String>,
    pub projected: &'a Projected,
    /// The persistent volumes of the pod's claims, by the names of the pod's volumes.
    pub claims: &'a BTreeMap<String, PersistentVolume>,
    /// Whether volumes of memory are mounted; they are plain folders else.
    pub in_memory: bool,
    pub now: Timestamp,
}

fn plugin_dir(pod_dir: &Path, plugin: &str, volume: &str) -> PathBuf {
    pod_dir
        .join("volumes")
        .join(format!("kubernetes.io~{plugin}"))
        .join(volume)
}

/// The volumes as they are now.
#[derive(Debug)]
pub struct Made {
    /// Where each of them is, if all are there.
    pub paths: Option<BTreeMap<String, PathBuf>>,
    /// What is wrong with each that could not be made or refreshed.
    pub errors: Vec<VolumeError>,
    /// How long each took, by upstream's name of its kind, and whether it could be made.
    pub took: Vec<(String, bool, Duration)>,
}

impl Setup<'_> {
    /// Makes or refreshes every volume. One that was filled before and cannot be refreshed stays as it is, for the sake of the
    /// containers that have it.
    pub fn run(&self) -> Made {
        let (mut paths, mut errors, mut missing) = (BTreeMap::new(), Vec::new(), false);
        let mut took = Vec::new();
        for volume in used(self.pod) {
            // An image volume is mounted by the runtime.
            if volume.image.is_some() {
                continue;
            }
            let begun = Instant::now();
            let made = self.volume(volume);
            took.push((self.plugin_name(volume), made.is_ok(), begun.elapsed()));
            match made {
                Ok(path) => drop(paths.insert(volume.name.clone(), path)),
                Err(error) => {
                    errors.push(error);
                    match self.filled(volume) {
                        Some(path) => drop(paths.insert(volume.name.clone(), path)),
                        None => missing = true,
                    }
                }
            }
        }
        let paths = (!missing).then_some(paths);
        Made { paths, errors, took }
    }

    /// What upstream's metrics call the kind of a volume.
    fn plugin_name(&self, volume: &Volume) -> String {
        let claimed = self.claims.get(&volume.name).and_then(|claimed| claimed.spec.as_ref());
        let kind = match claimed {
            Some(spec) if spec.local.is_some() => "local-volume".to_owned(),
            Some(spec) if spec.nfs.is_some() => "nfs".to_owned(),
            Some(_) => "host-path".to_owned(),
            None => match kind_of(volume).as_str() {
                "configMap" => "configmap".to_owned(),
                "downwardAPI" => "downward-api".to_owned(),
                "emptyDir" => "empty-dir".to_owned(),
                "hostPath" => "host-path".to_owned(),
                other => other.to_lowercase(),
            },
        };
        format!("kubernetes.io/{kind}")
    }

    /// Where a volume of files that the kubelet writes is, if it has been filled.
    fn filled(&self, volume: &Volume) -> Option<PathBuf> {
        let plugin = payload::plugin_of(volume)?;
        let at = plugin_dir(self.pod_dir, plugin, &volume.name);
        atomic_writer::is_filled(&at).then_some(at)
    }

    fn volume(&self, volume: &Volume) -> Result<PathBuf, VolumeError> {
        let name = volume.name.as_str();
        let io = |e: io::Error| failed(name, e);
        let dir = |plugin: &str| plugin_dir(self.pod_dir, plugin, name);
        if let Some(claimed) = self.claims.get(name) {
            let read_only = volume
                .persistent_volume_claim
                .as_ref()
                .is_some_and(|c| c.read_only == Some(true));
            let group = self.fs_group().filter(|_| !read_only);
            let context = self.pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
            let policy = context.and_then(|c| c.fs_group_change_policy.as_deref());
            let only_if_needed = policy == Some("OnRootMismatch");
            return claim::set_up(claimed, self.pod_dir, group, only_if_needed).map_err(|reason| failed(name, reason));
        }
        if let Some(source) = &volume.host_path {
            host_path(source).map_err(|reason| failed(name, reason))?;
            return Ok(source.path.clone().into());
        }
        if let Some(source) = &volume.empty_dir {
            let at = dir("empty-dir");
            let fresh = !at.exists();
            fs::create_dir_all(&at).map_err(io)?;
            match source.medium.as_deref().unwrap_or_default() {
                "" => {}
                "Memory" => {
                    let wanted = source.size_limit.as_ref().map_or(0, resources::value);
                    self.mount_tmpfs(&at, wanted).map_err(io)?;
                }
                other => {
                    let size = other
                        .strip_prefix("HugePages")
                        .ok_or_else(|| failed(name, SetupError::Medium(other.to_owned())))?;
                    let wanted = source.size_limit.as_ref().map_or(0, resources::value);
                    self.mount_hugepages(&at, size.strip_prefix('-'), wanted)
                        .map_err(|reason| failed(name, reason))?;
                }
            }
            if fresh {
                // what lives in memory is its own file system, with the mode of one for temporary files
                let mode = if source.medium.as_deref() == Some("Memory") {
                    0o1777
                } else {
                    0o777
                };
                fs::set_permissions(&at, fs::Permissions::from_mode(mode)).map_err(io)?;
                if let Some(group) = self.fs_group() {
                    ownership::own_by_group(&at, group).map_err(io)?;
                }
            }
            return Ok(at);
        }
        let payload = self.payload(volume).map_err(|reason| failed(name, reason))?;
        let Some((plugin, memory, payload)) = payload else {
            return Err(failed(name, SetupError::Type(kind_of(volume))));
        };
        let at = dir(plugin);
        fs::create_dir_all(&at).map_err(io)?;
        match memory {
            true => self.mount_tmpfs(&at, 0).map_err(io)?,
            // as upstream's, whose wrapped emptyDir is open; containers see it read-only
            false => fs::set_permissions(&at, fs::Permissions::from_mode(0o777)).map_err(io)?,
        }
        let stamp = format!(
            "{}.{}",
            self.now.strftime("%Y_%m_%d_%H_%M_%S"),
            self.now.subsec_nanosecond()
        );
        let group = self.fs_group();
        let payload = if group.is_some() {
            // The group may read what is shown read-only to all.
            payload
                .into_iter()
                .map(|(path, file)| {
                    let mode = file.mode | 0o440;
                    (path, atomic_writer::File { mode, ..file })
                })
                .collect()
        } else {
            payload
        };
        let changed = atomic_writer::write(&at, &payload, group, &stamp).map_err(io)?;
        if let Some(group) = group.filter(|_| changed) {
            ownership::show_to_group(&at, group).map_err(io)?;
        }
        Ok(at)
    }

    fn mount_tmpfs(&self, path: &Path, wanted: i64) -> io::Result<()> {
        match self.in_memory {
            true => mount_tmpfs(path, self.memory(wanted)),
            false => Ok(()),
        }
    }

    /// Bytes that a file system in memory may hold: what is wanted of it, where that is less than the pod may use, or else all
    /// pods together. Upstream: `calculateEmptyDirMemorySize`.
    fn memory(&self, wanted: i64) -> Option<i64> {
        let of_node = self.sources.allocatable.get("memory").map(|milli| milli / 1000);
        let of_pod = PodLimits::of(self.pod).memory;
        let most = [of_node, of_pod, Some(wanted)].into_iter().flatten();
        most.filter(|size| *size > 0).min()
    }

    /// Mounts huge pages of a size, or of the only one the pod asks for.
    fn mount_hugepages(&self, path: &Path, size: Option<&str>, limit: i64) -> Result<(), HugePagesError> {
        let containers = self.pod.init_containers().iter().chain(self.pod.containers());
        let asked = containers.filter_map(|c| c.resources.as_ref()?.requests.as_ref());
        let mut sizes: Vec<&str> = asked
            .flat_map(|r| r.keys())
            .filter_map(|name| name.strip_prefix("hugepages-"))
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        let size = match (size, sizes.as_slice()) {
            (Some(size), all) if all.contains(&size) => size,
            (Some(size), _) => {
                return Err(HugePagesError::NotAsked { size: size.to_owned() });
            }
            (None, [one]) => one,
            (None, []) => return Err(HugePagesError::NoRequest),
            (None, _) => return Err(HugePagesError::Several),
        };
        let mut options = format!("pagesize={}", size.trim_end_matches('i'));
        if limit > 0 {
            options.push_str(&format!(",size={limit}"));
        }
        Ok(mount_memory(path, "hugetlbfs", Some(&options))?)
    }

    /// Whose a private file is and its mode: of the one user of all containers, or the pod's group, or as the volume says.
    fn private(&self, default: Option<i32>) -> (Option<u32>, u32) {
        let (owner, group) = (self.only_user(), self.fs_group());
        let mode = match owner.is_some() || group.is_some() {
            true => 0o600,
            false => payload::mode(None, default),
        };
        (owner, mode)
    }

    fn fs_group(&self) -> Option<u32> {
        let context = self.pod.spec.as_ref()?.security_context.as_ref()?;
        u32::try_from(context.fs_group?).ok()
    }

    /// Every container runs as this user, so that private files may be its own.
    fn only_user(&self) -> Option<u32> {
        let spec = self.pod.spec.as_ref()?;
        let default = spec.security_context.as_ref().and_then(|c| c.run_as_user);
        let of = |c: &Container| c.security_context.as_ref().and_then(|s| s.run_as_user).or(default);
        let mut users = self.pod.init_containers().iter().chain(&spec.containers).map(of);
        let first = users.next()??;
        users
            .all(|u| u == Some(first))
            .then(|| u32::try_from(first).ok())
            .flatten()
    }
}

fn kind_of(volume: &Volume) -> String {
    let json = serde_json::to_value(volume).unwrap_or_default();
    json.as_object()
        .and_then(|o| o.keys().find(|k| *k != "name").cloned())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Creates what `type` says is created and checks what it says must be there.
fn host_path(source: &HostPathVolumeSource) -> Result<(), HostPathError> {
    use std::os::unix::fs::FileTypeExt;
    let path = Path::new(&source.path);
    let type_ = source.type_.as_deref().unwrap_or_default();
    match type_ {
        "DirectoryOrCreate" if !path.exists() => {
            fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))?;
        }
        "FileOrCreate" if !path.exists() => {
            fs::File::create(path).and_then(|f| f.set_permissions(fs::Permissions::from_mode(0o644)))?;
        }
        _ => {}
    }
    let found = fs::metadata(path).map(|m| m.file_type());
    let is = |f: fn(&fs::FileType) -> bool| found.as_ref().is_ok_and(f);
    let (ok, what) = match type_ {
        "" => return Ok(()),
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "a file"),
        "Socket" => (is(FileTypeExt::is_socket), "a socket file"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "a block device"),
        other => return Err(HostPathError::Type(other.to_owned())),
    };
    if ok {
        Ok(())
    } else {
        Err(HostPathError::Not {
            path: source.path.clone(),
            what,
        })
    }
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let parent = path.parent().unwrap_or(Path::new("/"));
    Ok(fs::symlink_metadata(path)?.dev() != fs::metadata(parent)?.dev())
}

fn mount_tmpfs(path: &Path, size: Option<i64>) -> io::Result<()> {
    let size = size.map(|s| format!("size={s}"));
    // secrets must not reach a disk; kernels before 6.4 do not know the word
    let words = ["noswap"].into_iter().chain(size.as_deref());
    let options = words.collect::<Vec<_>>().join(",");
    match mount_memory(path, "tmpfs", Some(&options)) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => mount_memory(path, "tmpfs", size.as_deref()),
        other => other,
    }
}

/// Mounts a file system that lives in memory, unless one is mounted there.
fn mount_memory(path: &Path, kind: &str, options: Option<&str>) -> io::Result<()> {
    if is_mount_point(path)? {
        return Ok(());
    }
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some(kind), path, Some(kind), flags, options).map_err(io::Error::from)
}

/// Unmounts everything below a pod's directory and removes it. Only mounts made here are ever there.
pub fn tear_down(pod_dir: &Path) -> io::Result<()> {
    let text = match fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let mut below: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|p| PathBuf::from(p.replace("\\040", " ")))
        .filter(|p| p.starts_with(pod_dir))
        .collect();
    below.reverse();
    for mount in below {
        nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH).map_err(io::Error::from)?;
    }
    files::remove_tree(pod_dir)
}
