//! MutatingAdmissionPolicyBinding.

use super::policy;
use crate::kinds::admissionregistration::{POLICY_BINDINGS, of_admission, static_name, warn_of_static_name};
use crate::kinds::{Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    columns: POLICY_BINDINGS,
    warn: warn_of_static_name,
    ..of_admission("mutatingadmissionpolicybindings", validate)
};

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let spec = root.get("spec");
    policy::binding(&mut errors, &spec);
    policy::mutating_operations(&mut errors, &spec.get("matchResources"));
    static_name(&mut errors, check);
    errors
}
