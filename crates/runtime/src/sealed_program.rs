//! The program of the shims as a file that nobody can write. A container runs the shim's own file by the name
//! `/proc/self/exe` (CVE-2019-5736): what it may reach that way must not be the program on the node's disk.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use crate::sys;

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
/// Read-only, without set-user-ID bits and devices.
const ATTRIBUTES: libc::c_uint = 0x1 | 0x2 | 0x4;

/// Holds the file open; it can be run as long as this lives.
#[derive(Debug)]
pub struct SealedProgram(OwnedFd);

impl SealedProgram {
    /// Seals the program at `path`. `scratch` is a directory that may be written.
    ///
    /// A read-only overlay over the program's directory costs no memory. Where the kernel refuses it (the directory is
    /// itself on stacked overlays), the program is copied into memory and that is sealed: one copy for all shims.
    pub fn new(path: &Path, scratch: &Path) -> io::Result<Self> {
        match overlay(path, scratch) {
            Ok(file) => Ok(Self(file)),
            Err(error) => {
                tracing::info!(%error, program = %path.display(), "no overlay over the program; it is copied into memory");
                copy(path).map(Self)
            }
        }
    }

    /// A path that runs the program, in this process and in a child until it does.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    // SAFETY: the calls that end here give a new descriptor, which is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(checked(result)? as RawFd) })
}

fn configure(context: BorrowedFd, command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the texts outlive the call, and the commands used here take none or both.
    checked(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            pointer(key),
            pointer(value),
            0,
        )
    })
    .map(drop)
}

/// A directory that may be written and is not below the program's: the kernel refuses layers of which one holds another.
fn beside(dir: &Path, scratch: &Path) -> Option<PathBuf> {
    let candidates = [
        scratch.to_owned(),
        PathBuf::from("/run/skiff"),
        std::env::temp_dir().join("skiff"),
    ];
    candidates.into_iter().find(|candidate| !candidate.starts_with(dir))
}

/// The program seen through an overlay that is attached nowhere. One without an upper directory needs two lower ones.
fn overlay(path: &Path, scratch: &Path) -> io::Result<OwnedFd> {
    let missing = || io::Error::from(io::ErrorKind::InvalidInput);
    let path = std::fs::canonicalize(path)?;
    let (dir, name) = (
        path.parent().ok_or_else(missing)?,
        path.file_name().ok_or_else(missing)?,
    );
    let empty = beside(dir, scratch).ok_or_else(missing)?.join("empty");
    std::fs::create_dir_all(&empty)?;
    // SAFETY: the name is a C string.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), FSOPEN_CLOEXEC) })?;
    let escaped = |path: &Path| path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:");
    let lower = CString::new(format!("{}:{}", escaped(dir), escaped(&empty))).map_err(|_| missing())?;
    configure(context.as_fd(), FSCONFIG_SET_STRING, Some(c"lowerdir"), Some(&lower))?;
    configure(context.as_fd(), FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: takes numbers only.
    let mount = owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, ATTRIBUTES) })?;
    sys::open_in_root(mount.as_fd(), Path::new(name), libc::O_PATH | libc::O_NOFOLLOW, 0)
}

/// See memfd_create(2), "File sealing".
fn copy(path: &Path) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string.
    let memory = owned(unsafe { libc::c_long::from(libc::memfd_create(c"skiff".as_ptr(), flags)) })?;
    let mut file = File::from(memory);
    io::copy(&mut File::open(path)?, &mut file)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: takes numbers only.
    checked(unsafe { libc::c_long::from(libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals)) })?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs_and_cannot_be_written(file: OwnedFd) {
        let sealed = SealedProgram(file);
        let out = std::process::Command::new(sealed.path())
            .arg("--list")
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        // Nothing runs it now: only the seal stands between a writer and the file.
        let written = File::options().write(true).open(sealed.path()).and_then(|mut file| {
            use std::io::Write;
            file.write_all(b"x")
        });
        let error = written.unwrap_err().raw_os_error();
        assert!(matches!(error, Some(libc::EROFS | libc::EPERM)), "{error:?}");
    }

    #[test]
    fn the_second_layer_is_never_below_the_program() {
        let beside = |dir: &str| beside(Path::new(dir), Path::new("/opt/skiff/data")).unwrap();
        assert_eq!(beside("/usr/local/bin"), Path::new("/opt/skiff/data"));
        assert_eq!(beside("/opt/skiff"), Path::new("/run/skiff"));
    }

    #[test]
    fn a_sealed_program_runs_and_nobody_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let itself = std::env::current_exe().unwrap();
        runs_and_cannot_be_written(copy(&itself).unwrap());
        // Not as root, or on stacked overlays, the kernel refuses; then there is the copy.
        if let Ok(file) = overlay(&itself, dir.path()) {
            runs_and_cannot_be_written(file);
        }
    }
}
