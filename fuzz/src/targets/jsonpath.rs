//! JSONPath templates over an object: the template, a NUL, the object.

use api::jsonpath::{JsonPath, relaxed};
use serde_json::Value;

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("jsonpath", Form::Bytes, check);

fn check(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let Some(template) = parts.next().and_then(text) else {
        return;
    };
    let data: Value = parts
        .next()
        .and_then(|part| serde_json::from_slice(part).ok())
        .unwrap_or_else(object);
    if let Ok(path) = relaxed(template) {
        let _ = JsonPath::parse(&path);
    }
    let Ok(path) = JsonPath::parse(template) else { return };
    let strict = path.execute(&data);
    let lenient = path.allow_missing(true).execute(&data);
    if let Ok(strict) = strict {
        assert_eq!(
            Some(&strict),
            lenient.as_ref().ok(),
            "what is found is found where more is allowed"
        );
    }
}

fn object() -> Value {
    serde_json::json!({
        "kind": "Pod", "metadata": { "name": "a", "labels": { "x.y/z": "b" } },
        "spec": { "containers": [{ "name": "c", "ports": [80, 443] }, { "name": "d", "on": true, "n": null }] },
    })
}
