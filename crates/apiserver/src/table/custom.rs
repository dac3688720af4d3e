//! Columns of custom resources: JSONPaths whose first result is shown as the column's type says.

use api::jsonpath::{JsonPath, text_of};
use serde_json::{Value, json};

use crate::kinds::columns::since;
use crate::registry::resource::Column;

/// The column of a definition that has none.
pub fn age() -> Column {
    Column {
        name: "Age".into(),
        kind: "date".into(),
        format: String::new(),
        description: String::new(),
        priority: 0,
        json_path: ".metadata.creationTimestamp".into(),
    }
}

/// The path of a column; `None` when it cannot be read.
pub fn path(column: &Column) -> Option<JsonPath> {
    let template = format!("{{{}}}", column.json_path);
    JsonPath::parse(&template).ok().map(|path| path.allow_missing(true))
}

/// What `kubectl` may say of a column.
pub fn description(column: &Column) -> String {
    match column.description.as_str() {
        "" => format!(
            "Custom resource definition column (in JSONPath format): {}",
            column.json_path
        ),
        own => own.to_owned(),
    }
}

/// The cell of an object: nothing where the path finds nothing, cannot be followed, or finds a value of another type.
pub fn cell(path: &JsonPath, kind: &str, tree: &Value) -> Value {
    let Ok(found) = path.find(tree) else {
        return Value::Null;
    };
    let Some(value) = found.first().and_then(|group| group.first()) else {
        return Value::Null;
    };
    match (kind, &**value) {
        ("string", Value::Null) => json!("<no value>"),
        ("string", value) => json!(text_of(value)),
        ("integer", Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
            (Some(whole), _) => json!(whole),
            (None, Some(real)) => json!(real as i64),
            (None, None) => Value::Null,
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (**value).clone(),
        ("date", Value::String(at)) if at.is_empty() || at == "null" => since(""),
        ("date", Value::String(at)) => match at.parse::<jiff::Timestamp>() {
            Ok(_) => since(at),
            Err(_) => json!("<invalid>"),
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_the_first_result_as_their_type_shows_it() {
        let tree = json!({
            "metadata": { "name": "a", "labels": { "x.io/y": "z" } },
            "spec": { "n": 3, "f": 1.5, "b": true, "list": ["p", "q"], "map": { "k": 1 }, "none": null, "when": "yesterday" },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }, { "type": "Synced", "status": "False" }] },
        });
        let cases = [
            (
                ".status.conditions[?(@.type==\"Ready\")].status",
                "string",
                json!("True"),
            ),
            (
                ".status.conditions[?(@.type=='Synced')].status",
                "string",
                json!("False"),
            ),
            (".status.conditions[?(@.type==\"Gone\")].status", "string", Value::Null),
            (".status.conditions[*].type", "string", json!("Ready")),
            (".status.conditions[-1].type", "string", json!("Synced")),
            (".metadata.labels.x\\.io/y", "string", json!("z")),
            (".metadata.labels['x\\.io/y']", "string", json!("z")),
            (".spec.n", "integer", json!(3)),
            (".spec.f", "integer", json!(1)),
            (".spec.n", "string", json!("3")),
            (".spec.b", "string", json!("true")),
            (".spec.list", "string", json!("[\"p\",\"q\"]")),
            (".spec.map", "string", json!("{\"k\":1}")),
            (".spec.none", "string", json!("<no value>")),
            (".spec.none", "integer", Value::Null),
            (".spec.list", "integer", Value::Null),
            (".spec.f", "number", json!(1.5)),
            (".spec.b", "boolean", json!(true)),
            (".spec.n", "boolean", Value::Null),
            (".spec.when", "date", json!("<invalid>")),
            (".spec.gone", "string", Value::Null),
            (".spec.list[7]", "string", Value::Null),
        ];
        for (json_path, kind, want) in cases {
            let column = Column {
                json_path: json_path.into(),
                ..age()
            };
            assert_eq!(
                cell(&path(&column).unwrap(), kind, &tree),
                want,
                "{json_path} as {kind}"
            );
        }
        let broken = Column {
            json_path: ".a[".into(),
            ..age()
        };
        assert!(path(&broken).is_none());
    }
}
