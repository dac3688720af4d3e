//! Questions about a node's logs, `/logs/?query=...` (KEP-2258): the log of a service from the journal, or from a file below the
//! log directory where the journal does not know it; or a file by its path.
//!
//! One thing is other than in upstream's v1.36: a path may begin with a slash, as the documentation shows it.

use std::process::Stdio;

use api::field::FieldError;
use api::schema::structural::pattern::Pattern;
use api::time::Instant;
use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant as Deadline};

use super::node_logs::{self, Found, PIECE};
use super::{ServerBody, plain};
use crate::config::KubeletConfig;

/// The journal, and files after it, are read for so long.
const LONGEST: Duration = Duration::from_secs(30);
const MOST_SERVICES: usize = 4;
const MOST_LINES: i64 = 100_000;
const LONGEST_NAME: usize = 256;

/// What is asked.
#[derive(Debug, Default, PartialEq)]
pub struct LogQuery {
    services: Vec<String>,
    files: Vec<String>,
    options: Options,
}

/// What narrows the journal; a file is shown whole.
#[derive(Debug, Default, Clone, PartialEq)]
struct Options {
    since: Option<Instant>,
    until: Option<Instant>,
    tail_lines: Option<i64>,
    /// 0 is this boot, -1 the one before.
    boot: Option<i64>,
    pattern: String,
}

fn number(field: &str, text: &str, errors: &mut Vec<FieldError>) -> Option<i64> {
    let why = match text.parse::<i64>() {
        Ok(number) => return Some(number),
        Err(error)
            if matches!(
                error.kind(),
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow
            ) =>
        {
            "value out of range"
        }
        Err(_) => "invalid syntax",
    };
    let why = format!("strconv.Atoi: parsing {text:?}: {why}");
    errors.push(FieldError::invalid(field, json!(text), why));
    None
}

fn time(field: &str, text: &str, errors: &mut Vec<FieldError>) -> Option<Instant> {
    let time = Instant::read(text, false).ok();
    if time.is_none() {
        errors.push(FieldError::invalid(field, json!(text), "invalid time format"));
    }
    time
}

/// Several problems as one sentence.
fn together(errors: &[FieldError]) -> String {
    match errors {
        [one] => one.to_string(),
        all => {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            format!("[{}]", all.join(", "))
        }
    }
}

impl LogQuery {
    /// Reads a decoded query. None where nothing is asked.
    ///
    /// # Errors
    /// What cannot be read.
    fn parse(query: &[(String, String)]) -> Result<Option<LogQuery>, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut found = LogQuery::default();
        let asked: Vec<&str> = query
            .iter()
            .filter(|(k, _)| k == "query")
            .map(|(_, v)| v.as_str())
            .collect();
        for text in &asked {
            if text.contains(['/', '\\']) {
                found.files.push((*text).to_owned());
            } else if !text.trim().is_empty() {
                found.services.push((*text).to_owned());
            }
        }
        if !asked.is_empty() && found.files.is_empty() && found.services.is_empty() {
            errors.push(FieldError::invalid("query", json!(asked), "may not be empty"));
        }
        let first = |name: &str| {
            query
                .iter()
                .find(|(k, v)| k == name && !v.is_empty())
                .map(|(_, v)| v.as_str())
        };
        found.options = Options {
            since: first("sinceTime").and_then(|text| time("sinceTime", text, &mut errors)),
            until: first("untilTime").and_then(|text| time("untilTime", text, &mut errors)),
            boot: first("boot").and_then(|text| number("boot", text, &mut errors)),
            tail_lines: first("tailLines").and_then(|text| number("tailLines", text, &mut errors)),
            pattern: first("pattern").unwrap_or_default().to_owned(),
        };
        match errors.is_empty() {
            true => Ok((found != LogQuery::default()).then_some(found)),
            false => Err(errors),
        }
    }

    /// What may not be asked.
    fn problems(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut invalid = |field: &str, value, why: &str| errors.push(FieldError::invalid(field, value, why));
        for name in &self.services {
            if name.len() > LONGEST_NAME {
                invalid(
                    "query",
                    json!(name),
                    &format!("length must be less than {LONGEST_NAME}"),
                );
            } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:@".contains(&b)) {
                // it becomes an argument of a program
                invalid("query", json!(name), "input contains unsupported characters");
            }
        }
        let options = &self.options;
        match (self.services.as_slice(), self.files.as_slice()) {
            ([_, ..], [_, ..]) => {
                let both = format!("[{}], [{}]", self.files.join(" "), self.services.join(" "));
                invalid("query", json!(both), "cannot specify a file and service");
            }
            ([], [_, _, ..]) => invalid("query", json!(self.files), "cannot specify more than one file"),
            ([], [_]) if *options != Options::default() => {
                invalid("query", json!(self.files), "cannot specify file with options");
            }
            _ => {}
        }
        let after = |since: &Instant, until: &Instant| (since.seconds, since.nanos) > (until.seconds, until.nanos);
        if let (Some(since), Some(until)) = (&options.since, &options.until)
            && after(since, until)
        {
            invalid("untilTime", json!(until.to_rfc3339()), "must be after `sinceTime`");
        }
        if let Some(boot) = options.boot.filter(|boot| *boot > 0) {
            invalid("boot", json!(boot), "must be less than 1");
        }
        if let Some(lines) = options.tail_lines.filter(|lines| !(0..=MOST_LINES).contains(lines)) {
            let why = format!("must be between 0 and {MOST_LINES}, inclusive");
            invalid("tailLines", json!(lines), &why);
        }
        if let Some(why) = Pattern::new(&options.pattern).problem() {
            invalid("pattern", json!(options.pattern), &why.to_string());
        }
        if self.services.is_empty() && self.files.is_empty() {
            errors.push(FieldError::required("query", "cannot be empty with options"));
        }
        if self.services.len() > MOST_SERVICES {
            errors.push(FieldError::too_many("query", self.services.len(), MOST_SERVICES));
        }
        errors
    }

    /// The arguments of journalctl.
    fn journal_arguments(&self, services: &[String]) -> Vec<String> {
        let mut arguments: Vec<String> = ["--utc", "--no-pager", "--output=short-precise"]
            .map(String::from)
            .to_vec();
        let options = &self.options;
        let at = |time: &Instant| time.to_rfc3339().replace('T', " ").trim_end_matches('Z').to_owned();
        arguments.extend(options.since.iter().map(|time| format!("--since={}", at(time))));
        arguments.extend(options.until.iter().map(|time| format!("--until={}", at(time))));
        if let Some(lines) = options.tail_lines {
            arguments.extend(["--pager-end".to_owned(), format!("--lines={lines}")]);
        }
        arguments.extend(services.iter().map(|service| format!("--unit={service}")));
        if !options.pattern.is_empty() {
            arguments.push(format!("--grep={}", options.pattern));
        }
        arguments.extend(options.boot.iter().map(|boot| format!("--boot={boot}")));
        arguments
    }
}

/// Answers a request of the log directory; `path` is decoded and begins with `/logs/`.
pub async fn serve(config: &KubeletConfig, path: &str, query: &[(String, String)]) -> Response<ServerBody> {
    let asked = match LogQuery::parse(query) {
        Ok(Some(asked)) => asked,
        Ok(None) => return node_logs::serve(config, path).await,
        Err(errors) => return plain(StatusCode::BAD_REQUEST, together(&errors) + "\n"),
    };
    if path != "/logs/" {
        return plain(StatusCode::NOT_ACCEPTABLE, "path not allowed in query mode\n");
    }
    let problems = asked.problems();
    if !problems.is_empty() {
        return plain(StatusCode::NOT_ACCEPTABLE, together(&problems) + "\n");
    }
    if let [file] = asked.files.as_slice() {
        let below = file.trim_start_matches('/');
        if let Ok(Found::Missing) = node_logs::find(config, below).await {
            let missing = format!("statat {below}: no such file or directory");
            let missing = FieldError::invalid("query", json!(asked.files), missing);
            return plain(StatusCode::NOT_ACCEPTABLE, format!("{missing}\n"));
        }
        return node_logs::serve(config, &format!("/logs/{below}")).await;
    }
    let (sender, receiver) = mpsc::channel(4);
    let config = config.clone();
    tokio::spawn(async move {
        let out = Out(sender);
        let copied = tokio::time::timeout_at(Deadline::now() + LONGEST, copy(&asked, &config, &out)).await;
        if copied.is_err() {
            let _ = out.text("\ncontext error: context deadline exceeded\n").await;
        }
    });
    let pieces = futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|piece| (piece, r)) });
    let mut response = plain(StatusCode::OK, "");
    let text = header::HeaderValue::from_static("text/plain;charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    *response.body_mut() = StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync();
    response
}

/// Who asked.
struct Out(mpsc::Sender<Bytes>);

/// The client went away.
struct Gone;

impl Out {
    async fn piece(&self, piece: Vec<u8>) -> Result<(), Gone> {
        self.0.send(piece.into()).await.map_err(|_| Gone)
    }

    async fn text(&self, text: impl Into<String>) -> Result<(), Gone> {
        self.piece(text.into().into_bytes()).await
    }

    /// All of it, in pieces.
    async fn copy(&self, mut from: impl tokio::io::AsyncRead + Unpin) -> Result<(), Gone> {
        use tokio::io::AsyncReadExt;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            match from.read_buf(&mut piece).await {
                Ok(0) => return Ok(()),
                Ok(_) => self.piece(piece).await?,
                Err(error) => return self.text(format!("\nerror: {error}\n")).await,
            }
        }
    }
}

async fn copy(asked: &LogQuery, config: &KubeletConfig, out: &Out) -> Result<(), Gone> {
    let known = journal_units().await;
    let by_journal = |service: &String| known.contains(&format!("{service}.service"));
    let (journal, files): (Vec<String>, Vec<String>) = asked.services.iter().cloned().partition(by_journal);
    if !journal.is_empty() {
        copy_journal(asked.journal_arguments(&journal), out).await?;
    }
    if !files.is_empty() && asked.options != Options::default() {
        let names = files.join(" ");
        let why = format!(
            "\noptions present and query resolved to log files for [{names}]\ntry without specifying options\n"
        );
        return out.text(why).await;
    }
    for service in &files {
        copy_file(service, config, out).await?;
    }
    Ok(())
}

/// What the journal has entries of, a line a unit; empty where there is no journal.
async fn journal_units() -> String {
    let listed = Command::new("journalctl")
        .args(["--field", "_SYSTEMD_UNIT"])
        .kill_on_drop(true)
        .output()
        .await;
    match listed {
        Ok(listed) if listed.status.success() => String::from_utf8_lossy(&listed.stdout).into_owned(),
        _ => String::new(),
    }
}

/// Copies what journalctl writes, its complaints included.
async fn copy_journal(arguments: Vec<String>, out: &Out) -> Result<(), Gone> {
    let (Ok((reader, writer)), mut command) = (std::io::pipe(), Command::new("journalctl")) else {
        return out.text("\nerror: journal output not available\n").await;
    };
    let spawned = writer.try_clone().and_then(|errors| {
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
    });
    // it holds the pipe's other ends
    drop(command);
    let Ok(_child) = spawned else {
        return out.text("\nerror: journal output not available\n").await;
    };
    out.copy(tokio::fs::File::from_std(std::os::fd::OwnedFd::from(reader).into()))
        .await
}

/// Copies the file that the log of a service most likely is.
async fn copy_file(service: &str, config: &KubeletConfig, out: &Out) -> Result<(), Gone> {
    for name in [
        service.to_owned(),
        format!("{service}.log"),
        format!("{service}/{service}.log"),
    ] {
        match node_logs::find(config, &name).await {
            Ok(Found::File(file, length)) => {
                use tokio::io::AsyncReadExt;
                return out.copy(tokio::fs::File::from_std(file).take(length)).await;
            }
            Ok(Found::Directory(_) | Found::Missing) => {}
            Err(error) => return out.text(format!("\nerror getting log for {service}: {error}\n")).await,
        }
    }
    out.text(format!("\nlog not found for {service}\n")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pair = |p: &str| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (k.to_owned(), v.to_owned())
        };
        text.split('&').filter(|p| !p.is_empty()).map(pair).collect()
    }

    /// What upstream's kubelet v1.36 says to the same.
    #[test]
    fn what_may_not_be_asked_is_refused_with_upstreams_words() {
        let refused = |text: &str| match LogQuery::parse(&pairs(text)) {
            Ok(asked) => together(&asked.unwrap_or_default().problems()),
            Err(errors) => together(&errors),
        };
        for (query, words) in [
            ("query", r#"query: Invalid value: [""]: may not be empty"#),
            ("tailLines=3", "query: Required value: cannot be empty with options"),
            ("query=a&boot=1", "boot: Invalid value: 1: must be less than 1"),
            (
                "query=a&boot=x",
                r#"boot: Invalid value: "x": strconv.Atoi: parsing "x": invalid syntax"#,
            ),
            (
                "query=a&tailLines=-1",
                "tailLines: Invalid value: -1: must be between 0 and 100000, inclusive",
            ),
            (
                "query=a&sinceTime=now",
                r#"sinceTime: Invalid value: "now": invalid time format"#,
            ),
            (
                "query=/a&boot=0",
                r#"query: Invalid value: ["/a"]: cannot specify file with options"#,
            ),
            (
                "query=/a&query=/b",
                r#"query: Invalid value: ["/a","/b"]: cannot specify more than one file"#,
            ),
            (
                "query=/a&query=b",
                r#"query: Invalid value: "[/a], [b]": cannot specify a file and service"#,
            ),
            (
                "query=a b",
                r#"query: Invalid value: "a b": input contains unsupported characters"#,
            ),
            (
                "query=a&query=b&query=c&query=d&query=e",
                "query: Too many: 5: must have at most 4 items",
            ),
            (
                "query=a&sinceTime=2023-01-02T00:00:00Z&untilTime=2023-01-01T00:00:00Z",
                r#"untilTime: Invalid value: "2023-01-01T00:00:00Z": must be after `sinceTime`"#,
            ),
        ] {
            assert_eq!(refused(query), words, "{query}");
        }
        assert!(refused("query=a&pattern=(").starts_with(r#"pattern: Invalid value: "(": "#));
        assert_eq!(refused("query=kubelet&boot=-1&tailLines=0&pattern=a.*b"), "[]");
    }

    #[test]
    fn nothing_asked_is_the_directory() {
        assert_eq!(LogQuery::parse(&pairs("verbose=1")).unwrap(), None);
    }

    #[test]
    fn the_journal_is_asked_in_utc() {
        let query = "query=kubelet&sinceTime=2023-01-02T03:04:05%2B02:00".replace("%2B", "+");
        let asked = LogQuery::parse(&pairs(&(query + "&tailLines=3&boot=-1&pattern=x")))
            .unwrap()
            .unwrap();
        let arguments = asked.journal_arguments(&asked.services).join(" ");
        let rest = "--since=2023-01-02 01:04:05 --pager-end --lines=3 --unit=kubelet --grep=x --boot=-1";
        assert_eq!(arguments, format!("--utc --no-pager --output=short-precise {rest}"));
    }

    #[tokio::test]
    async fn the_log_of_a_service_without_a_journal_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("quux")).unwrap();
        std::fs::write(dir.path().join("quux/quux.log"), "in a folder").unwrap();
        std::fs::write(dir.path().join("corge.log"), "by its ending").unwrap();
        let config = KubeletConfig {
            log_dir: dir.path().into(),
            ..KubeletConfig::new("node")
        };
        let ask = async |text: &str| {
            let response = serve(&config, "/logs/", &pairs(text)).await;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8_lossy(&body).into_owned())
        };
        assert_eq!(
            ask("query=quux&query=corge").await,
            (200, "in a folderby its ending".into())
        );
        assert_eq!(ask("query=/corge.log").await, (200, "by its ending".into()));
        assert_eq!(ask("query=grault").await, (200, "\nlog not found for grault\n".into()));
        assert_eq!(ask("query=/../../etc/passwd").await.0, 406);
        let (status, text) = ask("query=corge&tailLines=1").await;
        assert_eq!(status, 200);
        assert!(text.starts_with("\noptions present and query resolved to log files for [corge]\n"));
        let response = serve(&config, "/logs/corge.log", &pairs("query=a")).await;
        assert_eq!(response.status(), StatusCode::NOT_ACCEPTABLE);
    }
}
