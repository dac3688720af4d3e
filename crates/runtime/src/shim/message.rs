//! What a daemon and a shim say to each other. Requests carry a number that their reply repeats; events have none.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::{Exit, Process};

#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub number: u64,
    pub call: Call,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Call {
    /// What is there. The first thing a daemon asks.
    State,
    /// The file holds a `ContainerSpec`: it may be larger than a packet.
    Start {
        spec: PathBuf,
    },
    /// To the first process, or to all of the container.
    Signal {
        id: String,
        signal: i32,
        all: bool,
    },
    /// With descriptors stdin, stdout, stderr; with a tty none, and the reply brings the terminal.
    Exec {
        id: String,
        exec: String,
        process: Box<Process>,
    },
    KillExec {
        exec: String,
    },
    /// With descriptors that get a copy of stdout and stderr (of the terminal: only the first). The reply brings what
    /// to write input to, where the container has an input.
    Attach {
        id: String,
        stdout: bool,
        stderr: bool,
    },
    /// The end of input for a container with `stdin_once`.
    CloseStdin {
        id: String,
    },
    ReopenLog {
        id: String,
    },
    /// Forget a container that ended, its cgroup too.
    Remove {
        id: String,
    },
    /// End every process and leave.
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    Reply {
        number: u64,
        answer: Result<Answer, String>,
    },
    Exited {
        id: String,
        exit: Exit,
    },
    ExecExited {
        exec: String,
        code: i32,
    },
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Answer {
    pub pid: i32,
    pub containers: Vec<ContainerState>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerState {
    pub id: String,
    pub pid: i32,
    /// Nanoseconds since 1970.
    pub started_at: i64,
    pub exit: Option<Exit>,
}
