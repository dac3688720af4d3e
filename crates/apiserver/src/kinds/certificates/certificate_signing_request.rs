//! CertificateSigningRequest.

use std::collections::HashSet;

use api::apply::Reset;
use api::names;
use base64::Engine;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::nom;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use crate::http::user::User;
use crate::kinds::certificates::signer::signer_name;
use crate::kinds::columns::{AGE, BuiltinColumn, NAME, list_at, or, text_at};
use crate::kinds::rules::one_of;
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Kind, Part, STATUS};
use crate::tree::{keep, text};

pub(in crate::kinds) const KIND: Kind = Kind {
    prepare_create: |request, writer| claim(request, writer.user),
    prepare_update: |new, old, now| {
        keep(new, old, "spec");
        date_conditions(new, old, now);
    },
    reset: Reset::Except(&[&["spec"], &["status"]]),
    parts: &[
        Part {
            reset: Reset::Except(&[&["spec"], &["status", "conditions"]]),
            ..STATUS
        },
        APPROVAL,
    ],
    // the name of a request that the system makes may have a colon
    name: |name| match name.contains(':') {
        true => names::path_segment_errors(name),
        false => names::dns1123_subdomain_errors(name),
    },
    metadata: Asked::on_update(Again::BOTH).and_on_status(Again::BOTH),
    columns: COLUMNS,
    ..Kind::new("certificates.k8s.io", "certificatesigningrequests", validate)
};

const APPROVAL: Part = Part {
    name: "approval",
    reset: Reset::Except(&[&["spec"], &["status", "certificate"]]),
    confine: |_, new, old| {
        let conditions = new.pointer("/status/conditions").cloned();
        keep(new, old, "spec");
        keep(new, old, "status");
        if let Some(conditions) = conditions {
            new["status"]["conditions"] = conditions;
        } else if let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) {
            status.remove("conditions");
        }
    },
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    AGE,
    ("SignerName", "string", 0, |c| or(c, "/spec/signerName", "<none>")),
    ("Requestor", "string", 0, |c| json!(text_at(c, "/spec/username"))),
    ("RequestedDuration", "string", 0, |c| {
        match c.pointer("/spec/expirationSeconds").and_then(Value::as_i64) {
            Some(seconds) => json!(api::duration::human(seconds)),
            None => json!("<none>"),
        }
    }),
    ("Condition", "string", 0, signing_state),
];

fn signing_state(request: &Value) -> Value {
    let has = |kind: &str| list_at(request, "/status/conditions").any(|c| c["type"] == kind);
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text_at(request, "/status/certificate").is_empty() {
        state.push_str(",Issued");
    }
    json!(state)
}

/// Conditions that come without times get them.
fn date_conditions(new: &mut Value, old: &Value, now: &str) {
    let before = old.pointer("/status/conditions").and_then(Value::as_array);
    let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if text(condition, &["lastUpdateTime"]).is_none() {
            condition["lastUpdateTime"] = json!(now);
        }
        if text(condition, &["lastTransitionTime"]).is_none() {
            let alike = |c: &&Value| c["type"] == condition["type"] && c["status"] == condition["status"];
            let since = before.into_iter().flatten().find(alike);
            let since = since.and_then(|c| text(c, &["lastTransitionTime"])).unwrap_or(now);
            condition["lastTransitionTime"] = json!(since);
        }
    }
}

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What says of a request once and for all.
const FINAL: [&str; 3] = ["Approved", "Denied", "Failed"];

const SHORTEST: i64 = 600;

const LEGACY: &str = "kubernetes.io/legacy-unknown";

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let spec = root.get("spec");
    let request = spec.get("request");
    if let Err(why) = readable(request.text()) {
        errors.push(request.invalid(why));
    }
    let usages = spec.get("usages");
    if usages.list().is_empty() {
        errors.push(usages.required(""));
    }
    for usage in usages.items().filter(|u| !USAGES.contains(&u.text())) {
        errors.push(usage.not_supported(&USAGES));
    }
    let mut seen = HashSet::new();
    for usage in usages.items().filter(|u| !seen.insert(u.text())) {
        errors.push(usage.duplicate(usage.text()));
    }
    let signer = spec.get("signerName");
    if signer.text() == LEGACY {
        errors.push(signer.invalid("the legacy signerName is not allowed via this API version"));
    } else {
        signer_name(&mut errors, &signer);
    }
    let seconds = spec.get("expirationSeconds");
    if seconds.int().is_some_and(|n| n < SHORTEST) {
        errors.push(seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)"));
    }
    conditions(&mut errors, &root.at(&["status", "conditions"]));
    let certificate = root.at(&["status", "certificate"]);
    if let Err(why) = certificates(certificate.text()) {
        errors.push(certificate.wrong("<certificate data>", why));
    }
    if let Some(old) = check.before() {
        update(&mut errors, check, &root, &old);
    }
    errors
}

fn decode(text: &str) -> Vec<u8> {
    // what is not base64 the schema has refused
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default()
}

/// Why a request or a certificate cannot be read.
#[derive(Debug, thiserror::Error)]
enum PemError {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    NoRequest,
    #[error("the certificate request cannot be read: {0}")]
    Request(nom::Err<X509Error>),
    #[error("must contain at least one CERTIFICATE PEM block")]
    NoCertificate,
    /// A block has another label.
    #[error("only CERTIFICATE PEM blocks are allowed, found {0:?}")]
    Label(String),
    #[error("a certificate cannot be read: {0}")]
    Certificate(nom::Err<X509Error>),
}

fn readable(text: &str) -> Result<(), PemError> {
    let bytes = decode(text);
    let pem = Pem::iter_from_buffer(&bytes).next().and_then(Result::ok);
    let Some(pem) = pem.filter(|p| p.label == "CERTIFICATE REQUEST") else {
        return Err(PemError::NoRequest);
    };
    X509CertificationRequest::from_der(&pem.contents)
        .map(drop)
        .map_err(PemError::Request)
}

fn certificates(text: &str) -> Result<(), PemError> {
    if text.is_empty() {
        return Ok(());
    }
    let bytes = decode(text);
    let blocks: Vec<Pem> = Pem::iter_from_buffer(&bytes).filter_map(Result::ok).collect();
    if blocks.is_empty() {
        return Err(PemError::NoCertificate);
    }
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            return Err(PemError::Label(block.label.clone()));
        }
        block.parse_x509().map_err(PemError::Certificate)?;
    }
    Ok(())
}

fn conditions(errors: &mut Errors, list: &Cursor) {
    let mut seen = HashSet::new();
    for condition in list.items() {
        let (kind, status) = (condition.get("type"), condition.get("status"));
        if kind.text().is_empty() {
            errors.push(kind.required(""));
        }
        let allowed: &[&str] = if FINAL.contains(&kind.text()) {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        one_of(errors, &status, allowed);
        let other = match kind.text() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(other) {
            errors.push(list.wrong(kind.text(), "Approved and Denied conditions are mutually exclusive"));
        }
        if !seen.insert(kind.text()) {
            errors.push(kind.duplicate(kind.text()));
        }
    }
}

fn of_kind<'a>(root: &Cursor<'a>, kind: &str) -> Vec<&'a Value> {
    let list = root.at(&["status", "conditions"]);
    list.items()
        .filter(|c| c.get("type").text() == kind)
        .map(|c| c.value)
        .collect()
}

/// What is decided stays decided, and only the path that is for it decides.
fn update(errors: &mut Errors, check: &Check, root: &Cursor, old: &Cursor) {
    let list = root.at(&["status", "conditions"]);
    for kind in FINAL {
        let (now, was) = (of_kind(root, kind), of_kind(old, kind));
        if now.len() < was.len() {
            errors.push(list.forbidden(format!("updates may not remove a condition of type {kind:?}")));
        } else if check.subresource != "approval" && kind != "Failed" {
            if now.len() > was.len() {
                errors.push(list.forbidden(format!("updates may not add a condition of type {kind:?}")));
            } else if now != was {
                errors.push(list.forbidden(format!("updates may not modify a condition of type {kind:?}")));
            }
        }
    }
    let (now, was) = (root.at(&["status", "certificate"]), old.at(&["status", "certificate"]));
    if now.text() == was.text() {
        return;
    }
    if check.subresource != "status" {
        errors.push(now.forbidden("updates may not set certificate content"));
    } else if !was.text().is_empty() {
        errors.push(now.forbidden("updates may not modify existing certificate content"));
    }
}

/// A request says who made it: the server's word, not the client's.
fn claim(tree: &mut Value, user: &User) {
    let Some(spec) = tree.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for (key, value) in [
        ("username", json!(user.name)),
        ("uid", json!(user.uid)),
        ("groups", json!(user.groups)),
        ("extra", json!(user.extra)),
    ] {
        let empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => true,
        };
        if empty {
            spec.remove(key);
        } else {
            spec.insert(key.into(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_not_what_the_request_says() {
        let mut tree = json!({ "spec": { "username": "system:node:a", "uid": "1", "groups": ["system:nodes"], "extra": { "a": ["b"] } } });
        claim(&mut tree, &User::new("jane", &["dev"]));
        let spec = json!({ "username": "jane", "groups": ["dev", "system:authenticated"] });
        assert_eq!(tree["spec"], spec);
    }

    #[test]
    fn an_approval_marks_the_request_and_changes_its_conditions_alone() {
        let old = json!({ "metadata": {}, "spec": { "request": "r" }, "status": { "certificate": "c" } });
        let mut new = json!({ "metadata": { "annotations": { "a": "b" } }, "spec": { "request": "other" },
            "status": { "certificate": "forged", "conditions": [{ "type": "Approved" }] } });
        KIND.confine("approval", &mut new, &old);
        let want = json!({ "metadata": { "annotations": { "a": "b" } }, "spec": { "request": "r" },
            "status": { "certificate": "c", "conditions": [{ "type": "Approved" }] } });
        assert_eq!(new, want);
    }
}
