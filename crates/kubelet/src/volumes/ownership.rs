//! Giving a volume to a pod's fsGroup.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

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
