//! `exec` and `attach`: a command in a container, with our standard streams.

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::Value;
use streaming::client::{REMOTE_COMMAND, Streams, remote_command};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cmd::describe::{items, str_of};
use crate::error::{Error, Result, fail, message};
use crate::pods::{self, Order};
use crate::session::{Session, duration};
use crate::terminal::{Raw, sizes};

/// Execute a command in a container
#[derive(Debug, clap::Args)]
pub struct Exec {
    args: Vec<String>,
    #[command(flatten)]
    flags: Flags,
    #[arg(last = true)]
    command: Vec<String>,
}

/// Attach to a process that is already running inside an existing container
#[derive(Debug, clap::Args)]
pub struct Attach {
    args: Vec<String>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Args)]
struct Flags {
    /// Container name
    #[arg(long, short, default_value = "", hide_default_value = true)]
    container: String,
    /// Pass stdin to the container
    #[arg(long, short = 'i')]
    stdin: bool,
    /// Stdin is a TTY
    #[arg(long, short)]
    tty: bool,
    /// Only print output from the remote session
    #[arg(long, short)]
    quiet: bool,
    /// The length of time to wait until at least one pod is running
    #[arg(long, default_value = "1m0s", hide_default_value = true)]
    pod_running_timeout: String,
}

/// Which container of which pod.
#[derive(Debug, Clone)]
pub struct Place {
    pub namespace: String,
    pub pod: String,
    pub container: String,
}

pub(crate) async fn exec(session: &Session, args: &Exec) -> Result<()> {
    let name = match &args.args[..] {
        [] => return fail("pod, type/name or --filename must be specified"),
        [_] if args.command.is_empty() => return fail("you must specify at least one command for the container"),
        [name] => name,
        _ => {
            return session.usage("exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead");
        }
    };
    let pod = pod_of(session, name, &args.flags).await?;
    let phase = str_of(&pod["status"]["phase"]);
    if matches!(phase, "Succeeded" | "Failed") {
        return fail(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        ));
    }
    let place = Place::new(session, &pod, &args.flags.container, args.flags.quiet)?;
    let tty = wants_tty(session, &args.flags);
    stream(session, &place, "exec", &args.command, args.flags.stdin, tty).await
}

pub(crate) async fn attach(session: &Session, args: &Attach) -> Result<()> {
    let name = match &args.args[..] {
        [] => return fail("at least 1 argument is required for attach"),
        [name] => name,
        many => {
            return session.usage(format!(
                "expected POD, TYPE/NAME, or TYPE NAME, (at most 2 arguments) saw {}: [{}]",
                many.len(),
                many.join(" ")
            ));
        }
    };
    let pod = pod_of(session, name, &args.flags).await?;
    attach_to(
        session,
        &pod,
        &args.flags.container,
        args.flags.stdin,
        args.flags.tty,
        args.flags.quiet,
    )
    .await
}

/// Attaches to a container as far as it has the streams.
pub async fn attach_to(
    session: &Session,
    pod: &Value,
    container: &str,
    stdin: bool,
    tty: bool,
    quiet: bool,
) -> Result<()> {
    let phase = str_of(&pod["status"]["phase"]);
    if matches!(phase, "Succeeded" | "Failed") {
        return fail(format!(
            "cannot attach a container in a completed pod; current phase is {phase}"
        ));
    }
    let place = Place::new(session, pod, container, quiet)?;
    let lists = ["containers", "initContainers", "ephemeralContainers"].into_iter();
    let mut listed = lists.flat_map(|list| items(&pod["spec"][list]));
    let has_tty = listed.any(|c| c["name"] == place.container && c["tty"] == true);
    let mut tty = tty;
    if tty && !has_tty {
        tty = false;
        if !quiet {
            session.warn(&format!(
                "error: Unable to use a TTY - container {} did not allocate one",
                place.container
            ));
        }
    } else if has_tty && !tty && stdin {
        // A terminal of the container's needs one of ours.
        tty = true;
    }
    let flags = Flags {
        container: place.container.clone(),
        stdin,
        tty,
        quiet,
        pod_running_timeout: String::new(),
    };
    let raw = wants_tty(session, &flags);
    if stdin && raw && !quiet {
        session.warn("All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt.");
        session.warn("If you don't see a command prompt, try pressing enter.");
    }
    stream(session, &place, "attach", &[], stdin, raw).await
}

async fn pod_of(session: &Session, name: &str, flags: &Flags) -> Result<Value> {
    let info = pods::named(session, name).await?;
    let timeout = duration(&flags.pod_running_timeout)?.unwrap_or(Duration::MAX);
    let mut pods = pods::of(session, &info, timeout, Order::Active).await?;
    Ok(pods.swap_remove(0))
}

/// Whether there will be a terminal, which takes one on our side.
fn wants_tty(session: &Session, flags: &Flags) -> bool {
    if !flags.tty || !flags.stdin {
        return false;
    }
    let is = std::io::stdin().is_terminal();
    if !is && !flags.quiet {
        session.warn("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    is
}

impl Place {
    pub(crate) fn new(session: &Session, pod: &Value, container: &str, quiet: bool) -> Result<Place> {
        Ok(Place {
            namespace: str_of(&pod["metadata"]["namespace"]).to_owned(),
            pod: str_of(&pod["metadata"]["name"]).to_owned(),
            container: pods::container(session, pod, container, quiet)?,
        })
    }
}

async fn stream(
    session: &Session,
    place: &Place,
    verb: &str,
    command: &[String],
    stdin: bool,
    tty: bool,
) -> Result<()> {
    let raw = if tty { Some(Raw::enter()?) } else { None };
    let streams = Streams {
        stdin: stdin.then(tokio::io::stdin),
        stdout: tokio::io::stdout(),
        stderr: tokio::io::stderr(),
        resize: if tty { Some(sizes()?) } else { None },
    };
    let ended = run(session, place, verb, command, tty, streams).await;
    drop(raw);
    ended
}

/// Runs a command with streams of the caller's.
pub async fn run<I, O, E>(
    session: &Session,
    place: &Place,
    verb: &str,
    command: &[String],
    tty: bool,
    streams: Streams<I, O, E>,
) -> Result<()>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    E: AsyncWrite + Unpin,
{
    let mut query: Vec<(&str, &str)> = command.iter().map(|word| ("command", word.as_str())).collect();
    query.push(("container", &place.container));
    if streams.stdin.is_some() {
        query.push(("stdin", "true"));
    }
    query.push(("stdout", "true"));
    query.push(if tty { ("tty", "true") } else { ("stderr", "true") });
    let query: Vec<String> = query
        .into_iter()
        .map(|(k, v)| format!("{k}={}", crate::api::escape(v)))
        .collect();
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/{verb}?{}",
        place.namespace,
        crate::api::escape(&place.pod),
        query.join("&")
    );
    let io = session.api()?.web_socket(&path, REMOTE_COMMAND).await?;
    let status = remote_command(io, streams)
        .await
        .map_err(|e| message(format!("error reading from error stream: {e}")))?;
    ended(&status)
}

/// What the status of a command means for ours.
fn ended(status: &[u8]) -> Result<()> {
    let status: Value =
        serde_json::from_slice(status).map_err(|e| message(format!("error stream protocol error: {e}")))?;
    if status["status"] == "Success" {
        return Ok(());
    }
    if status["reason"] != "NonZeroExitCode" {
        return fail(str_of(&status["message"]));
    }
    let cause = items(&status["details"]["causes"]).find(|c| c["reason"] == "ExitCode");
    match cause.and_then(|c| str_of(&c["message"]).parse::<u8>().ok()) {
        Some(code) => Err(Error::Coded {
            code,
            message: format!("command terminated with exit code {code}"),
        }),
        None => fail("error stream protocol error: no ExitCode cause given"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_s_exit_code_is_ours() {
        let text = serde_json::to_vec(&streaming::Status::exit_code(7)).unwrap();
        let error = ended(&text).unwrap_err();
        assert_eq!(
            (error.code(), error.report().unwrap()),
            (7, "command terminated with exit code 7".to_owned())
        );
        assert!(ended(&serde_json::to_vec(&streaming::Status::success()).unwrap()).is_ok());
        let text = serde_json::to_vec(&streaming::Status::error("no such file")).unwrap();
        assert_eq!(ended(&text).unwrap_err().report().unwrap(), "error: no such file");
    }
}
