//! Facts about the machine: what it has, and how it names itself.

use std::fs;
use std::path::Path;

use crate::resources::memory_quantity;

/// The machine that the node is.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Processors.
    pub cpus: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of the file system the kubelet's directory is on.
    pub disk: i64,
    /// Bytes of huge pages by the resource's name.
    pub hugepages: Vec<(String, i64)>,
    /// The name of the installation, from `/etc/machine-id`.
    pub machine_id: String,
    /// The name of the hardware.
    pub system_uuid: String,
    /// The name of this boot.
    pub boot_id: String,
    /// The kernel's release.
    pub kernel: String,
    /// The name of the distribution.
    pub os_image: String,
    /// Whether its users are not those of the kernel.
    pub in_user_namespace: bool,
    /// As Go names it.
    pub architecture: &'static str,
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .map(|t| t.trim().to_owned())
        .unwrap_or_default()
}

/// A line of /proc/meminfo, in bytes.
pub fn meminfo(key: &str) -> Option<i64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: i64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// Total and available bytes, total and free inodes.
pub fn disk(path: &Path) -> Option<(u64, u64, u64, u64)> {
    let s = nix::sys::statvfs::statvfs(path).ok()?;
    Some((
        s.blocks() * s.fragment_size(),
        s.blocks_available() * s.fragment_size(),
        s.files(),
        s.files_free(),
    ))
}

/// How many threads run, and how many may.
pub fn pids() -> Option<(i64, i64)> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let running = load.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()?;
    let most: i64 = read("/proc/sys/kernel/pid_max").parse().ok()?;
    let threads: i64 = read("/proc/sys/kernel/threads-max").parse().ok()?;
    Some((running, most.min(threads)))
}

/// Whether the kernel enforces AppArmor's profiles.
pub fn has_apparmor() -> bool {
    Path::new("/sys/kernel/security/apparmor").exists()
        && read("/sys/module/apparmor/parameters/enabled").starts_with('Y')
}

/// The sizes of huge pages that the kernel has, with the bytes of each size: `hugepages-2Mi` and so on.
fn hugepages() -> Vec<(String, i64)> {
    let mut found = Vec::new();
    // A kernel without them has no directory.
    for entry in fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let kib = name
            .to_str()
            .and_then(|n| n.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<i64>().ok());
        let Some(kib) = kib else { continue };
        let pages: i64 = read(&entry.path().join("nr_hugepages").to_string_lossy())
            .parse()
            .unwrap_or(0);
        found.push((
            format!("hugepages-{}", memory_quantity(kib * 1024).0),
            pages * kib * 1024,
        ));
    }
    found.sort();
    found
}

/// Whether a `uid_map` is other than that of the kernel's own user namespace, in which all users are themselves.
fn maps_some(map: &str) -> bool {
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

impl Machine {
    /// Reads what the machine is; `root_dir` is where pods are kept, on the disk that counts.
    pub fn detect(root_dir: &Path) -> Machine {
        let cpus = read("/proc/cpuinfo")
            .lines()
            .filter(|l| l.starts_with("processor"))
            .count();
        let os = read("/etc/os-release");
        let pretty = os
            .lines()
            .find_map(|l| l.strip_prefix("PRETTY_NAME="))
            .unwrap_or("Linux")
            .trim_matches('"')
            .to_owned();
        let machine_id = Some(read("/etc/machine-id"))
            .filter(|m| !m.is_empty())
            .unwrap_or_else(|| read("/var/lib/dbus/machine-id"));
        let uuid = Some(read("/sys/class/dmi/id/product_uuid")).filter(|u| !u.is_empty());
        Machine {
            cpus: i64::try_from(cpus).unwrap_or(1).max(1),
            memory: meminfo("MemTotal").unwrap_or(0),
            disk: disk(root_dir).and_then(|d| i64::try_from(d.0).ok()).unwrap_or(0),
            system_uuid: uuid.unwrap_or_else(|| machine_id.clone()),
            machine_id,
            hugepages: hugepages(),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            kernel: read("/proc/sys/kernel/osrelease"),
            os_image: pretty,
            in_user_namespace: fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| maps_some(&map)),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_that_are_not_all_themselves_are_in_a_namespace() {
        assert!(!maps_some("         0          0 4294967295\n"));
        assert!(maps_some("0 1000 1\n1 100000 65536\n"));
    }
}
