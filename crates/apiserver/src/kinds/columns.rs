//! Columns and cells that many kinds have in common.

use serde_json::{Value, json};

/// The name of the object.
pub const NAME: BuiltinColumn = ("Name", "string", 0, |t| json!(text_at(t, "/metadata/name")));

/// The time since the object was created.
pub const AGE: BuiltinColumn = ("Age", "string", 0, age);

/// The columns of a kind that has none of its own.
pub const DEFAULT: &[BuiltinColumn] = &[
    NAME,
    ("Created At", "date", 0, |t| {
        json!(text_at(t, "/metadata/creationTimestamp"))
    }),
];

/// The text at a JSON pointer; empty where there is none.
pub fn text_at<'a>(tree: &'a Value, path: &str) -> &'a str {
    tree.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at a JSON pointer; 0 where there is none.
pub fn count(tree: &Value, path: &str) -> i64 {
    tree.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

/// The items of the list at a JSON pointer.
pub fn list_at<'a>(tree: &'a Value, path: &str) -> impl DoubleEndedIterator<Item = &'a Value> + Clone {
    tree.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// The number of items or entries at a JSON pointer.
pub fn length(tree: &Value, path: &str) -> Value {
    let size = match tree.pointer(path) {
        Some(Value::Array(list)) => list.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    };
    json!(size)
}

/// The text at a path, or a word when there is none.
pub fn or(tree: &Value, path: &str, word: &str) -> Value {
    match text_at(tree, path) {
        "" => json!(word),
        text => json!(text),
    }
}

/// An integer or a percentage at a path, or a word when there is none.
pub fn int_or(tree: &Value, path: &str, word: &str) -> Value {
    match tree.pointer(path) {
        Some(Value::Number(n)) => json!(n.to_string()),
        Some(Value::String(s)) => json!(s),
        _ => json!(word),
    }
}

/// The boolean at a JSON pointer; false where there is none.
pub fn flag(tree: &Value, path: &str) -> bool {
    tree.pointer(path).and_then(Value::as_bool).unwrap_or(false)
}

/// Whether the object has this condition and it is true.
pub fn has_condition(tree: &Value, name: &str) -> bool {
    list_at(tree, "/status/conditions").any(|c| c["type"] == name && c["status"] == "True")
}

/// How long ago a time was.
pub fn since(at: &str) -> Value {
    match at.parse::<jiff::Timestamp>() {
        Ok(at) => json!(api::duration::human(
            jiff::Timestamp::now().as_second() - at.as_second()
        )),
        Err(_) => json!("<unknown>"),
    }
}

/// The cell of `AGE`.
pub fn age(tree: &Value) -> Value {
    since(text_at(tree, "/metadata/creationTimestamp"))
}

/// `a=b,c=d`, or `<none>`.
pub fn label_pairs(tree: &Value, path: &str) -> Value {
    let map = tree.pointer(path).and_then(Value::as_object);
    let pairs: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    json!(if pairs.is_empty() {
        "<none>".into()
    } else {
        pairs.join(",")
    })
}

/// A label selector as one types it; `none` is what an empty one is shown as.
pub fn selector_text(tree: &Value, path: &str, none: &str) -> Value {
    let Some(selector) = tree.pointer(path) else {
        return json!("<none>");
    };
    let mut terms: Vec<(String, String)> = Vec::new();
    for (k, v) in selector["matchLabels"].as_object().into_iter().flatten() {
        terms.push((k.clone(), format!("{k}={}", v.as_str().unwrap_or_default())));
    }
    for e in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = text_at(e, "/key");
        let mut values: Vec<&str> = list_at(e, "/values").filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match text_at(e, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    let terms: Vec<String> = terms.into_iter().map(|(_, t)| t).collect();
    json!(if terms.is_empty() {
        none.to_owned()
    } else {
        terms.join(",")
    })
}

/// One field of all containers of a pod template.
fn of_containers(tree: &Value, path: &str, field: &str) -> Value {
    let all: Vec<&str> = list_at(tree, path)
        .map(|c| c[field].as_str().unwrap_or_default())
        .collect();
    json!(all.join(","))
}

/// The names of the containers in the list at a JSON pointer.
pub fn container_names(tree: &Value, path: &str) -> Value {
    of_containers(tree, path, "name")
}

/// The images of the containers in the list at a JSON pointer.
pub fn container_images(tree: &Value, path: &str) -> Value {
    of_containers(tree, path, "image")
}

/// A column of a built-in kind: name, type, priority (1 is shown by `-o wide` only), and how its cell is found.
pub type BuiltinColumn = (&'static str, &'static str, i32, fn(&Value) -> Value);

/// The columns of a kind that shows nothing of its own.
pub const ONLY_AGE: &[BuiltinColumn] = &[NAME, AGE];

/// The name, and whether the class is the default one.
pub fn name_or_default(class: &Value, annotation: &str) -> Value {
    let name = text_at(class, "/metadata/name");
    let value = class.pointer("/metadata/annotations").and_then(|a| a.get(annotation));
    json!(if value.and_then(Value::as_str) == Some("true") {
        format!("{name} (default)")
    } else {
        name.to_owned()
    })
}
