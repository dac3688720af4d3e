//! Giving a volume to a pod's fsGroup.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Everything below is the group's, who may read it: of volumes whose files the node writes. Upstream: `SetVolumeOwnership`.
pub fn show_to_group(path: &Path, group: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, None, Some(group))?;
    let found = fs::symlink_metadata(path)?;
    let mode = match found.file_type() {
        kind if kind.is_symlink() => return Ok(()),
        kind if kind.is_dir() => {
            for entry in fs::read_dir(path)? {
                show_to_group(&entry?.path(), group)?;
            }
            0o2550
        }
        _ => 0o440,
    };
    let mode = found.permissions().mode() | mode;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Its group may read and write, and what is made in it has that group.
pub fn own_by_group(path: &Path, group: u32) -> io::Result<()> {
    std::os::unix::fs::chown(path, None, Some(group))?;
    let mode = fs::metadata(path)?.permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o2070))
}

/// The same for everything below. With `only_if_needed` nothing is touched when the root is the group's already
/// (fsGroupChangePolicy `OnRootMismatch`).
pub fn own_all_by_group(root: &Path, group: u32, only_if_needed: bool) -> io::Result<()> {
    let found = fs::metadata(root)?;
    if only_if_needed && found.gid() == group && found.mode() & 0o2070 == 0o2070 {
        return Ok(());
    }
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            own_all_by_group(&entry.path(), group, false)?;
        } else {
            std::os::unix::fs::lchown(entry.path(), None, Some(group))?;
            if kind.is_file() {
                let mode = entry.metadata()?.permissions().mode();
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode | 0o060))?;
            }
        }
    }
    // The root last: one that is right says that all below it is.
    own_by_group(root, group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_read_what_the_node_writes_and_enter_its_directories() {
        let dir = tempfile::tempdir().unwrap();
        let (below, file) = (dir.path().join("below"), dir.path().join("below/file"));
        fs::create_dir(&below).unwrap();
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink("below/file", dir.path().join("link")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        fs::set_permissions(&below, fs::Permissions::from_mode(0o700)).unwrap();
        // the group this process has anyway: others only root may give
        let group = fs::metadata(dir.path()).unwrap().gid();
        show_to_group(dir.path(), group).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&below), mode(&file)), (0o2750, 0o440));
    }
}
