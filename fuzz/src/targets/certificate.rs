//! Certificates that clients show, and signing requests that they send.

use apiserver::authentication::certificate;

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("certificate", Form::Bytes, check);

fn check(input: &[u8]) {
    certificate::user(input);
    let _ = pki::not_after(input);
    if let Ok(request) = pki::Request::from_der(input) {
        let _ = (request.alternative_names(), request.subject_is_plain());
    }
    if let Some(text) = text(input) {
        let _ = pki::Request::from_pem(text);
        let _ = (
            pki::Facts::of(text),
            pki::has_expired(text, time::OffsetDateTime::UNIX_EPOCH),
        );
    }
}
