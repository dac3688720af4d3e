//! Makes a tree what Go's typed round trip makes of it: unknown fields gone, empty optional fields gone, required ones
//! present with their zero values, scalars in canonical form.

use serde_json::{Map, Value};

use crate::schema::{Field, Scalar, Schema, Shape, TypeId, scalar};

impl Schema {
    /// Rewrites an object in place.
    pub fn normalize(&self, root: TypeId, value: &mut Value) {
        match self.shape(root) {
            Shape::Struct(_) => self.normalize_struct(root, value),
            Shape::List { item, .. } | Shape::WrappedList { item } => {
                for v in value.as_array_mut().into_iter().flatten() {
                    self.normalize_element(*item, v);
                }
            }
            Shape::Map { value: ty } => {
                for (_, v) in value.as_object_mut().into_iter().flatten() {
                    self.normalize_element(*ty, v);
                }
            }
            Shape::Scalar(Scalar::SchemaOrArray | Scalar::SchemaOrBool | Scalar::SchemaOrStrings) => {
                let Some(json_schema) = self.json_schema else { return };
                match value {
                    Value::Object(_) => self.normalize(json_schema, value),
                    Value::Array(items) => {
                        items
                            .iter_mut()
                            .filter(|i| i.is_object())
                            .for_each(|i| self.normalize(json_schema, i));
                    }
                    _ => {}
                }
            }
            Shape::Scalar(s) => scalar::canonicalize(*s, value),
        }
    }

    /// Items of lists and maps have no absence: null is the zero value.
    fn normalize_element(&self, ty: TypeId, value: &mut Value) {
        if value.is_null() {
            *value = match self.shape(ty) {
                // storage does not tell no bytes from none
                Shape::Scalar(Scalar::Bytes) => Value::from(""),
                _ => self.zero(ty),
            };
        }
        self.normalize(ty, value);
    }

    fn zero(&self, ty: TypeId) -> Value {
        match self.shape(ty) {
            Shape::Struct(_) => Value::Object(Map::new()),
            Shape::Scalar(s) => scalar::zero(*s),
            _ => Value::Null,
        }
    }

    fn normalize_struct(&self, ty: TypeId, value: &mut Value) {
        let Value::Object(object) = value else { return };
        object.retain(|key, v| match self.field(ty, key) {
            Some(field) if !v.is_null() => {
                self.normalize(field.ty, v);
                !self.is_empty(field, v) || v.is_array() && self.keeps_empty(ty, field)
            }
            _ => false,
        });
        for field in self.always_written(ty) {
            if !object.contains_key(&*field.name) {
                let mut empty = Value::Null;
                if !field.pointer {
                    empty = self.zero(field.ty);
                    self.normalize(field.ty, &mut empty);
                }
                object.insert(field.name.to_string(), empty);
            }
        }
    }

    /// The empty lists and maps in fields that Go always writes, where it tells them from none until they are stored: their places as
    /// JSON pointers, and the values.
    pub fn empty_always_written(&self, root: TypeId, value: &Value) -> Vec<(String, Value)> {
        let mut found = Vec::new();
        self.find_empty(root, value, &mut String::new(), &mut found);
        found
    }

    fn find_empty(&self, ty: TypeId, value: &Value, at: &mut String, found: &mut Vec<(String, Value)>) {
        let length = at.len();
        let below = |at: &mut String, step: &str| {
            at.truncate(length);
            at.push('/');
            at.push_str(&step.replace('~', "~0").replace('/', "~1"));
        };
        match (self.shape(ty), value) {
            (Shape::Struct(_), Value::Object(object)) => {
                for (key, inner) in object {
                    let Some(field) = self.field(ty, key) else { continue };
                    below(at, key);
                    let is_empty = match inner {
                        Value::Array(list) => list.is_empty(),
                        Value::Object(map) => map.is_empty() && matches!(self.shape(field.ty), Shape::Map { .. }),
                        _ => false,
                    };
                    if !is_empty {
                        self.find_empty(field.ty, inner, at, found);
                    } else if !field.pointer && self.always_written(ty).any(|always| always.name == field.name) {
                        found.push((at.clone(), inner.clone()));
                    }
                }
            }
            (Shape::List { item, .. } | Shape::WrappedList { item }, Value::Array(list)) => {
                for (index, inner) in list.iter().enumerate() {
                    below(at, &index.to_string());
                    self.find_empty(*item, inner, at, found);
                }
            }
            (Shape::Map { value: ty }, Value::Object(map)) => {
                for (key, inner) in map {
                    below(at, key);
                    self.find_empty(*ty, inner, at, found);
                }
            }
            _ => {}
        }
        at.truncate(length);
    }

    /// Whether Go counts the value as that of a field that is not set.
    fn is_empty(&self, field: &Field, value: &Value) -> bool {
        match (self.shape(field.ty), value) {
            (_, Value::Null) => true,
            (Shape::Scalar(s), v) => !field.pointer && scalar::is_empty(*s, v),
            (Shape::Struct(_), v) => field.omit_zero && v.as_object().is_some_and(Map::is_empty),
            (_, Value::Array(list)) => list.is_empty(),
            (_, Value::Object(map)) => map.is_empty(),
            _ => false,
        }
    }

    /// Whether an empty list is another than none. Definitions are stored as JSON, which tells them apart; all else is stored as
    /// protocol buffers, which do not.
    fn keeps_empty(&self, ty: TypeId, field: &Field) -> bool {
        !self.omitted_when_empty(field) && self.get(ty).name.starts_with("apiextensions.")
    }

    /// Whether the field is not written when it is not set. To Go a struct that is no pointer is never empty.
    pub(super) fn omitted_when_empty(&self, field: &Field) -> bool {
        let go_struct = match self.shape(field.ty) {
            Shape::Struct(_) => true,
            Shape::Scalar(s) => matches!(
                s,
                Scalar::Time
                    | Scalar::MicroTime
                    | Scalar::Duration
                    | Scalar::Quantity
                    | Scalar::IntOrString
                    | Scalar::Raw
                    | Scalar::Json
            ),
            _ => false,
        };
        field.omit_zero || (field.omit_empty && (field.pointer || !go_struct))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gvk::GroupVersionKind;

    #[test]
    fn an_empty_list_is_found_where_go_writes_it_always() {
        let schema = Schema::builtin();
        let found = |kind: &str, tree: Value| {
            let root = schema.type_for(&GroupVersionKind::from_api_version(
                "rbac.authorization.k8s.io/v1",
                kind,
            ));
            schema.empty_always_written(root.unwrap(), &tree)
        };
        let role = json!({ "metadata": { "labels": {} }, "rules": [] });
        assert_eq!(found("Role", role), [("/rules".to_owned(), json!([]))]);
        let rules = json!({ "rules": [{ "verbs": ["get"], "apiGroups": [] }, { "verbs": [] }] });
        assert_eq!(found("Role", rules), [("/rules/1/verbs".to_owned(), json!([]))]);
        assert_eq!(found("RoleBinding", json!({ "subjects": [] })), []);
    }
}
