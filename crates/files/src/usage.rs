//! What a directory takes on its disk.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Bytes on the disk, and files of every kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    pub inodes: u64,
}

impl std::ops::Add for Usage {
    type Output = Usage;

    fn add(self, other: Usage) -> Usage {
        Usage {
            bytes: self.bytes + other.bytes,
            inodes: self.inodes + other.inodes,
        }
    }
}

/// A path longer than this goes on from a directory of its own: a tree may be deeper than a path may be long. Bytes.
const LONGEST: usize = 2048;

/// Walks through a directory; links are counted and not followed, a file with several names once. What goes away
/// meanwhile, or is not there, counts nothing. Costs one look at each file; blocks.
pub fn usage(dir: &Path) -> io::Result<Usage> {
    let mut sum = Usage::default();
    let mut several = HashSet::new();
    let first = match File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(sum),
        other => other?,
    };
    let meta = first.metadata()?;
    sum.bytes += meta.blocks() * 512;
    sum.inodes += 1;
    let device = meta.dev();
    let mut open: Vec<(Rc<File>, PathBuf)> = vec![(Rc::new(first), PathBuf::from("."))];
    while let Some((base, path)) = open.pop() {
        let (base, path) = if path.as_os_str().len() > LONGEST {
            match File::open(whole(&base, &path)) {
                Ok(deeper) => (Rc::new(deeper), PathBuf::from(".")),
                Err(_) => continue,
            }
        } else {
            (base, path)
        };
        let Ok(entries) = fs::read_dir(whole(&base, &path)) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            // What is mounted here is of another disk.
            if meta.dev() != device || !meta.is_dir() && meta.nlink() > 1 && !several.insert(meta.ino()) {
                continue;
            }
            sum.bytes += meta.blocks() * 512;
            sum.inodes += 1;
            if meta.is_dir() {
                open.push((base.clone(), path.join(entry.file_name())));
            }
        }
    }
    Ok(sum)
}

fn whole(base: &File, path: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", base.as_raw_fd())).join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_counts_once_however_deep() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![1; 100_000]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("c")).unwrap();
        let flat = usage(dir.path()).unwrap();
        assert_eq!(flat.inodes, 3);
        assert!((100_000..200_000).contains(&flat.bytes), "{flat:?}");
        // Deeper than a path may be long: made from within.
        let mut at = File::open(dir.path()).unwrap();
        let name = "d".repeat(200);
        for _ in 0..40 {
            let below = whole(&at, Path::new(&name));
            fs::create_dir(&below).unwrap();
            at = File::open(below).unwrap();
        }
        fs::write(whole(&at, Path::new("e")), vec![1; 100_000]).unwrap();
        let deep = usage(dir.path()).unwrap();
        assert_eq!(deep.inodes, flat.inodes + 41);
        assert!(deep.bytes >= flat.bytes + 100_000);
        assert_eq!(usage(Path::new("/not/there")).unwrap(), Usage::default());
    }
}
