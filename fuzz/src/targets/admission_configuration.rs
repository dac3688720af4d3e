//! AdmissionConfigurations, and the configurations of plugins in them.

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("admission_configuration", Form::Bytes, check);

fn check(input: &[u8]) {
    if let Some(text) = text(input) {
        apiserver::fuzzing::admission_configuration(text);
    }
}
