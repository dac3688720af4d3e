//! The device nodes a container gets: the usual ones, those it asks for, and every one of the node's when privileged.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use cri::v1;

use super::error::{Result, RuntimeError};
use crate::spec::DeviceNode;

/// Every container's, as minor numbers of major 1; the terminal has its own.
const USUAL: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
/// Of these a container has its own.
const OWN: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", "console", "ptmx"];

fn node(host: &Path, target: &Path, access: &str) -> Option<DeviceNode> {
    let meta = fs::metadata(host).ok()?;
    let kind = meta.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return None;
    }
    Some(DeviceNode {
        path: target.to_string_lossy().into_owned(),
        block: kind.is_block_device(),
        major: libc::major(meta.rdev()),
        minor: libc::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        access: access.to_owned(),
    })
}

/// Nodes below a directory, links not followed.
fn below(host: &Path, target: &Path, access: &str, out: &mut Vec<DeviceNode>) {
    for entry in fs::read_dir(host).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            below(&path, &target.join(&name), access, out);
        } else if !kind.is_symlink() {
            out.extend(node(&path, &target.join(&name), access));
        }
    }
}

pub(crate) fn of(asked: &[v1::Device], privileged: bool) -> Result<Vec<DeviceNode>> {
    let mut devices: Vec<DeviceNode> = USUAL
        .iter()
        .map(|(path, major, minor)| DeviceNode {
            path: (*path).to_owned(),
            major: *major,
            minor: *minor,
            mode: 0o666,
            access: "rwm".to_owned(),
            ..DeviceNode::default()
        })
        .collect();
    if privileged {
        let mut all = Vec::new();
        for entry in fs::read_dir("/dev").into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if OWN.iter().any(|own| name == *own) {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => below(&path, &path, "rwm", &mut all),
                Ok(kind) if !kind.is_symlink() => all.extend(node(&path, &path, "rwm")),
                _ => {}
            }
        }
        all.retain(|d| devices.iter().all(|have| have.path != d.path));
        devices.append(&mut all);
    }
    for device in asked {
        let (host, target) = (Path::new(&device.host_path), Path::new(&device.container_path));
        let missing = || RuntimeError::Invalid(format!("device {:?} is not a device node", device.host_path));
        if fs::metadata(host).map_err(|_| missing())?.is_dir() {
            below(host, target, &device.permissions, &mut devices);
        } else {
            devices.push(node(host, target, &device.permissions).ok_or_else(missing)?);
        }
    }
    Ok(devices)
}
