//! Secret.

use api::field::FieldError;
use base64::Engine;
use serde_json::{Value, json};

use crate::http::json_text;
use crate::kinds::columns::{AGE, BuiltinColumn, NAME, length, text_at};
use crate::kinds::core::data::{LIMIT, decoded_length, frozen, key};
use crate::kinds::rules::immutable;
use crate::kinds::warnings::field;
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Kind};
use crate::tree::text;

pub(in crate::kinds) const KIND: Kind = Kind {
    read: |object| {
        // stringData is written over data and never stored
        if let Some(Value::Object(plain)) = object.as_object_mut().and_then(|o| o.remove("stringData")) {
            merge_string_data(object, &plain);
        }
    },
    metadata: Asked::on_update(Again::BOTH),
    warn: |told, new, _| key_pair(told, new),
    columns: COLUMNS,
    reads: Some(READS),
    ..Kind::plain("", "secrets", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Type", "string", 0, |s| json!(text_at(s, "/type"))),
    ("Data", "string", 0, |s| length(s, "/data")),
    AGE,
];

/// The certificate and key of a TLS secret: whether there are such, in the words of Go's reader. That they belong together is not
/// looked at.
fn key_pair(told: &mut Vec<String>, secret: &Value) {
    use base64::Engine;
    if field(secret, "type") != "kubernetes.io/tls" {
        return;
    }
    let blocks = |key: &str| -> Vec<String> {
        let text = text(secret, &["data", key]).unwrap_or_default();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let kinds = text
            .split("-----BEGIN ")
            .skip(1)
            .filter_map(|rest| rest.split_once("-----"));
        kinds
            .filter(|(kind, rest)| rest.contains(&format!("-----END {kind}-----")))
            .map(|(kind, _)| kind.to_owned())
            .collect()
    };
    let (certificates, keys) = (blocks("tls.crt"), blocks("tls.key"));
    let is_key = |kind: &String| kind == "PRIVATE KEY" || kind.ends_with(" PRIVATE KEY");
    if !certificates.iter().any(|kind| kind == "CERTIFICATE") {
        told.push(match certificates.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [one] if is_key(one) => "tls: failed to find certificate PEM data in certificate input, but did find a private key; \
                                     PEM inputs may have been switched"
                .to_owned(),
            kinds => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following \
                 types: [{}]",
                kinds.join(" ")
            ),
        });
    } else if !keys.iter().any(is_key) {
        told.push(match keys.as_slice() {
            [] => "tls: failed to find any PEM data in key input".to_owned(),
            [one] if one == "CERTIFICATE" => {
                "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
            }
            kinds => format!(
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the \
                 following types: [{}]",
                kinds.join(" ")
            ),
        });
    }
}

const READS: &[&str] = &["metadata/name", "metadata/creationTimestamp", "type", "data/*"];

fn validate(check: &Check) -> Errors {
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

fn merge_string_data(object: &mut Value, plain: &serde_json::Map<String, Value>) {
    use base64::Engine;
    for (key, value) in plain {
        let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        object["data"][key] = json!(encoded);
    }
}
