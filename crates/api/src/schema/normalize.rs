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
            *value = self.zero(ty);
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
        object.retain(|key, v| !v.is_null() && self.field(ty, key).is_some());
        for field in self.json_fields(ty) {
            if let Some(v) = object.get_mut(&*field.name) {
                self.normalize(field.ty, v);
            }
            self.settle(field, object);
        }
    }

    /// Decides whether the field is written, and as what when it is absent.
    fn settle(&self, field: &Field, object: &mut Map<String, Value>) {
        let present = object.get(&*field.name).filter(|v| !v.is_null());
        let empty = match (self.shape(field.ty), present) {
            (_, None) => true,
            (Shape::Scalar(s), Some(v)) => !field.pointer && scalar::is_empty(*s, v),
            (Shape::Struct(_), Some(v)) => field.omit_zero && v.as_object().is_some_and(Map::is_empty),
            (_, Some(v)) => match v {
                Value::Array(a) => a.is_empty(),
                Value::Object(o) => o.is_empty(),
                _ => false,
            },
        };
        if !empty {
            return;
        }
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
        // To Go a struct that is no pointer is never empty.
        let omitted = field.omit_zero || (field.omit_empty && (field.pointer || !go_struct));
        if omitted {
            object.remove(&*field.name);
        } else if field.pointer {
            object.insert(field.name.to_string(), Value::Null);
        } else {
            let mut zero = self.zero(field.ty);
            self.normalize(field.ty, &mut zero);
            object.insert(field.name.to_string(), zero);
        }
    }
}
