//! Linux capabilities by name, as bits.

/// In the order of capability.h.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// What a container has when nothing is said: the set of upstream's runtimes.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The bits of a name, with or without `CAP_`; `ALL` is all.
pub fn bits(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if short == "ALL" {
        return Some(ALL);
    }
    NAMES.iter().position(|n| *n == short).map(|i| 1 << i)
}

/// The set of a container: the default one, with what is added and without what is dropped. `ALL` goes first.
pub fn merge(add: &[String], drop: &[String]) -> Result<u64, String> {
    let known = |name: &String| bits(name).ok_or_else(|| format!("unknown capability {name:?}"));
    let mut set = DEFAULT.iter().filter_map(|n| bits(n)).fold(0, |a, b| a | b);
    let is_all = |n: &&String| n.eq_ignore_ascii_case("ALL");
    if add.iter().any(|n| is_all(&n)) {
        set = ALL;
    }
    if drop.iter().any(|n| is_all(&n)) {
        set = 0;
    }
    for name in add.iter().filter(|n| !is_all(n)) {
        set |= known(name)?;
    }
    for name in drop.iter().filter(|n| !is_all(n)) {
        set &= !known(name)?;
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_taken_before_single_names() {
        let names = |n: &[&str]| n.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(merge(&names(&["NET_ADMIN"]), &names(&["ALL"])), Ok(1 << 12));
        assert_eq!(merge(&names(&["ALL"]), &names(&["cap_chown"])), Ok(ALL & !1));
        assert!(merge(&names(&["FLY"]), &[]).is_err());
    }
}
