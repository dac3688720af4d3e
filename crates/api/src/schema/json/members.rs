//! The members of structs and maps, in the order of the document or of the struct, and those that are given twice.

use std::collections::HashSet;

use serde::de::{DeserializeSeed, Error as _, MapAccess};
use serde_json::{Map, Value};

use super::seed::Seed;
use super::text_of;
use crate::schema::path::Path;
use crate::schema::{Scalar, Schema, Shape, TypeId};

impl Seed<'_> {
    /// The members of a struct, or of a map of values of one type.
    pub(super) fn members<'de, A: MapAccess<'de>>(
        self,
        mut entries: A,
        structure: Option<TypeId>,
        value_type: Option<TypeId>,
        unseen: bool,
    ) -> Result<Value, A::Error> {
        let schema = self.context.schema;
        if let (true, Some(ty)) = (self.context.declared, structure) {
            return self.in_declared_order(ty, entries);
        }
        let mut out = Map::new();
        let mut ignored: HashSet<String> = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = if value_type.is_some() {
                Path::Entry(self.path, &key)
            } else {
                Path::Key(self.path, &key)
            };
            let (ty, owner) = match (structure, value_type) {
                (Some(s), _) => match schema.field(s, &key) {
                    Some(field) => (field.ty, structure),
                    None => {
                        entries.next_value::<serde::de::IgnoredAny>()?;
                        let mut found = self.context.found.borrow_mut();
                        if unseen {
                            continue;
                        }
                        if ignored.contains(&key) {
                            found.duplicate(&path);
                        } else {
                            found.unknown(&path);
                            ignored.insert(key);
                        }
                        continue;
                    }
                },
                (None, Some(value)) => (value, self.owner),
                (None, None) => return Err(A::Error::custom("no type for JSON schemas")),
            };
            let value = entries.next_value_seed(Seed {
                context: self.context,
                ty,
                owner,
                path: &path,
                unseen,
            })?;
            if out.contains_key(&key) && !unseen {
                self.context.found.borrow_mut().duplicate(&path);
            }
            let size = key.len() + text_of(&value);
            self.context.weigh(self.context.weight.member(out.len(), size))?;
            let value = match (out.remove(&key), structure.and_then(|s| schema.field(s, &key))) {
                // entries of a map are made anew
                (Some(before), Some(field)) => schema.read_over(ty, field.pointer, before, value),
                _ => value,
            };
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }

    /// Reads a struct's fields in the order in which it declares them.
    pub(super) fn in_declared_order<'de, A: MapAccess<'de>>(
        self,
        ty: TypeId,
        mut entries: A,
    ) -> Result<Value, A::Error> {
        let schema = self.context.schema;
        let mut members: Map<String, Value> = Map::new();
        while let Some((key, value)) = entries.next_entry()? {
            members.insert(key, value);
        }
        let (mut out, mut fields) = (Map::new(), Vec::new());
        schema.declared(ty, &mut |field| fields.push(field));
        for field in fields {
            let Some((key, value)) = members.remove_entry(&*field.name) else {
                continue;
            };
            let seed = Seed {
                ty: field.ty,
                owner: Some(ty),
                path: &Path::Key(self.path, &key),
                ..self
            };
            let value = seed.deserialize(value).map_err(A::Error::custom)?;
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

impl Schema {
    /// What Go's reader makes of a value that it reads where it has read another one, as of a field that is given twice: structs,
    /// maps and the items of lists are not made anew.
    pub(super) fn read_over(&self, ty: TypeId, pointer: bool, before: Value, value: Value) -> Value {
        match (self.shape(ty), before, value) {
            (Shape::Struct(_), before, Value::Null) if !pointer => before,
            (
                Shape::Scalar(Scalar::String | Scalar::Bool | Scalar::Int32 | Scalar::Int64 | Scalar::Double),
                before,
                Value::Null,
            ) if !pointer => before,
            (Shape::Struct(_), Value::Object(mut all), Value::Object(members)) => {
                for (key, value) in members {
                    let value = match (all.remove(&key), self.field(ty, &key)) {
                        (Some(before), Some(field)) => self.read_over(field.ty, field.pointer, before, value),
                        _ => value,
                    };
                    all.insert(key, value);
                }
                Value::Object(all)
            }
            (Shape::Map { .. }, Value::Object(mut all), Value::Object(entries)) => {
                all.extend(entries);
                Value::Object(all)
            }
            (Shape::List { item, .. } | Shape::WrappedList { item }, Value::Array(before), Value::Array(items)) => {
                let mut before = before.into_iter();
                let read = items.into_iter().map(|value| match before.next() {
                    Some(before) => self.read_over(*item, false, before, value),
                    None => value,
                });
                Value::Array(read.collect())
            }
            (_, _, value) => value,
        }
    }
}
