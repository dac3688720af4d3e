//! RoleBinding.

use crate::kinds::rbac::{BINDINGS, binding, of_rbac};
use crate::kinds::{Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    columns: BINDINGS,
    ..of_rbac("rolebindings", validate)
};

fn validate(check: &Check) -> Errors {
    binding(check, &["Role", "ClusterRole"], true)
}
