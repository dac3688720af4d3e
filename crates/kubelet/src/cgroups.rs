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

    /// The pod's cgroup with its limits.
    pub fn make_pod(&self, pod: &Pod, pids: Option<i64>) -> io::Result<String> {
        let path = self.pod_path(pod);
        self.make(&path)?;
        let shares = resources::cpu_shares(resources::pod_total(pod, false, "cpu"));
        self.set(
            &path,
            "cpu",
            &[("cpu.shares", shares.to_string())],
            &[("cpu.weight", resources::cpu_weight(shares).to_string())],
        )?;
        let limited = |name: &str| {
            let all = pod.containers().iter().all(|c| resources::get(c, true, name).is_some());
            let total = resources::pod_total(pod, true, name);
            (all && total > 0).then_some(total)
        };
        if let Some(cpu) = limited("cpu") {
            let quota = resources::cpu_quota(cpu);
            let v1 = [
                ("cpu.cfs_period_us", resources::CPU_PERIOD.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ];
            self.set(
                &path,
                "cpu",
                &v1,
                &[("cpu.max", format!("{quota} {}", resources::CPU_PERIOD))],
            )?;
        }
        if let Some(memory) = limited("memory") {
            let bytes = (memory / 1000).to_string();
            self.set(
                &path,
                "memory",
                &[("memory.limit_in_bytes", bytes.clone())],
                &[("memory.max", bytes)],
            )?;
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
