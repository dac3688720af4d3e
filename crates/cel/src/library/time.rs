//! Parts of times and durations, in Greenwich or in a zone.

use std::sync::Arc;

use crate::environment::Declarations;
use crate::value::{Fault, Outcome, Timestamp, Value, error, no_overload};

pub(super) fn declare(into: &mut Declarations) {
    for (function, id) in [
        ("getFullYear", "timestamp_to_year"),
        ("getMonth", "timestamp_to_month"),
        ("getDayOfYear", "timestamp_to_day_of_year"),
        ("getDayOfMonth", "timestamp_to_day_of_month"),
        ("getDate", "timestamp_to_day_of_month_1_based"),
        ("getDayOfWeek", "timestamp_to_day_of_week"),
        ("getHours", "timestamp_to_hours"),
        ("getMinutes", "timestamp_to_minutes"),
        ("getSeconds", "timestamp_to_seconds"),
        ("getMilliseconds", "timestamp_to_milliseconds"),
    ] {
        let zoned = match id {
            "timestamp_to_seconds" => "timestamp_to_seconds_tz".to_owned(),
            id => format!("{id}_with_tz"),
        };
        let does = of(function);
        into.member(function, id, "timestamp -> int", does);
        into.member(function, &zoned, "timestamp, string -> int", does);
    }
    into.member("getHours", "duration_to_hours", "duration -> int", |a| {
        span(a, 3_600_000_000_000)
    });
    into.member("getMinutes", "duration_to_minutes", "duration -> int", |a| {
        span(a, 60_000_000_000)
    });
    into.member("getSeconds", "duration_to_seconds", "duration -> int", |a| {
        span(a, 1_000_000_000)
    });
    into.member("getMilliseconds", "duration_to_milliseconds", "duration -> int", |a| {
        span(a, 1_000_000)
    });
}

fn of(function: &str) -> crate::environment::Implementation {
    match function {
        "getFullYear" => |a| part(a, |t, z| t.civil(z).year),
        "getMonth" => |a| part(a, |t, z| t.civil(z).month - 1),
        "getDayOfYear" => |a| part(a, |t, z| t.civil(z).day_of_year),
        "getDayOfMonth" => |a| part(a, |t, z| t.civil(z).day - 1),
        "getDate" => |a| part(a, |t, z| t.civil(z).day),
        "getDayOfWeek" => |a| part(a, |t, z| t.civil(z).day_of_week),
        "getHours" => |a| part(a, |t, z| t.civil(z).hour),
        "getMinutes" => |a| part(a, |t, z| t.civil(z).minute),
        "getSeconds" => |a| part(a, |t, z| t.civil(z).second),
        _ => |a| part(a, |t, _| i64::from(t.nanos / 1_000_000)),
    }
}

fn part<'a>(args: &[Value<'a>], read: fn(&Timestamp, i64) -> i64) -> Outcome<'a> {
    let Value::Timestamp(t) = &args[0] else {
        return no_overload();
    };
    let offset = match args.get(1) {
        Some(Value::String(zone)) => zone_offset(zone, t)?,
        Some(_) => return no_overload(),
        None => 0,
    };
    Ok(Value::Int(read(t, offset)))
}

fn span<'a>(args: &[Value<'a>], unit: i64) -> Outcome<'a> {
    match &args[0] {
        Value::Duration(n) => Ok(Value::Int(n / unit)),
        _ => no_overload(),
    }
}

/// Seconds that clocks of a zone are ahead of Greenwich at a time.
fn zone_offset(zone: &str, at: &Timestamp) -> Result<i64, Fault> {
    let Some((hours, minutes)) = zone.split_once(':') else {
        return named_offset(zone, at);
    };
    let number = |text: &str| -> Result<i64, Fault> {
        text.parse().or_else(|_| {
            error(format!(
                "strconv.Atoi: parsing {}: invalid syntax",
                api::go::quote(text)
            ))
        })
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = if zone.starts_with('-') {
        hours * 60 - minutes
    } else {
        hours * 60 + minutes
    };
    Ok(total * 60)
}

fn named_offset(zone: &str, at: &Timestamp) -> Result<i64, Fault> {
    if matches!(zone, "" | "UTC") {
        return Ok(0);
    }
    let unknown = || -> Fault { Fault::Error(Arc::from(format!("unknown time zone {zone}"))) };
    let found = jiff::tz::TimeZone::get(zone).map_err(|_| unknown())?;
    let instant = jiff::Timestamp::from_second(at.seconds).map_err(|_| unknown())?;
    Ok(i64::from(found.to_offset(instant).seconds()))
}
