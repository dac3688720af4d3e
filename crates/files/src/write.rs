//! Files of the node's own that nobody else may read.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces a file by one for its owner alone (mode 0600), whatever the umask is and whatever mode it had. Whoever reads it finds
/// the old content or the new one. It is written beside, by the name with `.new` behind.
pub fn replace_own(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    // one that was left half written may have another mode
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_any_mode_becomes_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "much longer").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        replace_own(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}
