//! Which checks a level of a version has, and what they find in a pod.

use super::baseline::BASELINE;
use super::level::{Level, LevelVersion, Version};
use super::pod::Pod;
use super::restricted::RESTRICTED;

/// What a check objects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub check: &'static str,
    /// Said of any number of pods.
    pub reason: &'static str,
    /// Said of one pod.
    pub detail: String,
}

/// What a check finds: the reason and the detail.
pub type Finding = Option<(&'static str, String)>;

/// Looks at a pod.
pub type Look = fn(Pod<'_>) -> Finding;

/// A check and how it changed.
pub struct Check {
    pub id: &'static str,
    /// The minor versions since which it looks the way it does, rising.
    pub since: &'static [(u64, Look)],
    /// The check of the level below that this one stands for.
    pub overrides: &'static str,
}

impl Check {
    fn of(&self, minor: u64) -> Option<Look> {
        let (_, look) = self.since.iter().rev().find(|(since, _)| *since <= minor)?;
        Some(*look)
    }
}

/// What the pod violates of a level, in the order that it is told. Versions that are not out yet are the newest.
pub fn violations(asked: LevelVersion, pod: Pod<'_>) -> Vec<Violation> {
    let minor = match asked.version {
        Version::Minor(minor) => minor,
        Version::Latest => u64::MAX,
    };
    let restricted: &[Check] = match asked.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &[],
        Level::Restricted => &RESTRICTED,
    };
    let overridden = |id: &str| restricted.iter().any(|c| c.overrides == id && c.of(minor).is_some());
    let baseline = BASELINE.iter().filter(|c| !overridden(c.id));
    baseline
        .chain(restricted)
        .filter_map(|check| {
            let (reason, detail) = check.of(minor)?(pod)?;
            Some(Violation {
                check: check.id,
                reason,
                detail,
            })
        })
        .collect()
}

/// `host namespaces, privileged`.
pub fn reasons(violations: &[Violation]) -> String {
    let each: Vec<&str> = violations.iter().map(|v| v.reason).collect();
    each.join(", ")
}

/// `host namespaces (hostPID=true), privileged (container "a" must not ...)`.
pub fn details(violations: &[Violation]) -> String {
    let each: Vec<String> = violations
        .iter()
        .map(|v| match v.detail.as_str() {
            "" => v.reason.to_owned(),
            detail => format!("{} ({detail})", v.reason),
        })
        .collect();
    each.join(", ")
}
