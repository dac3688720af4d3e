//! MutatingWebhookConfiguration.

use crate::kinds::Kind;
use crate::kinds::admissionregistration::{WEBHOOKS, of_admission, refused};

/// This server does not obey it yet, so it refuses to store it.
pub(in crate::kinds) const KIND: Kind = Kind {
    columns: WEBHOOKS,
    ..of_admission("mutatingwebhookconfigurations", refused)
};
