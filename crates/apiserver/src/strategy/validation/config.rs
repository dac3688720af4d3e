//! Rules of Secrets and ConfigMaps.

use api::field::FieldError;
use base64::Engine;
use serde_json::Value;

use super::Check;
use crate::http::json_text;
use crate::strategy::validation::common::{Errors, immutable};
use crate::strategy::validation::cursor::Cursor;

/// Bytes that one may hold.
const LIMIT: usize = 1 << 20;
const FROZEN: &str = "field is immutable when `immutable` is set";

/// What `immutable: true` forbids.
fn frozen(errors: &mut Errors, check: &Check, fields: &[&str]) {
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

fn key(errors: &mut Errors, key: &str, at: &Cursor) {
    let found = api::names::config_map_key_errors(key);
    errors.extend(found.into_iter().map(|p| at.wrong(key, p)));
}

/// Bytes behind a text of base64.
fn decoded_length(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

pub fn config_map(check: &Check) -> Errors {
    let mut errors = Errors::new();
    frozen(&mut errors, check, &["data", "binaryData"]);
    let root = check.root();
    let (data, binary) = (root.get("data"), root.get("binaryData"));
    let mut size = 0;
    for (name, value) in data.entries() {
        key(&mut errors, name, &value);
        if binary.get(name).is_some() {
            errors.push(value.wrong(name, "duplicate of key present in binaryData"));
        }
        size += value.text().len();
    }
    for (name, value) in binary.entries() {
        key(&mut errors, name, &value);
        size += decoded_length(value.text());
    }
    if size > LIMIT {
        errors.push(FieldError::too_long("[]", LIMIT));
    }
    errors
}

pub fn secret(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if let Some(old) = check.before() {
        immutable(&mut errors, &root.get("type"), &old.get("type"));
    }
    frozen(&mut errors, check, &["data"]);
    let data = root.get("data");
    let mut size = 0;
    for (name, value) in data.entries() {
        key(&mut errors, name, &value);
        size += decoded_length(value.text());
    }
    if size > LIMIT {
        errors.push(FieldError::too_long("data", LIMIT));
    }
    let missing = |name: &'static str| !data.get(name).is_some();
    match root.get("type").text() {
        "kubernetes.io/service-account-token" => {
            let name = root
                .at(&["metadata", "annotations"])
                .key("kubernetes.io/service-account.name");
            if name.text().is_empty() {
                errors.push(name.required(""));
            }
        }
        "kubernetes.io/dockercfg" => json_object(&mut errors, &data.key(".dockercfg")),
        "kubernetes.io/dockerconfigjson" => json_object(&mut errors, &data.key(".dockerconfigjson")),
        "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
            errors.extend(["username", "password"].map(|name| data.key(name).required("")));
        }
        "kubernetes.io/ssh-auth" if data.get("ssh-privatekey").text().is_empty() => {
            errors.push(data.key("ssh-privatekey").required(""));
        }
        "kubernetes.io/tls" => {
            let names = ["tls.crt", "tls.key"].into_iter().filter(|name| missing(name));
            errors.extend(names.map(|name| data.key(name).required("")));
        }
        _ => {}
    }
    errors
}

fn json_object(errors: &mut Errors, at: &Cursor) {
    if !at.is_some() {
        errors.push(at.required(""));
        return;
    }
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(at.text())
        .unwrap_or_default();
    let why = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            json_text::kind(&other)
        ),
        Err(_) => json_text::problem(&bytes),
    };
    errors.push(at.wrong("<secret contents redacted>", why));
}
