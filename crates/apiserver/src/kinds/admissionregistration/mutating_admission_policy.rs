//! MutatingAdmissionPolicy.

use crate::kinds::Kind;
use crate::kinds::admissionregistration::{of_admission, param_kind, refused};
use crate::kinds::columns::{AGE, BuiltinColumn, NAME, length};

/// This server does not obey it yet, so it refuses to store it.
pub(in crate::kinds) const KIND: Kind = Kind {
    columns: COLUMNS,
    ..of_admission("mutatingadmissionpolicies", refused)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Mutations", "integer", 0, |p| length(p, "/spec/mutations")),
    ("ParamKind", "string", 0, param_kind),
    AGE,
];
