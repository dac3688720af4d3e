//! The cgroups of QoS classes and pods, version 1 and 2, by their file systems.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::pod::PodExt;
use crate::resources::{self, QosClass};

/// The tree of the node's pods.
#[derive(Debug, Clone)]
pub struct Cgroups {
    mount: PathBuf,
    /// Without slashes at the ends; may be empty.
    root: String,
    /// Version 1's controllers that have `root`; `None` on version 2.
    controllers: Option<Vec<String>>,
}

/// What a pod's cgroup is limited to. Upstream: `ResourceConfigForPod`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodLimits {
    pub shares: i64,
    /// Microseconds of a period; only where each container has a limit, or the pod itself.
    pub quota: Option<i64>,
    /// Bytes; likewise.
    pub memory: Option<i64>,
}

impl PodLimits {
    /// The limits of a pod's own cgroup.
    pub fn of(pod: &Pod) -> PodLimits {
        let limit = |name: &str| {
            let of_pod = pod.spec.as_ref().and_then(|s| s.resources.as_ref());
            let on_pod = of_pod
                .and_then(|r| r.limits.as_ref())
                .is_some_and(|l| l.contains_key(name));
            let mut containers = pod.containers().iter().chain(pod.init_containers());
            let all = containers.all(|c| resources::get(c, true, name).is_some_and(|q| resources::milli(q) > 0));
            let total = resources::pod_total(pod, true, name);
            ((all || on_pod) && total > 0).then_some(total)
        };
        PodLimits {
            shares: resources::cpu_shares(resources::pod_total(pod, false, "cpu")),
            quota: limit("cpu").map(resources::cpu_quota),
            memory: limit("memory").map(|m| m / 1000),
        }
    }
}

const V1: [&str; 10] = [
    "cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "hugetlb", "systemd",
];

fn context(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text).map_err(|e| context(&e, path))
}

impl Cgroups {
    /// `root` is where the kubelet's tree starts, as `/` or `/skiff`.
    pub fn new(root: &str) -> Cgroups {
        let mount = PathBuf::from("/sys/fs/cgroup");
        let v2 = mount.join("cgroup.controllers").exists();
        let controllers = (!v2).then(|| {
            V1.iter()
                .filter(|c| mount.join(c).is_dir())
                .map(|c| (*c).to_owned())
                .collect()
        });
        Cgroups {
            mount,
            root: root.trim_matches('/').to_owned(),
            controllers,
        }
    }

    /// The tree of a node whose pods have no cgroups: a version 1 without controllers, where nothing can be.
    pub fn none() -> Cgroups {
        Cgroups {
            mount: PathBuf::from("/dev/null"),
            root: String::new(),
            controllers: Some(Vec::new()),
        }
    }

    /// Whether the node has cgroups of version 2.
    pub fn is_v2(&self) -> bool {
        self.controllers.is_none()
    }

    fn base(&self) -> String {
        if self.root.is_empty() {
            "kubepods".to_owned()
        } else {
            format!("{}/kubepods", self.root)
        }
    }

    /// The pod's cgroup, as `/kubepods/burstable/pod<uid>`.
    pub fn pod_path(&self, pod: &Pod) -> String {
        let class = match resources::qos_class(pod) {
            QosClass::Guaranteed => "",
            QosClass::Burstable => "/burstable",
            QosClass::BestEffort => "/besteffort",
        };
        format!("/{}{class}/pod{}", self.base(), pod.uid())
    }

    /// The cgroup's directories: one, or one for each controller of version 1.
    fn dirs(&self, path: &str) -> Vec<(Option<&str>, PathBuf)> {
        let path = path.trim_start_matches('/');
        match &self.controllers {
            None => vec![(None, self.mount.join(path))],
            Some(all) => all
                .iter()
                .map(|c| (Some(c.as_str()), self.mount.join(c).join(path)))
                .collect(),
        }
    }

    fn make(&self, path: &str) -> io::Result<()> {
        let mut at = String::new();
        for part in path.trim_matches('/').split('/') {
            at = if at.is_empty() {
                part.to_owned()
            } else {
                format!("{at}/{part}")
            };
            for (controller, dir) in self.dirs(&at) {
                if !dir.exists() {
                    match fs::create_dir(&dir) {
                        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(context(&e, &dir)),
                        _ => {}
                    }
                }
                match controller {
                    // An empty cpuset admits no process.
                    Some("cpuset") => {
                        for file in ["cpuset.cpus", "cpuset.mems"] {
                            if fs::read_to_string(dir.join(file)).is_ok_and(|t| t.trim().is_empty())
                                && let Some(parent) = dir.parent()
                                && let Ok(text) = fs::read_to_string(parent.join(file))
                            {
                                write(&dir.join(file), text.trim())?;
                            }
                        }
                    }
                    None if at != path.trim_matches('/') => {
                        let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
                        let enable: Vec<String> = available.split_whitespace().map(|c| format!("+{c}")).collect();
                        write(&dir.join("cgroup.subtree_control"), &enable.join(" "))?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn set(&self, path: &str, controller: &str, v1: &[(&str, String)], v2: &[(&str, String)]) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        let (dir, files) = match &self.controllers {
            None => (self.mount.join(path), v2),
            Some(_) => (self.mount.join(controller).join(path), v1),
        };
        if !dir.is_dir() {
            return Ok(());
        }
        for (file, value) in files {
            write(&dir.join(file), value)?;
        }
        Ok(())
    }

    /// The classes' cgroups, once at start.
    pub fn make_classes(&self) -> io::Result<()> {
        let base = self.base();
        for class in ["burstable", "besteffort"] {
            self.make(&format!("{base}/{class}"))?;
        }
        self.set(
            &format!("{base}/besteffort"),
            "cpu",
            &[("cpu.shares", "2".to_owned())],
            &[("cpu.weight", "1".to_owned())],
        )
    }

    /// The pod's cgroup with its limits. One with `running` containers keeps those it has: they change with theirs.
    pub fn make_pod(&self, pod: &Pod, pids: Option<i64>, running: bool) -> io::Result<String> {
        let path = self.pod_path(pod);
        if running && self.dirs(&path).iter().all(|(_, dir)| dir.is_dir()) {
            return Ok(path);
        }
        self.make(&path)?;
        let limits = PodLimits::of(pod);
        self.set_shares(&path, limits.shares)?;
        if let Some(quota) = limits.quota {
            self.set_quota(&path, quota)?;
        }
        if let Some(memory) = limits.memory {
            self.set_memory(&path, memory)?;
        }
        if let Some(pids) = pids.filter(|p| *p > 0) {
            self.set(
                &path,
                "pids",
                &[("pids.max", pids.to_string())],
                &[("pids.max", pids.to_string())],
            )?;
        }
        Ok(path)
    }

    /// Sets the weight of processor time, given as shares of version 1.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn set_shares(&self, path: &str, shares: i64) -> io::Result<()> {
        let weight = resources::cpu_weight(shares).to_string();
        self.set(
            path,
            "cpu",
            &[("cpu.shares", shares.to_string())],
            &[("cpu.weight", weight)],
        )
    }

    /// Sets the microseconds of processor time in each period; less than 0 is no limit.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn set_quota(&self, path: &str, quota: i64) -> io::Result<()> {
        let v1 = [
            ("cpu.cfs_period_us", resources::CPU_PERIOD.to_string()),
            ("cpu.cfs_quota_us", quota.to_string()),
        ];
        let v2 = [("cpu.max", format!("{quota} {}", resources::CPU_PERIOD))];
        self.set(path, "cpu", &v1, &v2)
    }

    /// Sets the most bytes of memory.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn set_memory(&self, path: &str, bytes: i64) -> io::Result<()> {
        let bytes = bytes.to_string();
        let v1 = [("memory.limit_in_bytes", bytes.clone())];
        self.set(path, "memory", &v1, &[("memory.max", bytes)])
    }

    /// Microseconds of a period; `None` without a quota.
    pub fn quota(&self, path: &str) -> Option<i64> {
        let text = if self.is_v2() {
            self.read(path, "cpu", "cpu.max")?
        } else {
            self.read(path, "cpu", "cpu.cfs_quota_us")?
        };
        let quota = text.split_whitespace().next()?.parse().ok();
        quota.filter(|q| *q > 0)
    }

    /// `cpu.shares`, or `cpu.weight` of version 2.
    pub fn weight(&self, path: &str) -> Option<i64> {
        let file = if self.is_v2() { "cpu.weight" } else { "cpu.shares" };
        self.read(path, "cpu", file)?.trim().parse().ok()
    }

    /// Bytes; `None` without a limit, which version 1 says with the largest number of pages.
    pub fn memory_limit(&self, path: &str) -> Option<i64> {
        let file = if self.is_v2() {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        let limit = self.read(path, "memory", file)?.trim().parse().ok();
        limit.filter(|l: &i64| *l < i64::MAX / 4096 * 4096)
    }

    /// How many processes and threads are in the group.
    pub fn processes(&self, path: &str) -> u64 {
        let text = self.read(path, "pids", "pids.current");
        text.and_then(|t| t.trim().parse().ok()).unwrap_or(0)
    }

    /// The bytes of memory in use; `None` where there is no such cgroup.
    pub fn memory_usage(&self, path: &str) -> Option<i64> {
        let file = if self.is_v2() {
            "memory.current"
        } else {
            "memory.usage_in_bytes"
        };
        self.read(path, "memory", file)?.trim().parse().ok()
    }

    /// Removes the pod's cgroup in whatever class it is. Its processes must have ended.
    pub fn remove_pod(&self, uid: &str) -> io::Result<()> {
        for class in ["", "/burstable", "/besteffort"] {
            for (_, dir) in self.dirs(&format!("{}{class}/pod{uid}", self.base())) {
                remove_tree(&dir)?;
            }
        }
        Ok(())
    }

    /// A file of the cgroup for usage figures.
    pub fn read(&self, path: &str, controller: &str, file: &str) -> Option<String> {
        let path = path.trim_start_matches('/');
        let dir = if self.is_v2() {
            self.mount.join(path)
        } else {
            self.mount.join(controller).join(path)
        };
        fs::read_to_string(dir.join(file)).ok()
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(context(&error, dir)),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(context(&error, dir)),
        _ => Ok(()),
    }
}
