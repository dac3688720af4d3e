//! Rules of a cron schedule's text.

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Names that stand for five fields.
const DESCRIPTORS: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// One of the five fields.
struct Field {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        least: 0,
        most: 59,
        names: &[],
    },
    Field {
        least: 0,
        most: 23,
        names: &[],
    },
    Field {
        least: 1,
        most: 31,
        names: &[],
    },
    Field {
        least: 1,
        most: 12,
        names: &MONTHS,
    },
    Field {
        least: 0,
        most: 6,
        names: &DAYS,
    },
];

/// What is wrong with a schedule, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// A time zone is all that there is.
    #[error("schedule has a time zone and no fields")]
    NoFields,
    /// There are more or fewer fields than five: their number and what they are.
    #[error("expected exactly 5 fields, found {0}: [{1}]")]
    Fields(usize, String),
    /// `@every` is followed by what is no span of time: the whole, and what follows.
    #[error("failed to parse duration {0}: time: invalid duration {1:?}")]
    Duration(String, String),
    /// Nobody knows the name that begins with an at sign.
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    /// A number is none.
    #[error("failed to parse int from {0}: strconv.Atoi: parsing {0:?}: invalid syntax")]
    NoNumber(String),
    /// A number is below zero.
    #[error("negative number ({0}) not allowed: {1}")]
    Negative(i64, String),
    /// A range has more than two ends.
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    /// A range has more than one step.
    #[error("too many slashes: {0}")]
    Slashes(String),
    /// A range begins before what its field may be: both, and the range.
    #[error("beginning of range ({0}) below minimum ({1}): {2}")]
    Below(u32, u32, String),
    /// A range ends after what its field may be: both, and the range.
    #[error("end of range ({0}) above maximum ({1}): {2}")]
    Above(u32, u32, String),
    /// A range ends before it begins.
    #[error("beginning of range ({0}) beyond end of range ({1}): {2}")]
    Beyond(u32, u32, String),
    /// A range has steps of zero.
    #[error("step of range should be a positive number: {0}")]
    Step(String),
}

/// Checks a schedule.
///
/// # Errors
/// When it is none.
pub fn check(schedule: &str) -> Result<(), ScheduleError> {
    let mut rest = schedule;
    if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
        let (_, after) = schedule.split_once(' ').ok_or(ScheduleError::NoFields)?;
        rest = after.trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(ScheduleError::Fields(fields.len(), fields.join(" ")));
    }
    for (text, field) in fields.iter().zip(&FIELDS) {
        for part in text.split(',').filter(|p| !p.is_empty()) {
            range(part, field)?;
        }
    }
    Ok(())
}

fn descriptor(text: &str) -> Result<(), ScheduleError> {
    if DESCRIPTORS.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(duration) if is_duration(duration) => Ok(()),
        Some(duration) => Err(ScheduleError::Duration(text.to_owned(), duration.to_owned())),
        None => Err(ScheduleError::Descriptor(text.to_owned())),
    }
}

/// Go's durations: numbers, each with its unit.
fn is_duration(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['+', '-']);
    if rest == "0" {
        return true;
    }
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        if digits == 0 || rest[..digits].parse::<f64>().is_err() {
            return false;
        }
        rest = &rest[digits..];
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"]
            .into_iter()
            .find(|u| rest.starts_with(u));
        // `ms` begins with `m`: the longer unit stands first
        let Some(unit) = unit else { return false };
        rest = &rest[unit.len()..];
        any = true;
    }
    any
}

fn number(text: &str) -> Result<u32, ScheduleError> {
    let parsed: i64 = text.parse().map_err(|_| ScheduleError::NoNumber(text.to_owned()))?;
    u32::try_from(parsed).map_err(|_| ScheduleError::Negative(parsed, text.to_owned()))
}

fn number_or_name(text: &str, field: &Field) -> Result<u32, ScheduleError> {
    let at = field.names.iter().position(|n| n.eq_ignore_ascii_case(text));
    match at.and_then(|i| u32::try_from(i).ok()) {
        Some(i) => Ok(i + field.least),
        None => number(text),
    }
}

fn range(text: &str, field: &Field) -> Result<(), ScheduleError> {
    let whole = || text.to_owned();
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, mut end) = if matches!(ends[0], "*" | "?") {
        (field.least, field.most)
    } else {
        let start = number_or_name(ends[0], field)?;
        match ends.as_slice() {
            [_] => (start, start),
            [_, end] => (start, number_or_name(end, field)?),
            _ => return Err(ScheduleError::Hyphens(whole())),
        }
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if ends.len() == 1 {
                end = field.most;
            }
            step
        }
        _ => return Err(ScheduleError::Slashes(whole())),
    };
    let (least, most) = (field.least, field.most);
    if start < least {
        return Err(ScheduleError::Below(start, least, whole()));
    }
    if end > most {
        return Err(ScheduleError::Above(end, most, whole()));
    }
    if start > end {
        return Err(ScheduleError::Beyond(start, end, whole()));
    }
    if step == 0 {
        return Err(ScheduleError::Step(whole()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_accepted_and_refused() {
        for good in [
            "* * * * *",
            "*/5 1-3 ? jan sun",
            "0 0 1,15 * 1-5/2",
            "@daily",
            "@every 1h30m",
            "TZ=UTC 0 1 * * *",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let bad = [
            ("a b", "expected exactly 5 fields, found 2: [a b]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("@often", "unrecognized descriptor: @often"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
        ];
        for (text, why) in bad {
            assert_eq!(check(text).unwrap_err().to_string(), why);
        }
    }
}
