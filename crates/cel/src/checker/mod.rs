//! The type checker: finds the type of every node and the overloads that every call may mean.

mod fold;
pub(crate) mod unify;
pub(crate) mod validate;

use std::collections::HashMap;
use std::sync::Arc;

use self::unify::{Found, instantiate, most_general};
use crate::ast::{Ast, Expr, Id, Kind, Literal, Select};
use crate::environment::{Environment, Function};
use crate::source::Issues;
use crate::types::Type;

/// What a node refers to.
#[derive(Debug, Clone)]
pub(crate) enum Reference {
    /// A variable of the environment, by its whole name.
    Variable(Arc<str>),
    /// A variable of a fold.
    Local,
    /// A type by name, such as `int`.
    Type(Type),
    /// The overloads that a call may mean.
    Overloads(Vec<Arc<str>>),
}

/// A checked expression.
#[derive(Debug, Clone)]
pub struct Checked {
    pub(crate) ast: Ast,
    pub(crate) types: Vec<Type>,
    pub(crate) references: HashMap<Id, Reference>,
}

impl Checked {
    /// The type of the expression's value.
    pub fn output(&self) -> &Type {
        self.type_of(&self.ast.expr)
    }

    /// Whether the expression reads a variable.
    pub fn reads(&self, variable: &str) -> bool {
        let reads = |r: &Reference| matches!(r, Reference::Variable(name) if &**name == variable);
        self.references.values().any(reads)
    }

    pub(crate) fn type_of(&self, expr: &Expr) -> &Type {
        self.types.get(expr.id as usize).unwrap_or(&Type::Error)
    }

    pub(crate) fn overloads(&self, id: Id) -> &[Arc<str>] {
        match self.references.get(&id) {
            Some(Reference::Overloads(ids)) => ids,
            _ => &[],
        }
    }
}

/// Checks an expression.
///
/// # Errors
/// Everything that is wrong with its types.
pub(crate) fn check(mut ast: Ast, environment: &Environment, issues: Issues) -> Result<Checked, Issues> {
    let mut checker = Checker {
        environment,
        issues,
        types: vec![Type::Error; ast.offsets.len()],
        references: HashMap::new(),
        offsets: std::mem::take(&mut ast.offsets),
        found: Found::default(),
        locals: Vec::new(),
    };
    checker.check(&mut ast.expr);
    ast.offsets = checker.offsets;
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let found = &checker.found;
    let types = checker.types.iter().map(|t| found.resolve(t, true)).collect();
    let checked = Checked {
        ast,
        types,
        references: checker.references,
    };
    let mut issues = checker.issues;
    validate::validate(&checked, environment, &mut issues);
    if issues.is_empty() { Ok(checked) } else { Err(issues) }
}

struct Checker<'e> {
    environment: &'e Environment,
    issues: Issues,
    types: Vec<Type>,
    references: HashMap<Id, Reference>,
    offsets: Vec<u32>,
    found: Found,
    locals: Vec<(Arc<str>, Type)>,
}

impl Checker<'_> {
    fn error(&mut self, at: Id, message: String) {
        let offset = self.offsets[at as usize];
        self.issues.at(offset, message);
    }

    fn set(&mut self, expr: &Expr, t: Type) {
        self.types[expr.id as usize] = t;
    }

    fn get(&self, expr: &Expr) -> Type {
        self.types[expr.id as usize].clone()
    }

    fn mismatch(&mut self, at: Id, expected: &Type, actual: &Type) {
        self.error(at, format!("expected type '{expected}' but found '{actual}'"));
    }

    fn check(&mut self, expr: &mut Expr) {
        let t = match &mut expr.kind {
            Kind::Unspecified => Type::Error,
            Kind::Literal(literal) => match literal {
                Literal::Null => Type::Null,
                Literal::Bool(_) => Type::Bool,
                Literal::Int(_) => Type::Int,
                Literal::Uint(_) => Type::Uint,
                Literal::Double(_) => Type::Double,
                Literal::String(_) => Type::String,
                Literal::Bytes(_) => Type::Bytes,
            },
            Kind::Ident(name) => {
                let name = name.clone();
                match self.resolve(&name) {
                    Some((t, reference)) => {
                        self.references.insert(expr.id, reference);
                        t
                    }
                    None => {
                        self.undeclared(expr.id, &name);
                        Type::Error
                    }
                }
            }
            Kind::Select(_) => return self.check_select(expr),
            Kind::Call(_) => return self.check_call(expr),
            Kind::List { elements, optional } => {
                let optional = optional.clone();
                let item = self.check_elements(elements, &optional);
                Type::list(item)
            }
            Kind::Map(entries) => {
                let (mut key, mut value) = (None, None);
                for entry in entries {
                    self.check(&mut entry.key);
                    let t = self.get(&entry.key);
                    key = Some(self.join(key, t));
                    self.check(&mut entry.value);
                    let t = self.unwrapped(&entry.value, entry.optional);
                    value = Some(self.join(value, t));
                }
                let key = key.unwrap_or_else(|| self.found.fresh());
                let value = value.unwrap_or_else(|| self.found.fresh());
                Type::map(key, value)
            }
            Kind::Struct { .. } => self.check_struct(expr),
            Kind::Comprehension(_) => self.check_fold(expr),
        };
        self.set(expr, t);
    }

    fn undeclared(&mut self, at: Id, name: &str) {
        self.error(at, format!("undeclared reference to '{name}' (in container '')"));
    }

    /// The type of a variable or of the name of a type.
    fn resolve(&self, name: &str) -> Option<(Type, Reference)> {
        let global = name.strip_prefix('.');
        if global.is_none()
            && let Some((_, t)) = self.locals.iter().rev().find(|(n, _)| &**n == name)
        {
            return Some((t.clone(), Reference::Local));
        }
        self.resolve_global(global.unwrap_or(name))
    }

    fn resolve_global(&self, name: &str) -> Option<(Type, Reference)> {
        if let Some(t) = self.environment.variable(name) {
            return Some((t.clone(), Reference::Variable(name.into())));
        }
        let named = self.environment.type_named(name)?;
        let of = Type::Type(Some(Arc::new(named.clone())));
        Some((of, Reference::Type(named)))
    }

    /// `a.b.c` as one name, when it is made of names only and does not begin with a fold's variable.
    fn qualified(&self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            Kind::Ident(name) => {
                let hidden = self.locals.iter().any(|(n, _)| n == name);
                (!hidden).then(|| name.to_string())
            }
            Kind::Select(select) if !select.test_only => {
                Some(format!("{}.{}", self.qualified(&select.operand)?, select.field))
            }
            _ => None,
        }
    }

    fn check_select(&mut self, expr: &mut Expr) {
        if let Some(name) = self.qualified(expr) {
            let bare = name.strip_prefix('.').unwrap_or(&name);
            if let Some((t, reference)) = self.resolve_global(bare) {
                self.set(expr, t);
                self.references.insert(expr.id, reference);
                expr.kind = Kind::Ident(name.into());
                return;
            }
        }
        let id = expr.id;
        let Kind::Select(select) = &mut expr.kind else { return };
        let Select {
            operand,
            field,
            test_only,
        } = &mut **select;
        let (field, test_only) = (field.clone(), *test_only);
        let mut t = self.check_field(id, operand, &field, false);
        if test_only {
            t = Type::Bool;
        }
        let t = self.found.resolve(&t, false);
        self.set(expr, t);
    }

    /// The type of a field of an operand.
    fn check_field(&mut self, at: Id, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let whole = self.found.resolve(&self.get(operand), false);
        let (target, was_optional) = match whole.unwrap_optional() {
            Some(inner) => (inner.clone(), true),
            None => (whole, false),
        };
        let t = match &target {
            Type::Map(both) => both.1.clone(),
            Type::Struct(name) => match self.environment.field(name, field) {
                Some(t) => t,
                None => {
                    // a type of a library has functions only
                    let why = match self.environment.has_object(name) {
                        true => format!("undefined field '{field}'"),
                        false => format!("unexpected failed resolution of '{name}'"),
                    };
                    self.error(at, why);
                    Type::Error
                }
            },
            unknown if unknown.is_unknown() => {
                self.found.assignable(&Type::Dyn, unknown);
                Type::Dyn
            }
            other => {
                if !other.is_dyn_or_error() {
                    self.error(at, format!("type '{other}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        if optional || was_optional { Type::optional(t) } else { t }
    }

    fn check_call(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let environment = self.environment;
        let Kind::Call(call) = &mut expr.kind else { return };
        if &*call.function == "_?._" {
            let field = call.args.get(1).and_then(|f| f.as_text()).cloned().unwrap_or_default();
            let t = match call.args.first_mut() {
                Some(operand) => self.check_field(id, operand, &field, true),
                None => Type::Error,
            };
            self.references
                .insert(id, Reference::Overloads(vec!["select_optional_field".into()]));
            let t = self.found.resolve(&t, false);
            return self.set(expr, t);
        }
        for arg in &mut call.args {
            self.check(arg);
        }
        let name = call.function.strip_prefix('.').unwrap_or(&call.function).to_owned();
        let Some(target) = &mut call.target else {
            return match environment.function(&name) {
                Some(function) => {
                    call.function = name.into();
                    self.check_overloads(expr, function);
                }
                None => {
                    let name = call.function.clone();
                    self.undeclared(id, &name);
                }
            };
        };
        // a call of a function with dots in its name looks like one on a target
        let dotted = plain_name(target).map(|prefix| format!("{prefix}.{name}"));
        let dotted = dotted.as_deref().map(|d| d.strip_prefix('.').unwrap_or(d));
        if let Some(function) = dotted.and_then(|d| environment.function(d)) {
            call.target = None;
            call.function = function.name.clone();
            return self.check_overloads(expr, function);
        }
        self.check(target);
        match environment.function(&name) {
            Some(function) => self.check_overloads(expr, function),
            None => {
                let name = call.function.clone();
                self.undeclared(id, &name);
            }
        }
    }

    /// Finds the overloads that fit a call.
    fn check_overloads(&mut self, expr: &mut Expr, function: &Function) {
        let Kind::Call(call) = &expr.kind else { return };
        let member = call.target.is_some();
        let given: Vec<Type> = call.target.iter().chain(&call.args).map(|a| self.get(a)).collect();
        let logical = matches!(&*function.name, "_&&_" | "_||_");
        if logical {
            let places: Vec<Id> = call.args.iter().map(|a| a.id).collect();
            let mut wrong = false;
            for (t, at) in given.iter().zip(places) {
                if !self.found.assignable(t, &Type::Bool) {
                    self.mismatch(at, &Type::Bool, t);
                    wrong = true;
                }
            }
            let t = if wrong { Type::Error } else { Type::Bool };
            let id = function.overloads.first().map(|o| o.id.clone());
            self.references
                .insert(expr.id, Reference::Overloads(id.into_iter().collect()));
            return self.set(expr, t);
        }
        let mut result: Option<Type> = None;
        let mut matched = Vec::new();
        for overload in &function.overloads {
            if overload.member != member || overload.args.len() != given.len() {
                continue;
            }
            let mut seen = Vec::new();
            let wanted: Vec<Type> = {
                let found = &mut self.found;
                let args = overload.args.iter();
                args.map(|t| instantiate(t, found, &mut seen)).collect()
            };
            let pairs: Vec<(&Type, &Type)> = given.iter().zip(&wanted).collect();
            if !self.found.all_assignable(&pairs) {
                continue;
            }
            let t = instantiate(&overload.result, &mut self.found, &mut seen);
            let t = self.found.resolve(&t, false);
            matched.push(overload.id.clone());
            result = Some(match result {
                None => t,
                Some(first) if first.is_dyn() || first == t => first,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let shown: Vec<String> = given.iter().map(|t| self.found.resolve(t, true).to_string()).collect();
            let signature = match (member, shown.split_first()) {
                (true, Some((target, args))) => format!("{target}.({})", args.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            let name = &function.name;
            let message = format!("found no matching overload for '{name}' applied to '{signature}'");
            self.error(expr.id, message);
            return self.set(expr, Type::Error);
        };
        self.references.insert(expr.id, Reference::Overloads(matched));
        self.set(expr, result);
    }

    fn check_elements(&mut self, elements: &mut [Expr], optional: &[usize]) -> Type {
        let mut item = None;
        for (place, element) in elements.iter_mut().enumerate() {
            self.check(element);
            let t = self.unwrapped(element, optional.contains(&place));
            item = Some(self.join(item, t));
        }
        item.unwrap_or_else(|| self.found.fresh())
    }

    /// The type of an element; of one that is marked optional the type in the optional one.
    fn unwrapped(&mut self, expr: &Expr, optional: bool) -> Type {
        let t = self.get(expr);
        if !optional {
            return t;
        }
        match t.unwrap_optional() {
            Some(inner) => inner.clone(),
            None => {
                if !t.is_dyn() {
                    self.mismatch(expr.id, &Type::optional(t.clone()), &t);
                }
                t
            }
        }
    }

    /// The type of several elements. Where they differ it is `dyn` here; `validate` says so to the author.
    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        match previous {
            None => current,
            Some(previous) if self.found.assignable(&previous, &current) => most_general(&previous, &current),
            Some(_) => Type::Dyn,
        }
    }
}

/// The name that an operand spells, when it is made of names only.
fn plain_name(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Ident(name) => Some(name.to_string()),
        Kind::Select(select) if !select.test_only => Some(format!("{}.{}", plain_name(&select.operand)?, select.field)),
        _ => None,
    }
}
