//! Small files of an image read from its layers, without mounting them. What an image holds is its author's choice: only
//! regular files below the layer's root are opened, and only so much of them is read.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::error::{Result, at};
use crate::sys;

/// A longer file is refused. Bytes.
const LARGEST: u64 = 1 << 20;

enum Found {
    Text(String),
    /// A layer hides it from those below.
    Hidden,
    Nothing,
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

/// Whether the layer takes away what those below have at this path.
fn is_whiteout(root: BorrowedFd, path: &Path) -> io::Result<bool> {
    match sys::open_in_root(root, path, libc::O_PATH | libc::O_NOFOLLOW, 0) {
        Ok(fd) => {
            let meta = File::from(fd).metadata()?;
            Ok(meta.file_type().is_char_device() && meta.rdev() == 0)
        }
        Err(e) if is_missing(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether a directory on the way to the file replaces that of the layers below.
fn is_opaque(root: BorrowedFd, dir: &Path) -> io::Result<bool> {
    match sys::open_in_root(root, dir, libc::O_PATH | libc::O_DIRECTORY, 0) {
        Ok(fd) => Ok(sys::is_opaque(Path::new(&format!(
            "/proc/self/fd/{}/.",
            fd.as_raw_fd()
        )))),
        Err(e) if is_missing(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

fn look(layer: &Path, path: &str) -> io::Result<Found> {
    let root = File::open(layer)?;
    let root = root.as_fd();
    for part in Path::new(path).ancestors().filter(|p| *p != Path::new("")) {
        if is_whiteout(root, part)? {
            return Ok(Found::Hidden);
        }
    }
    match sys::read_in_root(root, path, LARGEST) {
        Ok(bytes) => Ok(Found::Text(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if is_missing(&e) => {
            let parent = Path::new(path).parent().unwrap_or(Path::new(""));
            Ok(if is_opaque(root, parent)? {
                Found::Hidden
            } else {
                Found::Nothing
            })
        }
        Err(e) => Err(e),
    }
}

/// The text of a file as a container would see it; empty where there is none. `layers` are topmost first.
pub fn read(layer_dir: &Path, layers: &[String], path: &str) -> Result<String> {
    for name in layers {
        let layer = layer_dir.join(name);
        match look(&layer, path).map_err(at(&layer.join(path)))? {
            Found::Text(text) => return Ok(text),
            Found::Hidden => break,
            Found::Nothing => {}
        }
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_layer_that_has_the_file_wins() {
        let dir = tempfile::tempdir().unwrap();
        for (layer, text) in [("1", "low"), ("2", "high")] {
            std::fs::create_dir_all(dir.path().join(layer).join("etc")).unwrap();
            std::fs::write(dir.path().join(layer).join("etc/passwd"), text).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("3")).unwrap();
        let names = |n: &[&str]| n.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            read(dir.path(), &names(&["3", "2", "1"]), "etc/passwd").unwrap(),
            "high"
        );
        assert_eq!(read(dir.path(), &names(&["3", "1"]), "etc/passwd").unwrap(), "low");
        assert_eq!(read(dir.path(), &names(&["3"]), "etc/passwd").unwrap(), "");
    }
    #[test]
    fn only_regular_files_below_the_layer_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("1/etc");
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        let layers = ["1".to_owned()];
        let refused = |path: &str| {
            let text = read(dir.path(), &layers, path).unwrap_err().to_string();
            assert!(text.contains("is not a regular file"), "{text}");
        };
        nix::unistd::mkfifo(&etc.join("passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused("etc/passwd");
        std::os::unix::fs::symlink("passwd", etc.join("group")).unwrap();
        refused("etc/group");
        std::fs::create_dir(etc.join("dir")).unwrap();
        refused("etc/dir");
        let _socket = std::os::unix::net::UnixListener::bind(etc.join("socket")).unwrap();
        refused("etc/socket");
        std::os::unix::fs::symlink("../../../secret", etc.join("up")).unwrap();
        assert_eq!(read(dir.path(), &layers, "etc/up").unwrap(), "");
        std::fs::write(etc.join("long"), vec![b'x'; LARGEST as usize + 1]).unwrap();
        assert!(read(dir.path(), &layers, "etc/long").is_err());
    }
}
