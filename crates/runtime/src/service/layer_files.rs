//! Small files of an image read from its layers, without mounting them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::error::{Result, at};
use crate::sys;

/// The most that is read. Bytes.
const LARGEST: u64 = 1 << 20;

enum Found {
    Text(String),
    /// A layer hides it from those below.
    Hidden,
    Nothing,
}

fn is_whiteout(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

fn look(layer: &Path, path: &str) -> io::Result<Found> {
    let mut parent = Path::new(path);
    loop {
        if is_whiteout(&layer.join(parent)) {
            return Ok(Found::Hidden);
        }
        match parent.parent() {
            Some(up) if up != Path::new("") => parent = up,
            _ => break,
        }
    }
    let root = File::open(layer)?;
    match sys::open_in_root(root.as_fd(), path, libc::O_RDONLY, 0) {
        Ok(fd) => {
            let mut bytes = Vec::new();
            File::from(fd).take(LARGEST).read_to_end(&mut bytes)?;
            Ok(Found::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
            Ok(if opaque(&layer.join(path)) {
                Found::Hidden
            } else {
                Found::Nothing
            })
        }
        Err(e) => Err(e),
    }
}

/// The file's directory replaces those of the layers below.
fn opaque(path: &Path) -> bool {
    path.parent().is_some_and(sys::is_opaque)
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
}
