//! The headers that name the user to become.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;

use crate::http::status::{ApiError, Result};
use crate::http::user::User;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// A header that is there is never taken for one that is not: what is no text in it is replaced, and so asked about and become.
fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Reads the user that headers name, as they name it; `None` when none is there.
///
/// # Errors
/// `400` when there is a uid, a group or an extra without a user.
pub fn read(headers: &HeaderMap) -> Result<Option<User>> {
    let mut user = User {
        name: headers.get(USER).map(text).unwrap_or_default(),
        uid: headers.get(UID).map(text).unwrap_or_default(),
        groups: headers.get_all(GROUP).iter().map(text).collect(),
        ..User::default()
    };
    for (key, value) in headers {
        if let Some(key) = key.as_str().strip_prefix(EXTRA) {
            user.extra.entry(unescaped(key)).or_default().push(text(value));
        }
    }
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty() {
        return Ok(None);
    }
    let why = format!("requested {} without impersonating a user name", as_go(headers));
    Err(ApiError::bad_request(why))
}

/// A key is percent-encoded; one that is not well encoded stands for itself.
fn unescaped(key: &str) -> String {
    let bytes = key.as_bytes();
    let whole = |at: usize| {
        bytes
            .get(at + 1..at + 3)
            .is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !whole(at)) {
        return key.to_owned();
    }
    percent_decode_str(key).decode_utf8_lossy().into_owned()
}

/// The user as Go's `%#v` shows it, bytes that are no text too.
fn as_go(headers: &HeaderMap) -> String {
    let list = |values: &[String]| format!("[]string{{{}}}", values.join(", "));
    let groups: Vec<String> = headers.get_all(GROUP).iter().map(quoted).collect();
    let groups = match groups.as_slice() {
        [] => "[]string(nil)".to_owned(),
        groups => list(groups),
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in headers {
        if let Some(key) = key.as_str().strip_prefix(EXTRA) {
            extra.entry(unescaped(key)).or_default().push(quoted(value));
        }
    }
    let pairs: Vec<String> = extra.iter().map(|(k, v)| format!("{k:?}:{}", list(v))).collect();
    let extra = match pairs.as_slice() {
        [] => "map[string][]string(nil)".to_owned(),
        pairs => format!("map[string][]string{{{}}}", pairs.join(", ")),
    };
    let uid = headers.get(UID).map_or_else(|| "\"\"".to_owned(), quoted);
    format!("&user.DefaultInfo{{Name:\"\", UID:{uid}, Groups:{groups}, Extra:{extra}}}")
}

/// A value as Go quotes it.
fn quoted(value: &HeaderValue) -> String {
    let mut out = String::from("\"");
    for chunk in value.as_bytes().utf8_chunks() {
        let text = api::go::quote(chunk.valid());
        out.push_str(&text[1..text.len() - 1]);
        out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    #[test]
    fn a_header_that_is_there_is_never_taken_for_one_that_is_not() {
        let name = |bytes: &[u8]| read(&headers(&[(USER, bytes)])).unwrap().unwrap().name;
        assert_eq!(name("däve".as_bytes()), "däve");
        assert_eq!(name(b"d\xe4ve"), "d\u{fffd}ve");
        let group = read(&headers(&[(USER, b"dave"), (GROUP, b"\xff")])).unwrap().unwrap();
        assert_eq!(group.groups, ["\u{fffd}"]);
        for alone in [(UID, &b"\xff"[..]), (GROUP, b""), ("impersonate-extra-a", b"")] {
            assert_eq!(read(&headers(&[alone])).unwrap_err().code, 400, "{alone:?}");
        }
        assert!(read(&headers(&[(USER, b"")])).unwrap().is_none());
    }

    #[test]
    fn what_is_wanted_without_a_user_is_shown() {
        let refused = read(&headers(&[(GROUP, b"a\xff"), ("impersonate-extra-a%2fb", b"c")])).unwrap_err();
        let want = "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"a\\xff\"}, \
                    Extra:map[string][]string{\"a/b\":[]string{\"c\"}}} without impersonating a user name";
        assert_eq!(refused.message, want);
    }
}
