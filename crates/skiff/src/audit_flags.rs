//! The API server's flags of audit by upstream's names, and what they make (`k8s.io/apiserver/pkg/server/options/audit.go`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apiserver::audit::Audit;
use apiserver::audit::backend::{Backend, Format, Mode, Out};
use apiserver::audit::batch::BatchConfig;
use apiserver::audit::log_file::{LogFile, Rotation};
use apiserver::audit::policy::Policy;
use apiserver::audit::policy_file;
use clap::Args;

use crate::audit_webhook::Webhook;
use api::time::flag_duration;

const VERSION: &str = "audit.k8s.io/v1";
const MEGABYTE: u64 = 1 << 20;

/// The API server's flags of audit.
#[derive(Debug, Clone, Args)]
pub struct AuditFlags {
    /// What is recorded of which requests: a file with a Policy of audit.k8s.io/v1.
    #[arg(long)]
    pub audit_policy_file: Option<PathBuf>,
    /// Write audit events to this file; - is standard output.
    #[arg(long)]
    audit_log_path: Option<PathBuf>,
    /// json, or legacy: a line of text for each event.
    #[arg(long, default_value = "json")]
    audit_log_format: String,
    /// Version of the events in the log.
    #[arg(long, default_value = VERSION)]
    audit_log_version: String,
    /// Days that old audit logs are kept; 0 is for ever.
    #[arg(long, default_value_t = 366, allow_negative_numbers = true)]
    audit_log_maxage: i64,
    /// Old audit logs that are kept; 0 is all.
    #[arg(long, default_value_t = 100, allow_negative_numbers = true)]
    audit_log_maxbackup: i64,
    /// Megabytes of an audit log before it goes on under another name; 0 is no limit.
    #[arg(long, default_value_t = 100, allow_negative_numbers = true)]
    audit_log_maxsize: i64,
    /// Compress old audit logs with gzip.
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    audit_log_compress: bool,
    /// When events are written to the log: blocking (before the request goes on), blocking-strict (so, and a request whose receipt
    /// cannot be written is refused) or batch.
    #[arg(long, default_value = "blocking")]
    audit_log_mode: String,
    /// Events that wait for the log, in batch mode; more are lost.
    #[arg(long, default_value_t = 10_000, allow_negative_numbers = true)]
    audit_log_batch_buffer_size: i64,
    /// Events of a batch for the log.
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    audit_log_batch_max_size: i64,
    /// How long a batch for the log waits to be full.
    #[arg(long, default_value = "0s", value_parser = flag_duration)]
    audit_log_batch_max_wait: Duration,
    /// Limit the batches for the log.
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    audit_log_batch_throttle_enable: bool,
    /// Batches for the log in a second.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    audit_log_batch_throttle_qps: f32,
    /// Batches for the log at once.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    audit_log_batch_throttle_burst: i64,
    /// Leave objects out of events that are too large for the log.
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    audit_log_truncate_enabled: bool,
    /// Bytes of a batch for the log.
    #[arg(long, default_value_t = 10_485_760, allow_negative_numbers = true)]
    audit_log_truncate_max_batch_size: i64,
    /// Bytes of an event in the log.
    #[arg(long, default_value_t = 102_400, allow_negative_numbers = true)]
    audit_log_truncate_max_event_size: i64,
    /// Send audit events to the server of this kubeconfig.
    #[arg(long)]
    audit_webhook_config_file: Option<PathBuf>,
    /// Version of the events that are sent.
    #[arg(long, default_value = VERSION)]
    audit_webhook_version: String,
    /// How long to wait before events are sent again for the first time.
    #[arg(long, default_value = "10s", value_parser = flag_duration, alias = "audit-webhook-batch-initial-backoff")]
    audit_webhook_initial_backoff: Duration,
    /// When events are sent: batch, blocking or blocking-strict.
    #[arg(long, default_value = "batch")]
    audit_webhook_mode: String,
    /// Events that wait to be sent, in batch mode; more are lost.
    #[arg(long, default_value_t = 10_000, allow_negative_numbers = true)]
    audit_webhook_batch_buffer_size: i64,
    /// Events that are sent at once.
    #[arg(long, default_value_t = 400, allow_negative_numbers = true)]
    audit_webhook_batch_max_size: i64,
    /// How long events wait for others to be sent with.
    #[arg(long, default_value = "30s", value_parser = flag_duration)]
    audit_webhook_batch_max_wait: Duration,
    /// Limit the batches that are sent.
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    audit_webhook_batch_throttle_enable: bool,
    /// Batches that are sent in a second.
    #[arg(long, default_value_t = 10.0, allow_negative_numbers = true)]
    audit_webhook_batch_throttle_qps: f32,
    /// Batches that are sent at once.
    #[arg(long, default_value_t = 15, allow_negative_numbers = true)]
    audit_webhook_batch_throttle_burst: i64,
    /// Leave objects out of events that are too large to be sent.
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    audit_webhook_truncate_enabled: bool,
    /// Bytes of a batch that is sent.
    #[arg(long, default_value_t = 10_485_760, allow_negative_numbers = true)]
    audit_webhook_truncate_max_batch_size: i64,
    /// Bytes of an event that is sent.
    #[arg(long, default_value_t = 102_400, allow_negative_numbers = true)]
    audit_webhook_truncate_max_event_size: i64,
}

/// Why there is no audit as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("{0}")]
    Flag(String),
    #[error(transparent)]
    Policy(#[from] policy_file::PolicyError),
    #[error("the audit log {path} cannot be opened: {source}")]
    Log { path: PathBuf, source: std::io::Error },
    #[error("initializing audit webhook: {0}")]
    Webhook(#[from] client::Error),
}

/// The flags that a log and a webhook both have.
struct Common<'a> {
    name: &'a str,
    mode: &'a str,
    version: &'a str,
    buffer: i64,
    max_size: i64,
    max_wait: Duration,
    throttle: bool,
    rate: f32,
    burst: i64,
    truncate: bool,
    max_batch: i64,
    max_event: i64,
    concurrent: bool,
}

/// A number of a flag that was found to be positive.
fn whole<T: TryFrom<i64> + Default>(number: i64) -> T {
    T::try_from(number).unwrap_or_default()
}

impl Common<'_> {
    /// Checks the flags as upstream does, and reads the mode.
    fn mode(&self) -> Result<Mode, AuditError> {
        let name = self.name;
        let positive = |what: &str, value: &dyn std::fmt::Display| {
            AuditError::Flag(format!(
                "invalid audit batch {name} {what} {value}, must be a positive number"
            ))
        };
        let mode = match self.mode {
            "blocking" => Mode::Blocking,
            "blocking-strict" => Mode::Strict,
            "batch" if self.buffer <= 0 => return Err(positive("buffer size", &self.buffer)),
            "batch" if self.max_size <= 0 => return Err(positive("max batch size", &self.max_size)),
            "batch" if self.throttle && self.rate <= 0.0 => return Err(positive("throttle QPS", &self.rate)),
            "batch" if self.throttle && self.burst <= 0 => return Err(positive("throttle burst", &self.burst)),
            "batch" => Mode::Batch(BatchConfig {
                buffer: whole(self.buffer),
                max_size: whole(self.max_size),
                max_wait: self.max_wait,
                throttle: self.throttle.then(|| (self.rate, whole(self.burst))),
                max_bytes: self.truncate.then(|| whole(self.max_batch)),
                concurrent: self.concurrent,
            }),
            other => {
                let why =
                    format!("invalid audit {name} mode {other}, allowed modes are \"batch,blocking,blocking-strict\"");
                return Err(AuditError::Flag(why));
            }
        };
        if self.max_event <= 0 {
            let why = format!(
                "invalid audit truncate {name} max event size {}, must be a positive number",
                self.max_event
            );
            return Err(AuditError::Flag(why));
        }
        if self.max_batch < self.max_event {
            let why = format!(
                "invalid audit truncate {name} max batch size {}, must be greater than max event size ({})",
                self.max_batch, self.max_event
            );
            return Err(AuditError::Flag(why));
        }
        if self.version != VERSION {
            let why = format!("invalid group version, allowed versions are [{VERSION:?}]");
            return Err(AuditError::Flag(why));
        }
        Ok(mode)
    }

    fn max_event(&self) -> Option<u64> {
        self.truncate.then(|| whole(self.max_event))
    }
}

impl AuditFlags {
    fn of_log(&self) -> Common<'_> {
        Common {
            name: "log",
            mode: &self.audit_log_mode,
            version: &self.audit_log_version,
            buffer: self.audit_log_batch_buffer_size,
            max_size: self.audit_log_batch_max_size,
            max_wait: self.audit_log_batch_max_wait,
            throttle: self.audit_log_batch_throttle_enable,
            rate: self.audit_log_batch_throttle_qps,
            burst: self.audit_log_batch_throttle_burst,
            truncate: self.audit_log_truncate_enabled,
            max_batch: self.audit_log_truncate_max_batch_size,
            max_event: self.audit_log_truncate_max_event_size,
            concurrent: false,
        }
    }

    fn of_webhook(&self) -> Common<'_> {
        Common {
            name: "webhook",
            mode: &self.audit_webhook_mode,
            version: &self.audit_webhook_version,
            buffer: self.audit_webhook_batch_buffer_size,
            max_size: self.audit_webhook_batch_max_size,
            max_wait: self.audit_webhook_batch_max_wait,
            throttle: self.audit_webhook_batch_throttle_enable,
            rate: self.audit_webhook_batch_throttle_qps,
            burst: self.audit_webhook_batch_throttle_burst,
            truncate: self.audit_webhook_truncate_enabled,
            max_batch: self.audit_webhook_truncate_max_batch_size,
            max_event: self.audit_webhook_truncate_max_event_size,
            concurrent: true,
        }
    }

    /// The log's path, if one is asked for.
    fn log_path(&self) -> Option<&Path> {
        self.audit_log_path
            .as_deref()
            .filter(|path| !path.as_os_str().is_empty())
    }

    fn webhook_file(&self) -> Option<&Path> {
        let file = self.audit_webhook_config_file.as_deref();
        file.filter(|path| !path.as_os_str().is_empty())
    }

    /// Checks what was asked for.
    ///
    /// # Errors
    /// For flags without sense, in upstream's words.
    fn check(&self) -> Result<(), AuditError> {
        if self.log_path().is_some() {
            self.of_log().mode()?;
            self.format()?;
            for (flag, number) in [
                ("maxage", self.audit_log_maxage),
                ("maxbackup", self.audit_log_maxbackup),
                ("maxsize", self.audit_log_maxsize),
            ] {
                if number < 0 {
                    let why = format!("--audit-log-{flag} {number} can't be a negative number");
                    return Err(AuditError::Flag(why));
                }
            }
        }
        if self.webhook_file().is_some() {
            self.of_webhook().mode()?;
        }
        Ok(())
    }

    fn format(&self) -> Result<Format, AuditError> {
        match self.audit_log_format.as_str() {
            "json" => Ok(Format::Json),
            "legacy" => Ok(Format::Legacy),
            other => Err(AuditError::Flag(format!(
                "invalid audit log format {other}, allowed formats are \"legacy,json\""
            ))),
        }
    }

    /// Starts what was asked for; `None` where nothing is recorded.
    ///
    /// # Errors
    /// For flags without sense, and files that cannot be read or written.
    pub fn start(&self) -> Result<Option<Arc<Audit>>, AuditError> {
        self.check()?;
        let Some(file) = self
            .audit_policy_file
            .as_deref()
            .filter(|file| !file.as_os_str().is_empty())
        else {
            if self.log_path().is_some() || self.webhook_file().is_some() {
                tracing::warn!("no --audit-policy-file: no audit events will be recorded");
            }
            return Ok(None);
        };
        let policy = Policy::of(policy_file::load(file)?);
        let mut backends = Vec::new();
        if let Some(path) = self.log_path() {
            let common = self.of_log();
            let rotation = Rotation {
                max_bytes: whole::<u64>(self.audit_log_maxsize).saturating_mul(MEGABYTE),
                max_age_days: whole(self.audit_log_maxage),
                max_backups: whole(self.audit_log_maxbackup),
                compress: self.audit_log_compress,
            };
            let log = LogFile::open(path, rotation).map_err(|source| AuditError::Log {
                path: path.to_owned(),
                source,
            })?;
            let out = Out::Log(log, self.format()?);
            backends.push(Backend::new(out, common.mode()?, common.max_event()));
        }
        if let Some(file) = self.webhook_file() {
            let common = self.of_webhook();
            let webhook = Webhook::open(file, self.audit_webhook_initial_backoff)?;
            let out = Out::Webhook(Box::new(webhook));
            backends.push(Backend::new(out, common.mode()?, common.max_event()));
        }
        Ok((!backends.is_empty()).then(|| Audit::new(policy, backends)))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        flags: AuditFlags,
    }

    /// `pkg/server/options/audit_test.go`
    #[test]
    fn flags_without_sense_are_refused_where_they_count() {
        let refused = |flags: &[&str]| {
            let flags = ["apiserver"].iter().chain(flags);
            let flags = Command::try_parse_from(flags).unwrap().flags;
            flags.check().map_err(|e| e.to_string())
        };
        assert_eq!(refused(&["--audit-log-mode=odd", "--audit-webhook-mode=odd"]), Ok(()));
        for (flag, why) in [
            (
                "--audit-log-mode=odd",
                "invalid audit log mode odd, allowed modes are \"batch,blocking,blocking-strict\"",
            ),
            (
                "--audit-log-format=odd",
                "invalid audit log format odd, allowed formats are \"legacy,json\"",
            ),
            (
                "--audit-log-maxage=-1",
                "--audit-log-maxage -1 can't be a negative number",
            ),
            (
                "--audit-log-truncate-max-event-size=0",
                "invalid audit truncate log max event size 0, must be a positive number",
            ),
            (
                "--audit-webhook-batch-buffer-size=-3",
                "invalid audit batch webhook buffer size -3, must be a positive number",
            ),
            (
                "--audit-webhook-truncate-max-batch-size=5",
                "invalid audit truncate webhook max batch size 5, must be greater than max event size (102400)",
            ),
            (
                "--audit-webhook-version=audit.k8s.io/v1beta1",
                "invalid group version, allowed versions are [\"audit.k8s.io/v1\"]",
            ),
        ] {
            let said = refused(&["--audit-log-path=-", "--audit-webhook-config-file=x", flag]);
            assert_eq!(said, Err(why.to_owned()), "{flag}");
        }
    }
}
