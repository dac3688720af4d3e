//! The shim: one small process for a pod. It owns the namespaces, starts and reaps the containers' processes, writes
//! their logs, keeps their exit codes, and answers whichever daemon connects. One thread, one poll(2) loop.
#![allow(unsafe_code)]

mod container;
mod launch;
pub(crate) mod log;
pub mod message;
pub(crate) mod rootfs;
mod sandbox;
pub mod socket;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::cgroup::Hierarchy;
use crate::spec::{ContainerSpec, SandboxSpec};
use crate::sys;
use container::Container;
use launch::{Namespaces, Streams};
use message::{Answer, Call, Message, Request};
use rootfs::{Naming, Result};

pub use container::exit_file;
pub use sandbox::destroy;

/// How often a group is looked at again: a process leaves its group a moment after it ended.
const LAST_MOMENTS: usize = 20;

/// Below a sandbox's directory.
pub const SOCKET: &str = "shim.sock";
/// The sandbox's [`SandboxSpec`](crate::spec::SandboxSpec) in JSON, below the same directory.
pub const SPEC: &str = "sandbox.json";

/// Runs a shim for the sandbox whose directory is the only argument. Prints `ok` once it answers.
pub fn main(args: &[String]) -> ! {
    let result = match args {
        [dir] => start(Path::new(dir)),
        _ => Err("usage: shim <sandbox directory>".into()),
    };
    let code = match result {
        Ok(()) => 0,
        Err(text) => {
            // The daemon reads it; when it cannot, nobody is left to tell.
            let _ = writeln!(io::stdout(), "error: {text}");
            1
        }
    };
    std::process::exit(code);
}

fn start(dir: &Path) -> Result<()> {
    // The daemon waits for this process only; the shim proper belongs to nobody and outlives it.
    let (ours, theirs) = socket::pair().naming(|| "make a socket pair".to_owned())?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.naming(|| "fork".to_owned())? {
        ForkResult::Parent { .. } => {
            drop(theirs);
            match socket::receive::<Result<()>>(ours.as_fd()).naming(|| "listen to the shim".to_owned())? {
                Some((Ok(()), _)) => {
                    let _ = writeln!(io::stdout(), "ok");
                    Ok(())
                }
                Some((Err(e), _)) => Err(e),
                None => Err("the shim ended before it was ready".into()),
            }
        }
        ForkResult::Child => {
            drop(ours);
            let ready = Shim::create(dir);
            let answer: Result<()> = ready.as_ref().map(|_| ()).map_err(Clone::clone);
            let _ = socket::send(theirs.as_fd(), &answer, &[]);
            drop(theirs);
            if let Ok(mut shim) = ready {
                shim.run();
            }
            std::process::exit(0);
        }
    }
}

struct Peer {
    socket: OwnedFd,
    /// What did not fit into the socket's buffer.
    backlog: Vec<Vec<u8>>,
    gone: bool,
}

struct Shim {
    dir: PathBuf,
    holder: Option<i32>,
    hierarchy: Hierarchy,
    listener: OwnedFd,
    signals: SignalFd,
    peers: Vec<Peer>,
    containers: HashMap<String, Container>,
    /// Processes of exec, by PID.
    execs: HashMap<i32, String>,
    leaving: bool,
}

/// What a ready descriptor belongs to.
enum Source {
    Listener,
    Signals,
    Peer(usize),
    Container(String),
}

impl Shim {
    fn create(dir: &Path) -> Result<Self> {
        nix::unistd::setsid().naming(|| "setsid".to_owned())?;
        nix::sys::prctl::set_child_subreaper(true).naming(|| "become a subreaper".to_owned())?;
        let _ = nix::sys::prctl::set_name(c"skiff-shim");
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        std::env::set_current_dir("/").naming(|| "enter /".to_owned())?;
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .naming(|| "open /dev/null".to_owned())?;
        for n in 0..3 {
            // SAFETY: the three standard descriptors belong to the process.
            unsafe { libc::dup2(null.as_raw_fd(), n) };
        }
        // Nothing of the daemon's may be held open by a process that outlives it.
        close_inherited(&[null.as_raw_fd()]);
        let path = dir.join(SPEC);
        let text = std::fs::read(&path).naming(|| format!("read {}", path.display()))?;
        let spec: SandboxSpec = serde_json::from_slice(&text).naming(|| format!("read {}", path.display()))?;
        let hierarchy = Hierarchy::detect().naming(|| "find cgroups".to_owned())?;
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        set.thread_block().naming(|| "block SIGCHLD".to_owned())?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&set, flags).naming(|| "make a signalfd".to_owned())?;
        let holder = sandbox::create(&spec, dir).inspect_err(|_| sandbox::destroy(dir))?;
        let socket = dir.join(SOCKET);
        let listener = socket::listen(&socket).naming(|| format!("listen on {}", socket.display()));
        let listener = listener.inspect_err(|_| sandbox::destroy(dir))?;
        // Ending before its containers would lose their exit codes; refused where the node may not.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-998");
        Ok(Self {
            dir: dir.to_owned(),
            holder,
            hierarchy,
            listener,
            signals,
            peers: Vec::new(),
            containers: HashMap::new(),
            execs: HashMap::new(),
            leaving: false,
        })
    }

    fn run(&mut self) {
        while !self.leaving {
            let (mut fds, sources) = self.interests();
            // SAFETY: fds has the length given; its descriptors are open, they belong to self.
            let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
            if ready < 0 {
                continue;
            }
            let mut children = false;
            for (fd, source) in fds.iter().zip(sources) {
                if fd.revents == 0 {
                    continue;
                }
                match source {
                    Source::Listener => self.accept(),
                    // Last: what a process said before it ended is read first.
                    Source::Signals => children = true,
                    Source::Peer(i) => self.serve(i, fd.revents),
                    Source::Container(id) => {
                        if let Some(container) = self.containers.get_mut(&id) {
                            container.ready(fd.fd, fd.revents);
                        }
                    }
                }
            }
            if children {
                self.reap();
            }
            self.peers.retain(|p| !p.gone);
        }
        sandbox::destroy(&self.dir);
        let _ = std::fs::remove_file(self.dir.join(SOCKET));
    }

    fn interests(&self) -> (Vec<libc::pollfd>, Vec<Source>) {
        let (mut fds, mut sources) = (Vec::new(), Vec::new());
        let mut add = |fd: RawFd, events: libc::c_short, source: Source| {
            fds.push(libc::pollfd { fd, events, revents: 0 });
            sources.push(source);
        };
        add(self.listener.as_raw_fd(), libc::POLLIN, Source::Listener);
        add(self.signals.as_fd().as_raw_fd(), libc::POLLIN, Source::Signals);
        for (i, peer) in self.peers.iter().enumerate() {
            let out = if peer.backlog.is_empty() { 0 } else { libc::POLLOUT };
            add(peer.socket.as_raw_fd(), libc::POLLIN | out, Source::Peer(i));
        }
        for (id, container) in &self.containers {
            container.interests(|fd, events| add(fd, events, Source::Container(id.clone())));
        }
        (fds, sources)
    }

    fn accept(&mut self) {
        // A peer that left meanwhile is no loss.
        if let Ok(socket) = socket::accept(&self.listener) {
            self.peers.push(Peer {
                socket,
                backlog: Vec::new(),
                gone: false,
            });
        }
    }

    fn serve(&mut self, i: usize, events: libc::c_short) {
        if events & libc::POLLOUT != 0 {
            flush(&mut self.peers[i]);
        }
        if events & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) == 0 {
            return;
        }
        match socket::receive::<Request>(self.peers[i].socket.as_fd()) {
            Ok(Some((request, fds))) => {
                let result = self.answer(request.call, fds);
                let (answer, fd) = match result {
                    Ok((answer, fd)) => (Ok(answer), fd),
                    Err(failure) => (Err(failure), None),
                };
                let reply = Message::Reply {
                    number: request.number,
                    answer,
                };
                let fds: Vec<BorrowedFd> = fd.iter().map(AsFd::as_fd).collect();
                push(&mut self.peers[i], &reply, &fds);
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // The end, or what no daemon of ours says.
            Ok(None) | Err(_) => self.peers[i].gone = true,
        }
    }

    fn answer(&mut self, call: Call, fds: Vec<OwnedFd>) -> Result<(Answer, Option<OwnedFd>)> {
        let mut answer = Answer::default();
        let mut reply_fd = None;
        match call {
            Call::State => answer.containers = self.containers.values().map(Container::state).collect(),
            Call::Start { spec } => answer.pid = self.start(&spec)?,
            Call::Signal { id, signal, all } => self.signal(&id, signal, all)?,
            Call::Exec { id, exec, process } => {
                let container = self
                    .containers
                    .get(&id)
                    .ok_or_else(|| format!("container {id} is not known"))?;
                let init = container
                    .running()
                    .ok_or_else(|| format!("container {id} is not running"))?;
                let mut fds = fds.into_iter();
                let streams = Streams {
                    stdin: fds.next(),
                    stdout: fds.next(),
                    stderr: fds.next(),
                };
                let started = launch::exec(&process, init, &container.spec.cgroup, &self.hierarchy, streams)?;
                self.execs.insert(started.pid, exec);
                answer.pid = started.pid;
                reply_fd = started.terminal;
            }
            Call::KillExec { exec } => {
                if let Some((pid, _)) = self.execs.iter().find(|(_, name)| **name == exec) {
                    // Of its own session: with what it started, unless that made another session.
                    let _ = kill(Pid::from_raw(-*pid), Signal::SIGKILL);
                    let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                }
            }
            Call::Attach { id, stdout, stderr } => {
                let container = self
                    .containers
                    .get_mut(&id)
                    .ok_or_else(|| format!("container {id} is not known"))?;
                reply_fd = container.attach(stdout, stderr, fds)?;
            }
            Call::CloseStdin { id } => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.close_stdin();
                }
            }
            Call::ReopenLog { id } => {
                let container = self
                    .containers
                    .get_mut(&id)
                    .ok_or_else(|| format!("container {id} is not known"))?;
                container
                    .reopen_log()
                    .naming(|| format!("reopen the log of container {id}"))?;
            }
            Call::Remove { id } => {
                if let Some(container) = self.containers.get(&id) {
                    if container.running().is_some() {
                        return Err(format!("container {id} is running").into());
                    }
                    remove_group(&self.hierarchy, &container.spec.cgroup)
                        .naming(|| format!("remove container {id}"))?;
                    self.containers.remove(&id);
                }
            }
            Call::Shutdown => self.shutdown(),
        }
        Ok((answer, reply_fd))
    }

    fn start(&mut self, path: &Path) -> Result<i32> {
        let text = std::fs::read(path).naming(|| format!("read {}", path.display()))?;
        let spec: ContainerSpec = serde_json::from_slice(&text).naming(|| format!("read {}", path.display()))?;
        if self.containers.contains_key(&spec.id) {
            return Err(format!("container {} was started already", spec.id).into());
        }
        let what = || format!("set up cgroup {}", spec.cgroup);
        self.hierarchy.create(&spec.cgroup).naming(what)?;
        let started = self.launch(&spec);
        match started {
            Ok(container) => {
                let pid = container.pid;
                self.containers.insert(spec.id.clone(), container);
                Ok(pid)
            }
            Err(text) => {
                // The reason of the failure is what matters; an empty group costs nothing.
                let _ = self.hierarchy.remove(&spec.cgroup);
                Err(text)
            }
        }
    }

    fn launch(&self, spec: &ContainerSpec) -> Result<Container> {
        self.hierarchy
            .apply(&spec.cgroup, &spec.resources)
            .naming(|| "set limits".to_owned())?;
        self.hierarchy
            .allow_devices(&spec.cgroup, &spec.devices, spec.privileged)
            .naming(|| "set allowed devices".to_owned())?;
        let target = match &spec.pid {
            crate::spec::PidNamespace::Target(id) => self.containers.get(id).and_then(Container::running),
            _ => None,
        };
        let pod = Namespaces {
            dir: &self.dir,
            holder: self.holder,
        };
        let log = spec
            .log
            .as_deref()
            .map(log::Log::open)
            .transpose()
            .naming(|| "open the log".to_owned())?;
        let (theirs, mut ours) = if spec.process.tty {
            (Streams::default(), Streams::default())
        } else {
            launch::pipes(spec.stdin)?
        };
        let started = launch::container(spec, pod, target, &self.hierarchy, theirs)?;
        if let Some(terminal) = started.terminal {
            ours.stdout = Some(terminal);
        }
        Container::new(spec.clone(), started.pid, ours, log, &self.dir)
    }

    fn signal(&self, id: &str, signal: i32, all: bool) -> Result<()> {
        let container = self
            .containers
            .get(id)
            .ok_or_else(|| format!("container {id} is not known"))?;
        if all {
            kill_group(&self.hierarchy, &container.spec.cgroup, signal);
        } else if let Some(pid) = container.running() {
            // SAFETY: sends a signal; real-time numbers are not in nix's enum.
            if unsafe { libc::kill(pid, signal) } < 0 {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::ESRCH) {
                    return Err(format!("signal container {id}: {error}").into());
                }
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(exec) = self.execs.remove(&pid) {
                self.broadcast(&Message::ExecExited { exec, code });
            } else if let Some(container) = self.containers.values_mut().find(|c| c.running() == Some(pid)) {
                let group = container.spec.cgroup.clone();
                // Of a PID namespace of its own nothing is left; of a shared one there may be.
                if container.spec.pid != crate::spec::PidNamespace::Own {
                    kill_group(&self.hierarchy, &group, libc::SIGKILL);
                }
                let oom_killed = code == 137 && self.hierarchy.oom_kills(&group) > 0;
                let exit = container.ended(code, oom_killed);
                let id = container.spec.id.clone();
                self.broadcast(&Message::Exited { id, exit });
            }
        }
    }

    fn broadcast(&mut self, message: &Message) {
        for peer in &mut self.peers {
            push(peer, message, &[]);
        }
    }

    fn shutdown(&mut self) {
        for container in self.containers.values() {
            if container.running().is_some() {
                kill_group(&self.hierarchy, &container.spec.cgroup, libc::SIGKILL);
            }
        }
        if let Some(holder) = self.holder.take() {
            let _ = kill(Pid::from_raw(holder), Signal::SIGKILL);
        }
        while self.containers.values().any(|c| c.running().is_some()) {
            match waitpid(None, None) {
                Ok(WaitStatus::Exited(pid, code)) => self.last_exit(pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => self.last_exit(pid, 128 + signal as i32),
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(_) => break,
            }
        }
        for container in self.containers.values() {
            // A group that is busy goes with its pod's.
            let _ = remove_group(&self.hierarchy, &container.spec.cgroup);
        }
        self.leaving = true;
    }

    fn last_exit(&mut self, pid: Pid, code: i32) {
        if let Some(container) = self.containers.values_mut().find(|c| c.running() == Some(pid.as_raw())) {
            let exit = container.ended(code, false);
            let id = container.spec.id.clone();
            self.broadcast(&Message::Exited { id, exit });
        }
    }
}

fn kill_group(hierarchy: &Hierarchy, group: &str, signal: i32) {
    // A process may fork between the look and the signal: look until nothing new is there.
    for _ in 0..16 {
        let pids = hierarchy.processes(group);
        for pid in &pids {
            // SAFETY: sends a signal.
            unsafe { libc::kill(*pid, signal) };
        }
        if pids.is_empty() || signal != libc::SIGKILL {
            return;
        }
    }
}

/// Removes a group whose processes were killed, once the last of them is gone.
fn remove_group(hierarchy: &Hierarchy, group: &str) -> io::Result<()> {
    for _ in 0..LAST_MOMENTS {
        match hierarchy.remove(group) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => sys::wait_for_exit(&hierarchy.processes(group))?,
            other => return other,
        }
    }
    hierarchy.remove(group)
}

fn flush(peer: &mut Peer) {
    while let Some(bytes) = peer.backlog.first() {
        match socket::send_bytes(peer.socket.as_fd(), bytes, &[]) {
            Ok(()) => drop(peer.backlog.remove(0)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {
                peer.gone = true;
                return;
            }
        }
    }
}

fn push(peer: &mut Peer, message: &Message, fds: &[BorrowedFd]) {
    let Ok(bytes) = serde_json::to_vec(message) else {
        peer.gone = true;
        return;
    };
    if fds.is_empty() {
        peer.backlog.push(bytes);
        flush(peer);
    } else if socket::send_bytes(peer.socket.as_fd(), &bytes, fds).is_err() {
        // Descriptors cannot wait; a daemon that does not read is gone.
        peer.gone = true;
    }
}

fn close_inherited(keep: &[RawFd]) {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let fds: Vec<RawFd> = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in fds {
        // Descriptors of ours close on exec and were made after it; the others were inherited.
        // SAFETY: only looks at a flag, then closes what nothing here owns.
        unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFD);
            if flags >= 0 && flags & libc::FD_CLOEXEC == 0 && !keep.contains(&fd) {
                libc::close(fd);
            }
        }
    }
}
