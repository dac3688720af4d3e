//! DeviceClass.

use api::names;

use crate::kinds::columns::ONLY_AGE;
use crate::kinds::resource::GROUP;
use crate::kinds::resource::devices::{MANY, configuration, fits, selectors};
use crate::kinds::{Again, Asked, Check, Errors, Generation, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    name: names::long_name_errors,
    checks_generate_name: false,
    metadata: Asked::on_update(Again::BOTH),
    returns_deleted: true,
    columns: ONLY_AGE,
    ..Kind::plain(GROUP, "deviceclasses", validate)
};

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    let list = spec.get("selectors");
    let stored = check
        .before()
        .is_some_and(|old| old.at(&["spec", "selectors"]).value == list.value);
    selectors(&mut errors, &list, stored);
    let configs = spec.get("config");
    if fits(&mut errors, &configs, MANY) {
        configs.items().for_each(|config| configuration(&mut errors, &config));
    }
    errors
}
