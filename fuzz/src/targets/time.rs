//! Times and durations.

use api::time::{Instant, flag_duration, format_duration, parse_duration};

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("time", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some(text) = text(input) else { return };
    for micro in [false, true] {
        let Ok(instant) = Instant::read(text, micro) else {
            continue;
        };
        let shown = instant.to_rfc3339_micro();
        let fits = (-62_167_219_200..253_402_300_800).contains(&instant.seconds);
        let again = Instant::parse(&shown);
        assert_eq!(fits, again.is_some(), "{shown}");
        if let Some(again) = again {
            assert_eq!(
                (again.seconds, again.nanos),
                (instant.seconds, instant.nanos / 1000 * 1000),
                "{shown}"
            );
            assert_eq!(shown, again.to_rfc3339_micro());
        }
        api::duration::human(instant.seconds);
    }
    let _ = (flag_duration(text), api::duration::parse_go(text));
    if let Some(nanos) = parse_duration(text) {
        let shown = format_duration(nanos);
        assert_eq!(Some(nanos), parse_duration(&shown), "{shown}");
    }
}
