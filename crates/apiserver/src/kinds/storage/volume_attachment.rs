//! VolumeAttachment.

use api::field::FieldError;
use serde_json::json;

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, flag, text_at};
use crate::kinds::core::persistent_volume::validation;
use crate::kinds::rules::{dns_subdomain, immutable, in_range};
use crate::kinds::storage::GROUP;
use crate::kinds::volume::driver_name;
use crate::kinds::{Again, Asked, Check, Errors, Kind, STATUS_ALONE};

pub(in crate::kinds) const KIND: Kind = Kind {
    unconditional_update: false,
    parts: &[STATUS_ALONE],
    metadata: Asked::on_update(Again::WHOLE).and_on_status(Again::NONE),
    returns_deleted: true,
    columns: COLUMNS,
    ..Kind::new(GROUP, "volumeattachments", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Attacher", "string", 0, |a| json!(text_at(a, "/spec/attacher"))),
    ("PV", "string", 0, |a| {
        json!(text_at(a, "/spec/source/persistentVolumeName"))
    }),
    ("Node", "string", 0, |a| json!(text_at(a, "/spec/nodeName"))),
    ("Attached", "boolean", 0, |a| json!(flag(a, "/status/attached"))),
    AGE,
];

const METADATA_SIZE: usize = 256 << 10;

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let spec = root.get("spec");
    driver_name(&mut errors, &spec.get("attacher"));
    let source = spec.get("source");
    let (name, inline) = (source.get("persistentVolumeName"), source.get("inlineVolumeSpec"));
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (name.is_some(), inline.is_some()) {
        (false, false) => errors.push(source.required(one)),
        (true, true) => errors.push(source.forbidden(one)),
        (true, false) if name.text().is_empty() => {
            errors.push(name.required("must specify non empty persistentVolumeName"));
        }
        (true, false) => {}
        (false, true) => validation::inline(&mut errors, &inline),
    }
    if name.is_some() {
        dns_subdomain(&mut errors, &name);
    }
    dns_subdomain(&mut errors, &spec.get("nodeName"));
    let metadata = root.at(&["status", "attachmentMetadata"]);
    let size: usize = metadata
        .entries()
        .map(|(key, value)| key.len() + value.text().len())
        .sum();
    if size > METADATA_SIZE {
        errors.push(FieldError::too_long(&metadata.path, METADATA_SIZE));
    }
    for field in ["attachError", "detachError"] {
        let code = root.at(&["status", field, "errorCode"]);
        if code.is_some() {
            in_range(&mut errors, &code, 0, i64::from(i32::MAX));
        }
    }
    if let Some(old) = check.before() {
        immutable(&mut errors, &spec, &old.get("spec"));
    }
    errors
}
