//! Rules of CertificateSigningRequests.

use std::collections::HashSet;

use base64::Engine;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use super::Check;
use crate::strategy::validation::common::{Errors, one_of};
use crate::strategy::validation::cursor::Cursor;

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
/// A domain, a slash, a path.
const DOMAIN: usize = 253;
const SIGNER: usize = DOMAIN + 1 + 317;

pub fn signing_request(check: &Check) -> Errors {
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
    signer_name(&mut errors, &spec.get("signerName"));
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

fn readable(text: &str) -> Result<(), String> {
    let bytes = decode(text);
    let pem = Pem::iter_from_buffer(&bytes).next().and_then(Result::ok);
    let Some(pem) = pem.filter(|p| p.label == "CERTIFICATE REQUEST") else {
        return Err("PEM block type must be CERTIFICATE REQUEST".into());
    };
    X509CertificationRequest::from_der(&pem.contents)
        .map(drop)
        .map_err(|e| format!("the certificate request cannot be read: {e}"))
}

fn certificates(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let bytes = decode(text);
    let blocks: Vec<Pem> = Pem::iter_from_buffer(&bytes).filter_map(Result::ok).collect();
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ));
        }
        block
            .parse_x509()
            .map_err(|e| format!("a certificate cannot be read: {e}"))?;
    }
    Ok(())
}

fn signer_name(errors: &mut Errors, at: &Cursor) {
    if at.text() == LEGACY {
        errors.push(at.invalid("the legacy signerName is not allowed via this API version"));
        return;
    }
    if at.text().is_empty() {
        errors.push(at.required(""));
        return;
    }
    match at.text().split('/').collect::<Vec<_>>().as_slice() {
        [domain, path] => {
            if domain.len() > DOMAIN {
                errors.push(api::field::FieldError::too_long(&at.path, DOMAIN));
            }
            labels(errors, at, domain, api::names::dns1123_label_errors);
            if !domain.contains('.') {
                errors.push(at.wrong(
                    *domain,
                    "should be a domain with at least two segments separated by dots",
                ));
            }
            labels(errors, at, path, api::names::dns1123_subdomain_errors);
        }
        _ => {
            let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            errors.push(at.invalid(why));
        }
    }
    if at.text().len() > SIGNER {
        errors.push(api::field::FieldError::too_long(&at.path, SIGNER));
    }
}

/// The first of the labels of a part of a name that is not right.
fn labels(errors: &mut Errors, at: &Cursor, part: &str, rule: fn(&str) -> Vec<String>) {
    let found = part.split('.').map(|label| (label, rule(label)));
    if let Some((label, problems)) = found.into_iter().find(|(_, problems)| !problems.is_empty()) {
        let told = problems
            .iter()
            .map(|why| at.wrong(part, format!("validating label {label:?}: {why}")));
        errors.extend(told);
    }
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
        if seen.contains(other) {
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
