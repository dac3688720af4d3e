//! `skiff certificate check`: the certificates of a node or server, and how long they are valid; as `k3s certificate check`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use pki::{Facts, PkiError};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::node_paths::DEFAULT_DATA_DIR;

/// The flags of `skiff certificate`.
#[derive(Debug, Args)]
pub struct CertificateArgs {
    /// Folder that holds the server's or agent's state.
    #[arg(short = 'd', long, global = true, default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    #[command(subcommand)]
    command: CertificateCommand,
}

#[derive(Debug, Subcommand)]
enum CertificateCommand {
    /// Says which certificates there are and when they expire. They renew themselves while the server or agent runs.
    Check {
        #[arg(short = 'o', long, default_value = "text")]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Table,
    Json,
    Yaml,
}

/// Why certificates cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum CertificateCommandError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Unreadable { path: PathBuf, source: PkiError },
    #[error("there are no certificates in {}", .0.display())]
    None(PathBuf),
}

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    /// It should have been renewed: less than a tenth of its life is left.
    Warning,
    Expired,
    NotYetValid,
}

impl Status {
    fn of(facts: &Facts, now: OffsetDateTime) -> Status {
        let life = facts.not_after - facts.not_before;
        match now {
            now if now < facts.not_before => Status::NotYetValid,
            now if now >= facts.not_after => Status::Expired,
            now if now >= facts.not_after - life / 10 => Status::Warning,
            _ => Status::Ok,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::Warning => "WARNING",
            Status::Expired => "EXPIRED",
            Status::NotYetValid => "NOT YET VALID",
        }
    }
}

/// A certificate of a file.
struct Checked {
    file: String,
    facts: Facts,
    status: Status,
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read, or there is none.
pub fn run(args: &CertificateArgs) -> Result<(), CertificateCommandError> {
    let now = OffsetDateTime::now_utc();
    let CertificateCommand::Check { output } = args.command;
    let mut all = Vec::new();
    for dir in ["server/tls", "agent"] {
        all.extend(checked(&args.data_dir.join(dir), now)?);
    }
    if all.is_empty() {
        return Err(CertificateCommandError::None(args.data_dir.clone()));
    }
    match output {
        Output::Text => all.iter().for_each(|one| println!("{}", one.line())),
        Output::Table => print!("{}", table(&all, now)),
        Output::Json => println!("{}", tree(&all, now)),
        Output::Yaml => print!("{}", api::yaml::to_string(&tree(&all, now))),
    }
    Ok(())
}

/// The certificates of a folder, by their files' names. A folder that is not there has none.
fn checked(dir: &Path, now: OffsetDateTime) -> Result<Vec<Checked>, CertificateCommandError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificateCommandError::File { path, source }
    };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed(dir))?,
    };
    let paths = entries
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(failed(dir))?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "crt"));
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
        let found = Facts::of(&text).map_err(|source| CertificateCommandError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        all.extend(found.into_iter().map(|facts| Checked {
            file: file.clone(),
            status: Status::of(&facts, now),
            facts,
        }));
    }
    Ok(all)
}

impl Checked {
    fn usages(&self) -> String {
        self.facts.usages.join(",")
    }

    fn line(&self) -> String {
        let (what, at) = match self.status {
            Status::Ok => ("is ok, expires at", self.facts.not_after),
            Status::Warning => (
                "has less than a tenth of its life left, expires at",
                self.facts.not_after,
            ),
            Status::Expired => ("expired at", self.facts.not_after),
            Status::NotYetValid => ("is not valid before", self.facts.not_before),
        };
        format!(
            "{}: certificate {} ({}) {what} {}",
            self.file,
            self.facts.subject,
            self.usages(),
            timestamp(at)
        )
    }
}

/// As RFC 3339 has it, in whole seconds.
fn timestamp(at: OffsetDateTime) -> String {
    jiff::Timestamp::from_second(at.unix_timestamp()).map_or_else(|_| at.to_string(), |at| at.to_string())
}

/// In the largest unit of which there is one, as `3 weeks`.
fn rough(left: Duration) -> String {
    let seconds = left.whole_seconds();
    let units = [
        (31_536_000, "year"),
        (2_592_000, "month"),
        (604_800, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let found = units.iter().find(|(size, _)| seconds >= *size);
    found.map_or_else(
        || "none".to_owned(),
        |(size, name)| {
            let count = seconds / size;
            format!("{count} {name}{}", if count == 1 { "" } else { "s" })
        },
    )
}

fn table(all: &[Checked], now: OffsetDateTime) -> String {
    let heads = ["FILENAME", "SUBJECT", "USAGES", "EXPIRES", "RESIDUAL TIME", "STATUS"].map(str::to_owned);
    let mut rows = vec![heads.clone(), heads.map(|head| "-".repeat(head.len()))];
    rows.extend(all.iter().map(|one| {
        [
            one.file.clone(),
            one.facts.subject.clone(),
            one.usages(),
            timestamp(one.facts.not_after),
            rough(one.facts.not_after - now),
            one.status.word().to_owned(),
        ]
    }));
    let widths: Vec<usize> = (0..6)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + 3)
        .collect();
    let mut out = String::new();
    for row in &rows {
        for (cell, width) in row[..5].iter().zip(&widths) {
            out.push_str(&format!("{cell:<width$}"));
        }
        out.push_str(&row[5]);
        out.push('\n');
    }
    out
}

fn tree(all: &[Checked], now: OffsetDateTime) -> Value {
    let one = |one: &Checked| {
        json!({
            "Filename": one.file,
            "Subject": one.facts.subject,
            "Issuer": one.facts.issuer,
            "Usages": one.facts.usages,
            "ExpiryTime": timestamp(one.facts.not_after),
            // in nanoseconds, as Go writes a duration
            "ResidualTime": (one.facts.not_after - now).whole_seconds().saturating_mul(1_000_000_000),
            "Status": one.status.word(),
        })
    };
    json!({ "Certificates": all.iter().map(one).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_stands_as_its_times_say() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let facts = Facts {
            subject: "system:node:a".into(),
            issuer: "ca".into(),
            usages: vec!["ClientAuth"],
            not_before: at(1000),
            not_after: at(2000),
        };
        for (now, status) in [
            (999, Status::NotYetValid),
            (1000, Status::Ok),
            (1899, Status::Ok),
            (1900, Status::Warning),
            (2000, Status::Expired),
        ] {
            assert_eq!(Status::of(&facts, at(now)), status, "{now}");
        }
        let checked = Checked {
            file: "client-kubelet.crt".into(),
            status: Status::Ok,
            facts,
        };
        assert_eq!(
            checked.line(),
            "client-kubelet.crt: certificate system:node:a (ClientAuth) is ok, expires at 1970-01-01T00:33:20Z"
        );
        assert!(table(&[checked], at(1000)).ends_with("   1970-01-01T00:33:20Z   16 minutes      OK\n"));
        assert_eq!(
            (rough(Duration::days(364)), rough(Duration::ZERO)),
            ("12 months".into(), "none".into())
        );
    }
}
