//! The default profile: what upstream's runtimes leave to a container, widened by its capabilities.

use super::{ALLOW, Comparison, Condition, ERRNO, Profile, Rule, number};

/// Always allowed.
const ALLOWED: &str = "\
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
clock_adjtime clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range \
creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 \
fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync \
fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex \
futex_requeue futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu \
getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp \
getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname \
getsockopt gettid gettimeofday getuid getxattr getxattrat inotify_add_watch inotify_init \
inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit \
ioctl ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self \
lchown lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek \
lsetxattr lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat madvise map_shadow_stack \
membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap \
mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl \
msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open \
openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect \
poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pwrite64 pwritev \
pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages \
removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction \
rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr \
sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr \
sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop \
sendfile sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsuid \
setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit \
setsid setsockopt setuid setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack \
signalfd signalfd4 socketpair splice stat statfs statmount statx symlink symlinkat sync \
sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun \
timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate \
umask uname unlink unlinkat uretprobe utime utimensat utimes vfork vmsplice wait4 waitid write \
writev";

/// Allowed with a capability, by its number in capability.h.
const BY_CAPABILITY: &[(u32, &str)] = &[
    (2, "open_by_handle_at"),
    (
        21,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount2 unshare",
    ),
    (22, "reboot"),
    (18, "chroot"),
    (16, "delete_module init_module finit_module"),
    (20, "acct"),
    (
        19,
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    (17, "iopl ioperm"),
    (25, "settimeofday clock_settime"),
    (26, "vhangup"),
    (23, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (34, "syslog"),
    (39, "bpf"),
    (38, "perf_event_open"),
];

const CAP_SYS_ADMIN: u32 = 21;

/// `personality(2)`: Linux, with a short or a randomised layout, and asking.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Address families above `AF_ALG` that are allowed; `AF_ALG` and `AF_VSOCK` reach past the container.
const FAMILIES: [i32; 6] = [libc::AF_NFC, 41, 42, 43, libc::AF_XDP, 45];

pub(crate) fn profile(capabilities: u64) -> Profile {
    let mut rules = Vec::new();
    let mut allow = |names: &str, conditions: &[Condition]| {
        for number in names.split(' ').filter_map(number) {
            rules.push(Rule {
                number,
                conditions: conditions.to_vec(),
                action: ALLOW,
            });
        }
    };
    let first = |comparison, value| {
        [Condition {
            argument: 0,
            comparison,
            value,
        }]
    };
    allow(ALLOWED, &[]);
    allow(
        "ptrace process_vm_readv process_vm_writev arch_prctl modify_ldt sync_file_range2",
        &[],
    );
    for (capability, names) in BY_CAPABILITY {
        if capabilities >> capability & 1 == 1 {
            allow(names, &[]);
        }
    }
    for value in PERSONALITIES {
        allow("personality", &first(Comparison::Equal, value));
    }
    allow("socket", &first(Comparison::Less, libc::AF_ALG as u64));
    for family in FAMILIES {
        allow("socket", &first(Comparison::Equal, family as u64));
    }
    if capabilities >> CAP_SYS_ADMIN & 1 == 0 {
        let namespaces = libc::CLONE_NEWNS
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWCGROUP;
        allow("clone", &first(Comparison::Masked(namespaces as u64), 0));
        // Its flags are behind a pointer. ENOSYS, not EPERM: then C libraries fall back to clone.
        rules.extend(number("clone3").map(|number| Rule {
            number,
            conditions: Vec::new(),
            action: ERRNO | libc::ENOSYS as u32,
        }));
    }
    Profile {
        default: ERRNO | libc::EPERM as u32,
        rules,
    }
}
