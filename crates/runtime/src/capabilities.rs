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

/// The bits of every capability that Linux 6 has.
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

/// The bit of a capability by its name without `CAP_`, in any case of letters.
pub fn bit(name: &str) -> Option<u64> {
    NAMES.iter().position(|n| n.eq_ignore_ascii_case(name)).map(|i| 1 << i)
}

/// The set of a container: the default one, with what is added and without what is dropped. `ALL` goes first.
///
/// Names that are none (`FLY`, and `CAP_CHOWN`, which would be `CAP_CAP_CHOWN`) change nothing, as in upstream's runtimes.
pub fn merge(add: &[String], drop: &[String]) -> u64 {
    let mut set = DEFAULT.iter().filter_map(|n| bit(n)).fold(0, |a, b| a | b);
    let is_all = |n: &&String| n.eq_ignore_ascii_case("ALL");
    if add.iter().any(|n| is_all(&n)) {
        set = ALL;
    }
    if drop.iter().any(|n| is_all(&n)) {
        set = 0;
    }
    set |= add.iter().filter_map(|n| bit(n)).fold(0, |a, b| a | b);
    set & !drop.iter().filter_map(|n| bit(n)).fold(0, |a, b| a | b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_taken_before_single_names() {
        let names = |n: &[&str]| n.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(merge(&names(&["NET_ADMIN"]), &names(&["ALL"])), 1 << 12);
        assert_eq!(merge(&names(&["ALL"]), &names(&["chown"])), ALL & !1);
    }

    #[test]
    fn names_that_are_none_change_nothing() {
        let names = |n: &[&str]| n.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let plain = merge(&[], &[]);
        assert_eq!(merge(&names(&["FLY", "CAP_SYS_ADMIN", ""]), &[]), plain);
        assert_eq!(merge(&[], &names(&["CAP_CHOWN", "CAP_ALL"])), plain);
    }
}
