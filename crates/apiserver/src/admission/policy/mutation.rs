//! What a MutatingAdmissionPolicy makes of an object: a JSON Patch, or a configuration that is merged into it
//! (`policy/mutating/patch`).

use api::apply;
use cel::{Fault, Program, Type, Value as Cel};
use json_patch::PatchOperation;
use serde_json::{Map, Value, json};

use crate::admission::Attributes;
use crate::admission::matching::Shown;
use crate::http::status::ApiError;
use crate::kinds::admissionregistration::expression::ExpressionError;
use crate::kinds::admissionregistration::scope::{Purpose, Scope};
use crate::pipeline::patch::{self, Unfit};
use crate::tree::text;

/// Values that an expression may make.
const MOST_VALUES: usize = 1_000_000;
/// Bytes of the texts in them.
const MOST_BYTES: usize = 16 << 20;

/// What an operation of a JSON Patch may do.
const VERBS: [&str; 6] = ["add", "copy", "move", "remove", "replace", "test"];

/// Why a mutation was not applied, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum MutationError {
    /// Its expression does not compile.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// Its expression cost more than there was left.
    #[error("{}", super::OUT_OF_BUDGET)]
    Budget,
    /// Its expression failed.
    #[error("expression '{text}' resulted in error: {fault}")]
    Evaluation {
        /// The expression.
        text: String,
        /// What went wrong.
        fault: Fault,
    },
    /// The expression of a patch made no list.
    #[error("type mismatch: JSONPatchType.expression should evaluate to array")]
    NoList,
    /// The expression of a patch made a list of something else.
    #[error("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch")]
    NoPatch,
    /// An object has a type that is named otherwise than the way to it.
    #[error("type mismatch: {0}")]
    Name(#[from] NameError),
    /// A patch has an operation that nobody knows.
    #[error("JSON Patch: Unexpected kind: {0}")]
    Kind(String),
    /// The path of an operation does not begin with a slash.
    #[error("JSON Patch: {verb} operation does not apply: doc is missing path: {path}: missing value")]
    Nowhere {
        /// The operation.
        verb: String,
        /// Its path, as it is shown.
        path: String,
    },
    /// An operation lacks something.
    #[error("JSON Patch: {0}")]
    Operation(#[from] serde_json::Error),
    /// The patch does not apply.
    #[error("JSON Patch: {0}")]
    Unfit(#[from] Unfit),
    /// A configuration does not fit its kind, or changes what is set whole.
    #[error("error applying patch: {0}")]
    Configuration(String),
    /// The object's kind has no such version, or the result is none of the kind.
    #[error(transparent)]
    Object(#[from] ApiError),
    /// What the expression made is more than fits into memory.
    #[error("the value is too large")]
    TooLarge,
    /// A key of a map is no text.
    #[error("map key {0} is not string")]
    Key(String),
    /// A part of what the expression made has no value.
    #[error(transparent)]
    Value(#[from] Fault),
    /// Values of this type have no JSON.
    #[error("a value of type {0} has no JSON")]
    NoJson(String),
}

/// An object that an expression builds has a type that is named otherwise than the way to it; both are shown as they are told.
#[derive(Debug, thiserror::Error)]
#[error("unexpected type name {name}, expected {path}, which matches field name path from root Object type")]
pub struct NameError {
    name: String,
    path: String,
}

/// The form that a mutation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    JsonPatch,
    ApplyConfiguration,
}

/// One mutation of a policy.
#[derive(Debug)]
pub struct Mutation {
    pub form: Form,
    pub text: Box<str>,
    pub program: Result<Program, ExpressionError>,
}

impl Form {
    /// The type that the expression has to have.
    pub fn returns(self) -> Type {
        match self {
            Form::JsonPatch => Type::list(Type::object("JSONPatch")),
            Form::ApplyConfiguration => Type::object("Object"),
        }
    }
}

impl Mutation {
    /// Compiles a stored mutation.
    pub fn read(tree: &Value, scope: &Scope) -> Mutation {
        let (form, key) = match text(tree, &["patchType"]) {
            Some("JSONPatch") => (Form::JsonPatch, "jsonPatch"),
            _ => (Form::ApplyConfiguration, "applyConfiguration"),
        };
        let expression = text(tree, &[key, "expression"]).unwrap_or_default();
        Mutation {
            form,
            text: expression.into(),
            program: scope.compile(expression, true, Purpose::Mutation, &[form.returns()]),
        }
    }

    /// The object that what the expression made makes of the one that is shown; `None` when it is to stay.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn patched(
        &self,
        made: &Cel<'_>,
        shown: &Shown,
        asked: &Attributes<'_>,
    ) -> Result<Option<Value>, MutationError> {
        match self.form {
            Form::JsonPatch => patched(made, &shown.object),
            Form::ApplyConfiguration => merged(made, shown, asked).map(Some),
        }
    }
}

/// The object with the operations of a patch; `None` when a test of the patch failed.
fn patched(made: &Cel<'_>, object: &Value) -> Result<Option<Value>, MutationError> {
    let Cel::List(list) = made else {
        return Err(MutationError::NoList);
    };
    let mut room = Room::default();
    let mut operations = Vec::with_capacity(list.len());
    for item in list.iter() {
        let Ok(Cel::Object(item)) = item else {
            return Err(MutationError::NoPatch);
        };
        let mut operation = Map::new();
        for (name, value) in &item.fields {
            if let Cel::Object(made) = value {
                check_names(value, &made.name)?;
            }
            operation.insert(name.to_string(), room.json(value)?);
        }
        let named = |key: &str| operation.get(key).and_then(Value::as_str).unwrap_or_default();
        let (verb, path) = (named("op"), named("path"));
        if !VERBS.contains(&verb) {
            return Err(MutationError::Kind(verb.to_owned()));
        }
        if !path.is_empty() && !path.starts_with('/') {
            let path = if verb == "add" {
                api::go::quote(path)
            } else {
                path.to_owned()
            };
            let verb = verb.to_owned();
            return Err(MutationError::Nowhere { verb, path });
        }
        let operation: PatchOperation = serde_json::from_value(Value::Object(operation))?;
        operations.push(operation);
    }
    match patch::operate(object.clone(), &operations) {
        Ok(patched) => Ok(Some(patched)),
        // a test that fails keeps the patch from being applied, and is no error
        Err(Unfit::Operation(why)) if why.starts_with("testing value ") => Ok(None),
        Err(why) => Err(why.into()),
    }
}

/// The object with a configuration merged into it.
fn merged(made: &Cel<'_>, shown: &Shown, asked: &Attributes<'_>) -> Result<Value, MutationError> {
    check_names(made, "Object")?;
    let mut config = Room::default().json(made)?;
    for key in ["apiVersion", "kind"] {
        config[key] = shown.object[key].clone();
    }
    if let Some(kind) = shown.version.borrowed_kind(asked) {
        // upstream knows the types that documents of their own group describe, and the bodies of such paths are in those of others
        return Err(untyped(format!("no corresponding type for {kind}")));
    }
    let (schema, root) = shown.version.shape(asked)?;
    if let Some(why) = apply::unfit(schema, root, &config, &[]) {
        return Err(untyped(why));
    }
    let place = apply::Place::root(schema, root);
    let atomic = apply::atomics(place, &config);
    if !atomic.is_empty() {
        let why = format!("may not mutate atomic arrays, maps or structs: {}", atomic.join(", "));
        return Err(MutationError::Configuration(format!(
            "invalid ApplyConfiguration: {why}"
        )));
    }
    Ok(apply::merge_objects(place, &shown.object, &config))
}

fn untyped(why: impl std::fmt::Display) -> MutationError {
    MutationError::Configuration(format!("failed to convert patch object to typed object: {why}"))
}

/// Objects that an expression builds have types that are named as the way to them.
fn check_names(value: &Cel<'_>, path: &str) -> Result<(), NameError> {
    match value {
        Cel::Object(object) => {
            if *object.name != *path {
                let (name, path) = (api::go::quote(&object.name), api::go::quote(path));
                return Err(NameError { name, path });
            }
            for (name, field) in &object.fields {
                check_names(field, &format!("{path}.{name}"))?;
            }
            Ok(())
        }
        Cel::List(list) => list.iter().flatten().try_for_each(|item| check_names(&item, path)),
        _ => Ok(()),
    }
}

/// The room for what an expression makes: a few values that are joined or repeated may be more than fits into memory.
struct Room {
    values: usize,
    bytes: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room {
            values: MOST_VALUES,
            bytes: MOST_BYTES,
        }
    }
}

impl Room {
    fn text(&mut self, text: &str) -> Result<String, MutationError> {
        self.bytes = self.bytes.checked_sub(text.len()).ok_or(MutationError::TooLarge)?;
        Ok(text.to_owned())
    }

    /// A value as JSON.
    fn json(&mut self, value: &Cel<'_>) -> Result<Value, MutationError> {
        self.values = self.values.checked_sub(1).ok_or(MutationError::TooLarge)?;
        Ok(match value {
            Cel::Null => Value::Null,
            Cel::Bool(b) => json!(b),
            Cel::Int(n) => json!(n),
            Cel::Uint(n) => json!(n),
            Cel::Double(n) => json!(n),
            Cel::String(text) => Value::String(self.text(text)?),
            Cel::List(list) => {
                let mut items = Vec::new();
                for item in list.iter() {
                    items.push(self.json(&item?)?);
                }
                Value::Array(items)
            }
            Cel::Map(map) => {
                let mut members = Map::new();
                for key in map.keys() {
                    let name = key.as_str().ok_or_else(|| MutationError::Key(key.show()))?;
                    if let Some(value) = map.find(&key) {
                        members.insert(self.text(name)?, self.json(&value?)?);
                    }
                }
                Value::Object(members)
            }
            Cel::Object(object) => {
                let mut members = Map::new();
                for (name, value) in &object.fields {
                    members.insert(name.to_string(), self.json(value)?);
                }
                Value::Object(members)
            }
            Cel::Optional(Some(inner)) => self.json(inner)?,
            other => return Err(MutationError::NoJson(other.type_name().to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an expression makes, with its JSON; `with` gets the value.
    fn made<R>(form: Form, text: &str, with: impl FnOnce(&Cel<'_>) -> R) -> R {
        let program = Scope::new(false, false).compile(text, false, Purpose::Mutation, &[form.returns()]);
        let program = program.unwrap_or_else(|why| panic!("{text}: {why}"));
        let nothing = |_: &str| None;
        let done = program.evaluate(&nothing, &cel::Limits::default());
        with(&done.outcome.unwrap_or_else(|fault| panic!("{text}: {fault}")))
    }

    #[test]
    fn a_patch_is_applied_unless_a_test_in_it_fails() {
        let object = json!({ "data": { "a": "b" } });
        for (text, want) in [
            (
                "[JSONPatch{op: 'add', path: '/data/n', value: 1}]",
                Ok(Some(json!({ "data": { "a": "b", "n": 1 } }))),
            ),
            (
                "[JSONPatch{op: 'test', path: '/data/a', value: 'c'}, JSONPatch{op: 'remove', path: '/data'}]",
                Ok(None),
            ),
            (
                "[JSONPatch{op: 'add', path: '/' + jsonpatch.escapeKey('x/y'), value: {'k': [true, null == null]}}]",
                Ok(Some(json!({ "data": { "a": "b" }, "x/y": { "k": [true, true] } }))),
            ),
            (
                "[JSONPatch{op: 'remove', path: '/nope'}]",
                Err("JSON Patch: error in remove"),
            ),
            (
                "[JSONPatch{op: 'add', path: '/o', value: Object.spec{a: Object.b{}}}]",
                Err("unexpected type name \"Object.b\", expected \"Object.spec.a\""),
            ),
        ] {
            let found = made(Form::JsonPatch, text, |value| {
                patched(value, &object).map_err(|why| why.to_string())
            });
            match (found, want) {
                (Err(why), Err(want)) => assert!(why.contains(want), "{text}: {why}"),
                (found, want) => assert_eq!(found, want.map_err(str::to_owned), "{text}"),
            }
        }
    }

    #[test]
    fn objects_have_types_named_as_the_way_to_them() {
        for (text, fine) in [
            ("Object{spec: Object.spec{replicas: 1}}", true),
            ("Object{spec: Object.spec{list: [Object.spec.list{a: 1}]}}", true),
            ("Object{spec: Object.status{}}", false),
            ("Object{spec: Object.spec{list: [Object.spec{a: 1}]}}", false),
        ] {
            assert_eq!(
                made(Form::ApplyConfiguration, text, |value| check_names(value, "Object")).is_ok(),
                fine,
                "{text}"
            );
        }
    }

    #[test]
    fn what_an_expression_makes_is_bounded() {
        let doubled = format!("Object{{a: [1]{}}}", ".map(a, [a, a])".repeat(60));
        let json = made(Form::ApplyConfiguration, &doubled, |value| Room::default().json(value));
        assert_eq!(json.unwrap_err().to_string(), "the value is too large");
    }
}
