//! What the labels of a namespace ask of its pods: a level of a version each for enforcing, auditing and warning.

use std::fmt;

use api::field::FieldError;
use serde_json::json;

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";
const AUDIT: &str = "pod-security.kubernetes.io/audit";
const AUDIT_VERSION: &str = "pod-security.kubernetes.io/audit-version";
const WARN: &str = "pod-security.kubernetes.io/warn";
const WARN_VERSION: &str = "pod-security.kubernetes.io/warn-version";

/// From the least strict to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Result<Level, &'static str> {
        match text {
            "privileged" => Ok(Level::Privileged),
            "baseline" => Ok(Level::Baseline),
            "restricted" => Ok(Level::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })
    }
}

/// The Kubernetes release whose understanding of a level counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `v1.` and this.
    Minor(u64),
    Latest,
}

impl Version {
    fn parse(text: &str) -> Result<Version, &'static str> {
        const WHY: &str = "must be \"latest\" or \"v1.x\"";
        if text == "latest" {
            return Ok(Version::Latest);
        }
        let digits = text.strip_prefix("v1.").ok_or(WHY)?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        // upstream holds it in a signed integer
        let minor: Option<i64> = digits.parse().ok().filter(|_| plain);
        minor.and_then(|m| m.try_into().ok()).map(Version::Minor).ok_or(WHY)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Minor(minor) => write!(f, "v1.{minor}"),
            Version::Latest => f.write_str("latest"),
        }
    }
}

/// One understanding of a level; shown as `baseline:v1.30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

impl LevelVersion {
    const PRIVILEGED: LevelVersion = LevelVersion {
        level: Level::Privileged,
        version: Version::Latest,
    };
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What a namespace asks of its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

impl Policy {
    /// The policy of a namespace with these labels, and what is wrong with them. A level to enforce that cannot be
    /// read is the strictest one, others that cannot be read ask for nothing.
    pub fn of<'a>(label: impl Fn(&str) -> Option<&'a str>) -> (Policy, Vec<FieldError>) {
        let mut errors = Vec::new();
        let mut read = |key: &str, version_key: &str, unreadable: Level| {
            let mut note = |key: &str, text: &str, why: &str| {
                errors.push(FieldError::invalid(format!("metadata.labels[{key}]"), json!(text), why));
            };
            let mut asked = LevelVersion::PRIVILEGED;
            if let Some(text) = label(key) {
                asked.level = Level::parse(text).unwrap_or_else(|why| {
                    note(key, text, why);
                    unreadable
                });
            }
            if let Some(text) = label(version_key) {
                asked.version = Version::parse(text).unwrap_or_else(|why| {
                    note(version_key, text, why);
                    Version::Latest
                });
            }
            asked
        };
        let enforce = read(ENFORCE, ENFORCE_VERSION, Level::Restricted);
        let audit = read(AUDIT, AUDIT_VERSION, Level::Privileged);
        let mut warn = read(WARN, WARN_VERSION, Level::Privileged);
        // who is refused is warned too, unless the namespace says otherwise
        let readable = label(ENFORCE).is_some_and(|l| Level::parse(l).is_ok());
        if label(WARN).is_none() && readable && enforce.level > warn.level {
            warn.level = enforce.level;
            if label(WARN_VERSION).is_none() {
                warn.version = enforce.version;
            }
        }
        (Policy { enforce, audit, warn }, errors)
    }

    /// Whether nothing is said of what makes pods.
    pub fn asks_nothing_of_workloads(&self) -> bool {
        [self.audit, self.warn]
            .iter()
            .all(|asked| asked.level == Level::Privileged)
    }

    /// Whether pods may be anything.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|asked| asked.level == Level::Privileged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &[(&'static str, &'static str)]) -> (String, Vec<String>) {
        let (policy, errors) = Policy::of(|key| {
            let short = key.strip_prefix("pod-security.kubernetes.io/")?;
            labels.iter().find(|(key, _)| *key == short).map(|(_, value)| *value)
        });
        let shown = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
        (shown, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn labels_are_read_as_upstream_reads_them() {
        let free = "privileged:latest";
        for (labels, wanted) in [
            (&[][..], format!("{free} {free} {free}")),
            (
                &[("enforce", "baseline"), ("enforce-version", "v1.20")],
                format!("baseline:v1.20 {free} baseline:v1.20"),
            ),
            (
                &[("enforce", "restricted"), ("warn-version", "v1.0")],
                format!("restricted:latest {free} restricted:v1.0"),
            ),
            (
                &[("enforce", "restricted"), ("warn", "privileged")],
                format!("restricted:latest {free} {free}"),
            ),
            (
                &[
                    ("audit", "restricted"),
                    ("audit-version", "latest"),
                    ("warn", "baseline"),
                ],
                format!("{free} restricted:latest baseline:latest"),
            ),
        ] {
            assert_eq!(read(labels), (wanted, Vec::new()), "{labels:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_enforced_strictly_and_otherwise_not() {
        let bad = [
            ("enforce", "x"),
            ("enforce-version", "1.2"),
            ("audit", "x"),
            ("warn-version", "v1.01"),
        ];
        let (shown, errors) = read(&bad);
        assert_eq!(shown, "restricted:latest privileged:latest privileged:latest");
        let level = "must be one of privileged, baseline, restricted";
        let version = "must be \"latest\" or \"v1.x\"";
        let at = |key: &str, value: &str, why: &str| {
            format!("metadata.labels[pod-security.kubernetes.io/{key}]: Invalid value: {value:?}: {why}")
        };
        let wanted = [
            at("enforce", "x", level),
            at("enforce-version", "1.2", version),
            at("audit", "x", level),
            at("warn-version", "v1.01", version),
        ];
        assert_eq!(errors, wanted);
    }

    #[test]
    fn versions_are_latest_or_a_minor_without_leading_zeros() {
        for (text, wanted) in [
            ("latest", Some(Version::Latest)),
            ("v1.0", Some(Version::Minor(0))),
            ("v1.37", Some(Version::Minor(37))),
            ("v1.9223372036854775808", None),
            ("v1.00", None),
            ("v1.", None),
            ("v1.+1", None),
            ("v2.1", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(text).ok(), wanted, "{text}");
        }
    }
}
