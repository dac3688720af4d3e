//! Strategic merge patches, on an object of a built-in kind.

use apiserver::pipeline::patch::{Patch, PatchKind};

use super::merge_patch::patched;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("strategic_merge", Form::Trees, check);

fn check(input: &[u8]) {
    patched(input, |body| Patch::parse(PatchKind::Strategic, body).ok());
}
