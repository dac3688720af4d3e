//! What a daemon and a shim say to each other. Requests carry a number that their reply repeats; events have none.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::{Exit, Process};

/// What a shim could not do and why, in a sentence: it travels to the daemon and from there to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(transparent)]
#[error("{0}")]
pub struct Failure(String);

impl From<String> for Failure {
    fn from(sentence: String) -> Failure {
        Failure(sentence)
    }
}

impl From<&str> for Failure {
    fn from(sentence: &str) -> Failure {
        Failure(sentence.to_owned())
    }
}

/// A daemon's message to a shim.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The number that the reply repeats.
    pub number: u64,
    /// What is asked.
    pub call: Call,
}

/// What a daemon may ask of a shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Call {
    /// What is there. The first thing a daemon asks.
    State,
    /// The file holds a `ContainerSpec`: it may be larger than a packet.
    Start {
        /// The file, which the shim reads at once.
        spec: PathBuf,
    },
    /// To the first process, or to all of the container.
    Signal {
        /// The container's id.
        id: String,
        /// The signal's number.
        signal: i32,
        /// Every process of the container gets it.
        all: bool,
    },
    /// With descriptors stdin, stdout, stderr; with a tty none, and the reply brings the terminal.
    Exec {
        /// The container's id.
        id: String,
        /// The name that the daemon gives this process.
        exec: String,
        /// What to run.
        process: Box<Process>,
    },
    /// Ends the process of an [`Call::Exec`].
    KillExec {
        /// The name that the daemon gave it.
        exec: String,
    },
    /// With descriptors that get a copy of stdout and stderr (of the terminal: only the first). The reply brings what
    /// to write input to, where the container has an input.
    Attach {
        /// The container's id.
        id: String,
        /// A copy of standard output is wanted.
        stdout: bool,
        /// A copy of standard error is wanted.
        stderr: bool,
    },
    /// The end of input for a container with `stdin_once`.
    CloseStdin {
        /// The container's id.
        id: String,
    },
    /// Opens the log's file again by its path, after somebody moved it away.
    ReopenLog {
        /// The container's id.
        id: String,
    },
    /// Forget a container that ended, its cgroup too.
    Remove {
        /// The container's id.
        id: String,
    },
    /// End every process and leave.
    Shutdown,
}

/// A shim's message to a daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The answer to a request.
    Reply {
        /// The request's number.
        number: u64,
        /// What came of it, or why nothing did.
        answer: Result<Answer, Failure>,
    },
    /// The first process of a container ended.
    Exited {
        /// The container's id.
        id: String,
        /// How it ended.
        exit: Exit,
    },
    /// The process of an [`Call::Exec`] ended.
    ExecExited {
        /// The name that the daemon gave it.
        exec: String,
        /// Its exit code; of one that a signal ended, 128 and the signal's number.
        code: i32,
    },
}

/// What a request came to; fields that it does not ask for are empty.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Of [`Call::Start`] and [`Call::Exec`]: the PID of the new process, as the node sees it.
    pub pid: i32,
    /// Of [`Call::State`]: every container that was not removed.
    pub containers: Vec<ContainerState>,
}

/// A container as its shim knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerState {
    /// The container's id.
    pub id: String,
    /// The PID of the first process, as the node sees it.
    pub pid: i32,
    /// Nanoseconds since 1970.
    pub started_at: i64,
    /// How it ended; none while it runs.
    pub exit: Option<Exit>,
}
