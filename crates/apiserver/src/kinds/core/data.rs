//! The data of ConfigMaps and Secrets.

use crate::kinds::{Check, Cursor, Errors};

/// Bytes that one may hold.
pub const LIMIT: usize = 1 << 20;

const FROZEN: &str = "field is immutable when `immutable` is set";

/// What `immutable: true` forbids.
pub fn frozen(errors: &mut Errors, check: &Check, fields: &[&str]) {
    let (new, Some(old)) = (check.root(), check.before()) else {
        return;
    };
    if !old.get("immutable").is_true() {
        return;
    }
    if !new.get("immutable").is_true() {
        errors.push(new.get("immutable").forbidden(FROZEN));
    }
    for field in fields {
        if new.get(field).value != old.get(field).value {
            errors.push(new.get(field).forbidden(FROZEN));
        }
    }
}

/// Refuses what is no key of data.
pub fn key(errors: &mut Errors, key: &str, at: &Cursor) {
    let found = api::names::config_map_key_errors(key);
    errors.extend(found.into_iter().map(|p| at.wrong(key, p)));
}

/// Bytes behind a text of base64.
pub fn decoded_length(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}
