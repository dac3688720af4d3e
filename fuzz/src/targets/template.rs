//! Go templates over an object.

use kubectl::fuzzing::Template;
use serde_json::json;

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("template", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let Ok(template) = Template::parse(text) else { return };
    let data = json!({
        "kind": "Pod", "metadata": { "name": "a", "labels": { "x": "b" } }, "n": 5, "f": 1.5, "none": null, "yes": true,
        "items": [{ "name": "c", "ports": [80, 443] }, { "name": "d" }],
    });
    let _ = template.execute(&data);
    let _ = template.allow_missing(false).execute(&data);
}
