//! Points of time with the offset that they were written with, and durations.

use std::fmt::Write as _;

use api::time::{Instant, TimeError};

/// The first and last second that a timestamp may have.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

/// Why a text is not of a format that custom resources name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("parsing time {0:?} as \"2006-01-02T15:04:05\": cannot parse")]
    DateTime(String),
    #[error("parsing time {0:?} as \"2006-01-02\": cannot parse")]
    Date(String),
    #[error("unable to parse {0} as duration")]
    Duration(String),
}

/// A point of time.
#[derive(Debug, Clone, Copy)]
pub struct Timestamp {
    /// Seconds since 1970 began.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanos: u32,
    /// Seconds east of Greenwich that its text shows.
    pub offset: i32,
}

/// A point of time by the calendar.
pub(crate) struct Civil {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub day_of_year: i64,
    /// From Sunday.
    pub day_of_week: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

impl Timestamp {
    /// Seconds since 1970, in Greenwich; `None` beyond the years 1 to 9999.
    pub(crate) fn unix(seconds: i64) -> Option<Timestamp> {
        Timestamp::new(seconds, 0, 0)
    }

    pub(crate) fn new(seconds: i64, nanos: u32, offset: i32) -> Option<Timestamp> {
        (FIRST..=LAST)
            .contains(&seconds)
            .then_some(Timestamp { seconds, nanos, offset })
    }

    pub(crate) fn order(&self) -> (i64, u32) {
        (self.seconds, self.nanos)
    }

    pub(crate) fn is_go_zero(&self) -> bool {
        self.order() == (FIRST, 0)
    }

    /// Nanoseconds since 1970.
    pub(crate) fn total(&self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }

    pub(crate) fn from_total(nanos: i128, offset: i32) -> Option<Timestamp> {
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
        Timestamp::new(seconds, nanos.rem_euclid(1_000_000_000) as u32, offset)
    }

    /// RFC 3339, as Go reads it.
    ///
    /// # Errors
    /// Where and why the text is none.
    pub(crate) fn parse(text: &str) -> Result<Timestamp, TimeError> {
        let instant = Instant::read(text, false)?;
        Ok(Timestamp {
            seconds: instant.seconds,
            nanos: instant.nanos,
            offset: offset(text),
        })
    }

    /// A text of the format `date-time`.
    pub(crate) fn of_schema(text: &str) -> Result<Timestamp, FormatError> {
        if text.is_empty() {
            return Ok(Timestamp {
                seconds: 0,
                nanos: 0,
                offset: 0,
            });
        }
        let misfit = |_| FormatError::DateTime(text.to_owned());
        match Timestamp::parse(text) {
            // a time without an offset
            Err(_) if text.len() >= 19 => Timestamp::parse(&format!("{text}Z")).map_err(misfit),
            read => read.map_err(misfit),
        }
    }

    /// A text of the format `date`.
    pub(crate) fn date(text: &str) -> Result<Timestamp, FormatError> {
        match Timestamp::parse(&format!("{text}T00:00:00Z")) {
            Ok(t) if text.len() == 10 => Ok(t),
            _ => Err(FormatError::Date(text.to_owned())),
        }
    }

    /// The calendar's view of it where clocks are `offset` seconds ahead of Greenwich.
    pub(crate) fn civil(&self, offset: i64) -> Civil {
        let local = self.seconds + offset;
        let (days, within) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = date_of(days);
        Civil {
            year,
            month,
            day,
            day_of_year: days - days_before(year),
            day_of_week: (days + 4).rem_euclid(7),
            hour: within / 3600,
            minute: within / 60 % 60,
            second: within % 60,
        }
    }

    /// RFC 3339 with as many decimals as it takes.
    pub(crate) fn show(&self, offset: i32) -> String {
        let civil = self.civil(i64::from(offset));
        let mut out = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            civil.year, civil.month, civil.day, civil.hour, civil.minute, civil.second
        );
        if self.nanos > 0 {
            let decimals = format!("{:09}", self.nanos);
            out.push('.');
            out.push_str(decimals.trim_end_matches('0'));
        }
        if offset == 0 {
            out.push('Z');
        } else {
            let minutes = offset.abs() / 60;
            let sign = if offset < 0 { '-' } else { '+' };
            let _ = write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
        }
        out
    }
}

/// The offset that a text of RFC 3339 ends with, in seconds.
fn offset(text: &str) -> i32 {
    let Some(tail) = text.get(text.len().saturating_sub(6)..) else {
        return 0;
    };
    let number = |range: std::ops::Range<usize>| tail.get(range).and_then(|d| d.parse::<i32>().ok());
    let sign = match tail.as_bytes().first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return 0,
    };
    match (number(1..3), number(4..6)) {
        (Some(hours), Some(minutes)) => sign * (hours * 3600 + minutes * 60),
        _ => 0,
    }
}

/// Days from 1970 to the beginning of a year.
fn days_before(year: i64) -> i64 {
    let y = year - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) - 719_162
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let mut year = (days * 400).div_euclid(146_097) + 1970;
    while days_before(year) > days {
        year -= 1;
    }
    while days_before(year + 1) <= days {
        year += 1;
    }
    let leap = days_before(year + 1) - days_before(year) == 366;
    let lengths = [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut rest = days - days_before(year);
    let mut month = 1;
    for length in lengths {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

/// A text of the format `duration`: Go's durations, or sums of amounts such as `3 days`.
pub(crate) fn duration_of_schema(text: &str) -> Result<i64, FormatError> {
    if let Some(nanos) = api::time::parse_duration(text) {
        return Ok(nanos);
    }
    amounts(text).ok_or_else(|| FormatError::Duration(text.to_owned()))
}

/// Units of time by their names, the longest last, and their nanoseconds.
const UNITS: [(&[&str], i64); 8] = [
    (&["ns", "nano"], 1),
    (&["us", "\u{b5}s", "micro"], 1_000),
    (&["ms", "milli"], 1_000_000),
    (&["s", "sec"], 1_000_000_000),
    (&["m", "min"], 60_000_000_000),
    (&["h", "hr", "hour"], 3_600_000_000_000),
    (&["d", "day"], 86_400_000_000_000),
    (&["w", "wk", "week"], 604_800_000_000_000),
];

fn amounts(text: &str) -> Option<i64> {
    let mut total = None;
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[at..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic() && c != '\u{b5}')
            .unwrap_or(rest.len());
        let unit = rest[..letters].to_lowercase();
        rest = &rest[letters..];
        for (names, nanos) in UNITS {
            let longest = names.last().is_some_and(|name| unit.starts_with(name));
            if !unit.is_empty() && (longest || names.contains(&unit.as_str())) {
                let amount = number.wrapping_mul(nanos);
                total = Some(total.unwrap_or(0_i64).wrapping_add(amount));
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_they_were_written() {
        for text in [
            "2020-02-29T12:34:56.5Z",
            "0001-01-01T00:00:00Z",
            "2019-12-31T23:59:59+05:30",
        ] {
            let t = Timestamp::parse(text).unwrap();
            assert_eq!(t.show(t.offset), text);
        }
        let t = Timestamp::parse("2020-02-29T00:30:00Z").unwrap();
        let civil = t.civil(-3600);
        assert_eq!(
            (civil.day, civil.day_of_year, civil.day_of_week, civil.hour),
            (28, 58, 5, 23)
        );
        assert_eq!(duration_of_schema("2 days").unwrap(), 172_800_000_000_000);
        assert!(duration_of_schema("often").is_err());
    }
}
