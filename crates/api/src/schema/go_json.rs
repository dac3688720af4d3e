//! The JSON that Go writes of an object: the fields of a struct in the order in which they are declared.

use serde_json::Value;

use crate::go;
use crate::schema::{Field, Schema, Shape, Struct, TypeId};

impl Schema {
    /// Writes a tree of a kind; `<`, `>` and `&` are escaped. Where a merge patch has touched an object its keys are sorted, as those of the whole
    /// object are.
    pub fn go_json(&self, root: TypeId, tree: &Value, patch: &Value) -> String {
        let mut out = String::new();
        let touched = if patch.is_object() {
            patch.clone()
        } else {
            Value::Object(serde_json::Map::new())
        };
        self.write_go(Some(root), tree, Some(&touched), &mut out);
        go::html_escaped(out)
    }

    /// A tree of a kind as Go writes an object, with an indent: its kind, its version, and then fields as they are declared.
    pub fn go_text(&self, root: TypeId, tree: &Value, indent: &str) -> String {
        let mut out = String::new();
        self.write_text(Some(root), tree, (indent, 0), &mut out);
        out
    }

    fn write_text(&self, ty: Option<TypeId>, tree: &Value, (indent, level): (&str, usize), out: &mut String) {
        let line = |out: &mut String, level: usize| {
            out.push('\n');
            out.push_str(&indent.repeat(level));
        };
        match tree {
            Value::Object(map) if !map.is_empty() => {
                let mut keys: Vec<&String> = Vec::with_capacity(map.len());
                if level == 0 {
                    keys.extend(
                        ["kind", "apiVersion"]
                            .iter()
                            .filter_map(|key| Some(map.get_key_value(*key)?.0)),
                    );
                }
                if let Some(ty) = ty {
                    self.declared(ty, &mut |field| {
                        keys.extend(map.get_key_value(&*field.name).map(|(key, _)| key));
                    });
                }
                let mut seen = std::collections::HashSet::new();
                keys.extend(map.keys());
                keys.retain(|key| seen.insert(*key));
                for (i, key) in keys.into_iter().enumerate() {
                    out.push(if i == 0 { '{' } else { ',' });
                    line(out, level + 1);
                    out.push_str(&go::json(&Value::from(key.as_str()), None));
                    out.push_str(": ");
                    let inner = ty.and_then(|ty| match self.shape(ty) {
                        Shape::Map { value } => Some(*value),
                        _ => self.field(ty, key).map(|field| field.ty),
                    });
                    self.write_text(inner, &map[key], (indent, level + 1), out);
                }
                line(out, level);
                out.push('}');
            }
            Value::Array(list) if !list.is_empty() => {
                let item = ty.and_then(|ty| match self.shape(ty) {
                    Shape::List { item, .. } | Shape::WrappedList { item } => Some(*item),
                    _ => None,
                });
                for (i, value) in list.iter().enumerate() {
                    out.push(if i == 0 { '[' } else { ',' });
                    line(out, level + 1);
                    self.write_text(item, value, (indent, level + 1), out);
                }
                line(out, level);
                out.push(']');
            }
            other => out.push_str(&go::json(other, None)),
        }
    }

    fn write_go(&self, ty: Option<TypeId>, tree: &Value, touched: Option<&Value>, out: &mut String) {
        match tree {
            Value::Object(map) => {
                let sorted = touched.is_some_and(Value::is_object);
                let mut keys: Vec<&String> = Vec::with_capacity(map.len());
                if let Some(ty) = ty.filter(|_| !sorted) {
                    self.declared(ty, &mut |field| {
                        keys.extend(map.get_key_value(&*field.name).map(|(k, _)| k));
                    });
                }
                let rest: Vec<&String> = map.keys().filter(|k| !keys.contains(k)).collect();
                keys.extend(rest);
                out.push('{');
                for (i, key) in keys.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    out.push_str(&Value::String(key.clone()).to_string());
                    out.push(':');
                    let inner = ty.and_then(|ty| match self.shape(ty) {
                        Shape::Map { value } => Some(*value),
                        _ => self.field(ty, key).map(|f| f.ty),
                    });
                    self.write_go(inner, &map[key], touched.and_then(|t| t.get(key)), out);
                }
                out.push('}');
            }
            Value::Array(list) => {
                let item = ty.and_then(|ty| match self.shape(ty) {
                    Shape::List { item, .. } | Shape::WrappedList { item } => Some(*item),
                    _ => None,
                });
                out.push('[');
                for (i, value) in list.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    self.write_go(item, value, None, out);
                }
                out.push(']');
            }
            other => out.push_str(&other.to_string()),
        }
    }

    /// The fields of a struct in order, those of inlined ones in their place.
    pub(super) fn declared<'s>(&'s self, ty: TypeId, each: &mut dyn FnMut(&'s Field)) {
        let fields = |s: &'s Struct| s.declared.iter().filter_map(|at| s.fields.get(usize::from(*at)));
        for field in self.structure(ty).into_iter().flat_map(fields) {
            if field.inline {
                self.declared(field.ty, each);
            } else {
                each(field);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gvk::GroupVersionKind;

    #[test]
    fn an_object_is_written_in_the_order_in_which_go_declares_its_fields() {
        let schema = Schema::builtin();
        let pod = schema.type_for(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        let tree = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "creationTimestamp": null, "name": "a<", "labels": { "b": "", "a": "" } },
            "spec": { "containers": [{ "image": "i", "name": "c" }], "initContainers": [] }, "status": {},
        });
        let text = schema.go_text(pod, &tree, " ");
        let want = r#"{
 "kind": "Pod",
 "apiVersion": "v1",
 "metadata": {
  "name": "a\u003c",
  "creationTimestamp": null,
  "labels": {
   "a": "",
   "b": ""
  }
 },
 "spec": {
  "initContainers": [],
  "containers": [
   {
    "name": "c",
    "image": "i"
   }
  ]
 },
 "status": {}
}"#;
        assert_eq!(text, want);
    }
}
