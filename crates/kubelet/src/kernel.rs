//! What the kubelet asks of the kernel before it starts: its settings, no swap, version 2 of cgroups, each where it is wanted.

use std::path::Path;

use crate::KubeletConfig;

/// The settings that pods are run best with, as upstream's `setupKernelTunables` has them.
const WANTED: [(&str, &str); 6] = [
    ("kernel/keys/root_maxbytes", "25000000"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
];

/// All that keeps the kubelet from starting on this kernel.
#[derive(Debug, thiserror::Error)]
#[error("{}", shown(.0))]
pub struct KernelError(Vec<Misfit>);

/// One thing of the kernel's that is not as it should be, in upstream's words.
#[derive(Debug, thiserror::Error)]
enum Misfit {
    #[error("kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is in maintenance mode")]
    CgroupV1,
    #[error(
        "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false. \
         /proc/swaps contained: {0:?}"
    )]
    Swap(String),
    #[error("invalid kernel flag: {name}, expected value: {wanted}, actual value: {actual}")]
    Setting {
        name: &'static str,
        wanted: &'static str,
        actual: String,
    },
    #[error("{name}: {source}")]
    Unreadable { name: &'static str, source: std::io::Error },
}

fn shown(wrong: &[Misfit]) -> String {
    let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    wrong.join("; ")
}

/// Checks that this host's kernel is as `config` asks for.
///
/// # Errors
/// Everything that is not so.
pub fn check_kernel(config: &KubeletConfig) -> Result<(), KernelError> {
    let cgroup_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    check(config, Path::new("/proc"), cgroup_v2)
}

/// Checks what `config` asks for, by the files in `proc` (`/proc`).
///
/// # Errors
/// Everything that is not so.
fn check(config: &KubeletConfig, proc: &Path, cgroup_v2: bool) -> Result<(), KernelError> {
    let mut wrong = Vec::new();
    if config.fail_cgroup_v1 && !cgroup_v2 {
        wrong.push(Misfit::CgroupV1);
    }
    if config.fail_swap_on {
        match std::fs::read_to_string(proc.join("swaps")) {
            // a kernel without swap has no such file
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => wrong.push(Misfit::Unreadable { name: "swaps", source }),
            Ok(swaps) if swaps.lines().count() > 1 => wrong.push(Misfit::Swap(swaps)),
            Ok(_) => {}
        }
    }
    if config.protect_kernel_defaults {
        for (name, wanted) in WANTED {
            match std::fs::read_to_string(proc.join("sys").join(name)) {
                Ok(actual) if actual.trim() == wanted => {}
                Ok(actual) => wrong.push(Misfit::Setting {
                    name,
                    wanted,
                    actual: actual.trim().to_owned(),
                }),
                Err(source) => wrong.push(Misfit::Unreadable { name, source }),
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(KernelError(wrong)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_not_as_wanted_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        WANTED
            .iter()
            .for_each(|(name, value)| put(&format!("sys/{name}"), &format!("{value}\n")));
        put("swaps", "Filename Type\n");
        let mut config = KubeletConfig::new("n");
        config.protect_kernel_defaults = true;
        config.fail_swap_on = true;
        config.fail_cgroup_v1 = true;
        check(&config, dir.path(), true).unwrap();
        put("sys/vm/overcommit_memory", "0\n");
        put("swaps", "Filename Type\n/dev/sda2 partition\n");
        let said = check(&config, dir.path(), false).unwrap_err().to_string();
        for why in [
            "invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: 0",
            "running with swap on is not supported",
            "not run on a host using cgroup v1",
        ] {
            assert!(said.contains(why), "{said}");
        }
        check(&KubeletConfig::new("n"), dir.path(), false).unwrap();
    }
}
