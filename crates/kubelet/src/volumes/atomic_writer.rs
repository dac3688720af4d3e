//! Files that change all at once: a timestamped directory behind the `..data` link, and a link for each name users see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// A file as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub content: Vec<u8>,
    pub mode: u32,
    /// None is root.
    pub owner: Option<u32>,
}

/// Every file, by relative path.
pub type Payload = BTreeMap<String, File>;

const DATA: &str = "..data";

/// Whether `dir` shows a payload.
pub fn is_filled(dir: &Path) -> bool {
    dir.join(DATA).exists()
}

/// Makes `dir` show the payload, its files the group's. Whether anything changed.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>, stamp: &str) -> io::Result<bool> {
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
    for (path, file) in payload {
        let at = target.join(path);
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&at, &file.content)?;
        if file.owner.is_some() || group.is_some() {
            std::os::unix::fs::chown(&at, file.owner, group)?;
        }
        fs::set_permissions(&at, fs::Permissions::from_mode(file.mode))?;
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
                Some(file)
                    if fs::read(&path)? == file.content
                        && entry.metadata()?.permissions().mode() & 0o7777 == file.mode
                        && file.owner.is_none_or(|o| entry.metadata().is_ok_and(|m| m.uid() == o)) => {}
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
                .map(|(k, v)| {
                    let file = File {
                        content: v.as_bytes().to_vec(),
                        mode: 0o644,
                        owner: None,
                    };
                    ((*k).to_owned(), file)
                })
                .collect()
        };
        let first = payload(&[("a", "1"), ("d/e", "2")]);
        assert!(write(dir.path(), &first, None, "1").unwrap());
        assert!(!write(dir.path(), &first, None, "2").unwrap(), "nothing changed");
        assert_eq!(fs::read_to_string(dir.path().join("d/e")).unwrap(), "2");
        assert!(write(dir.path(), &payload(&[("a", "3")]), None, "3").unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        assert!(!dir.path().join("d").exists() && !dir.path().join("..1").exists());
    }
}
