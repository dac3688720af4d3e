//! ResourceClaimTemplate.

use crate::kinds::columns::ONLY_AGE;
use crate::kinds::resource::GROUP;
use crate::kinds::resource::devices::devices;
use crate::kinds::rules::{immutable, template_metadata};
use crate::kinds::{Again, Asked, Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    metadata: Asked::on_update(Again::BOTH),
    admin_access: super::devices::admin_access,
    returns_deleted: true,
    columns: ONLY_AGE,
    ..Kind::plain(GROUP, "resourceclaimtemplates", validate)
};

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    template_metadata(&mut errors, &spec.get("metadata"));
    if let Some(old) = check.before() {
        immutable(&mut errors, &spec, &old.get("spec"));
    }
    devices(&mut errors, &spec.at(&["spec", "devices"]));
    errors
}
