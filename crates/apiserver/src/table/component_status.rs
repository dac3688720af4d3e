//! Columns of ComponentStatuses.

use serde_json::{Value, json};

use super::BuiltinColumn;
use super::cells::{NAME, list, text};

/// What the condition of a component says.
fn health<'a>(status: &'a Value, key: &str) -> &'a str {
    let healthy = list(status, "/conditions").find(|c| c["type"] == "Healthy");
    healthy.map_or("", |c| text(c, key))
}

pub const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Status", "string", 0, |s| match health(s, "/status") {
        "" => json!("Unknown"),
        "True" => json!("Healthy"),
        _ => json!("Unhealthy"),
    }),
    ("Message", "string", 0, |s| json!(health(s, "/message"))),
    ("Error", "string", 0, |s| json!(health(s, "/error"))),
];
