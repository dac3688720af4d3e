//! Kubeconfigs.

use client::Kubeconfig;

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("kubeconfig", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let Ok(mut one) = Kubeconfig::parse(text) else { return };
    let _ = one.config(None);
    if let Ok(other) = Kubeconfig::parse(text) {
        one.merge(other);
        let _ = one.config(None);
    }
}
