//! Control groups, version 1 (also hybrid) and 2: making, limiting, joining, reading, removing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::spec::{DeviceNode, Resources};

/// Where the kernel's controllers are mounted.
#[derive(Debug, Clone)]
pub enum Hierarchy {
    /// Version 1, also where the unified hierarchy is mounted beside it.
    V1 {
        /// Its hierarchies, each with the controllers mounted together.
        controllers: Vec<Controller>,
    },
    /// Version 2: one hierarchy with all controllers.
    V2 {
        /// Where it is mounted.
        root: PathBuf,
    },
}

/// One hierarchy of version 1.
#[derive(Debug, Clone)]
pub struct Controller {
    /// `cpu`, or `cpu,cpuacct`, or `name=systemd`: also the options that mount it again.
    pub options: String,
    /// Where it is mounted.
    pub root: PathBuf,
}

impl Controller {
    /// The directory's name below `/sys/fs/cgroup` in a container: the options without `name=`.
    pub fn dir_name(&self) -> &str {
        self.options.strip_prefix("name=").unwrap_or(&self.options)
    }

    fn has(&self, name: &str) -> bool {
        self.options.split(',').any(|o| o == name)
    }
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(|e| io::Error::new(e.kind(), format!("write {value:?} to {}: {e}", path.display())))
}

/// Writes where the kernel has the file; a controller that is not there limits nothing.
fn write_if_there(path: &Path, value: &str) -> io::Result<()> {
    if path.exists() { write(path, value) } else { Ok(()) }
}

fn join(root: &Path, group: &str) -> PathBuf {
    root.join(group.trim_start_matches('/'))
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}

/// What a group used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of one core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes in use without file pages that nobody touched lately: what eviction looks at.
    pub working_set: u64,
    /// Bytes of anonymous memory.
    pub rss: u64,
    /// Bytes; none if nothing limits the group.
    pub memory_limit: Option<u64>,
    /// How often a page was not mapped, since the group was made.
    pub page_faults: u64,
    /// Those for which the page had to be read from a disk.
    pub major_page_faults: u64,
    /// Bytes on swap.
    pub swap: u64,
    /// Processes and threads in the group and below.
    pub processes: u64,
}

impl Hierarchy {
    /// What this machine mounted below `/sys/fs/cgroup`. Version 1 wins in hybrid set-ups: it has the controllers.
    pub fn detect() -> io::Result<Self> {
        Self::parse(&fs::read_to_string("/proc/self/mountinfo")?).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "no cgroup file system is mounted below /sys/fs/cgroup",
            )
        })
    }

    fn parse(mountinfo: &str) -> Option<Self> {
        let mut controllers: Vec<Controller> = Vec::new();
        let mut unified = None;
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = left.split(' ').nth(4).filter(|p| p.starts_with("/sys/fs/cgroup")) else {
                continue;
            };
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            match kind {
                Some("cgroup2") => unified = unified.or_else(|| Some(PathBuf::from(point))),
                Some("cgroup") => {
                    let skipped = ["rw", "ro", "xattr", "noprefix", "clone_children"];
                    let names: Vec<&str> = options
                        .split(',')
                        .filter(|o| !skipped.contains(o) && !o.starts_with("release_agent="))
                        .collect();
                    let options = names.join(",");
                    if !options.is_empty() && !controllers.iter().any(|c| c.options == options) {
                        controllers.push(Controller {
                            options,
                            root: PathBuf::from(point),
                        });
                    }
                }
                _ => {}
            }
        }
        if !controllers.is_empty() {
            return Some(Self::V1 { controllers });
        }
        unified.map(|root| Self::V2 { root })
    }

    fn controller(&self, name: &str) -> Option<&Path> {
        match self {
            Self::V1 { controllers } => controllers.iter().find(|c| c.has(name)).map(|c| c.root.as_path()),
            Self::V2 { root } => Some(root),
        }
    }

    /// Every directory that is the group.
    fn dirs(&self, group: &str) -> Vec<PathBuf> {
        match self {
            Self::V1 { controllers } => controllers.iter().map(|c| join(&c.root, group)).collect(),
            Self::V2 { root } => vec![join(root, group)],
        }
    }

    /// Makes the group with its parents, ready for processes.
    pub fn create(&self, group: &str) -> io::Result<()> {
        match self {
            Self::V1 { controllers } => {
                for controller in controllers {
                    fs::create_dir_all(join(&controller.root, group))?;
                    if controller.has("cpuset") {
                        fill_cpuset(&controller.root, group)?;
                    }
                }
            }
            Self::V2 { root } => {
                let available = fs::read_to_string(root.join("cgroup.controllers"))?;
                let mut dir = root.clone();
                for part in Path::new(group.trim_start_matches('/')).components() {
                    for controller in available.split_whitespace() {
                        // A controller that cannot be delegated here limits nothing below.
                        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
                    }
                    dir.push(part);
                    match fs::create_dir(&dir) {
                        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves the calling process, which must have one thread, with all its children to come.
    pub fn join(&self, group: &str) -> io::Result<()> {
        // A thread that moves itself (0) takes no lock of the whole machine, which costs about 10 ms: it needs no
        // thread group to stand still. Version 2 has no such file.
        let file = match self {
            Self::V1 { .. } => "tasks",
            Self::V2 { .. } => "cgroup.procs",
        };
        for dir in self.dirs(group) {
            write(&dir.join(file), "0")?;
        }
        Ok(())
    }

    /// Sets the limits that are given. Those that are not stay as they are.
    ///
    /// # Errors
    /// What the kernel refuses, with file and value, and a name in `unified` that is no file's.
    pub fn apply(&self, group: &str, r: &Resources) -> io::Result<()> {
        match self {
            Self::V1 { .. } => self.apply_v1(group, r),
            Self::V2 { root } => apply_v2(&join(root, group), r),
        }
    }

    fn apply_v1(&self, group: &str, r: &Resources) -> io::Result<()> {
        let at = |name: &str| self.controller(name).map(|root| join(root, group));
        if let Some(dir) = at("cpu") {
            if let Some(shares) = r.cpu_shares.filter(|s| *s > 0) {
                write(&dir.join("cpu.shares"), &shares.to_string())?;
            }
            if let Some(period) = r.cpu_period.filter(|p| *p > 0) {
                write_if_there(&dir.join("cpu.cfs_period_us"), &period.to_string())?;
            }
            if let Some(quota) = r.cpu_quota.filter(|q| *q != 0) {
                write_if_there(&dir.join("cpu.cfs_quota_us"), &quota.to_string())?;
            }
        }
        if let (Some(dir), Some(limit)) = (at("memory"), r.memory.filter(|m| *m != 0)) {
            let swap = dir.join("memory.memsw.limit_in_bytes");
            let text = limit.to_string();
            let total = r.memory_swap.filter(|s| *s != 0).unwrap_or(limit).to_string();
            // Memory may never be above memory with swap: the order depends on the direction.
            if write(&dir.join("memory.limit_in_bytes"), &text).is_err() {
                write_if_there(&swap, &total)?;
                write(&dir.join("memory.limit_in_bytes"), &text)?;
            }
            write_if_there(&swap, &total)?;
        }
        if let (Some(dir), Some(pids)) = (at("pids"), r.pids.filter(|p| *p != 0)) {
            let text = if pids < 0 { "max".to_owned() } else { pids.to_string() };
            write(&dir.join("pids.max"), &text)?;
        }
        if let Some(dir) = at("cpuset") {
            if !r.cpuset_cpus.is_empty() {
                write(&dir.join("cpuset.cpus"), &r.cpuset_cpus)?;
            }
            if !r.cpuset_mems.is_empty() {
                write(&dir.join("cpuset.mems"), &r.cpuset_mems)?;
            }
        }
        if let Some(dir) = at("hugetlb") {
            for (size, limit) in &r.hugepages {
                write_if_there(&dir.join(format!("hugetlb.{size}.limit_in_bytes")), &limit.to_string())?;
            }
        }
        Ok(())
    }

    /// Which devices the group's processes may open or make. Version 1 only; version 2 takes a program, see `device_filter`.
    pub fn allow_devices(&self, group: &str, devices: &[DeviceNode], all: bool) -> io::Result<()> {
        let Self::V1 { .. } = self else {
            return crate::device_filter::attach(&self.dirs(group)[0], devices, all);
        };
        let Some(dir) = self.controller("devices").map(|root| join(root, group)) else {
            return Ok(());
        };
        if all {
            return write(&dir.join("devices.allow"), "a");
        }
        write(&dir.join("devices.deny"), "a")?;
        let allow = |rule: &str| write(&dir.join("devices.allow"), rule);
        for rule in [
            "c *:* m",
            "b *:* m",
            "c 136:* rwm",
            "c 5:2 rwm",
            "c 5:0 rwm",
            // a tunnel, which a container that may make devices makes itself
            "c 10:200 rwm",
        ] {
            allow(rule)?;
        }
        for device in devices {
            let kind = if device.block { 'b' } else { 'c' };
            allow(&format!("{kind} {}:{} {}", device.major, device.minor, device.access))?;
        }
        Ok(())
    }

    /// The PIDs in the group and the groups below it, ascending. Empty if there is no such group.
    pub fn processes(&self, group: &str) -> Vec<i32> {
        let dir = match self {
            Self::V1 { .. } => self.controller("memory").or_else(|| self.controller("pids")),
            Self::V2 { root } => Some(root.as_path()),
        };
        let mut pids = BTreeSet::new();
        if let Some(dir) = dir {
            collect_pids(&join(dir, group), &mut pids);
        }
        pids.into_iter().collect()
    }

    /// Removes the group; one that is not there is removed.
    pub fn remove(&self, group: &str) -> io::Result<()> {
        for dir in self.dirs(group) {
            remove_tree(&dir)?;
        }
        Ok(())
    }

    /// How many processes the kernel killed for memory.
    pub fn oom_kills(&self, group: &str) -> u64 {
        let Some(dir) = self.controller("memory").map(|root| join(root, group)) else {
            return 0;
        };
        let file = match self {
            Self::V1 { .. } => "memory.oom_control",
            Self::V2 { .. } => "memory.events",
        };
        field(&dir.join(file), "oom_kill").unwrap_or(0)
    }

    /// What the group uses now. A controller that is not mounted, or a group that is gone, counts as zero.
    pub fn usage(&self, group: &str) -> Usage {
        let at = |name: &str, file: &str| {
            self.controller(name)
                .map(|root| join(root, group).join(file))
                .unwrap_or_default()
        };
        let mut usage = Usage {
            processes: number(&at("pids", "pids.current")).unwrap_or(0),
            ..Usage::default()
        };
        match self {
            Self::V1 { .. } => {
                let stat = at("memory", "memory.stat");
                let of = |name: &str| field(&stat, name).unwrap_or(0);
                usage.cpu = number(&at("cpuacct", "cpuacct.usage")).unwrap_or(0);
                usage.memory = number(&at("memory", "memory.usage_in_bytes")).unwrap_or(0);
                usage.working_set = usage.memory.saturating_sub(of("total_inactive_file"));
                usage.rss = of("total_rss");
                usage.page_faults = of("total_pgfault");
                usage.major_page_faults = of("total_pgmajfault");
                usage.swap = of("total_swap");
                // Without a limit the file holds the largest number of pages.
                usage.memory_limit =
                    number(&at("memory", "memory.limit_in_bytes")).filter(|l| *l < (i64::MAX as u64) / 4096 * 4096);
            }
            Self::V2 { .. } => {
                let stat = at("memory", "memory.stat");
                let of = |name: &str| field(&stat, name).unwrap_or(0);
                usage.cpu = field(&at("cpu", "cpu.stat"), "usage_usec").unwrap_or(0) * 1000;
                usage.memory = number(&at("memory", "memory.current")).unwrap_or(0);
                usage.working_set = usage.memory.saturating_sub(of("inactive_file"));
                usage.rss = of("anon");
                usage.page_faults = of("pgfault");
                usage.major_page_faults = of("pgmajfault");
                usage.swap = number(&at("memory", "memory.swap.current")).unwrap_or(0);
                usage.memory_limit = number(&at("memory", "memory.max"));
            }
        }
        usage
    }
}

fn collect_pids(dir: &Path, pids: &mut BTreeSet<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect_pids(&entry.path(), pids);
        }
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io::Error::new(
            e.kind(),
            format!("remove cgroup {}: {e}", dir.display()),
        )),
        _ => Ok(()),
    }
}

/// A new cpuset of version 1 is empty and takes no process until it has what its parent has.
fn fill_cpuset(root: &Path, group: &str) -> io::Result<()> {
    let mut parent = root.to_owned();
    for part in Path::new(group.trim_start_matches('/')).components() {
        let dir = parent.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if fs::read_to_string(dir.join(file))?.trim().is_empty() {
                write(&dir.join(file), fs::read_to_string(parent.join(file))?.trim())?;
            }
        }
        parent = dir;
    }
    Ok(())
}

/// The weight of version 2 for shares of version 1: a curve through (2, 1), (1024, 100), (262144, 10000).
pub fn weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

fn apply_v2(dir: &Path, r: &Resources) -> io::Result<()> {
    if let Some(shares) = r.cpu_shares.filter(|s| *s > 0) {
        write_if_there(&dir.join("cpu.weight"), &weight(shares).to_string())?;
    }
    if r.cpu_quota.is_some_and(|q| q != 0) || r.cpu_period.is_some_and(|p| p > 0) {
        let quota = r
            .cpu_quota
            .filter(|q| *q > 0)
            .map_or("max".to_owned(), |q| q.to_string());
        let period = r.cpu_period.filter(|p| *p > 0).unwrap_or(100_000);
        write_if_there(&dir.join("cpu.max"), &format!("{quota} {period}"))?;
    }
    if let Some(memory) = r.memory.filter(|m| *m != 0) {
        let text = |bytes: i64| if bytes < 0 { "max".to_owned() } else { bytes.to_string() };
        write_if_there(&dir.join("memory.max"), &text(memory))?;
        // Of version 1 the number is memory and swap together.
        let swap = r
            .memory_swap
            .filter(|s| *s != 0)
            .map_or(0, |s| if s < 0 { s } else { (s - memory).max(0) });
        write_if_there(&dir.join("memory.swap.max"), &text(swap))?;
    }
    if let Some(pids) = r.pids.filter(|p| *p != 0) {
        let text = if pids < 0 { "max".to_owned() } else { pids.to_string() };
        write_if_there(&dir.join("pids.max"), &text)?;
    }
    if !r.cpuset_cpus.is_empty() {
        write_if_there(&dir.join("cpuset.cpus"), &r.cpuset_cpus)?;
    }
    if !r.cpuset_mems.is_empty() {
        write_if_there(&dir.join("cpuset.mems"), &r.cpuset_mems)?;
    }
    for (size, limit) in &r.hugepages {
        write_if_there(&dir.join(format!("hugetlb.{size}.max")), &limit.to_string())?;
    }
    for (file, value) in &r.unified {
        if file.contains('/') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("unified resource {file:?} is not a file name"),
            ));
        }
        write(&dir.join(file), value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_follow_shares() {
        for (shares, want) in [(2, 1), (1024, 100), (262_144, 10_000), (102, 17)] {
            assert_eq!(weight(shares), want, "{shares}");
        }
    }

    #[test]
    fn version_1_wins_where_both_are_mounted() {
        let text = "30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    31 24 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                    32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let Some(Hierarchy::V1 { controllers }) = Hierarchy::parse(text) else {
            panic!("not version 1")
        };
        assert_eq!(
            controllers.iter().map(|c| c.dir_name()).collect::<Vec<_>>(),
            ["cpu,cpuacct", "systemd"]
        );
        let text = "32 24 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert!(matches!(Hierarchy::parse(text), Some(Hierarchy::V2 { .. })));
    }
}
