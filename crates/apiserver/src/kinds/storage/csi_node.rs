//! CSINode.

use std::collections::{HashMap, HashSet};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, length};
use crate::kinds::rules::{non_negative, qualified_name, require};
use crate::kinds::storage::GROUP;
use crate::kinds::volume::driver_name;
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Kind, STATUS_ALONE};

pub(in crate::kinds) const KIND: Kind = Kind {
    unconditional_update: false,
    parts: &[STATUS_ALONE],
    metadata: Asked::on_update(Again::WHOLE),
    returns_deleted: true,
    columns: COLUMNS,
    ..Kind::new(GROUP, "csinodes", validate)
};

const COLUMNS: &[BuiltinColumn] = &[NAME, ("Drivers", "integer", 0, |n| length(n, "/spec/drivers")), AGE];

const NODE_ID: usize = 256;

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    // its only field is of a feature that is off
    if check.is_status() {
        return errors;
    }
    let drivers = check.root().at(&["spec", "drivers"]);
    let mut seen = HashSet::new();
    for driver in drivers.items() {
        let name = driver.get("name");
        driver_name(&mut errors, &name);
        let id = driver.get("nodeID");
        require(&mut errors, &id);
        if id.text().len() > NODE_ID {
            errors.push(id.invalid(format!("must be {NODE_ID} characters or less")));
        }
        non_negative(&mut errors, &driver.at(&["allocatable", "count"]));
        if !seen.insert(name.text()) {
            errors.push(name.duplicate(name.text()));
        }
        let mut keys = HashSet::new();
        for key in driver.get("topologyKeys").items() {
            let at = key.named(&driver.path);
            require(&mut errors, &at);
            if !keys.insert(key.text()) {
                errors.push(at.duplicate(key.text()));
            }
            qualified_name(&mut errors, &at);
        }
    }
    let Some(old) = check.before() else { return errors };
    let mut by_name: HashMap<&str, Cursor> = HashMap::new();
    for driver in drivers.items() {
        by_name.entry(driver.get("name").text()).or_insert(driver);
    }
    for was in old.at(&["spec", "drivers"]).items() {
        let now = by_name.get(was.get("name").text());
        let plain = |at: &Cursor| {
            let mut value = at.value.clone();
            value.as_object_mut().map(|d| d.remove("allocatable"));
            value
        };
        if let Some(now) = now.filter(|now| plain(now) != plain(&was)) {
            errors.push(now.named(&drivers.path).invalid("field is immutable"));
        }
    }
    errors
}
