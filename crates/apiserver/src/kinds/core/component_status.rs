//! ComponentStatus: what a component says of its health, asked when it is read. Never stored.

use serde_json::{Value, json};

use crate::kinds::Kind;
use crate::kinds::columns::{BuiltinColumn, NAME, list_at, text_at};

/// Nobody writes it, so there is nothing to check.
pub(in crate::kinds) const KIND: Kind = Kind {
    deprecation: Some("v1 ComponentStatus is deprecated in v1.19+"),
    columns: COLUMNS,
    ..Kind::answered("", "componentstatuses")
};

/// What the condition of a component says.
fn health<'a>(status: &'a Value, key: &str) -> &'a str {
    let healthy = list_at(status, "/conditions").find(|c| c["type"] == "Healthy");
    healthy.map_or("", |c| text_at(c, key))
}

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Status", "string", 0, |s| match health(s, "/status") {
        "" => json!("Unknown"),
        "True" => json!("Healthy"),
        _ => json!("Unhealthy"),
    }),
    ("Message", "string", 0, |s| json!(health(s, "/message"))),
    ("Error", "string", 0, |s| json!(health(s, "/error"))),
];
