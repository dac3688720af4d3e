//! JSON patches, on an object of a built-in kind.

use apiserver::pipeline::patch::{Patch, PatchKind};

use super::merge_patch::patched;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("json_patch", Form::Trees, check);

fn check(input: &[u8]) {
    patched(input, |body| Patch::parse(PatchKind::Json, body).ok());
}
