//! ValidatingWebhookConfiguration.

use crate::kinds::Kind;
use crate::kinds::admissionregistration::{WEBHOOKS, of_admission, webhook};

pub(in crate::kinds) const KIND: Kind = Kind {
    columns: WEBHOOKS,
    warn: webhook::warn,
    ..of_admission("validatingwebhookconfigurations", |check| {
        webhook::validate(check, false)
    })
};
