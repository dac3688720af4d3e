//! ValidatingAdmissionPolicyBinding.

use crate::kinds::Kind;
use crate::kinds::admissionregistration::{POLICY_BINDINGS, of_admission, refused};

/// This server does not obey it yet, so it refuses to store it.
pub(in crate::kinds) const KIND: Kind = Kind {
    columns: POLICY_BINDINGS,
    ..of_admission("validatingadmissionpolicybindings", refused)
};
