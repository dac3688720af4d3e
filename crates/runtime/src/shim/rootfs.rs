//! A container's file system, made inside its own mount namespace: overlay, kernel file systems, binds, devices.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::message::Failure;
use crate::cgroup::Hierarchy;
use crate::spec::{ContainerSpec, Propagation};
use crate::sys;

/// A step's outcome: a failure names the path it is about.
pub type Result<T> = std::result::Result<T, Failure>;

pub(crate) trait Naming<T> {
    /// Says what was tried when it failed.
    fn naming(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::fmt::Display> Naming<T> for std::result::Result<T, E> {
    fn naming(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| format!("{}: {e}", what()).into())
    }
}

const HARDENED: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC).union(MsFlags::MS_NODEV);
const NONE: Option<&str> = None;

/// A bind that waits for its place.
struct Detached {
    tree: OwnedFd,
    target: PathBuf,
    directory: bool,
    order: usize,
}

fn depth(path: &str) -> usize {
    Path::new(path).components().count()
}

/// Takes the sources while the namespace still shares propagation with the host, then cuts it off.
fn take_sources(spec: &ContainerSpec) -> Result<Vec<Detached>> {
    let mut taken = Vec::with_capacity(spec.mounts.len());
    for bind in &spec.mounts {
        let what = || format!("mount {} to {}", bind.source.display(), bind.target);
        let directory = std::fs::metadata(&bind.source).naming(what)?.is_dir();
        let tree = sys::open_tree(&bind.source, true).naming(what)?;
        taken.push(Detached {
            tree,
            target: PathBuf::from(&bind.target),
            directory,
            order: depth(&bind.target),
        });
    }
    // MS_SLAVE and not private: mounts made on the host later reach HostToContainer binds.
    mount(NONE, "/", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE).naming(|| "make / a slave mount".to_owned())?;
    for (bind, detached) in spec.mounts.iter().zip(&taken) {
        let (recursive, attributes) = match (bind.readonly, bind.recursive_readonly) {
            (true, true) => (true, sys::MOUNT_ATTR_RDONLY),
            (true, false) => (false, sys::MOUNT_ATTR_RDONLY),
            _ => (false, 0),
        };
        let propagation = match bind.propagation {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::HostToContainer => libc::MS_SLAVE,
            Propagation::Bidirectional => libc::MS_SHARED,
        };
        let what = || format!("set up the mount of {}", bind.source.display());
        if attributes != 0 {
            sys::mount_setattr(detached.tree.as_fd(), recursive, attributes, 0).naming(what)?;
        }
        sys::mount_setattr(detached.tree.as_fd(), true, 0, propagation).naming(what)?;
    }
    Ok(taken)
}

fn overlay(spec: &ContainerSpec) -> Result<OwnedFd> {
    let root = &spec.root;
    let escape = |path: &Path| {
        path.to_string_lossy()
            .replace('\\', "\\\\")
            .replace(',', "\\,")
            .replace(':', "\\:")
    };
    std::env::set_current_dir(&root.layer_dir).naming(|| format!("enter {}", root.layer_dir.display()))?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        root.layers.join(":"),
        escape(&root.upper),
        escape(&root.work)
    );
    mount(
        Some("overlay"),
        &root.mountpoint,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .naming(|| {
        format!(
            "mount overlay of {} layers at {}",
            root.layers.len(),
            root.mountpoint.display()
        )
    })?;
    File::open(&root.mountpoint)
        .map(OwnedFd::from)
        .naming(|| format!("open {}", root.mountpoint.display()))
}

/// Makes the mount point of `target` in the root and gives a handle of it.
fn place(root: BorrowedFd, target: &Path, directory: bool) -> io::Result<OwnedFd> {
    if directory {
        return sys::make_dirs_in_root(root, target, 0o755);
    }
    match sys::open_in_root(root, target, libc::O_PATH, 0) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
            let parent = target.parent().unwrap_or(Path::new("/"));
            sys::make_dirs_in_root(root, parent, 0o755)?;
            sys::open_in_root(root, target, libc::O_CREAT | libc::O_WRONLY, 0o644)?;
            sys::open_in_root(root, target, libc::O_PATH, 0)
        }
        other => other,
    }
}

/// A path that refers to what the handle refers to, for calls that take only paths.
fn handle_path(handle: &impl AsFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd()))
}

fn kernel_mount(root: BorrowedFd, target: &str, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    let what = || format!("mount {kind} at {target}");
    let at = place(root, Path::new(target), true).naming(what)?;
    mount(Some(kind), &handle_path(&at), Some(kind), flags, Some(options)).naming(what)
}

/// Builds the root and enters it. Call in a new mount namespace, and in the container's other namespaces.
pub fn build(spec: &ContainerSpec, hierarchy: &Hierarchy) -> Result<()> {
    let mut binds = take_sources(spec)?;
    let root = overlay(spec)?;
    let root = root.as_fd();
    let own = |path: &str| spec.mounts.iter().any(|m| Path::new(&m.target) == Path::new(path));
    if !own("/proc") {
        kernel_mount(root, "/proc", "proc", HARDENED, "")?;
    }
    if !own("/dev") {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME;
        kernel_mount(root, "/dev", "tmpfs", flags, "mode=755,size=65536k")?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        kernel_mount(
            root,
            "/dev/pts",
            "devpts",
            flags,
            "newinstance,ptmxmode=0666,mode=0620,gid=5",
        )?;
        kernel_mount(root, "/dev/mqueue", "mqueue", HARDENED, "")?;
        devices(spec, root)?;
    }
    if !own("/sys") {
        let readonly = if spec.privileged {
            MsFlags::empty()
        } else {
            MsFlags::MS_RDONLY
        };
        kernel_mount(root, "/sys", "sysfs", HARDENED | readonly, "")?;
        if !own("/sys/fs/cgroup") {
            cgroups(spec, hierarchy, root)?;
        }
    }
    if spec.root.readonly {
        for path in &spec.root.volumes {
            volume(path, root)?;
        }
    }
    for image in &spec.images {
        image_mount(spec, image, root)?;
    }
    binds.sort_by_key(|b| b.order);
    for bind in &binds {
        let what = || format!("mount at {}", bind.target.display());
        let at = place(root, &bind.target, bind.directory).naming(what)?;
        sys::move_mount(bind.tree.as_fd(), at.as_fd()).naming(what)?;
    }
    drop(binds);
    enter(&spec.root.mountpoint)?;
    if !spec.privileged {
        protect(spec)?;
    }
    Ok(())
}

fn enter(root: &Path) -> Result<()> {
    std::env::set_current_dir(root).naming(|| format!("enter {}", root.display()))?;
    // The new root stacked over the old one: no directory for the old root is needed. See pivot_root(2), NOTES.
    nix::unistd::pivot_root(".", ".").naming(|| "pivot_root".to_owned())?;
    umount2(".", MntFlags::MNT_DETACH).naming(|| "detach the old root".to_owned())?;
    std::env::set_current_dir("/").naming(|| "enter /".to_owned())
}

fn devices(spec: &ContainerSpec, root: BorrowedFd) -> Result<()> {
    for device in &spec.devices {
        let what = || format!("make device {}", device.path);
        let path = Path::new(&device.path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(format!("device path {:?} has no name", device.path).into());
        };
        let dir = sys::make_dirs_in_root(root, parent, 0o755).naming(what)?;
        let kind = if device.block { libc::S_IFBLK } else { libc::S_IFCHR };
        let number = libc::makedev(device.major, device.minor);
        let full = handle_path(&dir).join(name);
        match sys::mknod_at(dir.as_fd(), name, kind | device.mode, number) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            other => other.naming(what)?,
        }
        use std::os::unix::fs::{PermissionsExt, chown};
        // mknod(2) applies the umask.
        std::fs::set_permissions(&full, std::fs::Permissions::from_mode(device.mode)).naming(what)?;
        chown(&full, Some(device.uid), Some(device.gid)).naming(what)?;
    }
    let dev = place(root, Path::new("/dev"), true).naming(|| "open /dev".to_owned())?;
    for (target, name) in [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ] {
        let path = handle_path(&dev).join(name);
        match std::os::unix::fs::symlink(target, &path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.naming(|| format!("link /dev/{name}"))?,
        }
    }
    Ok(())
}

fn cgroups(spec: &ContainerSpec, hierarchy: &Hierarchy, root: BorrowedFd) -> Result<()> {
    let readonly = if spec.privileged {
        MsFlags::empty()
    } else {
        MsFlags::MS_RDONLY
    };
    match hierarchy {
        Hierarchy::V2 { .. } => kernel_mount(root, "/sys/fs/cgroup", "cgroup2", HARDENED | readonly, ""),
        Hierarchy::V1 { controllers } => {
            kernel_mount(root, "/sys/fs/cgroup", "tmpfs", HARDENED, "mode=755")?;
            for controller in controllers {
                let target = format!("/sys/fs/cgroup/{}", controller.dir_name());
                kernel_mount(root, &target, "cgroup", HARDENED | readonly, &controller.options)?;
            }
            let top = place(root, Path::new("/sys/fs/cgroup"), true).naming(|| "open /sys/fs/cgroup".to_owned())?;
            if readonly.is_empty() {
                return Ok(());
            }
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | readonly | HARDENED;
            mount(NONE, &handle_path(&top), NONE, flags, NONE).naming(|| "make /sys/fs/cgroup read-only".to_owned())
        }
    }
}

/// A mount of the directory over itself: it does not become read-only with the root, and keeps the image's content.
fn volume(path: &str, root: BorrowedFd) -> Result<()> {
    let what = || format!("make volume {path}");
    let at = place(root, Path::new(path), true).naming(what)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(&handle_path(&at)), &handle_path(&at), NONE, MsFlags::MS_BIND, NONE).naming(what)?;
    let over = place(root, Path::new(path), true).naming(what)?;
    mount(NONE, &handle_path(&over), NONE, flags | MsFlags::MS_REMOUNT, NONE).naming(what)
}

fn image_mount(spec: &ContainerSpec, image: &crate::spec::ImageMount, root: BorrowedFd) -> Result<()> {
    let what = || format!("mount image at {}", image.target);
    let at = place(root, Path::new(&image.target), true).naming(what)?;
    let scratch = &spec.root.mountpoint.with_file_name("image");
    std::fs::create_dir_all(scratch).naming(what)?;
    // An overlay without an upper directory needs two lower ones; the top layer may be named twice no more, so an
    // empty directory stands in.
    let empty = scratch.with_file_name("empty");
    std::fs::create_dir_all(&empty).naming(what)?;
    let options = format!("lowerdir={}:{}", image.layers.join(":"), empty.display());
    std::env::set_current_dir(&spec.root.layer_dir).naming(what)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("overlay"), scratch, Some("overlay"), flags, Some(options.as_str())).naming(what)?;
    let top = File::open(scratch).naming(what)?;
    let source = sys::open_in_root(top.as_fd(), &image.sub_path, libc::O_PATH | libc::O_DIRECTORY, 0).naming(what)?;
    mount(
        Some(&handle_path(&source)),
        &handle_path(&at),
        NONE,
        MsFlags::MS_BIND,
        NONE,
    )
    .naming(what)?;
    drop((source, top));
    umount2(scratch, MntFlags::MNT_DETACH).naming(what)
}

/// Masked and read-only paths, then the root itself. Inside the new root.
fn protect(spec: &ContainerSpec) -> Result<()> {
    for path in &spec.readonly_paths {
        let what = || format!("make {path} read-only");
        match mount(
            Some(path.as_str()),
            path.as_str(),
            NONE,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            NONE,
        ) {
            Err(nix::Error::ENOENT) => continue,
            other => other.naming(what)?,
        }
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | HARDENED;
        mount(NONE, path.as_str(), NONE, flags, NONE).naming(what)?;
    }
    for path in &spec.masked_paths {
        let what = || format!("mask {path}");
        match mount(Some("/dev/null"), path.as_str(), NONE, MsFlags::MS_BIND, NONE) {
            Ok(()) | Err(nix::Error::ENOENT) => {}
            Err(nix::Error::ENOTDIR) => {
                mount(Some("tmpfs"), path.as_str(), Some("tmpfs"), MsFlags::MS_RDONLY, NONE).naming(what)?;
            }
            Err(e) => return Err(format!("{}: {e}", what()).into()),
        }
    }
    Ok(())
}

/// The last step of the file system: nothing may be created in the root after it.
pub fn seal(spec: &ContainerSpec) -> Result<()> {
    if !spec.root.readonly {
        return Ok(());
    }
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(NONE, "/", NONE, flags, NONE).naming(|| "make / read-only".to_owned())
}

/// The pod's shared memory, on the host so that every container can bind it. Bytes as upstream's runtimes: 64 MiB.
pub fn shared_memory(path: &Path) -> Result<()> {
    let what = || format!("mount shared memory at {}", path.display());
    std::fs::create_dir_all(path).naming(what)?;
    mount(
        Some("shm"),
        path,
        Some("tmpfs"),
        // containers may run what they put there, as with upstream's runtimes
        MsFlags::empty(),
        Some("mode=1777,size=67108864"),
    )
    .naming(what)
}
