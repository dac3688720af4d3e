//! A node of `skiff dev`: a process that holds namespaces, below it the first process of the node's process namespace, below that
//! `skiff server` or `skiff agent`. Whoever ends the holder ends the node and all its pods.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::DevError;

/// The program's first word as the holder of a node, and as the node's first process.
const HOLDER: &str = "dev-node";
const INIT: &str = "dev-init";

/// A node that has namespaces and waits for its network.
pub struct Held {
    child: Child,
    go: ChildStdin,
    folder: PathBuf,
}

/// What a node is started with.
pub struct Start<'a> {
    /// The node's and its host's name.
    pub name: &'a str,
    /// Holds the node's log and who holds the node.
    pub folder: &'a Path,
    /// The words of `skiff` that the node runs.
    pub words: Vec<String>,
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> DevError {
    let path = path.to_owned();
    move |source| DevError::File { path, source }
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn pid_path(folder: &Path) -> PathBuf {
    folder.join("pid")
}

impl Start<'_> {
    /// Makes the node's namespaces.
    pub fn hold(self) -> Result<Held, DevError> {
        let path = log_path(self.folder);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(at(&path))?;
        let program = std::env::current_exe().map_err(at(Path::new("/proc/self/exe")))?;
        let mut child = Command::new(program)
            .arg(HOLDER)
            .arg(self.name)
            .args(&self.words)
            // a signal to the terminal's processes is not for the node
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(at(&path))?;
        let (go, said) = (child.stdin.take(), child.stdout.take());
        let (Some(go), Some(said)) = (go, said) else {
            return Err(DevError::Node(self.name.to_owned(), "it has no pipes".into()));
        };
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).map_err(at(&path))?;
        if line.trim_end() != "ready" {
            return Err(DevError::Node(self.name.to_owned(), last_lines(self.folder)));
        }
        let pid = pid_path(self.folder);
        std::fs::write(&pid, format!("{}\n", child.id())).map_err(at(&pid))?;
        Ok(Held {
            child,
            go,
            folder: self.folder.to_owned(),
        })
    }
}

impl Held {
    /// The process of the holder.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets the node run.
    pub fn go(mut self) -> Result<(), DevError> {
        self.go.write_all(b"go\n").map_err(at(&log_path(&self.folder)))
    }
}

/// The end of a node's log.
pub fn last_lines(folder: &Path) -> String {
    const LINES: usize = 8;
    let text = std::fs::read_to_string(log_path(folder)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Who holds the node, if it runs.
pub fn running(folder: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(pid_path(folder)).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    // the number may be another process's by now
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let is_holder = words.split(|b| *b == 0).nth(1) == Some(HOLDER.as_bytes());
    let name = folder.file_name()?.as_encoded_bytes();
    (is_holder && words.split(|b| *b == 0).nth(2) == Some(name)).then(|| Pid::from_raw(pid))
}

/// Ends a node: first it is asked to, after a while it is made to.
pub fn stop(folder: &Path, patience: Duration) -> Result<(), DevError> {
    const LOOK: Duration = Duration::from_millis(10);
    let Some(pid) = running(folder) else { return Ok(()) };
    let send = |signal| match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(at(folder)(error.into())),
    };
    if !patience.is_zero() {
        send(Signal::SIGTERM)?;
        let deadline = Instant::now() + patience;
        while running(folder).is_some() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }
    send(Signal::SIGKILL)?;
    while running(folder).is_some() {
        std::thread::sleep(LOOK);
    }
    let path = pid_path(folder);
    std::fs::remove_file(&path).map_err(at(&path))
}

/// A process of a node that is this program under another first word.
pub enum Part {
    Holder,
    Init,
}

impl Part {
    /// The part of a node that a word of the command line names.
    pub fn of(word: &str) -> Option<Part> {
        match word {
            HOLDER => Some(Part::Holder),
            INIT => Some(Part::Init),
            _ => None,
        }
    }

    /// Runs with the words that follow.
    pub fn main(self, words: &[String]) -> ExitCode {
        let done = match (self, words) {
            (Part::Holder, [name, words @ ..]) => hold(name, words),
            (Part::Holder, []) => Err(std::io::ErrorKind::InvalidInput.into()),
            (Part::Init, words) => init(words),
        };
        match done {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                eprintln!("skiff dev: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

fn hold(name: &str, words: &[String]) -> std::io::Result<u8> {
    nix::unistd::setsid().or_else(|e| if e == Errno::EPERM { Ok(Pid::this()) } else { Err(e) })?;
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    nix::unistd::sethostname(name)?;
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    if line.trim_end() != "go" {
        return Ok(0);
    }
    let words = std::iter::once(INIT).chain(words.iter().map(String::as_str));
    attend(Command::new("/proc/self/exe").args(words), |child| {
        let status = waitpid(child, Some(WaitPidFlag::WNOHANG))?;
        Ok(ended(status))
    })
}

fn init(words: &[String]) -> std::io::Result<u8> {
    // the node goes with its holder
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let none: Option<&str> = None;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none)?;
    attend(Command::new("/proc/self/exe").args(words), |child| {
        // whoever has lost its parent is this process's child
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
                Ok(status) if status.pid() == Some(child) => return Ok(ended(status)),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    })
}

fn ended(status: WaitStatus) -> Option<u8> {
    match status {
        WaitStatus::Exited(_, code) => Some(u8::try_from(code).unwrap_or(1)),
        WaitStatus::Signaled(..) => Some(1),
        _ => None,
    }
}

/// Runs a program, passes on the signal that asks for its end, and waits for that. `look` says whether it has come.
fn attend(command: &mut Command, look: impl Fn(Pid) -> std::io::Result<Option<u8>>) -> std::io::Result<u8> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    let log = std::io::stderr();
    let child = command
        .stdin(Stdio::null())
        .stdout(std::os::fd::AsFd::as_fd(&log).try_clone_to_owned()?)
        .spawn()?;
    let child = Pid::from_raw(i32::try_from(child.id()).map_err(std::io::Error::other)?);
    // blocked only now, as a child keeps what its parent blocks; it may have ended before
    signals.thread_block()?;
    if let Some(code) = look(child)? {
        return Ok(code);
    }
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => {
                if let Some(code) = look(child)? {
                    return Ok(code);
                }
            }
            signal => match kill(child, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            },
        }
    }
}
