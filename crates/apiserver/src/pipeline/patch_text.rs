//! The text of an object that a JSON patch has changed, as upstream's library writes it: what the patch puts in stands as it was
//! sent, and the keys of objects that it goes into are sorted. Of several mistakes Go's decoder tells the first in that text.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Operation<'a> {
    op: String,
    path: String,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

/// The values that were put somewhere, by the pointer to the place, each as it was sent; later ones last.
type Puts<'a> = HashMap<String, Vec<(Value, &'a str)>>;

/// Writes the tree that the patch `body` has made.
///
/// # Errors
/// When the body is no patch.
pub fn written(body: &[u8], tree: &Value) -> serde_json::Result<String> {
    let operations: Vec<Operation<'_>> = serde_json::from_slice(body)?;
    let mut puts: Puts<'_> = HashMap::new();
    for operation in operations {
        if let Some(raw) = operation
            .value
            .filter(|_| matches!(operation.op.as_str(), "add" | "replace"))
        {
            let value = serde_json::from_str(raw.get())?;
            puts.entry(operation.path).or_default().push((value, raw.get()));
        }
    }
    let mut out = String::new();
    write(&puts, tree, (&mut String::new(), None), &mut out);
    Ok(out)
}

/// Writes what stands at a place. The last item of a list has the pointer of what was put at its end, too.
fn write(puts: &Puts<'_>, tree: &Value, (at, as_last): (&mut String, Option<&str>), out: &mut String) {
    let put_at = |place: &str| {
        let mut all = puts.get(place)?.iter().rev();
        all.find(|(value, _)| value == tree).map(|(_, text)| *text)
    };
    if let Some(text) = put_at(at).or_else(|| put_at(as_last?)) {
        out.push_str(text);
        return;
    }
    let length = at.len();
    match tree {
        Value::Object(map) => {
            out.push('{');
            for (i, (key, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                at.push('/');
                at.push_str(&key.replace('~', "~0").replace('/', "~1"));
                write(puts, value, (at, None), out);
                at.truncate(length);
            }
            out.push('}');
        }
        Value::Array(list) => {
            let end = format!("{at}/-");
            out.push('[');
            for (i, value) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                at.push_str(&format!("/{i}"));
                let as_last = (i + 1 == list.len()).then_some(&*end);
                write(puts, value, (at, as_last), out);
                at.truncate(length);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_patch_puts_in_stands_as_it_was_sent() {
        let body =
            br#"[{"op":"add","path":"/spec","value":{"b":1,"a":2}},{"op":"add","path":"/l/-","value":{"y":1,"x":2}},
            {"op":"replace","path":"/c","value":{"e":1,"d":2}},{"op":"add","path":"/c/f","value":3}]"#;
        let tree = json!({ "spec": { "a": 2, "b": 1 }, "l": [{ "x": 2, "y": 1 }, { "x": 2, "y": 1 }], "c": { "d": 2, "e": 1, "f": 3 } });
        let want = r#"{"c":{"d":2,"e":1,"f":3},"l":[{"x":2,"y":1},{"y":1,"x":2}],"spec":{"b":1,"a":2}}"#;
        assert_eq!(written(body, &tree).unwrap(), want);
    }
}
