//! Role. `authorization::escalation` refuses those that grant more than their author has.

use crate::kinds::rbac::{of_rbac, rules};
use crate::kinds::{Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = of_rbac("roles", validate);

fn validate(check: &Check) -> Errors {
    rules(check, true)
}
