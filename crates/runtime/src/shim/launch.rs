//! Starting a process: what the shim does before and after fork(2), and what the child does up to execve(2).
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{
    ForkResult, Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setresgid, setresuid, setsid,
};
use serde::{Deserialize, Serialize};

use super::message::Failure;
use super::rootfs::{self, Naming, Result};
use super::socket;
use crate::cgroup::Hierarchy;
use crate::spec::{ContainerSpec, PidNamespace, Process};
use crate::{seccomp, sys};

/// What a child says before it becomes the program; saying nothing more and going away is success.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// With the terminal's own end.
    Terminal,
    Failed(Failure),
}

/// The child's stdin, stdout and stderr, or what is left of them for the shim.
#[derive(Debug, Default)]
pub struct Streams {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// A process that runs its program.
#[derive(Debug)]
pub struct Started {
    pub pid: i32,
    pub terminal: Option<OwnedFd>,
}

/// A pod's namespaces, as files on the host.
#[derive(Debug, Clone, Copy)]
pub struct Namespaces<'a> {
    pub dir: &'a Path,
    /// Of the process that holds the pod's PID namespace.
    pub holder: Option<i32>,
}

/// Pipes for a process without a terminal: the child's ends and ours.
pub fn pipes(stdin: bool) -> Result<(Streams, Streams)> {
    let make = || pipe2(nix::fcntl::OFlag::O_CLOEXEC).naming(|| "make a pipe".to_owned());
    let ((out_read, out_write), (err_read, err_write)) = (make()?, make()?);
    let (mut child, mut ours) = (
        Streams {
            stdin: None,
            stdout: Some(out_write),
            stderr: Some(err_write),
        },
        Streams {
            stdin: None,
            stdout: Some(out_read),
            stderr: Some(err_read),
        },
    );
    if stdin {
        let (read, write) = make()?;
        child.stdin = Some(read);
        ours.stdin = Some(write);
    }
    Ok((child, ours))
}

/// Forks with children going to `pid_namespace`; the caller itself stays where it is.
fn fork_in(pid_namespace: Option<Option<&File>>) -> Result<ForkResult> {
    let what = || "enter the PID namespace".to_owned();
    let own = File::open("/proc/self/ns/pid").naming(what)?;
    match pid_namespace {
        None => {}
        Some(None) => unshare(CloneFlags::CLONE_NEWPID).naming(what)?,
        Some(Some(file)) => setns(file, CloneFlags::CLONE_NEWPID).naming(what)?,
    }
    // SAFETY: the shim has one thread, so the child may do anything.
    let forked = unsafe { fork() }.naming(|| "fork".to_owned())?;
    if let (ForkResult::Parent { .. }, true) = (&forked, pid_namespace.is_some()) {
        setns(&own, CloneFlags::CLONE_NEWPID).naming(|| "leave the PID namespace".to_owned())?;
    }
    Ok(forked)
}

/// Waits for the child to become its program.
fn supervise(pid: i32, channel: &OwnedFd) -> Result<Started> {
    let mut terminal = None;
    loop {
        match socket::receive::<Word>(channel.as_fd()) {
            Ok(None) => return Ok(Started { pid, terminal }),
            Ok(Some((Word::Terminal, mut fds))) => terminal = fds.pop(),
            Ok(Some((Word::Failed(failure), _))) => {
                // It is about to leave; its status is of no interest.
                let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
                return Err(failure);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("listen to the new process: {e}").into()),
        }
    }
}

fn child(channel: &OwnedFd, body: impl FnOnce(&OwnedFd) -> Result<std::convert::Infallible>) -> ! {
    let Err(failure) = body(channel);
    let _ = socket::send(channel.as_fd(), &Word::Failed(failure), &[]);
    // SAFETY: leaves without running the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

/// Starts a container's first process.
pub fn container(
    spec: &ContainerSpec,
    pod: Namespaces,
    target: Option<i32>,
    hierarchy: &Hierarchy,
    streams: Streams,
) -> Result<Started> {
    let open = |path: String| File::open(&path).naming(|| format!("open {path}"));
    let pid_namespace = match &spec.pid {
        PidNamespace::Own => Some(None),
        PidNamespace::Host => None,
        PidNamespace::Sandbox => {
            let holder = pod.holder.ok_or("the sandbox has no PID namespace")?;
            Some(Some(open(format!("/proc/{holder}/ns/pid"))?))
        }
        PidNamespace::Target(id) => {
            let pid = target.ok_or_else(|| format!("container {id} is not running"))?;
            Some(Some(open(format!("/proc/{pid}/ns/pid"))?))
        }
    };
    let mut join = Vec::new();
    for (private, name, flag) in [
        (spec.private_network, "net", CloneFlags::CLONE_NEWNET),
        (spec.private_ipc, "ipc", CloneFlags::CLONE_NEWIPC),
        // A pod in the node's network has the node's name.
        (spec.private_network, "uts", CloneFlags::CLONE_NEWUTS),
    ] {
        if private {
            join.push((open(pod.dir.join(name).to_string_lossy().into_owned())?, flag));
        }
    }
    let filter =
        seccomp::program(&spec.process.seccomp, spec.process.capabilities).map_err(|e| Failure::from(e.to_string()))?;
    let (ours, theirs) = socket::pair().naming(|| "make a socket pair".to_owned())?;
    match fork_in(pid_namespace.as_ref().map(Option::as_ref))? {
        ForkResult::Parent { child } => {
            drop((theirs, streams));
            supervise(child.as_raw(), &ours)
        }
        ForkResult::Child => {
            drop(ours);
            child(&theirs, |channel| {
                hide()?;
                reset_signals();
                for (file, flag) in &join {
                    setns(file, *flag).naming(|| format!("join namespace {flag:?}"))?;
                }
                join_cgroup(hierarchy, &spec.cgroup)?;
                limits(&spec.process)?;
                unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)
                    .naming(|| "make a mount namespace".to_owned())?;
                rootfs::build(spec, hierarchy)?;
                let terminal = if spec.process.tty {
                    Some(terminal(&spec.process, channel, true)?)
                } else {
                    None
                };
                working_directory(&spec.process, spec.root.readonly)?;
                rootfs::seal(spec)?;
                become_program(&spec.process, streams, terminal, filter.as_deref())
            })
        }
    }
}

/// Starts another process in the container whose first process is `init`.
pub fn exec(process: &Process, init: i32, cgroup: &str, hierarchy: &Hierarchy, streams: Streams) -> Result<Started> {
    let open = |name: &str| {
        let path = format!("/proc/{init}/ns/{name}");
        File::open(&path).naming(|| format!("open {path}"))
    };
    let pid_namespace = open("pid")?;
    let mut join = Vec::new();
    for (name, flag) in [
        ("net", CloneFlags::CLONE_NEWNET),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        // The last: it changes what every path means.
        ("mnt", CloneFlags::CLONE_NEWNS),
    ] {
        join.push((open(name)?, flag));
    }
    let filter = seccomp::program(&process.seccomp, process.capabilities).map_err(|e| Failure::from(e.to_string()))?;
    let (ours, theirs) = socket::pair().naming(|| "make a socket pair".to_owned())?;
    match fork_in(Some(Some(&pid_namespace)))? {
        ForkResult::Parent { child } => {
            drop((theirs, streams));
            supervise(child.as_raw(), &ours)
        }
        ForkResult::Child => {
            drop(ours);
            child(&theirs, |channel| {
                hide()?;
                reset_signals();
                join_cgroup(hierarchy, cgroup)?;
                limits(process)?;
                for (file, flag) in &join {
                    setns(file, *flag).naming(|| format!("join namespace {flag:?}"))?;
                }
                let terminal = if process.tty {
                    Some(terminal(process, channel, false)?)
                } else {
                    None
                };
                enter(&process.cwd)?;
                become_program(process, streams, terminal, filter.as_deref())
            })
        }
    }
}

/// Until it becomes the program the child is a process of the node among those of the container: they may not look into it
/// (CVE-2016-9962). execve(2) undoes it.
fn hide() -> Result<()> {
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).naming(|| "hide from the container".to_owned())
}

/// Rust ignores SIGPIPE, the C library's spawn its own signals, and the shim blocks SIGCHLD; a program expects none of it.
fn reset_signals() {
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    for internal in [32, 33] {
        let _ = sys::default_action(internal);
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

fn join_cgroup(hierarchy: &Hierarchy, group: &str) -> Result<()> {
    hierarchy.join(group).naming(|| "join the cgroup".to_owned())
}

fn limits(process: &Process) -> Result<()> {
    let score = process.oom_score_adj.to_string();
    match std::fs::write("/proc/self/oom_score_adj", score) {
        // Lowering needs CAP_SYS_RESOURCE, which a node may not have; the container runs all the same.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        other => other.naming(|| "set oom_score_adj".to_owned())?,
    }
    for (resource, soft, hard) in &process.rlimits {
        sys::set_rlimit(*resource, *soft, *hard).naming(|| format!("set resource limit {resource}"))?;
    }
    Ok(())
}

/// A terminal of the container's own devpts: its other end goes to the shim.
fn terminal(process: &Process, channel: &OwnedFd, console: bool) -> Result<OwnedFd> {
    let what = || "make a terminal".to_owned();
    let master = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/ptmx")
        .naming(what)?;
    let unlocked: libc::c_int = 0;
    let mut index: libc::c_uint = 0;
    // SAFETY: the arguments are what ioctl_tty(2) asks for; the new descriptor is ours.
    let slave = unsafe {
        if libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) < 0
            || libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut index) < 0
        {
            return Err(io::Error::last_os_error()).naming(what);
        }
        let fd = libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCGPTPEER,
            libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC,
        );
        if fd < 0 {
            return Err(io::Error::last_os_error()).naming(what);
        }
        OwnedFd::from_raw_fd(fd)
    };
    nix::unistd::fchown(&slave, Some(Uid::from_raw(process.uid)), None).naming(what)?;
    if console {
        // A volume at /dev may hold anything by that name.
        File::options()
            .create(true)
            .append(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY)
            .open("/dev/console")
            .naming(what)?;
        let source = format!("/dev/pts/{index}");
        let flags = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some(source.as_str()), "/dev/console", None::<&str>, flags, None::<&str>).naming(what)?;
    }
    socket::send(channel.as_fd(), &Word::Terminal, &[master.as_fd()]).naming(what)?;
    Ok(slave)
}

fn working_directory(process: &Process, readonly: bool) -> Result<()> {
    let cwd = &process.cwd;
    if let Err(e) = std::fs::create_dir_all(cwd)
        && !(readonly && Path::new(cwd).is_dir())
    {
        return Err(format!("mkdir {cwd:?}: {e}").into());
    }
    enter(cwd)
}

/// A path may lead out of the container's root over a descriptor that is still open here (CVE-2024-21626).
fn enter(cwd: &str) -> Result<()> {
    let what = || format!("chdir to {cwd:?}");
    std::env::set_current_dir(cwd).naming(what)?;
    let now = std::env::current_dir().naming(what)?;
    if !now.is_absolute() {
        return Err(format!("{}: it is outside of the container's root", what()).into());
    }
    Ok(())
}

fn null() -> Result<OwnedFd> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .naming(|| "open /dev/null".to_owned())?;
    Ok(file.into())
}

/// Gives a pipe to the user; what is no pipe, as /dev/null and terminals, stays as it is.
fn own(stream: &OwnedFd, uid: u32) -> io::Result<()> {
    let kind = nix::sys::stat::fstat(stream)?.st_mode & libc::S_IFMT;
    if kind == libc::S_IFIFO {
        nix::unistd::fchown(stream, Some(Uid::from_raw(uid)), None)?;
    }
    Ok(())
}

/// The program's path as execvp(3) would find it, with the container's own `PATH`.
fn find(process: &Process) -> Result<CString> {
    let name = process.args.first().ok_or("no command specified")?;
    let c_path = |path: &str| -> Result<CString> {
        CString::new(path).map_err(|_| format!("exec: {path:?}: path holds a NUL byte").into())
    };
    if name.contains('/') {
        return match std::fs::metadata(name) {
            Ok(meta) if meta.is_dir() => Err(format!("exec: {name:?}: is a directory").into()),
            Ok(_) => c_path(name),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(format!("exec: {name:?}: stat {name}: no such file or directory").into())
            }
            Err(e) => Err(format!("exec: {name:?}: {e}").into()),
        };
    }
    let path = process.env.iter().rev().find_map(|e| e.strip_prefix("PATH="));
    let mut denied = false;
    for dir in path.unwrap_or_default().split(':') {
        let candidate = if dir.is_empty() {
            format!("./{name}")
        } else {
            format!("{dir}/{name}")
        };
        use std::os::unix::fs::PermissionsExt;
        match std::fs::metadata(&candidate) {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => return c_path(&candidate),
            Ok(meta) if meta.is_file() => denied = true,
            _ => {}
        }
    }
    if denied {
        return Err(format!("exec: {name:?}: permission denied").into());
    }
    Err(format!("exec: {name:?}: executable file not found in $PATH").into())
}

/// Gives up what the program may not have, and becomes it.
fn become_program(
    process: &Process,
    streams: Streams,
    terminal: Option<OwnedFd>,
    filter: Option<&[libc::sock_filter]>,
) -> Result<std::convert::Infallible> {
    let setup = |what: &str| format!("set up the process: {what}");
    setsid().naming(|| setup("setsid"))?;
    let (stdin, stdout, stderr) = match terminal {
        Some(slave) => {
            // SAFETY: TIOCSCTTY takes an int.
            if unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) } < 0 {
                return Err(io::Error::last_os_error()).naming(|| setup("controlling terminal"));
            }
            let copy = |fd: &OwnedFd| fd.try_clone().naming(|| setup("terminal"));
            (copy(&slave)?, copy(&slave)?, slave)
        }
        None => (
            streams.stdin.map_or_else(null, Ok)?,
            streams.stdout.map_or_else(null, Ok)?,
            streams.stderr.map_or_else(null, Ok)?,
        ),
    };
    let dup = |from: BorrowedFd, n: i32| match n {
        0 => dup2_stdin(from),
        1 => dup2_stdout(from),
        _ => dup2_stderr(from),
    };
    // A program opens its streams again by their names in /dev: as its user, who must own the pipes.
    if process.uid != 0 {
        for stream in [&stdin, &stdout, &stderr] {
            own(stream, process.uid).naming(|| setup("standard streams"))?;
        }
    }
    // A pipe may itself have one of the three numbers; none does, since the shim holds them open.
    for (n, from) in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].into_iter().enumerate() {
        dup(from, n as i32).naming(|| setup("standard streams"))?;
    }
    let c_strings = |list: &[String]| -> Result<Vec<CString>> {
        list.iter()
            .map(|s| CString::new(s.as_str()).map_err(|_| format!("{s:?} holds a NUL byte").into()))
            .collect()
    };
    let (args, env) = (c_strings(&process.args)?, c_strings(&process.env)?);
    if process.no_new_privs {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).naming(|| setup("no_new_privs"))?;
    } else if let Some(filter) = filter {
        // Without no_new_privs this needs CAP_SYS_ADMIN, which is given up next.
        seccomp::install(filter).naming(|| setup("seccomp"))?;
    }
    identity(process).naming(|| setup("identity"))?;
    let path = find(process)?;
    // Everything above the three, the channel too, closes when the program starts.
    // SAFETY: only sets a flag on descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if let (true, Some(filter)) = (process.no_new_privs, filter) {
        seccomp::install(filter).naming(|| setup("seccomp"))?;
    }
    let Err(error) = nix::unistd::execve(&path, &args, &env);
    let error = match error {
        nix::Error::ENOENT => "no such file or directory".to_owned(),
        nix::Error::EACCES => "permission denied".to_owned(),
        nix::Error::ENOEXEC => "exec format error".to_owned(),
        other => other.desc().to_owned(),
    };
    Err(format!("exec {}: {error}", path.to_string_lossy()).into())
}

/// User, groups and capabilities. See capabilities(7), "Effect of user ID changes on capabilities".
fn identity(process: &Process) -> io::Result<()> {
    // A node may itself lack capabilities; more than it has cannot be given.
    let have = sys::permitted_capabilities()?;
    let (wanted, ambient) = (
        process.capabilities & have,
        process.ambient & process.capabilities & have,
    );
    for capability in 0..64 {
        if have >> capability & 1 == 1 && wanted >> capability & 1 == 0 {
            sys::prctl(libc::PR_CAPBSET_DROP, capability, 0)?;
        }
    }
    // To the kernel this number means "leave it as it is", and it is root.
    if process.uid == u32::MAX || process.gid == u32::MAX {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let groups: Vec<Gid> = process.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    nix::unistd::setgroups(&groups)?;
    sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
    let gid = Gid::from_raw(process.gid);
    setresgid(gid, gid, gid)?;
    let uid = Uid::from_raw(process.uid);
    setresuid(uid, uid, uid)?;
    sys::set_capabilities(wanted, ambient)?;
    for capability in (0..64).filter(|c| ambient >> c & 1 == 1) {
        sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability)?;
    }
    sys::prctl(libc::PR_SET_KEEPCAPS, 0, 0)
}
