//! System calls that have no wrapper elsewhere: the mount API of Linux 5.2 and 5.12, `openat2(2)`, capabilities.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Component, Path, PathBuf};

use tokio::io::unix::AsyncFd;

pub(crate) const CWD: RawFd = libc::AT_FDCWD;
pub(crate) const RESOLVE_IN_ROOT: u64 = 0x10;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
pub(crate) const MOUNT_ATTR_RDONLY: u64 = 0x1;

pub(crate) fn path_text(path: impl AsRef<Path>) -> io::Result<CString> {
    let bytes = path.as_ref().as_os_str().as_encoded_bytes();
    CString::new(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "path holds a NUL byte"))
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A detached copy of the mount at `path`, and of those below when `recursive`.
pub fn open_tree(path: impl AsRef<Path>, recursive: bool) -> io::Result<OwnedFd> {
    let path = path_text(path)?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path outlives the call; the new descriptor is ours.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_open_tree, CWD, path.as_ptr(), flags))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Attaches a detached mount at what `target` refers to.
pub fn move_mount(mount: BorrowedFd, target: BorrowedFd) -> io::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty C strings.
    unsafe {
        check(libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            flags,
        ))?;
    }
    Ok(())
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Changes a mount's attributes and propagation, see mount_setattr(2).
pub fn mount_setattr(mount: BorrowedFd, recursive: bool, set: u64, propagation: u64) -> io::Result<()> {
    let attr = MountAttr {
        set,
        clear: 0,
        propagation,
        userns: 0,
    };
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: attr has the size given and outlives the call.
    unsafe {
        check(libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        ))?;
    }
    Ok(())
}

/// Opens `path` with every symbolic link and `..` kept inside `root`.
pub fn open_in_root(root: BorrowedFd, path: impl AsRef<Path>, flags: libc::c_int, mode: u32) -> io::Result<OwnedFd> {
    let relative = path.as_ref().strip_prefix("/").unwrap_or(path.as_ref());
    let path = path_text(if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    })?;
    // SAFETY: all zeroes is a valid open_how; path and how outlive the call; the new descriptor is ours.
    unsafe {
        let mut how: libc::open_how = std::mem::zeroed();
        how.flags = (flags | libc::O_CLOEXEC) as u64;
        how.mode = u64::from(mode);
        how.resolve = RESOLVE_IN_ROOT;
        loop {
            let fd = libc::syscall(
                libc::SYS_openat2,
                root.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            );
            match check(fd) {
                Ok(fd) => return Ok(OwnedFd::from_raw_fd(fd as RawFd)),
                // A rename somewhere in the tree raced with the walk: the kernel asks to try again.
                Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// Opens the regular file at `path` in `root` for reading. Whatever else is there is an error (`EINVAL`) and is never
/// opened itself: the other end of a FIFO may never come, and opening a device may do something.
pub fn open_regular_in_root(root: BorrowedFd, path: impl AsRef<Path>) -> io::Result<File> {
    files::regular_handle(&open_in_root(root, path, libc::O_PATH, 0)?.into())
}

/// Reads a regular file of the root whole; one with more than `most` bytes is an error (`EFBIG`).
pub fn read_in_root(root: BorrowedFd, path: impl AsRef<Path>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular_in_root(root, path)?
        .take(most + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(bytes)
}

pub(crate) fn mkdir_at(dir: BorrowedFd, name: impl AsRef<Path>, mode: u32) -> io::Result<()> {
    let name = path_text(name)?;
    // SAFETY: the name outlives the call.
    check(unsafe { libc::c_long::from(libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode)) }).map(drop)
}

pub(crate) fn mknod_at(dir: BorrowedFd, name: impl AsRef<Path>, mode: u32, device: u64) -> io::Result<()> {
    let name = path_text(name)?;
    // SAFETY: the name outlives the call.
    check(unsafe { libc::c_long::from(libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, device)) }).map(drop)
}

const DIRECTORY: libc::c_int = libc::O_PATH | libc::O_DIRECTORY;

/// The directory `name` of `dir`, where that is a directory itself and no link to one.
pub fn child_dir(dir: BorrowedFd, name: &OsStr) -> io::Result<OwnedFd> {
    open_in_root(dir, name, DIRECTORY | libc::O_NOFOLLOW, 0)
}

/// An `O_PATH` descriptor of a directory in `root`, made with its parents where missing.
pub fn make_dirs_in_root(root: BorrowedFd, path: &Path, mode: u32) -> io::Result<OwnedFd> {
    walk_dirs_in_root(root, path, mode, |_, _| Ok(()))
}

/// The same; each part of the path is told with the directory that was made for it, if one was. Goes from part to
/// part, so that a deep path costs its length and not the square of it.
pub fn walk_dirs_in_root(
    root: BorrowedFd,
    path: &Path,
    mode: u32,
    mut step: impl FnMut(&OsStr, Option<BorrowedFd>) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let mut so_far = PathBuf::new();
    let mut at = open_in_root(root, "/", DIRECTORY, 0)?;
    for part in path.components() {
        let Component::Normal(part) = part else {
            if part == Component::ParentDir {
                so_far.pop();
                at = open_in_root(root, &so_far, DIRECTORY, 0)?;
            }
            continue;
        };
        so_far.push(part);
        let mut made = false;
        let child = match child_dir(at.as_fd(), part) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                match mkdir_at(at.as_fd(), part, mode) {
                    Ok(()) => made = true,
                    Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
                    Err(e) => return Err(e),
                }
                child_dir(at.as_fd(), part)
            }
            other => other,
        };
        at = match child {
            // A link, which may lead anywhere in the root.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR)) => {
                open_in_root(root, &so_far, DIRECTORY, 0)?
            }
            other => other?,
        };
        step(part, made.then(|| at.as_fd()))?;
    }
    Ok(at)
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Version 3 of capset(2): two words of 32 capabilities.
const CAP_VERSION_3: u32 = 0x2008_0522;

/// Sets the calling thread's effective, permitted and inheritable capabilities.
pub fn set_capabilities(permitted: u64, inheritable: u64) -> io::Result<()> {
    let header = CapHeader {
        version: CAP_VERSION_3,
        pid: 0,
    };
    let word = |n: u32| CapData {
        effective: (permitted >> n) as u32,
        permitted: (permitted >> n) as u32,
        inheritable: (inheritable >> n) as u32,
    };
    let data = [word(0), word(32)];
    // SAFETY: version 3 reads two words.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// The calling thread's permitted capabilities.
pub fn permitted_capabilities() -> io::Result<u64> {
    let mut header = CapHeader {
        version: CAP_VERSION_3,
        pid: 0,
    };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 writes two words.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

pub(crate) fn prctl(option: libc::c_int, a: u64, b: u64) -> io::Result<()> {
    // SAFETY: only options with integer arguments are used here.
    check(unsafe { libc::c_long::from(libc::prctl(option, a, b, 0u64, 0u64)) }).map(drop)
}

/// Gives a signal its default action, also one that the C library keeps for itself. See rt_sigaction(2).
pub fn default_action(signal: i32) -> io::Result<()> {
    // handler, flags, restorer and mask as the kernel has them: all zero is the default
    let action = [0u64; 4];
    let set_size = size_of::<u64>();
    // SAFETY: the kernel reads the action, which lives until the call ends, and writes nothing.
    let done = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            action.as_ptr(),
            std::ptr::null_mut::<u64>(),
            set_size,
        )
    };
    check(done).map(drop)
}

pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: limit outlives the call.
    check(unsafe { libc::c_long::from(libc::setrlimit(resource, &raw const limit)) }).map(drop)
}

/// Waits until none of the processes runs any more, a tenth of a second each at most; a millisecond when there is none.
pub fn wait_for_exit(pids: &[i32]) -> io::Result<()> {
    let mut open = Vec::new();
    for pid in pids {
        // SAFETY: the new descriptor is ours. One that fails is of a process that is gone.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, *pid, 0) };
        if fd >= 0 {
            // SAFETY: as above.
            open.push(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
        }
    }
    let poll = |fds: &mut [libc::pollfd], milliseconds| {
        // SAFETY: fds has the length given and its descriptors are open.
        check(unsafe { libc::c_long::from(libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, milliseconds)) })
    };
    for fd in &open {
        let interest = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        poll(&mut [interest], 100)?;
    }
    poll(&mut [], 1).map(drop)
}

/// A descriptor whose readiness the async runtime tells. It must not block.
pub fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is one descriptor, the same for its whole life, and AsyncFd holds it for its own.
    Ok(unsafe { AsyncFd::register(fd)? })
}

/// See ioctl_tty(2); `terminal` is either end.
pub fn set_window_size(terminal: BorrowedFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request reads one winsize.
    check(unsafe { libc::c_long::from(libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size)) }).map(drop)
}

/// One that ended meanwhile is killed.
pub fn kill(pid: i32) {
    // SAFETY: sends a signal.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as i64)
}

/// Whether overlayfs shows nothing of the layers below in this directory.
pub fn is_opaque(dir: &Path) -> bool {
    let Ok(path) = path_text(dir) else { return false };
    let mut value = [0u8; 2];
    // SAFETY: both names are C strings, the buffer has the length given.
    let got = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            c"trusted.overlay.opaque".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    got == 1 && value[0] == b'y'
}
