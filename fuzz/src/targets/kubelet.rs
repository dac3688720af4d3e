//! Files that a kubelet reads: its configuration, static pods, credentials for registries.

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("kubelet", Form::Bytes, check);

fn check(input: &[u8]) {
    if let Some(text) = text(input) {
        kubelet::fuzzing::configuration(text);
        kubelet::fuzzing::static_pod(text);
    }
    kubelet::fuzzing::logins(input);
}
