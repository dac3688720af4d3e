//! Cron schedules as Kubernetes reads them: five fields, names, `@hourly` and the like, `@every`.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Years after which a schedule that never comes is given up.
const HORIZON_YEARS: i16 = 5;
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Bits of the values that match, and whether the field was `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    bits: u64,
    star: bool,
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|v| self.bits >> v & 1 == 1)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Fields {
        minute: Field,
        hour: Field,
        day: Field,
        month: Field,
        weekday: Field,
    },
    Every(Duration),
}

/// Why a text is no schedule.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScheduleError {
    #[error("failed to parse int from {0}")]
    Number(String),
    #[error("{part:?} is out of {low}-{high}")]
    Range { part: String, low: u32, high: u32 },
    #[error("unknown time zone {0}")]
    UnknownZone(String),
    #[error("time zone {name}: {source}")]
    Zone { name: String, source: jiff::Error },
    #[error("failed to parse duration {0}")]
    Duration(String),
    #[error("expected exactly 5 fields, found {found}: {text}")]
    Fields { found: usize, text: String },
}

/// A parsed schedule in its time zone.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    kind: Kind,
    zone: TimeZone,
}

fn number(text: &str, names: &[&str], first: u32) -> Result<u32, ScheduleError> {
    if let Some(at) = names.iter().position(|n| n.eq_ignore_ascii_case(text)) {
        return Ok(u32::try_from(at).unwrap_or(0) + first);
    }
    text.parse().map_err(|_| ScheduleError::Number(text.to_owned()))
}

fn field(text: &str, low: u32, high: u32, names: &[&str]) -> Result<Field, ScheduleError> {
    let (mut bits, mut star) = (0u64, false);
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (
                range,
                step.parse::<u32>()
                    .map_err(|_| ScheduleError::Number(step.to_owned()))?,
            ),
            None => (part, 1),
        };
        let (first, last) = match range {
            "*" | "?" => {
                star |= step == 1;
                (low, high)
            }
            _ => match range.split_once('-') {
                Some((a, b)) => (number(a, names, low)?, number(b, names, low)?),
                None => {
                    let only = number(range, names, low)?;
                    (only, if part.contains('/') { high } else { only })
                }
            },
        };
        if first < low || last > high || first > last || step == 0 {
            let part = part.to_owned();
            return Err(ScheduleError::Range { part, low, high });
        }
        for value in (first..=last).step_by(usize::try_from(step).unwrap_or(1)) {
            bits |= 1 << value;
        }
    }
    Ok(Field { bits, star })
}

/// A zone by its IANA name, from the system's database. UTC needs none.
pub(super) fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    if name.eq_ignore_ascii_case("UTC") || name.eq_ignore_ascii_case("Etc/UTC") {
        return Ok(TimeZone::UTC);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_-+".contains(c);
    if name.is_empty() || name.starts_with('/') || !name.chars().all(plain) {
        return Err(ScheduleError::UnknownZone(name.to_owned()));
    }
    let data = std::fs::read(format!("/usr/share/zoneinfo/{name}"));
    let data = data.map_err(|_| ScheduleError::UnknownZone(name.to_owned()))?;
    TimeZone::tzif(name, &data).map_err(|source| ScheduleError::Zone {
        name: name.to_owned(),
        source,
    })
}

/// A time in its zone, as RFC 3339 has it.
pub(super) fn written(at: Timestamp, zone: Option<TimeZone>) -> String {
    match zone.filter(|zone| *zone != TimeZone::UTC) {
        Some(zone) => at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        None => at.to_string(),
    }
}

impl Schedule {
    /// Without a zone the schedule is in UTC.
    pub(super) fn parse(text: &str, zone_name: Option<&str>) -> Result<Schedule, ScheduleError> {
        let zone = zone_name.map_or(Ok(TimeZone::UTC), zone)?;
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        if let Some(every) = text.strip_prefix("@every ") {
            let nanos = api::time::parse_duration(every.trim());
            let nanos = nanos.ok_or_else(|| ScheduleError::Duration(every.to_owned()))?;
            let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(0).max(1);
            let kind = Kind::Every(Duration::from_secs(seconds));
            return Ok(Schedule { kind, zone });
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(ScheduleError::Fields {
                found: fields.len(),
                text: text.to_owned(),
            });
        };
        let kind = Kind::Fields {
            minute: field(minute, 0, 59, &[])?,
            hour: field(hour, 0, 23, &[])?,
            day: field(day, 1, 31, &[])?,
            month: field(month, 1, 12, &MONTHS)?,
            weekday: field(weekday, 0, 6, &DAYS)?,
        };
        Ok(Schedule { kind, zone })
    }

    /// The first time after `after`.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let Kind::Fields {
            minute,
            hour,
            day,
            month,
            weekday,
        } = &self.kind
        else {
            let Kind::Every(every) = self.kind else { return None };
            let whole = Timestamp::from_second(after.as_second()).ok()?;
            return whole.checked_add(SignedDuration::try_from(every).ok()?).ok();
        };
        let start = self.zone.to_datetime(after);
        let mut at = DateTime::from_parts(start.date(), Time::constant(start.hour(), start.minute(), 0, 0));
        at = at.checked_add(SignedDuration::from_mins(1)).ok()?;
        let last_year = start.year() + HORIZON_YEARS;
        let midnight = |date: Date| DateTime::from_parts(date, Time::midnight());
        while at.year() <= last_year {
            if !month.has(at.month()) {
                at = midnight(at.date().last_of_month().tomorrow().ok()?);
                continue;
            }
            let on_day = day.has(at.day());
            let on_weekday = weekday.has(at.weekday().to_sunday_zero_offset());
            // Of two restricted fields either one is enough.
            let matches = if day.star || weekday.star {
                on_day && on_weekday
            } else {
                on_day || on_weekday
            };
            if !matches {
                at = midnight(at.date().tomorrow().ok()?);
                continue;
            }
            if !hour.has(at.hour()) {
                let whole = DateTime::from_parts(at.date(), Time::constant(at.hour(), 0, 0, 0));
                at = whole.checked_add(SignedDuration::from_hours(1)).ok()?;
                continue;
            }
            if minute.has(at.minute()) {
                let zoned = at.to_zoned(self.zone.clone()).ok()?;
                // Times that the clock skips do not come.
                if zoned.datetime() == at && zoned.timestamp() > after {
                    return Some(zoned.timestamp());
                }
            }
            at = at.checked_add(SignedDuration::from_mins(1)).ok()?;
        }
        None
    }

    /// The last time in `(from, to]`, and whether there were more than a hundred.
    pub(super) fn last_between(&self, from: Timestamp, to: Timestamp) -> (Option<Timestamp>, bool) {
        const MANY: usize = 100;
        let mut at = from;
        let mut last = None;
        for _ in 0..=MANY {
            match self.next(at).filter(|t| *t <= to) {
                Some(next) => {
                    last = Some(next);
                    at = next;
                }
                None => return (last, false),
            }
        }
        // From wider and wider windows before the end, the last one found is the last of all.
        for hours in [1, 24, 24 * 40, 24 * 400] {
            let Ok(begin) = to.checked_sub(SignedDuration::from_hours(hours)) else {
                break;
            };
            let mut at = begin.max(from);
            let mut found = None;
            while let Some(next) = self.next(at).filter(|t| *t <= to) {
                found = Some(next);
                at = next;
            }
            if found.is_some() {
                return (found, true);
            }
        }
        (last, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_next_time_is_found() {
        let table = [
            ("*/15 * * * *", "2026-01-01T00:00:10Z", "2026-01-01T00:15:00Z"),
            ("0 4 * * mon-fri", "2026-01-02T05:00:00Z", "2026-01-05T04:00:00Z"),
            ("30 2 29 feb *", "2026-03-01T00:00:00Z", "2028-02-29T02:30:00Z"),
            ("0 0 13 * 5", "2026-02-01T00:00:00Z", "2026-02-06T00:00:00Z"),
            ("0 0 13 * *", "2026-02-01T00:00:00Z", "2026-02-13T00:00:00Z"),
            ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"),
            ("5,10-12 */6 * * *", "2026-01-01T00:11:30Z", "2026-01-01T00:12:00Z"),
        ];
        for (text, after, expected) in table {
            let schedule = Schedule::parse(text, None).unwrap();
            assert_eq!(schedule.next(at(after)), Some(at(expected)), "{text}");
        }
        assert_eq!(
            Schedule::parse("0 0 31 2 *", None)
                .unwrap()
                .next(at("2026-01-01T00:00:00Z")),
            None
        );
        for bad in ["* * * *", "60 * * * *", "* * * * 8", "x * * * *", "*/0 * * * *"] {
            assert!(Schedule::parse(bad, None).is_err(), "{bad}");
        }
        assert!(Schedule::parse("* * * * *", Some("../etc/passwd")).is_err());
    }

    #[test]
    fn the_last_missed_time_counts() {
        let minutely = Schedule::parse("* * * * *", None).unwrap();
        let (last, many) = minutely.last_between(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:05:30Z"));
        assert_eq!((last, many), (Some(at("2026-01-01T00:05:00Z")), false));
        let (last, many) = minutely.last_between(at("2026-01-01T00:00:00Z"), at("2026-06-01T00:05:30Z"));
        assert_eq!((last, many), (Some(at("2026-06-01T00:05:00Z")), true));
        let daily = Schedule::parse("@daily", None).unwrap();
        assert_eq!(
            daily.last_between(at("2026-01-01T00:00:00Z"), at("2026-01-01T09:00:00Z")),
            (None, false)
        );
    }

    #[test]
    fn times_are_written_in_their_zone() {
        let at = Timestamp::from_second(0).unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(written(at, Some(zone)), "1970-01-01T02:00:00+02:00");
        assert_eq!(written(at, Some(TimeZone::UTC)), "1970-01-01T00:00:00Z");
        assert_eq!(Schedule::parse("0 0 31 2 *", None).unwrap().next(at), None);
    }
}
