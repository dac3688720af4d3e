//! A pod's shared namespaces: made by a child, kept as files, and the process that holds the PID namespace.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, fork};

use super::rootfs::{self, Naming, Result};
use super::socket;
use crate::spec::SandboxSpec;

const NONE: Option<&str> = None;
const FILES: [&str; 3] = ["net", "ipc", "uts"];

/// Makes the namespaces below `dir` and gives the PID namespace's holder.
pub fn create(spec: &SandboxSpec, dir: &Path) -> Result<Option<i32>> {
    let own = File::open("/proc/self/ns/pid").naming(|| "open the PID namespace".to_owned())?;
    let (ours, theirs) = socket::pair().naming(|| "make a socket pair".to_owned())?;
    if spec.shared_pid {
        unshare(CloneFlags::CLONE_NEWPID).naming(|| "make a PID namespace".to_owned())?;
    }
    // SAFETY: the shim has one thread, so the child may do anything.
    match unsafe { fork() }.naming(|| "fork".to_owned())? {
        ForkResult::Child => {
            drop(ours);
            let result = namespaces(spec);
            let _ = socket::send(theirs.as_fd(), &result, &[]);
            // Until the files are there.
            let _ = socket::receive_bytes(theirs.as_fd());
            if spec.shared_pid && result.is_ok() {
                hold(&theirs);
            }
            // SAFETY: leaves without running the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            if spec.shared_pid {
                setns(&own, CloneFlags::CLONE_NEWPID).naming(|| "leave the PID namespace".to_owned())?;
            }
            let ready = socket::receive::<Result<()>>(ours.as_fd()).naming(|| "listen to the sandbox".to_owned())?;
            let kept = match ready {
                Some((Ok(()), _)) => keep(spec, dir, child.as_raw()),
                Some((Err(e), _)) => Err(e),
                None => Err("the sandbox's process went away".into()),
            };
            if kept.is_ok() {
                socket::send_bytes(ours.as_fd(), b"x", &[]).naming(|| "answer the sandbox".to_owned())?;
            }
            drop(ours);
            if !spec.shared_pid || kept.is_err() {
                let _ = nix::sys::signal::kill(child, kept.is_err().then_some(nix::sys::signal::Signal::SIGKILL));
                let _ = nix::sys::wait::waitpid(child, None);
            }
            kept.map(|()| spec.shared_pid.then(|| child.as_raw()))
        }
    }
}

fn namespaces(spec: &SandboxSpec) -> Result<()> {
    let mut flags = CloneFlags::empty();
    flags.set(
        CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS,
        spec.private_network,
    );
    flags.set(CloneFlags::CLONE_NEWIPC, spec.private_ipc);
    unshare(flags).naming(|| "make namespaces".to_owned())?;
    if spec.private_network {
        loopback_up().naming(|| "set up the loopback interface".to_owned())?;
        nix::unistd::sethostname(&spec.hostname).naming(|| "set the host name".to_owned())?;
        let plain = |name: &str| spec.sysctls.iter().all(|(n, _)| n != name);
        // As upstream's runtimes: a pod's network is its own, so every port and ping are for every user.
        for (name, value) in [
            ("net.ipv4.ip_unprivileged_port_start", "0"),
            ("net.ipv4.ping_group_range", "0 2147483647"),
        ] {
            if plain(name) {
                let _ = std::fs::write(sysctl_path(name), value);
            }
        }
    }
    for (name, value) in &spec.sysctls {
        std::fs::write(sysctl_path(name), value).naming(|| format!("set sysctl {name} to {value:?}"))?;
    }
    Ok(())
}

/// See netdevice(7).
fn loopback_up() -> std::io::Result<()> {
    let failed = |result: libc::c_int| {
        if result < 0 {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(result)
        }
    };
    // SAFETY: a new descriptor that nobody else owns; the request outlives both calls and names its interface.
    unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        let socket = OwnedFd::from_raw_fd(failed(libc::socket(libc::AF_INET, kind, 0))?);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        failed(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        failed(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request))?;
    }
    Ok(())
}

fn sysctl_path(name: &str) -> String {
    // A name with slashes may have dots in an interface's name.
    let path = if name.contains('/') {
        name.to_owned()
    } else {
        name.replace('.', "/")
    };
    format!("/proc/sys/{path}")
}

fn keep(spec: &SandboxSpec, dir: &Path, child: i32) -> Result<()> {
    for name in FILES {
        let private = if name == "ipc" {
            spec.private_ipc
        } else {
            spec.private_network
        };
        if private {
            let what = || format!("keep namespace {name}");
            let path = dir.join(name);
            File::create(&path).naming(what)?;
            let source = format!("/proc/{child}/ns/{name}");
            mount(Some(source.as_str()), &path, NONE, MsFlags::MS_BIND, NONE).naming(what)?;
        }
    }
    if spec.private_ipc {
        rootfs::shared_memory(&dir.join("shm"))?;
    }
    Ok(())
}

/// The PID namespace's first process: reaps what is orphaned, and waits.
fn hold(channel: &OwnedFd) -> ! {
    let _ = nix::sys::prctl::set_name(c"pause");
    // SAFETY: signal handling and waiting only; the descriptors are not used any more.
    unsafe {
        libc::close(channel.as_raw_fd());
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        loop {
            while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {}
            libc::sigwaitinfo(&raw const set, std::ptr::null_mut());
        }
    }
}

/// Removes what `create` left below `dir`; what is not there is removed.
pub fn destroy(dir: &Path) {
    for name in FILES.into_iter().chain(["shm"]) {
        let path = dir.join(name);
        // Not mounted, or not there.
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        let _ = if name == "shm" {
            std::fs::remove_dir(&path)
        } else {
            std::fs::remove_file(&path)
        };
    }
}
