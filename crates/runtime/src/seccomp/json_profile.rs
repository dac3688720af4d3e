//! Profiles of the node in Docker's and OCI's JSON format.

use serde::Deserialize;

use super::{ALLOW, Comparison, Condition, ERRNO, Profile, Rule, number};
use crate::capabilities;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Syscall>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<When>,
    #[serde(default)]
    excludes: Option<When>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
struct When {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

/// Why a text is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("action {0:?} is not supported")]
    Action(String),
    #[error("comparison {0:?} is not known")]
    Comparison(String),
    #[error("argument {0} does not exist")]
    Argument(u8),
}

fn action(name: &str, errno: Option<u32>) -> Result<u32, ProfileError> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => ERRNO | (errno.unwrap_or(libc::EPERM as u32) & 0xffff),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | (errno.unwrap_or(0) & 0xffff),
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        other => return Err(ProfileError::Action(other.to_owned())),
    })
}

fn comparison(argument: &Argument) -> Result<Condition, ProfileError> {
    let (comparison, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (Comparison::Equal, argument.value),
        "SCMP_CMP_NE" => (Comparison::NotEqual, argument.value),
        "SCMP_CMP_LT" => (Comparison::Less, argument.value),
        "SCMP_CMP_LE" => (Comparison::LessOrEqual, argument.value),
        "SCMP_CMP_GT" => (Comparison::Greater, argument.value),
        "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, argument.value),
        "SCMP_CMP_MASKED_EQ" => (Comparison::Masked(argument.value), argument.value_two),
        other => return Err(ProfileError::Comparison(other.to_owned())),
    };
    if argument.index > 5 {
        return Err(ProfileError::Argument(argument.index));
    }
    Ok(Condition {
        argument: argument.index,
        comparison,
        value,
    })
}

/// Profiles write `CAP_` before the name.
fn capability(name: &str) -> Option<u64> {
    capabilities::bit(name.strip_prefix("CAP_").unwrap_or(name))
}

impl When {
    fn architecture() -> &'static str {
        if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
    }

    fn all_caps(&self, have: u64) -> bool {
        self.caps.iter().all(|c| capability(c).is_some_and(|b| have & b == b))
    }

    fn any_cap(&self, have: u64) -> bool {
        self.caps.iter().any(|c| capability(c).is_some_and(|b| have & b != 0))
    }

    fn here(&self) -> bool {
        self.arches.iter().any(|a| a == Self::architecture())
    }
}

pub(crate) fn parse(text: &[u8], have: u64) -> Result<Profile, ProfileError> {
    let text: Text = serde_json::from_slice(text)?;
    let mut profile = Profile {
        default: action(&text.default_action, text.default_errno_ret)?,
        rules: Vec::new(),
    };
    for call in &text.syscalls {
        let included = call
            .includes
            .as_ref()
            .is_none_or(|w| w.all_caps(have) && (w.arches.is_empty() || w.here()));
        let excluded = call.excludes.as_ref().is_some_and(|w| w.any_cap(have) || w.here());
        if !included || excluded {
            continue;
        }
        let action = action(&call.action, call.errno_ret)?;
        let conditions: Vec<Condition> = call.args.iter().flatten().map(comparison).collect::<Result<_, _>>()?;
        // A name that this kernel's table lacks cannot be called either.
        for number in call.names.iter().chain(&call.name).filter_map(|n| number(n)) {
            profile.rules.push(Rule {
                number,
                conditions: conditions.clone(),
                action,
            });
        }
    }
    Ok(profile)
}
