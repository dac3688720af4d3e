//! The JSON that Go writes of an object: the fields of a struct in the order in which they are declared.

use serde_json::Value;

use crate::go;
use crate::schema::{Field, Schema, Shape, TypeId};

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
    fn declared<'s>(&'s self, ty: TypeId, each: &mut dyn FnMut(&'s Field)) {
        for field in self.structure(ty).into_iter().flat_map(|s| &s.fields) {
            if field.inline {
                self.declared(field.ty, each);
            } else {
                each(field);
            }
        }
    }
}
