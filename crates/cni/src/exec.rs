//! Running one plugin: the program of its name from the plugin folders, else our own of that name in process.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::types::{PluginError, code};

/// A plugin that says nothing for this long is ended.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Command> {
        use Command::{Add, Check, Del, Gc, Status, Version};
        [Add, Del, Check, Gc, Status, Version]
            .into_iter()
            .find(|c| c.name() == name)
    }
}

/// The specification's `CNI_*` parameters.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub command: Command,
    pub container_id: String,
    pub netns: Option<PathBuf>,
    pub if_name: String,
    pub args: String,
    pub path: Vec<PathBuf>,
}

impl Invocation {
    pub(crate) fn with(&self, command: Command) -> Invocation {
        Invocation {
            command,
            ..self.clone()
        }
    }
}

/// Runs plugin `kind` and gives its answer, `Null` where the command has none. Blocks.
pub(crate) fn run(kind: &str, invocation: &Invocation, conf: &Value) -> Result<Value, PluginError> {
    let program = invocation.path.iter().map(|dir| dir.join(kind)).find(|p| p.is_file());
    match program {
        Some(program) => execute(program, invocation, conf),
        None => match crate::plugins::find(kind) {
            Some(plugin) => plugin(invocation, conf),
            None => Err(PluginError::new(
                code::INVALID_CONFIG,
                format!("failed to find plugin {kind:?} in path {:?}", invocation.path),
            )),
        },
    }
}

fn execute(program: PathBuf, invocation: &Invocation, conf: &Value) -> Result<Value, PluginError> {
    let name = program.display().to_string();
    let failed = |e: std::io::Error| PluginError::io(&name, e);
    let path = std::env::join_paths(&invocation.path).map_err(|e| PluginError::io("CNI_PATH", e))?;
    let mut process = Process::new(program);
    process
        .env("CNI_COMMAND", invocation.command.name())
        .env("CNI_CONTAINERID", &invocation.container_id)
        .env("CNI_NETNS", invocation.netns.clone().unwrap_or_default())
        .env("CNI_IFNAME", &invocation.if_name)
        .env("CNI_ARGS", &invocation.args)
        .env("CNI_PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = process.spawn().map_err(failed)?;
    let pid = child.id();
    let stdin = child.stdin.take();
    let input = conf.to_string();
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        // A plugin may end without reading its input; what it says then is its exit code.
        let written = stdin.map_or(Ok(()), |mut pipe| pipe.write_all(input.as_bytes()));
        let output = child.wait_with_output();
        let _receiver_gone = done.send((written, output));
    });
    let Ok((written, output)) = wait.recv_timeout(PATIENCE) else {
        // The pid is still the child's: only the waiting thread reaps it, and it has not answered.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
        if let Err(e) = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL) {
            tracing::warn!("{name}: killing it after {PATIENCE:?}: {e}");
        }
        return Err(PluginError::new(
            code::TRY_AGAIN,
            format!("{name}: no answer in {PATIENCE:?}"),
        ));
    };
    let output = output.map_err(failed)?;
    if output.status.success() {
        if output.stdout.trim_ascii().is_empty() {
            return Ok(Value::Null);
        }
        return serde_json::from_slice(&output.stdout)
            .map_err(|e| PluginError::new(code::DECODING_FAILURE, format!("{name}: its answer: {e}")));
    }
    if let Ok(error) = serde_json::from_slice::<PluginError>(&output.stdout)
        && error.code != 0
    {
        return Err(error);
    }
    let said = String::from_utf8_lossy(if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    })
    .trim()
    .to_owned();
    let unread = written.err().map(|e| format!(" (its input: {e})")).unwrap_or_default();
    let message = format!("{name}: {}{unread}: {said}", output.status);
    Err(PluginError::new(code::PLUGIN, message))
}
