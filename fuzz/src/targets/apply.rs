//! Server-side apply: a live object with any managed fields, and a configuration.

use api::apply::{ManagerContext, Reset, Target as Applied, apply, track_update};
use api::schema::Schema;
use serde_json::Value;

use crate::{Form, Target, trees};

pub const TARGET: Target = Target::new("apply", Form::Trees, check);

fn check(input: &[u8]) {
    let schema = Schema::builtin();
    let mut parts = input.split(|byte| *byte == 0);
    let mut next = || {
        let part = parts.next()?;
        let tree: Value = serde_json::from_slice(part).ok()?;
        let root = trees::type_of(&tree)?;
        Some((root, schema.decode_json(root, part).ok()?.value))
    };
    let (Some((root, live)), Some((other, config))) = (next(), next()) else {
        return;
    };
    if root != other {
        return;
    }
    let context = |operation: &str, force| ManagerContext {
        manager: "fuzz".into(),
        operation: operation.into(),
        subresource: String::new(),
        api_version: config["apiVersion"].as_str().unwrap_or_default().into(),
        now: "2026-12-01T00:00:00Z".into(),
        force,
        reset: Reset::NOTHING,
    };
    let target = Applied::new(schema, root);
    let mut updated = config.clone();
    track_update(&target, Some(&live), &mut updated, &context("Update", false));
    let _ = apply(&target, None, &config, &context("Apply", false));
    let _ = apply(&target, Some(&live), &config, &context("Apply", false));
    // a null among the keys of a list is a key of its own until the object is decoded
    if config.to_string().contains(":null") {
        return;
    }
    let Ok(once) = apply(&target, Some(&live), &config, &context("Apply", true)) else {
        return;
    };
    let twice = apply(&target, Some(&once), &config, &context("Apply", true));
    let twice = twice.unwrap_or_else(|error| panic!("{error}: {once}"));
    assert_eq!(once, twice, "applying twice is once");
    let unforced = apply(&target, Some(&once), &config, &context("Apply", false));
    assert_eq!(
        Some(&once),
        unforced.as_ref().ok(),
        "who owns the fields has no conflict"
    );
}
