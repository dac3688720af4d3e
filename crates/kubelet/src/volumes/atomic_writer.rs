//! Files that change all at once: a timestamped directory behind the `..data` link, and a link for each name users see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Content and mode of every file, by relative path.
pub type Payload = BTreeMap<String, (Vec<u8>, u32)>;

const DATA: &str = "..data";

/// Makes `dir` show the payload. Whether anything changed.
pub fn write(dir: &Path, payload: &Payload, owner: (Option<u32>, Option<u32>), stamp: &str) -> io::Result<bool> {
    if let Ok(current) = fs::read_link(dir.join(DATA))
        && same(&dir.join(current), payload)?
    {
        return Ok(false);
    }
    let new = format!("..{stamp}");
    let target = dir.join(&new);
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    fs::create_dir(&target)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    for (path, (content, mode)) in payload {
        let file = target.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, content)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))?;
        if owner != (None, None) {
            std::os::unix::fs::chown(&file, owner.0, owner.1)?;
        }
    }
    let old = fs::read_link(dir.join(DATA)).ok();
    let temporary = dir.join("..data_tmp");
    let _ = fs::remove_file(&temporary);
    symlink(&new, &temporary)?;
    fs::rename(&temporary, dir.join(DATA))?;
    let visible: BTreeSet<&str> = payload.keys().filter_map(|p| p.split('/').next()).collect();
    for name in &visible {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !visible.contains(&*name) {
            fs::remove_file(dir.join(&*name))?;
        }
    }
    if let Some(old) = old.filter(|o| o.as_os_str() != new.as_str()) {
        fs::remove_dir_all(dir.join(old))?;
    }
    Ok(true)
}

fn same(dir: &Path, payload: &Payload) -> io::Result<bool> {
    let mut files = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        let Ok(entries) = fs::read_dir(&at) else {
            return Ok(false);
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
                continue;
            }
            files += 1;
            let path = entry.path();
            let relative = path
                .strip_prefix(dir)
                .map(|p| p.to_string_lossy().into_owned())
                .unwrap_or_default();
            match payload.get(&relative) {
                Some((content, mode))
                    if fs::read(&path)? == *content && entry.metadata()?.permissions().mode() & 0o7777 == *mode => {}
                _ => return Ok(false),
            }
        }
    }
    Ok(files == payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_change_at_once_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let payload = |items: &[(&str, &str)]| -> Payload {
            items
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (v.as_bytes().to_vec(), 0o644)))
                .collect()
        };
        let first = payload(&[("a", "1"), ("d/e", "2")]);
        assert!(write(dir.path(), &first, (None, None), "1").unwrap());
        assert!(
            !write(dir.path(), &first, (None, None), "2").unwrap(),
            "nothing changed"
        );
        assert_eq!(fs::read_to_string(dir.path().join("d/e")).unwrap(), "2");
        assert!(write(dir.path(), &payload(&[("a", "3")]), (None, None), "3").unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        assert!(!dir.path().join("d").exists() && !dir.path().join("..1").exists());
    }
}
