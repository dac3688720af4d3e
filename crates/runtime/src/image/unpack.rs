//! A layer's archive made into a directory that overlayfs takes: whiteouts, opaque directories, links, owners,
//! extended attributes. Nothing in an archive reaches outside of the directory.
#![allow(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::sys;

/// Why a layer's archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive breaks off or is no tar archive.
    #[error("read the archive: {0}")]
    Archive(io::Error),
    /// An entry cannot be made.
    #[error("{path}: {error}")]
    Entry {
        /// The entry's path in the archive.
        path: String,
        /// What the system says, or what is unsafe about the path.
        error: io::Error,
    },
    /// The archive has an entry that no layer may have.
    #[error("{path}: entries of type {kind:?} are not supported")]
    Kind {
        /// The entry's path in the archive.
        path: String,
        /// What the entry is.
        kind: EntryType,
    },
    /// The content is not what the image's configuration promised.
    #[error("digest is {found}, not {expected}")]
    Digest {
        /// The digest promised.
        expected: String,
        /// The digest of what came.
        found: String,
    },
}

/// Hashes what passes.
pub struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    /// Passes on what `inner` reads, from its begin on.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
        }
    }

    /// Reads what is left, and says the digest of it all.
    pub fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(digest_text(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}

/// A SHA-256 hash as images have it: `sha256:` and 64 hexadecimal digits.
pub fn digest_text(hash: &[u8]) -> String {
    use std::fmt::Write;
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The SHA-256 digest of the bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    digest_text(&Sha256::digest(bytes))
}

/// Plain, gzip or zstd, by its first bytes: media types are often wrong.
pub fn decompress<'a>(mut reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut head)?;
    let whole = io::Cursor::new(head.clone()).chain(reader);
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

/// Unpacks the uncompressed `archive` into the empty directory `dir` and checks its digest. `parents` are the layers
/// below, topmost first: directories that the archive only implies look as they do there. Gives what it takes on the disk.
pub fn layer(archive: impl Read, dir: &Path, parents: &[PathBuf], diff_id: &str) -> Result<Amount, UnpackError> {
    let root = File::open(dir).map_err(|error| UnpackError::Entry {
        path: dir.display().to_string(),
        error,
    })?;
    let mut unpacker = Unpacker {
        root: root.as_fd(),
        parents,
        last: None,
        times: Vec::new(),
        amount: Amount::default(),
    };
    let mut hashing = Hashing::new(archive);
    {
        let mut archive = tar::Archive::new(&mut hashing);
        for entry in archive.entries().map_err(UnpackError::Archive)? {
            let mut entry = entry.map_err(UnpackError::Archive)?;
            let path = OsString::from_vec(entry.path_bytes().into_owned());
            unpacker.amount.inodes += 1;
            unpacker.entry(Path::new(&path), &mut entry).map_err(|e| match e {
                Failure::Io(error) => UnpackError::Entry {
                    path: path.to_string_lossy().into_owned(),
                    error,
                },
                Failure::Kind(kind) => UnpackError::Kind {
                    path: path.to_string_lossy().into_owned(),
                    kind,
                },
            })?;
        }
    }
    unpacker.set_times();
    let amount = unpacker.amount;
    let found = hashing.finish().map_err(UnpackError::Archive)?;
    if found != diff_id {
        return Err(UnpackError::Digest {
            expected: diff_id.to_owned(),
            found,
        });
    }
    Ok(amount)
}

/// Bytes of files' content, and files of every kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes of files' content.
    pub bytes: u64,
    /// Files, directories, links and so on.
    pub inodes: u64,
}

enum Failure {
    Io(io::Error),
    Kind(EntryType),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    parents: &'a [PathBuf],
    /// The directory of the entry before: most entries are its neighbours.
    last: Option<(PathBuf, OwnedFd)>,
    /// Of directories, set last: what is made in them changes them.
    times: Vec<(PathBuf, i64)>,
    amount: Amount,
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Only names; `..` goes up, never above the root.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

fn remove(dir: BorrowedFd, name: &OsStr) -> io::Result<()> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    files::remove_tree(&path)
}

impl Unpacker<'_> {
    fn parent(&mut self, path: &Path) -> io::Result<BorrowedFd<'_>> {
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            let fd = match sys::open_in_root(self.root, path, libc::O_PATH | libc::O_DIRECTORY, 0) {
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => self.imply(path)?,
                other => other?,
            };
            self.last = Some((path.to_owned(), fd));
        }
        match &self.last {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes a directory that has no entry of its own, and those above it.
    fn imply(&self, path: &Path) -> io::Result<OwnedFd> {
        // Where the walk is in each of the layers below; one that has no such directory is left out from there on.
        let mut below: Vec<OwnedFd> = Vec::with_capacity(self.parents.len());
        for parent in self.parents {
            below.push(File::open(parent)?.into());
        }
        sys::walk_dirs_in_root(self.root, path, 0o755, |part, made| {
            below = below
                .iter()
                .filter_map(|dir| sys::child_dir(dir.as_fd(), part).ok())
                .collect();
            let (Some(made), Some(like)) = (made, below.first()) else {
                return Ok(());
            };
            use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
            let meta = std::fs::metadata(format!("/proc/self/fd/{}", like.as_raw_fd()))?;
            let same = PathBuf::from(format!("/proc/self/fd/{}", made.as_raw_fd()));
            chown(&same, Some(meta.uid()), Some(meta.gid()))?;
            std::fs::set_permissions(&same, std::fs::Permissions::from_mode(meta.mode() & 0o7777))
        })
    }

    fn entry(&mut self, path: &Path, entry: &mut tar::Entry<impl Read>) -> Result<(), Failure> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = clean(path);
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            let own = OsString::from(".");
            let root = self.root;
            return Ok(attributes(root, &own, entry, kind)?);
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            let parent = self.parent(&parent_path)?;
            return Ok(whiteout(parent, OsStr::from_bytes(hidden))?);
        }
        let root = self.root;
        let size = entry.size();
        let parent = self.parent(&parent_path)?;
        let full = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(&name);
        let is_dir = std::fs::symlink_metadata(&full).is_ok_and(|m| m.is_dir());
        if !(kind == EntryType::Directory && is_dir) {
            remove(parent, &name)?;
        }
        match kind {
            EntryType::Directory if is_dir => {}
            EntryType::Directory => sys::mkdir_at(parent, &name, 0o700)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW;
                let mut file = File::from(sys::open_in_root(parent, Path::new(&name), flags, 0o600)?);
                io::copy(entry, &mut file)?;
            }
            EntryType::Symlink => {
                let target = entry
                    .link_name_bytes()
                    .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                std::os::unix::fs::symlink(OsStr::from_bytes(&target), &full)?;
            }
            EntryType::Link => {
                let target = entry
                    .link_name_bytes()
                    .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                hard_link(root, &clean(Path::new(OsStr::from_bytes(&target))), parent, &name)?;
                return Ok(());
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let header = entry.header();
                // A FIFO has none, and some tools leave the fields of its header empty.
                let device = match kind {
                    EntryType::Fifo => 0,
                    _ => libc::makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)),
                };
                let mode = match kind {
                    EntryType::Char => libc::S_IFCHR,
                    EntryType::Block => libc::S_IFBLK,
                    _ => libc::S_IFIFO,
                };
                sys::mknod_at(parent, &name, mode | 0o600, device)?;
            }
            other => return Err(Failure::Kind(other)),
        }
        attributes(parent, &name, entry, kind)?;
        if kind == EntryType::Directory {
            if is_dir {
                self.last = None;
            }
            self.times.push((path, entry.header().mtime()? as i64));
        } else {
            self.amount.bytes += size;
        }
        Ok(())
    }

    fn set_times(&self) {
        for (path, seconds) in &self.times {
            // A directory that a later entry replaced has no time of its own any more.
            if let Ok(fd) = sys::open_in_root(self.root, path, libc::O_RDONLY | libc::O_DIRECTORY, 0) {
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
                let _ = File::from(fd).set_modified(time);
            }
        }
    }
}

fn whiteout(parent: BorrowedFd, hidden: &OsStr) -> io::Result<()> {
    if hidden == OsStr::new(".wh..opq") {
        let path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
        return set_xattr(&path, b"trusted.overlay.opaque", b"y", true);
    }
    if hidden.as_bytes().starts_with(b".wh.") {
        // Bookkeeping of AUFS.
        return Ok(());
    }
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "whiteout of nothing"));
    }
    remove(parent, hidden)?;
    sys::mknod_at(parent, Path::new(hidden), libc::S_IFCHR, 0)
}

fn hard_link(root: BorrowedFd, target: &Path, parent: BorrowedFd, name: &OsStr) -> io::Result<()> {
    let dir = target.parent().unwrap_or(Path::new(""));
    let file = target.file_name().ok_or(io::ErrorKind::InvalidData)?;
    let from = sys::open_in_root(root, dir, libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let (file, name) = (sys::path_text(file)?, sys::path_text(name)?);
    // SAFETY: both names outlive the call. Without AT_SYMLINK_FOLLOW a link is linked itself.
    check(unsafe { libc::linkat(from.as_raw_fd(), file.as_ptr(), parent.as_raw_fd(), name.as_ptr(), 0) })
}

fn set_xattr(path: &Path, name: &[u8], value: &[u8], follow: bool) -> io::Result<()> {
    let (path, name) = (
        sys::path_text(path)?,
        sys::path_text(Path::new(OsStr::from_bytes(name)))?,
    );
    // SAFETY: every pointer outlives the call; value has the length given.
    check(unsafe {
        let set = if follow { libc::setxattr } else { libc::lsetxattr };
        set(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    })
}

fn attributes(parent: BorrowedFd, name: &OsStr, entry: &mut tar::Entry<impl Read>, kind: EntryType) -> io::Result<()> {
    let header = entry.header();
    let (uid, gid, mode) = (header.uid()?, header.gid()?, header.mode()? & 0o7777);
    let (mtime, c_name) = (header.mtime()?, sys::path_text(name)?);
    let mut xattrs = Vec::new();
    let mut owner = (uid, gid);
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let key = extension.key_bytes();
            let value = extension.value_bytes();
            let number = || std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
            match key {
                b"uid" => owner.0 = number().unwrap_or(owner.0),
                b"gid" => owner.1 = number().unwrap_or(owner.1),
                _ => {
                    if let Some(key) = key.strip_prefix(b"SCHILY.xattr.")
                        && !key.starts_with(b"trusted.overlay.")
                    {
                        xattrs.push((key.to_vec(), value.to_vec()));
                    }
                }
            }
        }
    }
    // SAFETY: the name outlives the call.
    check(unsafe {
        libc::fchownat(
            parent.as_raw_fd(),
            c_name.as_ptr(),
            owner.0 as libc::uid_t,
            owner.1 as libc::gid_t,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    })?;
    if kind != EntryType::Symlink {
        // SAFETY: the name outlives the call. After chown, which clears setuid. Not a link, so nothing is followed.
        check(unsafe { libc::fchmodat(parent.as_raw_fd(), c_name.as_ptr(), mode, 0) })?;
    }
    let path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
    for (key, value) in xattrs {
        match set_xattr(&path, &key, &value, false) {
            // A file system without them, or attributes of a security module that is not here.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTSUP | libc::EPERM)) => {}
            other => other?,
        }
    }
    let time = libc::timespec {
        tv_sec: mtime as i64,
        tv_nsec: 0,
    };
    // SAFETY: two times and the name outlive the call.
    check(unsafe {
        libc::utimensat(
            parent.as_raw_fd(),
            c_name.as_ptr(),
            [time, time].as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    fn archive(entries: &[(&str, EntryType, &str, u32)]) -> (Vec<u8>, String) {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, content, mode) in entries {
            let mut header = tar::Header::new_gnu();
            // Written by hand: the builder refuses the paths that matter here.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_mtime(1000);
            header.set_uid(0);
            header.set_gid(0);
            let link = matches!(kind, EntryType::Symlink | EntryType::Link);
            if link {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            let body = if link { "" } else { content };
            header.set_size(body.len() as u64);
            header.set_cksum();
            builder.append(&header, body.as_bytes()).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let digest = digest_of(&bytes);
        (bytes, digest)
    }

    #[test]
    fn nothing_reaches_outside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("layer");
        std::fs::create_dir(&root).unwrap();
        let (bytes, digest) = archive(&[
            ("../up", EntryType::Regular, "1", 0o644),
            ("out", EntryType::Symlink, "../..", 0o777),
            ("out/escaped", EntryType::Regular, "2", 0o644),
            ("abs", EntryType::Symlink, "/etc", 0o777),
            ("abs/hosts", EntryType::Regular, "3", 0o644),
        ]);
        // A link to a directory that is not in the layer is broken inside: refused, not followed outside.
        assert!(layer(bytes.as_slice(), &root, &[], &digest).is_err());
        assert!(!dir.path().join("up").exists() && !dir.path().join("escaped").exists());
        assert!(root.join("up").exists() && root.join("escaped").exists());
        let (bytes, digest) = archive(&[("x", EntryType::Link, "../../../../etc/passwd", 0o644)]);
        assert!(layer(bytes.as_slice(), &root, &[], &digest).is_err());
    }

    #[test]
    fn a_fifo_needs_no_device_numbers_and_a_deep_path_has_its_parents_looks() {
        let dir = tempfile::tempdir().unwrap();
        let (root, below) = (dir.path().join("l"), dir.path().join("below"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir_all(below.join("d")).unwrap();
        std::fs::set_permissions(below.join("d"), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let deep = format!("{}f", "d/".repeat(1500));
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let numbers = header.as_gnu_mut().unwrap();
        numbers.dev_major.fill(0);
        numbers.dev_minor.fill(0);
        header.set_entry_type(EntryType::Fifo);
        header.set_size(0);
        builder.append_data(&mut header, "fifo", &[][..]).unwrap();
        header.set_entry_type(EntryType::Regular);
        header.set_size(1);
        builder.append_data(&mut header, &deep, &b"x"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        layer(
            bytes.as_slice(),
            &root,
            std::slice::from_ref(&below),
            &digest_of(&bytes),
        )
        .unwrap();
        assert!(
            std::fs::symlink_metadata(root.join("fifo"))
                .unwrap()
                .file_type()
                .is_fifo()
        );
        assert_eq!(std::fs::read(root.join(&deep)).unwrap(), b"x");
        assert_eq!(std::fs::metadata(root.join("d")).unwrap().mode() & 0o7777, 0o711);
        assert_eq!(std::fs::metadata(root.join("d/d")).unwrap().mode() & 0o7777, 0o755);
    }

    #[test]
    fn whiteouts_and_links_are_as_overlayfs_wants_them() {
        let dir = tempfile::tempdir().unwrap();
        let (root, below) = (dir.path().join("l"), dir.path().join("below"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir_all(below.join("tmp")).unwrap();
        std::fs::set_permissions(below.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        let (bytes, digest) = archive(&[
            ("d/", EntryType::Directory, "", 0o750),
            ("d/.wh..wh..opq", EntryType::Regular, "", 0),
            ("d/.wh.gone", EntryType::Regular, "", 0),
            ("d/a", EntryType::Regular, "hello", 0o4755),
            ("d/b", EntryType::Link, "d/a", 0),
            ("tmp/x", EntryType::Regular, "x", 0o600),
        ]);
        assert_eq!(
            layer(bytes.as_slice(), &root, std::slice::from_ref(&below), &digest)
                .unwrap()
                .bytes,
            6
        );
        let gone = std::fs::symlink_metadata(root.join("d/gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        let (a, b) = (
            std::fs::metadata(root.join("d/a")).unwrap(),
            std::fs::metadata(root.join("d/b")).unwrap(),
        );
        assert_eq!((a.ino(), a.mode() & 0o7777), (b.ino(), 0o4755));
        assert_eq!(std::fs::metadata(root.join("d")).unwrap().mtime(), 1000);
        assert_eq!(std::fs::metadata(root.join("tmp")).unwrap().mode() & 0o7777, 0o1777);
        let wrong = layer(bytes.as_slice(), &root, &[], "sha256:0");
        assert!(matches!(wrong, Err(UnpackError::Digest { .. })), "{wrong:?}");
    }
}
