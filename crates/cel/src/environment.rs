//! Environments: the variables, types and functions that expressions may use.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::Ast;
use crate::checker::{self, Checked};
use crate::declared::Declared;
use crate::escape;
use crate::library::{self, Library};
use crate::parser::{self, Syntax};
use crate::source::{Issues, Source};
use crate::types::{self, Type};
use crate::value::{Outcome, Value};

/// What a function does, over arguments of which the first is the target of a call on one.
pub(crate) type Implementation = for<'a> fn(&[Value<'a>]) -> Outcome<'a>;

/// One signature of a function.
#[derive(Debug, Clone)]
pub(crate) struct Overload {
    pub id: Arc<str>,
    pub member: bool,
    pub args: Vec<Type>,
    pub result: Type,
    pub implementation: Option<Implementation>,
    /// Arguments are evaluated up to the first error; otherwise all one or two are.
    pub stops_at_error: bool,
}

/// A function and its signatures.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub name: Arc<str>,
    pub overloads: Vec<Overload>,
    /// One implementation for all signatures, which looks at the values itself.
    pub singleton: Option<Implementation>,
    /// The types of values are not compared with the signature before a call.
    pub unguarded: bool,
}

/// Declares functions; libraries fill it.
#[derive(Debug, Default)]
pub(crate) struct Declarations {
    pub functions: HashMap<Arc<str>, Function>,
    pub types: HashMap<Arc<str>, Type>,
}

impl Declarations {
    fn function(&mut self, name: &str) -> &mut Function {
        let name: Arc<str> = name.into();
        self.functions.entry(name.clone()).or_insert_with(|| Function {
            name,
            overloads: Vec::new(),
            singleton: None,
            unguarded: false,
        })
    }

    fn overload(&mut self, name: &str, id: &str, member: bool, signature: &str) -> &mut Overload {
        let (args, result) = signature.split_once("->").unwrap_or((signature, "dyn"));
        let function = self.function(name);
        function.overloads.push(Overload {
            id: id.into(),
            member,
            args: types::split(args).into_iter().map(types::read).collect(),
            result: types::read(result),
            implementation: None,
            stops_at_error: false,
        });
        let last = function.overloads.len() - 1;
        &mut function.overloads[last]
    }

    /// A function called by its name: `global("size", "size_string", "string -> int", size)`.
    pub fn global(&mut self, name: &str, id: &str, signature: &str, does: Implementation) {
        self.overload(name, id, false, signature).implementation = Some(does);
    }

    /// A function called on a target, which is the first argument of the signature.
    pub fn member(&mut self, name: &str, id: &str, signature: &str, does: Implementation) {
        self.overload(name, id, true, signature).implementation = Some(does);
    }

    /// A signature whose implementation is the function's own.
    pub fn signature(&mut self, name: &str, id: &str, member: bool, signature: &str) {
        self.overload(name, id, member, signature);
    }

    /// One implementation for all signatures of a function.
    pub fn singleton(&mut self, name: &str, does: Implementation) {
        self.function(name).singleton = Some(does);
    }

    /// Calls do not compare the types of values with the signature.
    pub fn unguarded(&mut self, name: &str) {
        self.function(name).unguarded = true;
    }

    /// The arguments of a signature are evaluated up to the first error.
    pub fn stops_at_error(&mut self, name: &str, id: &str) {
        let overloads = self.function(name).overloads.iter_mut();
        overloads.filter(|o| &*o.id == id).for_each(|o| o.stops_at_error = true);
    }

    /// A type that expressions may name.
    pub fn named_type(&mut self, name: &str, t: Type) {
        self.types.insert(name.into(), t);
    }
}

/// What expressions may use.
///
/// ```
/// use cel::{Environment, Type};
/// let environment = Environment::kubernetes(37).with_variable("self", Type::map(Type::String, Type::Int));
/// let checked = environment.compile("self.a + 1 == 3").unwrap();
/// assert_eq!(checked.output(), &Type::Bool);
/// let wrong = environment.compile("self.a + 'x'").unwrap_err();
/// assert!(wrong.to_string().starts_with(
///     "ERROR: <input>:1:8: found no matching overload for '_+_' applied to '(int, string)'"
/// ));
/// ```
#[derive(Debug, Clone)]
pub struct Environment {
    base: Arc<Base>,
    variables: HashMap<Arc<str>, Type>,
    objects: HashMap<Arc<str>, Arc<Declared>>,
    /// What bounds the values of variables, for the cost estimate. As in Kubernetes every variable has the bounds of the first
    /// that was declared with some.
    pub(crate) bounds: Option<Arc<Declared>>,
    /// `Object{...}` and `JSONPatch{...}` may be built.
    mutation: bool,
    /// `cel.bind(name, value, inside)` may be used.
    bindings: bool,
}

/// The part of an environment that all of a version share.
#[derive(Debug)]
pub(crate) struct Base {
    declarations: Declarations,
    syntax: Syntax,
    pub(crate) validates: bool,
    /// `self.namespace` is `self.__namespace__`.
    keyword_fields: bool,
}

impl Environment {
    /// The environment that Kubernetes v1.`minor` gives every expression. New expressions are compiled for the version before
    /// the server's, so that a rollback still knows them; stored ones for [`Environment::stored`].
    pub fn kubernetes(minor: u32) -> Environment {
        let mut declarations = Declarations::default();
        for library in library::of(minor) {
            library.declare(&mut declarations);
        }
        let has = |library: Library| library::of(minor).contains(&library);
        let syntax = Syntax {
            optional: has(Library::Optional),
            two_variables: has(Library::TwoVariables),
            sort_by: has(Library::ExtendedLists),
            bindings: false,
        };
        Environment {
            base: Arc::new(Base {
                declarations,
                syntax,
                validates: minor >= 29,
                keyword_fields: minor >= 31,
            }),
            variables: HashMap::new(),
            objects: HashMap::new(),
            bounds: None,
            mutation: false,
            bindings: false,
        }
    }

    /// The environment for expressions that were accepted before, perhaps by a newer server: everything that is known.
    pub fn stored() -> Environment {
        Environment::kubernetes(u32::MAX)
    }

    /// Declares a variable.
    #[must_use]
    pub fn with_variable(mut self, name: &str, t: Type) -> Environment {
        self.variables.insert(name.into(), t);
        self
    }

    /// Declares a variable of a type that a schema declares, with the bounds of its values.
    #[must_use]
    pub fn with_declared(mut self, name: &str, declared: &Arc<Declared>) -> Environment {
        self = self.with_objects(declared);
        self.bounds.get_or_insert_with(|| declared.clone());
        self.with_variable(name, declared.of.clone())
    }

    /// Makes the object types in a type known, without a variable.
    #[must_use]
    pub fn with_objects(mut self, declared: &Arc<Declared>) -> Environment {
        Declared::objects(declared, &mut self.objects);
        self
    }

    /// Allows `Object{...}`, `JSONPatch{...}` and `jsonpatch.escapeKey`, as mutating policies have them.
    #[must_use]
    pub fn with_mutation(mut self) -> Environment {
        self.mutation = true;
        self
    }

    /// Allows `cel.bind(name, value, inside)`, as selectors of devices have it.
    #[must_use]
    pub fn with_bindings(mut self) -> Environment {
        self.bindings = true;
        self
    }

    /// Parses and checks an expression.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place.
    pub fn compile(&self, text: &str) -> Result<Checked, Issues> {
        let ast = self.parse(text)?;
        checker::check(ast, self, Issues::new(Source::new(text)))
    }

    fn parse(&self, text: &str) -> Result<Ast, Issues> {
        let syntax = Syntax {
            bindings: self.bindings,
            ..self.base.syntax
        };
        parser::parse(text, syntax)
    }

    pub(crate) fn validates(&self) -> bool {
        self.base.validates
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    /// The type that a name in an expression stands for.
    pub(crate) fn type_named(&self, name: &str) -> Option<Type> {
        if let Some(t) = self.base.declarations.types.get(name) {
            return Some(t.clone());
        }
        self.has_object(name).then(|| Type::object(name))
    }

    /// Whether a name is that of an object type whose fields are known.
    pub(crate) fn has_object(&self, name: &str) -> bool {
        let built = || name == "Object" || name.starts_with("Object.") || name == "JSONPatch";
        self.objects.contains_key(name) || self.mutation && built()
    }

    /// The type of a field of an object type.
    pub(crate) fn field(&self, of: &str, field: &str) -> Option<Type> {
        if let Some(declared) = self.objects.get(of) {
            let keyword = || {
                let is = self.base.keyword_fields && escape::is_keyword(field);
                is.then(|| declared.fields.get(format!("__{field}__").as_str()))?
            };
            return declared.fields.get(field).or_else(keyword).map(|f| f.of.clone());
        }
        match (of, field) {
            ("JSONPatch", "op" | "from" | "path") if self.mutation => Some(Type::String),
            ("JSONPatch", "value") if self.mutation => Some(Type::Dyn),
            // upstream has every field, but no type for these
            ("JSONPatch", _) if self.mutation => Some(Type::Opaque("".into(), [].into())),
            _ if self.mutation && self.type_named(of).is_some() => Some(Type::Dyn),
            _ => None,
        }
    }

    pub(crate) fn function(&self, name: &str) -> Option<&Function> {
        if name == library::jsonpatch::FUNCTION && !self.mutation {
            return None;
        }
        self.base.declarations.functions.get(name)
    }
}
