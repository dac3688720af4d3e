//! Reads `data/schema.txt`, the generated facts of the built-in types. Regenerate with `gen/main.go`.

use std::collections::HashMap;

use crate::gvk::GroupVersionKind;
use crate::schema::{Field, ListType, PatchStrategy, Scalar, Schema, Shape, Struct, Type, TypeId};

struct Reader<'t> {
    schema: Schema,
    /// By expression without structs: `[]@core.v1.Pod`, `string`.
    ids: HashMap<&'t str, TypeId>,
    /// By name: `core.v1.Pod`.
    structs: HashMap<&'t str, TypeId>,
}

impl<'t> Reader<'t> {
    fn push(&mut self, name: &str, shape: Shape) -> TypeId {
        let id = TypeId(self.schema.types.len() as u32);
        self.schema.types.push(Type {
            name: name.into(),
            shape,
        });
        id
    }

    /// The id of a type expression.
    fn id(&mut self, expression: &'t str) -> TypeId {
        if let Some(name) = expression.strip_prefix('@') {
            return self.struct_id(name);
        }
        if let Some(id) = self.ids.get(expression) {
            return *id;
        }
        let shape = if let Some(item) = expression.strip_prefix("^[]") {
            Shape::WrappedList { item: self.id(item) }
        } else if let Some(item) = expression.strip_prefix("[]") {
            Shape::List {
                item: self.id(item),
                list: ListType::Atomic,
            }
        } else if let Some(value) = expression.strip_prefix("{}") {
            Shape::Map { value: self.id(value) }
        } else {
            Shape::Scalar(scalar(expression))
        };
        let id = self.push("", shape);
        self.ids.insert(expression, id);
        id
    }

    /// The id of a struct; it may be named before it is read.
    fn struct_id(&mut self, name: &'t str) -> TypeId {
        if let Some(id) = self.structs.get(name) {
            return *id;
        }
        let id = self.push(name, Shape::Struct(Struct::default()));
        self.structs.insert(name, id);
        id
    }

    fn field(&mut self, line: &'t str) -> Option<Field> {
        let mut words = line.split(' ');
        let (name, tag, expression, flags) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let mut field = Field {
            name: name.into(),
            tag: tag.parse().ok()?,
            ty: self.id(expression),
            omit_empty: flags.contains('o'),
            omit_zero: flags.contains('z'),
            pointer: flags.contains('p'),
            inline: flags.contains('i'),
            required: flags.contains('r'),
            list: ListType::Atomic,
            says_atomic: false,
            atomic: None,
            patch: PatchStrategy::default(),
            merge_key: None,
            default: None,
            values: None,
        };
        for fact in words {
            let (key, value) = fact.split_once('=')?;
            match key {
                "list" if value == "set" => field.list = ListType::Set,
                "list" => field.says_atomic = value == "atomic",
                "keys" => field.list = ListType::Map(value.split(',').map(Into::into).collect()),
                "map" => field.atomic = Some(value == "atomic"),
                "patch" => {
                    for strategy in value.split(',') {
                        match strategy {
                            "merge" => field.patch.merge = true,
                            "replace" => field.patch.replace = true,
                            "retainKeys" => field.patch.retain_keys = true,
                            _ => {}
                        }
                    }
                }
                "mergekey" => field.merge_key = Some(value.into()),
                "default" => field.default = serde_json::from_str(value).ok().map(Box::new),
                "enum" => field.values = Some(value.split('|').map(Into::into).collect()),
                _ => {}
            }
        }
        Some(field)
    }
}

fn scalar(name: &str) -> Scalar {
    match name {
        "string" => Scalar::String,
        "bool" => Scalar::Bool,
        "int32" => Scalar::Int32,
        "int64" => Scalar::Int64,
        "float64" => Scalar::Double,
        "bytes" => Scalar::Bytes,
        "time" => Scalar::Time,
        "microtime" => Scalar::MicroTime,
        "duration" => Scalar::Duration,
        "quantity" => Scalar::Quantity,
        "intorstring" => Scalar::IntOrString,
        "raw" => Scalar::Raw,
        "fieldsv1" => Scalar::FieldsV1,
        "json" => Scalar::Json,
        "schemaorarray" => Scalar::SchemaOrArray,
        "schemaorbool" => Scalar::SchemaOrBool,
        "schemaorstrings" => Scalar::SchemaOrStrings,
        _ => Scalar::Any,
    }
}

/// Fills what is known of every struct's fields beforehand; inlined structs may come later in the table, so this runs at
/// the end.
pub(super) fn flatten(schema: &mut Schema) {
    fn collect(schema: &Schema, id: TypeId, out: &mut Vec<(Box<str>, TypeId, u16)>) {
        let Some(s) = schema.structure(id) else { return };
        for (i, field) in s.fields.iter().enumerate() {
            if field.inline {
                collect(schema, field.ty, out);
            } else {
                out.push((field.name.clone(), id, i as u16));
            }
        }
    }
    for i in 0..schema.types.len() {
        let mut flat = Vec::new();
        collect(schema, TypeId(i as u32), &mut flat);
        flat.sort_by(|a, b| a.0.cmp(&b.0));
        if let Shape::Struct(s) = &mut schema.types[i].shape {
            s.flat = flat;
        }
    }
    for i in 0..schema.types.len() {
        let id = TypeId(i as u32);
        let which = |is: &dyn Fn(&Field) -> bool| -> Box<[u16]> {
            let fields = schema.json_fields(id).enumerate();
            fields.filter(|(_, f)| is(f)).map(|(at, _)| at as u16).collect()
        };
        let always = which(&|f| !schema.omitted_when_empty(f));
        let defaulted = which(&|f| f.default.is_some());
        if let Shape::Struct(s) = &mut schema.types[i].shape {
            (s.always, s.defaulted) = (always, defaulted);
        }
    }
}

pub(super) fn parse(text: &str) -> Schema {
    let mut reader = Reader {
        schema: Schema::default(),
        ids: HashMap::new(),
        structs: HashMap::new(),
    };
    let mut current: Option<TypeId> = None;
    for line in text.lines() {
        if let Some(line) = line.strip_prefix(' ') {
            let field = reader.field(line);
            if let (Some(id), Some(field)) = (current, field)
                && let Shape::Struct(s) = &mut reader.schema.types[id.0 as usize].shape
            {
                s.fields.push(field);
            }
        } else if let Some(line) = line.strip_prefix("type ") {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            let id = reader.struct_id(name);
            current = Some(id);
            for fact in words {
                if let Some(kind) = fact.strip_prefix("kind=") {
                    let mut parts = kind.split('/');
                    if let (Some(g), Some(v), Some(k)) = (parts.next(), parts.next(), parts.next()) {
                        reader.schema.kinds.insert(GroupVersionKind::new(g, v, k), id);
                    }
                } else if fact == "map=atomic"
                    && let Shape::Struct(s) = &mut reader.schema.types[id.0 as usize].shape
                {
                    s.atomic = true;
                }
            }
        } else if let Some((short, open)) = line.strip_prefix("package ").and_then(|l| l.split_once(' ')) {
            reader.schema.packages.push((short.into(), open.into()));
        }
    }
    for ty in &mut reader.schema.types {
        if let Shape::Struct(s) = &mut ty.shape {
            let mut places: Vec<u16> = (0..).take(s.fields.len()).collect();
            places.sort_by_key(|at| s.fields[usize::from(*at)].tag);
            let mut declared = vec![0; places.len()];
            for (sorted, at) in (0..).zip(&places) {
                declared[usize::from(*at)] = sorted;
            }
            s.declared = declared.into();
            s.fields.sort_by_key(|f| f.tag);
        }
    }
    flatten(&mut reader.schema);
    reader.schema.json_schema = reader.structs.get("apiextensions.v1.JSONSchemaProps").copied();
    reader.schema
}
