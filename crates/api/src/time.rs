//! Instants and durations in the text forms of the API: RFC 3339 times and Go's durations.

use std::fmt::Write;
use std::ops::RangeInclusive;

/// A point of time, UTC, in nanoseconds split as protobuf's Timestamp has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// Go's zero time, 0001-01-01T00:00:00Z, which the API treats as absent.
pub const ZERO_SECONDS: i64 = -62_135_596_800;

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y - era * 400;
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z - era * 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

impl Instant {
    /// Returns whether this is Go's zero time, the year 1, which stands for no time.
    pub fn is_zero(&self) -> bool {
        self.seconds == ZERO_SECONDS && self.nanos == 0
    }

    /// Reads RFC 3339 with any fraction and offset.
    pub fn parse(text: &str) -> Option<Instant> {
        Instant::read(text, false).ok()
    }

    /// Reads as Go's `time.Parse` does by `time.RFC3339`, or by the layout of `metav1.MicroTime`.
    ///
    /// # Errors
    /// Where and why the text is none.
    pub fn read(text: &str, micro: bool) -> Result<Instant, TimeError> {
        let layout = if micro {
            "2006-01-02T15:04:05.000000Z07:00"
        } else {
            "2006-01-02T15:04:05Z07:00"
        };
        let mut reader = Reader { rest: text.as_bytes() };
        let whole = || quote(text.as_bytes());
        reader.instant(micro).map_err(|fault| match fault {
            Fault::Not { element, at } => TimeError::Element {
                text: whole(),
                layout: quote(layout.as_bytes()),
                rest: quote(at),
                element: quote(element.as_bytes()),
            },
            Fault::Range(what) => TimeError::Range { text: whole(), what },
            Fault::Extra(rest) => TimeError::Extra {
                text: whole(),
                rest: quote(rest),
            },
        })
    }

    /// `2006-01-02T15:04:05Z`, as `metav1.Time` is written.
    pub fn to_rfc3339(&self) -> String {
        let days = self.seconds.div_euclid(86_400);
        let rest = self.seconds.rem_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            rest / 3600,
            rest / 60 % 60,
            rest % 60
        )
    }

    /// `2006-01-02T15:04:05.000000Z`, as `metav1.MicroTime` is written.
    pub fn to_rfc3339_micro(&self) -> String {
        let mut text = self.to_rfc3339();
        text.pop();
        // Writing to a String cannot fail.
        let _ = write!(text, ".{:06}Z", self.nanos / 1000);
        text
    }
}

/// Why a text is no time, in the words of Go's `time.ParseError`. The texts are quoted as Go quotes them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// What is left of the text is not the element of the layout.
    #[error("parsing time {text} as {layout}: cannot parse {rest} as {element}")]
    Element {
        /// The whole text.
        text: String,
        /// Go's layout.
        layout: String,
        /// What is left of the text.
        rest: String,
        /// The element of the layout that it should begin with.
        element: String,
    },
    /// A number is larger or smaller than it may be.
    #[error("parsing time {text}: {what} out of range")]
    Range {
        /// The whole text.
        text: String,
        /// Go's name of the number.
        what: &'static str,
    },
    /// The text goes on after its end.
    #[error("parsing time {text}: extra text: {rest}")]
    Extra {
        /// The whole text.
        text: String,
        /// What is left of the text.
        rest: String,
    },
}

/// What keeps a text from being a time.
enum Fault<'a> {
    /// What is left of the text is not this element of the layout.
    Not {
        element: &'static str,
        at: &'a [u8],
    },
    Range(&'static str),
    Extra(&'a [u8]),
}

/// A time's text, from the left.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn instant(&mut self, micro: bool) -> Result<Instant, Fault<'a>> {
        let year = self.year()?;
        self.sign("-")?;
        let month = self.number("01", true, "month", 1..=12)?;
        self.sign("-")?;
        let day = self.number("02", true, "day", 0..=99)?;
        self.sign("T")?;
        let hour = self.number("15", false, "hour", 0..=23)?;
        self.sign(":")?;
        let minute = self.number("04", true, "minute", 0..=59)?;
        self.sign(":")?;
        let second = self.number("05", true, "second", 0..=59)?;
        let nanos = if micro { self.micros()? } else { self.fraction() };
        let offset = self.zone()?;
        if !self.rest.is_empty() {
            return Err(Fault::Extra(self.rest));
        }
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if !(1..=days).contains(&day) {
            return Err(Fault::Range("day"));
        }
        let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
        Ok(Instant { seconds, nanos })
    }

    fn not<T>(&self, element: &'static str) -> Result<T, Fault<'a>> {
        Err(Fault::Not { element, at: self.rest })
    }

    fn year(&mut self) -> Result<i64, Fault<'a>> {
        let Some(year) = self.rest.get(..4).and_then(digits) else {
            return self.not("2006");
        };
        self.rest = &self.rest[4..];
        Ok(year)
    }

    fn sign(&mut self, sign: &'static str) -> Result<(), Fault<'a>> {
        match self.rest.strip_prefix(sign.as_bytes()) {
            Some(rest) => self.rest = rest,
            None => return self.not(sign),
        }
        Ok(())
    }

    /// Two digits; one will do for an hour.
    fn number(
        &mut self,
        element: &'static str,
        fixed: bool,
        what: &'static str,
        range: RangeInclusive<i64>,
    ) -> Result<i64, Fault<'a>> {
        let length = match self.rest {
            [a, b, ..] if a.is_ascii_digit() && b.is_ascii_digit() => 2,
            [a, ..] if a.is_ascii_digit() && !fixed => 1,
            _ => return self.not(element),
        };
        let (read, rest) = self.rest.split_at(length);
        self.rest = rest;
        digits(read)
            .filter(|number| range.contains(number))
            .ok_or(Fault::Range(what))
    }

    /// Nanoseconds, when there is a fraction of any length.
    fn fraction(&mut self) -> u32 {
        let [b'.' | b',', rest @ ..] = self.rest else {
            return 0;
        };
        let length = rest.iter().take_while(|c| c.is_ascii_digit()).count();
        if length == 0 {
            return 0;
        }
        self.rest = &rest[length..];
        nanos(&rest[..length])
    }

    /// Just six digits of a second.
    fn micros(&mut self) -> Result<u32, Fault<'a>> {
        match self.rest {
            [b'.' | b',', rest @ ..] if rest.get(..6).and_then(digits).is_some() => {
                self.rest = &rest[6..];
                Ok(nanos(&rest[..6]))
            }
            _ => self.not(".000000"),
        }
    }

    /// The seconds that a zone is ahead.
    fn zone(&mut self) -> Result<i64, Fault<'a>> {
        if let [b'Z', rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(0);
        }
        let [sign @ (b'+' | b'-'), a, b, b':', c, d, rest @ ..] = self.rest else {
            return self.not("Z07:00");
        };
        let (Some(hours), Some(minutes)) = (digits(&[*a, *b]), digits(&[*c, *d])) else {
            return self.not("Z07:00");
        };
        if hours > 24 {
            return Err(Fault::Range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(Fault::Range("time zone offset minute"));
        }
        self.rest = rest;
        Ok((hours * 3600 + minutes * 60) * if *sign == b'+' { 1 } else { -1 })
    }
}

/// The number that digits write.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter()
        .try_fold(0i64, |n, c| c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0')))
}

/// A second's fraction; digits after the ninth do not count.
fn nanos(fraction: &[u8]) -> u32 {
    let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    padded.fold(0, |n, c| n * 10 + u32::from(c - b'0'))
}

/// As Go's package time quotes: bytes that are no printable ASCII as `\xNN`.
fn quote(text: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for c in text {
        match c {
            b'"' | b'\\' => quoted.extend(['\\', char::from(*c)]),
            b' '..=0x7f => quoted.push(char::from(*c)),
            // Writing to a String cannot fail.
            _ => _ = write!(quoted, "\\x{c:02x}"),
        }
    }
    quoted.push('"');
    quoted
}

/// Reads a flag's duration in Go's syntax, as `1m0s`; one that is not negative.
///
/// # Errors
/// What is wrong with it, as clap shows it.
pub fn flag_duration(text: &str) -> Result<std::time::Duration, &'static str> {
    let nanos = parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
    nanos
        .map(std::time::Duration::from_nanos)
        .ok_or("is not a duration, such as 1m0s")
}

/// Reads Go's duration syntax (`1h2m3.5s`), giving nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        if !whole.is_empty() {
            total += whole.parse::<i64>().ok().map(i128::from)? * scale;
        }
        let mut part = scale;
        for c in fraction.bytes() {
            part /= 10;
            total += i128::from(c - b'0') * part;
        }
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Writes nanoseconds as Go does: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let decimal = |value: u64, unit: u64| {
        let (whole, rest) = (value / unit, value % unit);
        if rest == 0 {
            return whole.to_string();
        }
        let width = unit.ilog10() as usize;
        format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
    };
    if n < 1_000 {
        return format!("{sign}{n}ns");
    }
    if n < 1_000_000 {
        return format!("{sign}{}µs", decimal(n, 1_000));
    }
    if n < 1_000_000_000 {
        return format!("{sign}{}ms", decimal(n, 1_000_000));
    }
    let minutes = n / 60_000_000_000;
    let seconds = decimal(n % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_refused_in_gos_words() {
        let refused = |text: &str, micro: bool| Instant::read(text, micro).unwrap_err().to_string();
        for (text, words) in [
            (
                "2019-06-26 09:11:58+00:00",
                r#" as "2006-01-02T15:04:05Z07:00": cannot parse " 09:11:58+00:00" as "T""#,
            ),
            ("", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006""#),
            ("2019-02-29T09:11:58Z", ": day out of range"),
            ("2019-13-26T09:11:58Z", ": month out of range"),
            ("2019-06-26T09:11:58+25:00", ": time zone offset hour out of range"),
            ("2019-06-26T09:11:58Zx", r#": extra text: "x""#),
        ] {
            assert_eq!(refused(text, false), format!("parsing time {text:?}{words}"));
        }
        // an hour of one digit, a comma and an offset of a whole day will do
        assert_eq!(Instant::parse("2019-06-26T9:11:58,5+24:60").unwrap().nanos, 500_000_000);
        assert!(Instant::read("2019-06-26T09:11:58.123456Z", true).is_ok());
        let layout = "2006-01-02T15:04:05.000000Z07:00";
        let text = "2019-06-26T09:11:58Z";
        assert_eq!(
            refused(text, true),
            format!("parsing time {text:?} as {layout:?}: cannot parse \"Z\" as \".000000\"")
        );
    }

    #[test]
    fn times_are_read_with_offsets_and_written_in_utc() {
        for (text, seconds, micro) in [
            (
                "2008-01-01T01:01:01Z",
                "2008-01-01T01:01:01Z",
                "2008-01-01T01:01:01.000000Z",
            ),
            (
                "2024-02-29T23:59:59.123456789+02:00",
                "2024-02-29T21:59:59Z",
                "2024-02-29T21:59:59.123456Z",
            ),
            (
                "0001-01-01T00:00:00Z",
                "0001-01-01T00:00:00Z",
                "0001-01-01T00:00:00.000000Z",
            ),
        ] {
            let t = Instant::parse(text).unwrap();
            assert_eq!(
                (t.to_rfc3339().as_str(), t.to_rfc3339_micro().as_str()),
                (seconds, micro)
            );
        }
        assert!(Instant::parse("0001-01-01T00:00:00Z").unwrap().is_zero());
        for bad in [
            "2023-02-29T00:00:00Z",
            "2023-01-01",
            "2023-01-01T00:00:00",
            "2023-01-01T00:00:00.Z",
            "x",
        ] {
            assert_eq!(Instant::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, nanos, canonical) in [
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("1m30.5s", 90_500_000_000, "1m30.5s"),
            ("1.5ms", 1_500_000, "1.5ms"),
            ("-2s", -2_000_000_000, "-2s"),
            ("0", 0, "0s"),
        ] {
            assert_eq!(parse_duration(text), Some(nanos));
            assert_eq!(format_duration(nanos), canonical);
        }
        for bad in ["", "5", "1x", "s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
