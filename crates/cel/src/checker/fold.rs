//! Types of folds and of objects that expressions build.

use super::Checker;
use crate::ast::{Expr, Kind};
use crate::types::Type;

impl Checker<'_> {
    /// The type of a comprehension.
    pub(super) fn check_fold(&mut self, expr: &mut Expr) -> Type {
        let Kind::Comprehension(fold) = &mut expr.kind else {
            return Type::Error;
        };
        self.check(&mut fold.range);
        self.check(&mut fold.init);
        let range = self.found.resolve(&self.get(&fold.range), false);
        let accu = self.get(&fold.init);
        let depth = self.locals.len();
        self.locals.push((fold.accu_var.clone(), accu.clone()));
        let (first, second) = match &range {
            Type::List(item) if fold.iter_var2.is_some() => (Type::Int, (**item).clone()),
            Type::List(item) => ((**item).clone(), Type::Dyn),
            Type::Map(both) => (both.0.clone(), both.1.clone()),
            other if other.is_dyn_or_error() || other.is_unknown() => {
                self.found.assignable(&Type::Dyn, other);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.error(fold.range.id, message);
                (Type::Error, Type::Error)
            }
        };
        self.locals.push((fold.iter_var.clone(), first));
        if let Some(name) = &fold.iter_var2 {
            self.locals.push((name.clone(), second));
        }
        self.check(&mut fold.condition);
        self.assert(&fold.condition, &Type::Bool);
        self.check(&mut fold.step);
        self.assert(&fold.step, &accu);
        self.locals.truncate(depth + 1);
        self.check(&mut fold.result);
        self.locals.truncate(depth);
        self.found.resolve(&self.get(&fold.result), false)
    }

    fn assert(&mut self, expr: &Expr, expected: &Type) {
        let actual = self.get(expr);
        if !self.found.assignable(expected, &actual) {
            self.mismatch(expr.id, expected, &actual);
        }
    }

    /// The type of `Name{field: value}`.
    pub(super) fn check_struct(&mut self, expr: &mut Expr) -> Type {
        let id = expr.id;
        let Kind::Struct { name, fields } = &mut expr.kind else {
            return Type::Error;
        };
        let bare = name.strip_prefix('.').unwrap_or(name).to_owned();
        let result = match self.environment.type_named(&bare) {
            None => {
                let name = name.clone();
                self.undeclared(id, &name);
                return Type::Error;
            }
            Some(Type::Struct(name)) => Type::Struct(name),
            Some(other) => {
                self.error(id, format!("'{}' is not a message type", other.name()));
                Type::Error
            }
        };
        *name = bare.as_str().into();
        for field in fields {
            self.check(&mut field.value);
            let declared = self.environment.field(&bare, &field.name);
            let declared = declared.unwrap_or_else(|| {
                let message = match result {
                    Type::Error => format!("unexpected failed resolution of '{bare}'"),
                    _ => format!("undefined field '{}'", field.name),
                };
                self.error(field.id, message);
                Type::Error
            });
            let given = self.unwrapped(&field.value, field.optional);
            if !self.found.assignable(&declared, &given) {
                let message = format!(
                    "expected type of field '{}' is '{declared}' but provided type is '{given}'",
                    field.name
                );
                self.error(field.id, message);
            }
        }
        result
    }
}
