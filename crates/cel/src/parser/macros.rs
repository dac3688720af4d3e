//! Macros: calls that the parser replaces by other expressions.

use std::sync::Arc;

use super::fold_macros::Fold;
use super::{Kind, Literal, Parser};
use crate::ast::{Call, Comprehension, Expr, Select};

/// The variable that folds gather their result in; no source can name it.
pub(crate) const ACCUMULATOR: &str = "@result";

/// The parts of a call that is no macro's.
pub(super) type NoMacro = (Option<Expr>, Vec<Expr>);

impl Parser {
    /// Expands a call that stands at `at`, or gives its parts back.
    pub(super) fn expand(
        &mut self,
        at: u32,
        function: &str,
        target: Option<Expr>,
        args: Vec<Expr>,
    ) -> Result<Expr, NoMacro> {
        let Some(target) = target else {
            return match (function, <[Expr; 1]>::try_from(args)) {
                ("has", Ok([arg])) => Ok(self.presence(at, arg)),
                (_, Ok(args)) => Err((None, args.into())),
                (_, Err(args)) => Err((None, args)),
            };
        };
        let syntax = self.syntax;
        let fold = match (function, args.len()) {
            ("all", 2) => Fold::All,
            ("exists", 2) => Fold::Exists,
            ("exists_one", 2) => Fold::ExistsOne,
            ("map", 2 | 3) => Fold::Map,
            ("filter", 2) => Fold::Filter,
            ("all", 3) if syntax.two_variables => Fold::All,
            ("exists", 3) if syntax.two_variables => Fold::Exists,
            ("exists_one" | "existsOne", 3) if syntax.two_variables => Fold::ExistsOne,
            ("transformList", 3 | 4) if syntax.two_variables => Fold::Map,
            ("transformMap", 3 | 4) if syntax.two_variables => Fold::TransformMap,
            ("transformMapEntry", 3 | 4) if syntax.two_variables => Fold::TransformMapEntry,
            ("optMap", 2) if syntax.optional => return Ok(self.opt_map(at, function, target, args)),
            ("optFlatMap", 2) if syntax.optional => return Ok(self.opt_map(at, function, target, args)),
            ("bind", 3) if syntax.bindings && matches!(&target.kind, Kind::Ident(name) if &**name == "cel") => {
                return Ok(self.bind(at, args));
            }
            ("sortBy", 2) if syntax.sort_by => return Ok(self.sort_by(at, target, args)),
            _ => return Err((Some(target), args)),
        };
        let two = matches!(fold, Fold::TransformMap | Fold::TransformMapEntry)
            || function == "transformList"
            || (args.len() == 3 && function != "map");
        Ok(if two {
            self.fold_two(at, fold, target, args)
        } else {
            self.fold(at, fold, target, args)
        })
    }

    /// `has(a.b)`.
    fn presence(&mut self, at: u32, arg: Expr) -> Expr {
        match arg.kind {
            Kind::Select(select) if !select.test_only => {
                let test = Select {
                    test_only: true,
                    ..*select
                };
                self.new_expr(at, Kind::Select(Box::new(test)))
            }
            _ => {
                let at = self.offset_of(arg.id);
                self.refuse(at, "invalid argument to has() macro".into())
            }
        }
    }

    /// A variable that stands for one value in an expression, as a fold over nothing.
    fn bound(&mut self, at: u32, name: Arc<str>, value: Expr, init_ident: Expr, inside: Expr) -> Expr {
        let none = Kind::List {
            elements: Vec::new(),
            optional: Vec::new(),
        };
        let fold = Comprehension {
            range: self.new_expr(at, none),
            iter_var: "#unused".into(),
            iter_var2: None,
            accu_var: name,
            init: value,
            condition: self.literal(at, Literal::Bool(false)),
            step: init_ident,
            result: inside,
        };
        self.new_expr(at, Kind::Comprehension(Box::new(fold)))
    }

    fn member_call(&mut self, at: u32, function: &str, target: Expr, args: Vec<Expr>) -> Expr {
        let call = Call {
            function: function.into(),
            target: Some(target),
            args,
        };
        self.new_expr(at, Kind::Call(Box::new(call)))
    }

    /// `target.optMap(name, inside)` and `target.optFlatMap(name, inside)`.
    fn opt_map(&mut self, at: u32, function: &str, target: Expr, args: Vec<Expr>) -> Expr {
        let Ok([variable, inside]) = <[Expr; 2]>::try_from(args) else {
            return self.refuse(at, format!("{function}() takes two arguments"));
        };
        let Kind::Ident(name) = variable.kind else {
            let at = self.offset_of(variable.id);
            return self.refuse(at, format!("{function}() variable name must be a simple identifier"));
        };
        let copy = self.copy(&target);
        let has_value = self.member_call(at, "hasValue", target, Vec::new());
        let value = self.member_call(at, "value", copy, Vec::new());
        let ident = self.ident(at, name.clone());
        let mut present = self.bound(at, name, value, ident, inside);
        if function == "optMap" {
            present = self.call(at, "optional.of", vec![present]);
        }
        let none = self.call(at, "optional.none", Vec::new());
        self.call(at, "_?_:_", vec![has_value, present, none])
    }

    /// `cel.bind(name, value, inside)`.
    fn bind(&mut self, at: u32, args: Vec<Expr>) -> Expr {
        let Ok([variable, value, inside]) = <[Expr; 3]>::try_from(args) else {
            return self.refuse(at, "cel.bind() takes three arguments".into());
        };
        let Kind::Ident(name) = variable.kind else {
            let at = self.offset_of(variable.id);
            return self.refuse(at, "cel.bind() variable names must be simple identifiers".into());
        };
        let ident = self.ident(at, name.clone());
        self.bound(at, name, value, ident, inside)
    }

    /// `target.sortBy(name, key)`.
    fn sort_by(&mut self, at: u32, target: Expr, args: Vec<Expr>) -> Expr {
        const INPUT: &str = "@__sortBy_input__";
        let sortable = matches!(
            target.kind,
            Kind::List { .. } | Kind::Select(_) | Kind::Ident(_) | Kind::Comprehension(_) | Kind::Call(_)
        );
        if !sortable {
            let message = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            let at = self.offset_of(target.id);
            return self.refuse(at, message.into());
        }
        let range = self.ident(at, INPUT.into());
        let before = self.issues.len();
        let keys = self.fold(at, Fold::Map, range, args);
        if self.issues.len() > before {
            return keys;
        }
        let list = self.ident(at, INPUT.into());
        let sorted = self.member_call(at, "@sortByAssociatedKeys", list, vec![keys]);
        let ident = self.ident(at, INPUT.into());
        self.bound(at, INPUT.into(), target, ident, sorted)
    }

    /// The same expression with numbers of its own.
    fn copy(&mut self, expr: &Expr) -> Expr {
        let mut copy = expr.clone();
        self.renumber(&mut copy);
        copy
    }

    fn renumber(&mut self, expr: &mut Expr) {
        let offset = self.offset_of(expr.id);
        expr.id = self.new_id(offset);
        match &mut expr.kind {
            Kind::Unspecified | Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select(select) => self.renumber(&mut select.operand),
            Kind::Call(call) => {
                for part in call.target.iter_mut().chain(&mut call.args) {
                    self.renumber(part);
                }
            }
            Kind::List { elements, .. } => elements.iter_mut().for_each(|e| self.renumber(e)),
            Kind::Map(entries) => {
                for entry in entries {
                    let offset = self.offset_of(entry.id);
                    entry.id = self.new_id(offset);
                    self.renumber(&mut entry.key);
                    self.renumber(&mut entry.value);
                }
            }
            Kind::Struct { fields, .. } => {
                for field in fields {
                    let offset = self.offset_of(field.id);
                    field.id = self.new_id(offset);
                    self.renumber(&mut field.value);
                }
            }
            Kind::Comprehension(fold) => {
                for part in [
                    &mut fold.range,
                    &mut fold.init,
                    &mut fold.condition,
                    &mut fold.step,
                    &mut fold.result,
                ] {
                    self.renumber(part);
                }
            }
        }
    }
}
