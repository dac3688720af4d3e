//! Semantic versions: `semver("1.2.3")`, with `true` as second argument for `v1.2` and the like.

use std::any::Any;
use std::cmp::Ordering;

use api::go::quote;

use super::quantity::order;
use crate::environment::Declarations;
use crate::value::{Fault, Opaque, Outcome, Value, no_overload, refused};

/// A part of a pre-release. Numbers come before texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

/// A version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    pre: Vec<Part>,
    build: Vec<String>,
}

/// Why a text is no version, in the words of the library that upstream uses (`blang/semver`).
#[derive(Debug, thiserror::Error)]
enum VersionError {
    #[error("Version string empty")]
    Empty,
    #[error("No Major.Minor.Patch elements found")]
    NoElements,
    #[error("short version cannot contain PreRelease/Build meta data")]
    Short,
    #[error("Invalid character(s) found in {name} number {}", quote(.text))]
    NumberCharacter { name: &'static str, text: String },
    #[error("{name} number must not contain leading zeroes {}", quote(.text))]
    NumberZeroes { name: &'static str, text: String },
    #[error("strconv.ParseUint: parsing {}: {why}", quote(.text))]
    Number { text: String, why: &'static str },
    #[error("Prerelease is empty")]
    NoPreRelease,
    #[error("Numeric PreRelease version must not contain leading zeroes {}", quote(.0))]
    PreReleaseZeroes(String),
    #[error("Invalid character(s) found in prerelease {}", quote(.0))]
    PreReleaseCharacter(String),
    #[error("Build meta data is empty")]
    NoBuild,
    #[error("Invalid character(s) found in build meta data {}", quote(.0))]
    BuildCharacter(String),
}

impl Version {
    fn compare(&self, other: &Version) -> Ordering {
        let pre = match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => self.pre.cmp(&other.pre),
        };
        self.numbers.cmp(&other.numbers).then(pre)
    }

    fn parse(text: &str) -> Result<Version, VersionError> {
        if text.is_empty() {
            return Err(VersionError::Empty);
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts[..] else {
            return Err(VersionError::NoElements);
        };
        let (major, minor) = (number("major", "Major", major)?, number("minor", "Minor", minor)?);
        let (rest, build) = match rest.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (rest, None),
        };
        let (patch, pre) = match rest.split_once('-') {
            Some((patch, pre)) => (patch, Some(pre)),
            None => (rest, None),
        };
        let patch = number("patch", "Patch", patch)?;
        let pre: Result<Vec<Part>, VersionError> = pre.iter().flat_map(|pre| pre.split('.')).map(part).collect();
        let pre = pre?;
        let mut builds = Vec::new();
        for part in build.iter().flat_map(|build| build.split('.')) {
            if part.is_empty() {
                return Err(VersionError::NoBuild);
            }
            if !plain(part) {
                return Err(VersionError::BuildCharacter(part.to_owned()));
            }
            builds.push(part.to_owned());
        }
        Ok(Version {
            numbers: [major, minor, patch],
            pre,
            build: builds,
        })
    }

    /// Reads `v1`, `1.2` and `01.2.3` too.
    fn parse_tolerant(text: &str) -> Result<Version, VersionError> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
        for part in &mut parts {
            if part.len() > 1 {
                let kept = part.trim_start_matches('0');
                let number = kept.starts_with(|c: char| c.is_ascii_digit());
                *part = if number { kept.to_owned() } else { format!("0{kept}") };
            }
        }
        if parts.len() < 3 {
            if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
                return Err(VersionError::Short);
            }
            parts.resize(3, "0".into());
        }
        Version::parse(&parts.join("."))
    }
}

fn plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn number(name: &'static str, titled: &'static str, text: &str) -> Result<u64, VersionError> {
    let text = text.to_owned();
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(VersionError::NumberCharacter { name, text });
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(VersionError::NumberZeroes { name: titled, text });
    }
    text.parse().map_err(|_| {
        let why = if text.is_empty() {
            "invalid syntax"
        } else {
            "value out of range"
        };
        VersionError::Number { text, why }
    })
}

fn part(text: &str) -> Result<Part, VersionError> {
    if text.is_empty() {
        return Err(VersionError::NoPreRelease);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(VersionError::PreReleaseZeroes(text.to_owned()));
        }
        return text.parse().map(Part::Number).map_err(|_| VersionError::Number {
            text: text.to_owned(),
            why: "value out of range",
        });
    }
    if plain(text) {
        return Ok(Part::Text(text.to_owned()));
    }
    Err(VersionError::PreReleaseCharacter(text.to_owned()))
}

impl Opaque for Version {
    fn type_name(&self) -> &str {
        "kubernetes.Semver"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        let other = other.as_any().downcast_ref::<Version>()?;
        Some(self.compare(other) == Ordering::Equal)
    }

    fn show(&self) -> String {
        let [major, minor, patch] = self.numbers;
        let mut out = format!("{major}.{minor}.{patch}");
        for (at, part) in self.pre.iter().enumerate() {
            out.push(if at == 0 { '-' } else { '.' });
            match part {
                Part::Number(n) => out.push_str(&n.to_string()),
                Part::Text(text) => out.push_str(text),
            }
        }
        for (at, part) in self.build.iter().enumerate() {
            out.push(if at == 0 { '+' } else { '.' });
            out.push_str(part);
        }
        out
    }
}

pub(super) fn declare(into: &mut Declarations) {
    into.global("semver", "string_to_semver", "string -> kubernetes.Semver", make);
    into.global(
        "semver",
        "string_bool_to_semver",
        "string, bool -> kubernetes.Semver",
        make,
    );
    into.global("isSemver", "is_semver_string", "string -> bool", is);
    into.global("isSemver", "is_semver_string_bool", "string, bool -> bool", is);
    let both = "kubernetes.Semver, kubernetes.Semver -> ";
    into.member(
        "isGreaterThan",
        "semver_is_greater_than",
        &format!("{both}bool"),
        |args| Ok(Value::Bool(compare(args)? == Ordering::Greater)),
    );
    into.member("isLessThan", "semver_is_less_than", &format!("{both}bool"), |args| {
        Ok(Value::Bool(compare(args)? == Ordering::Less))
    });
    into.member("compareTo", "semver_compare_to", &format!("{both}int"), |args| {
        Ok(Value::Int(order(compare(args)?)))
    });
    let mut part = |name: &str, does: crate::environment::Implementation| {
        into.member(name, &format!("semver_{name}"), "kubernetes.Semver -> int", does);
    };
    part("major", |args| Ok(Value::Int(of(args, 0)?.numbers[0] as i64)));
    part("minor", |args| Ok(Value::Int(of(args, 0)?.numbers[1] as i64)));
    part("patch", |args| Ok(Value::Int(of(args, 0)?.numbers[2] as i64)));
}

fn read(args: &[Value<'_>]) -> Result<Result<Version, VersionError>, Fault> {
    let text = args[0].as_str().map_or_else(no_overload, Ok)?;
    match args.get(1) {
        None | Some(Value::Bool(false)) => Ok(Version::parse(text)),
        Some(Value::Bool(true)) => Ok(Version::parse_tolerant(text)),
        Some(_) => no_overload(),
    }
}

fn make<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    read(args)?.map_or_else(refused, |version| Ok(Value::opaque(version)))
}

fn is<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(read(args)?.is_ok()))
}

fn of<'v>(args: &'v [Value<'_>], at: usize) -> Result<&'v Version, Fault> {
    args[at].downcast::<Version>().map_or_else(no_overload, Ok)
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, Fault> {
    Ok(of(args, 0)?.compare(of(args, 1)?))
}
