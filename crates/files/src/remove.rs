//! Removing a directory with all that is in it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Opens a directory itself, never what a link leads to.
fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)
}

fn inside(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Does something with each entry of a directory, told whether that is a directory too. Whether there were any.
fn each_entry(dir: &File, mut with: impl FnMut(&Path, bool) -> io::Result<()>) -> io::Result<bool> {
    let mut any = false;
    for entry in fs::read_dir(inside(dir))? {
        let entry = entry?;
        any = true;
        with(&inside(dir).join(entry.file_name()), entry.file_type()?.is_dir())?;
    }
    Ok(any)
}

/// Removes what is at `path`; nothing there is no error. Links are removed and not followed.
///
/// A tree may be deeper than a thread's stack, a path or the number of open files allow: directories are moved up to the
/// top one by one and emptied there, so that two descriptors and one move of each directory do for any depth.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(meta) if !meta.is_dir() => return missing_is_fine(fs::remove_file(path)),
        Ok(_) => {}
    }
    let top = open(path)?;
    let mut moved: u64 = 0;
    // What is moved up while a directory is read may come in this reading or in the next.
    while each_entry(&top, |at, directory| {
        if !directory {
            return missing_is_fine(fs::remove_file(at));
        }
        let dir = match open(at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        while each_entry(&dir, |from, directory| {
            if !directory {
                return missing_is_fine(fs::remove_file(from));
            }
            if fs::remove_dir(from).is_ok() {
                return Ok(());
            }
            let to = loop {
                moved += 1;
                let to = inside(&top).join(format!(".removed-{moved}"));
                if fs::symlink_metadata(&to).is_err() {
                    break to;
                }
            };
            missing_is_fine(fs::rename(from, to))
        })? {}
        missing_is_fine(fs::remove_dir(at))
    })? {}
    missing_is_fine(fs::remove_dir(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_whole_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir_all(tree.join(".removed-1")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("x"), "x").unwrap();
        fs::write(tree.join("a/b/c/f"), "f").unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a/link")).unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && kept.join("x").exists());
        remove_tree(&tree).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(kept.join("x").exists() && fs::symlink_metadata(&link).is_err());
    }

    #[test]
    fn no_depth_is_too_deep() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut at = open(&tree).unwrap();
        for _ in 0..20_000 {
            let below = inside(&at).join("d");
            fs::create_dir(&below).unwrap();
            at = open(&below).unwrap();
        }
        // On a small stack, as a thread that serves has.
        let removed = std::thread::Builder::new().stack_size(128 << 10);
        let of = tree.clone();
        removed
            .spawn(move || remove_tree(&of))
            .unwrap()
            .join()
            .unwrap()
            .unwrap();
        assert!(!tree.exists());
    }
}
