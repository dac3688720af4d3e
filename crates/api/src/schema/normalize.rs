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
                !self.is_empty(field, v)
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

    /// Makes of an object what it is after it was stored as protocol buffers: a list or map without items is none.
    pub fn forget_empty(&self, ty: TypeId, value: &mut Value) {
        match (self.shape(ty), value) {
            (Shape::Struct(_), Value::Object(object)) => {
                for (key, inner) in object {
                    let Some(field) = self.field(ty, key) else { continue };
                    match (self.shape(field.ty), &*inner) {
                        (Shape::List { .. }, Value::Array(list)) if list.is_empty() => *inner = Value::Null,
                        (Shape::Map { .. }, Value::Object(map)) if map.is_empty() => *inner = Value::Null,
                        _ => self.forget_empty(field.ty, inner),
                    }
                }
            }
            (Shape::List { item, .. } | Shape::WrappedList { item }, Value::Array(list)) => {
                list.iter_mut().for_each(|inner| self.forget_empty(*item, inner));
            }
            (Shape::Map { value: ty }, Value::Object(map)) => {
                map.values_mut().for_each(|inner| self.forget_empty(*ty, inner));
            }
            _ => {}
        }
    }

    /// Whether Go does not write the value. In fields that it always writes it tells an empty list from none.
    fn is_empty(&self, field: &Field, value: &Value) -> bool {
        match (self.shape(field.ty), value) {
            (_, Value::Null) => true,
            (Shape::Scalar(s), v) => !field.pointer && scalar::is_empty(*s, v),
            (Shape::Struct(_), v) => field.omit_zero && v.as_object().is_some_and(Map::is_empty),
            (_, Value::Array(list)) => list.is_empty() && self.omitted_when_empty(field),
            (_, Value::Object(map)) => map.is_empty() && self.omitted_when_empty(field),
            _ => false,
        }
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
    fn an_empty_list_stays_where_go_always_writes_it_until_it_is_stored() {
        let schema = Schema::builtin();
        let root = |kind: &str| {
            let gvk = GroupVersionKind::from_api_version("rbac.authorization.k8s.io/v1", kind);
            schema.type_for(&gvk).unwrap()
        };
        let mut role = json!({ "metadata": { "labels": {} }, "rules": [{ "verbs": [], "apiGroups": [] }] });
        schema.normalize(root("Role"), &mut role);
        assert_eq!(role["rules"], json!([{ "verbs": [] }]));
        assert_eq!(role["metadata"].get("labels"), None);
        schema.forget_empty(root("Role"), &mut role);
        assert_eq!(role["rules"], json!([{ "verbs": null }]));
        let mut role = json!({ "rules": [] });
        schema.forget_empty(root("Role"), &mut role);
        assert_eq!(role, json!({ "rules": null }));
        let mut binding = json!({ "roleRef": {}, "subjects": [] });
        schema.normalize(root("RoleBinding"), &mut binding);
        assert_eq!(binding.get("subjects"), None);
    }
}
