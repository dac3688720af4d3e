//! How long ago something was.

use jiff::Timestamp;

/// The time since a timestamp; `<unknown>` without one.
pub fn since(timestamp: &str, now: Timestamp) -> String {
    match timestamp.parse::<Timestamp>() {
        Ok(then) => api::duration::human(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}
