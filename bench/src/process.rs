//! What the processes of a cluster use. The measuring process shares their PID namespace and is no part of them.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Memory of a process or of many, bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Proportional set size: pages of programs shared by their users.
    pub pss: f64,
    pub anonymous: f64,
}

impl std::ops::AddAssign for Memory {
    fn add_assign(&mut self, other: Memory) {
        self.pss += other.pss;
        self.anonymous += other.anonymous;
    }
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The first process, the `sleep` it waits with, and we are not the cluster's.
fn is_ours(pid: u32, command: &str) -> bool {
    pid == 1 || pid == std::process::id() || (parent(pid) == Some(1) && command.starts_with("sleep infinity"))
}

/// Every process of the cluster: its command's name and its memory.
pub fn memory_by_process() -> Result<Vec<(String, Memory)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.trim().is_empty() || is_ours(pid, &command) {
            continue;
        }
        // a process may end while we look
        let Ok(rollup) = std::fs::read_to_string(entry.path().join("smaps_rollup")) else {
            continue;
        };
        let program = command.split_whitespace().next().unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or_default().to_owned();
        let memory = Memory {
            pss: field(&rollup, "Pss"),
            anonymous: field(&rollup, "Anonymous"),
        };
        all.push((name, memory));
    }
    Ok(all)
}

pub fn memory() -> Result<Memory> {
    let mut sum = Memory::default();
    for (_, memory) in memory_by_process()? {
        sum += memory;
    }
    Ok(sum)
}

/// The cgroups whose processes are the cluster's. Time of processes that have ended stays in them.
pub struct Groups(Vec<String>);

impl Groups {
    /// `name` is the namespaces'; skiff has a group of its own for pods, named for its data directory.
    pub fn of(name: &str, data_dir: Option<&Path>) -> Groups {
        let mut groups = vec![name.to_owned()];
        if let Some(dir) = data_dir {
            let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
            let tag: String = digest[..4].iter().map(|b| format!("{b:02x}")).collect();
            groups.push(format!("skiff-{tag}"));
        }
        Groups(groups)
    }

    /// skiff's own group, by whose name its folder below /run goes too.
    pub fn own(&self) -> Option<&str> {
        self.0.get(1).map(String::as_str)
    }

    /// Processor time used so far by all that ever ran in the groups.
    pub fn cpu(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        for group in &self.0 {
            let dir = Path::new("/sys/fs/cgroup");
            let (path, unit) = match unified {
                true => (dir.join(group).join("cpu.stat"), 1000),
                false => (dir.join("cpuacct").join(group).join("cpuacct.usage"), 1),
            };
            // skiff makes its group with its first pod
            if !path.exists() {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(Error::at(&path))?;
            let number = text
                .split_whitespace()
                .find_map(|w| w.parse::<u64>().ok())
                .unwrap_or_default();
            sum += Duration::from_nanos(number * unit);
        }
        Ok(sum)
    }
}
