//! Classes of storage and what drivers say of themselves. Statuses of this group are asked no rules of metadata.

pub mod csi_driver;
pub mod csi_node;
pub mod csi_storage_capacity;
pub mod storage_class;
pub mod volume_attachment;
pub mod volume_attributes_class;

use api::field::FieldError;

use crate::kinds::{Cursor, Errors};

const GROUP: &str = "storage.k8s.io";

const PARAMETERS: usize = 512;

const PARAMETERS_SIZE: usize = 256 << 10;

/// Refuses parameters that are too many, too large or without a name.
pub fn parameters(errors: &mut Errors, at: &Cursor) {
    let all: Vec<(&str, Cursor)> = at.entries().collect();
    if all.len() > PARAMETERS {
        errors.push(FieldError::too_long(&at.path, PARAMETERS));
        return;
    }
    if all.iter().any(|(key, _)| key.is_empty()) {
        errors.push(at.wrong("", "field can not be empty."));
    }
    if all
        .iter()
        .map(|(key, value)| key.len() + value.text().len())
        .sum::<usize>()
        > PARAMETERS_SIZE
    {
        errors.push(FieldError::too_long(&at.path, PARAMETERS_SIZE));
    }
}
