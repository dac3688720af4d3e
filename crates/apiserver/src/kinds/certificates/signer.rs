//! Names of signers: a domain, a slash, a path; and what users say to them.

use api::field::FieldError;
use api::names;

use crate::kinds::rules::require;
use crate::kinds::{Cursor, Errors};

const DOMAIN: usize = 253;

/// A domain, a slash, the name of a namespace, a dot, and the name of an object.
const SIGNER: usize = DOMAIN + 1 + 317;

/// Whether a signer is one of Kubernetes' own.
pub fn is_kubernetes(signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    domain == "kubernetes.io" || domain.ends_with(".kubernetes.io")
}

/// Refuses a text that is no name of a signer.
pub fn signer_name(errors: &mut Errors, at: &Cursor) {
    if !require(errors, at) {
        return;
    }
    match at.text().split('/').collect::<Vec<_>>().as_slice() {
        [domain, path] => {
            if domain.len() > DOMAIN {
                errors.push(FieldError::too_long(&at.path, DOMAIN));
            }
            labels(errors, at, domain, names::dns1123_label_errors);
            if !domain.contains('.') {
                errors.push(at.wrong(
                    *domain,
                    "should be a domain with at least two segments separated by dots",
                ));
            }
            labels(errors, at, path, names::dns1123_subdomain_errors);
        }
        _ => {
            let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            errors.push(at.invalid(why));
            return;
        }
    }
    if at.text().len() > SIGNER {
        errors.push(FieldError::too_long(&at.path, SIGNER));
    }
}

/// What a user says to a signer: keys have a domain.
pub fn user_annotations(errors: &mut Errors, at: &Cursor) {
    const LIMIT: usize = 256 << 10;
    let mut size = 0;
    for (key, value) in at.entries() {
        size += key.len() + value.text().len();
        let key = key.to_lowercase();
        let mut found = names::qualified_name_errors(&key);
        if found.is_empty() && !key.contains('/') {
            found.push("must be a domain-prefixed key (such as \"acme.io/foo\")".into());
        }
        errors.extend(found.into_iter().map(|why| at.wrong(key.as_str(), why)));
    }
    if size > LIMIT {
        errors.push(FieldError::too_long(&at.path, LIMIT));
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
