//! Macros that become folds over the items of a list or the keys of a map: `all`, `exists`, `exists_one`, `map`, `filter`, and
//! those with two variables.

use std::sync::Arc;

use super::macros::ACCUMULATOR;
use super::{Kind, Literal, Parser};
use crate::ast::{Comprehension, Expr};

/// The other name of the accumulator, which no variable may take either.
const OLD_ACCUMULATOR: &str = "__result__";

/// What a fold gathers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    All,
    Exists,
    ExistsOne,
    /// `map` and `transformList`, with or without a predicate.
    Map,
    Filter,
    TransformMap,
    TransformMapEntry,
}

/// The parts of a fold that differ.
struct Parts {
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

impl Parser {
    fn accumulator(&mut self, at: u32) -> Expr {
        self.ident(at, ACCUMULATOR.into())
    }

    fn empty_list(&mut self, at: u32, elements: Vec<Expr>) -> Expr {
        let optional = Vec::new();
        self.new_expr(at, Kind::List { elements, optional })
    }

    /// A fold with one variable.
    pub(super) fn fold(&mut self, at: u32, fold: Fold, target: Expr, args: Vec<Expr>) -> Expr {
        let mut args = args.into_iter();
        let (Some(variable), Some(second), third) = (args.next(), args.next(), args.next()) else {
            return self.refuse(at, "a macro's arguments are missing".into());
        };
        let Kind::Ident(name) = &variable.kind else {
            let at = self.offset_of(variable.id);
            let message = match fold {
                Fold::Map | Fold::Filter => "argument is not an identifier",
                _ => "argument must be a simple name",
            };
            return self.refuse(at, message.into());
        };
        let name = name.clone();
        if self.hides_accumulator(&name) {
            let at = self.offset_of(variable.id);
            return self.refuse(at, "iteration variable overwrites accumulator variable".into());
        }
        let parts = match (fold, third) {
            (Fold::Filter, _) => self.gather_list(at, variable, Some(second)),
            (Fold::Map, Some(third)) => self.gather_list(at, third, Some(second)),
            (Fold::Map, None) => self.gather_list(at, second, None),
            (fold, _) => self.quantify(at, fold, second),
        };
        self.comprehension(at, target, name, None, parts)
    }

    fn hides_accumulator(&self, name: &str) -> bool {
        name == ACCUMULATOR || name == OLD_ACCUMULATOR
    }

    /// A fold with variables for the key or index and the value.
    pub(super) fn fold_two(&mut self, at: u32, fold: Fold, target: Expr, args: Vec<Expr>) -> Expr {
        let mut names: Vec<Arc<str>> = Vec::new();
        for variable in args.iter().take(2) {
            let Kind::Ident(name) = &variable.kind else {
                let at = self.offset_of(variable.id);
                return self.refuse(at, "argument must be a simple name".into());
            };
            names.push(name.clone());
        }
        let offset = |parser: &Parser, n: usize| args.get(n).map_or(at, |arg| parser.offset_of(arg.id));
        if names[0] == names[1] {
            let at = offset(self, 1);
            return self.refuse(at, format!("duplicate variable name: {}", names[0]));
        }
        for (n, name) in names.iter().enumerate() {
            if self.hides_accumulator(name) {
                let at = offset(self, n);
                return self.refuse(at, "iteration variable overwrites accumulator variable".into());
            }
        }
        let mut rest = args.into_iter().skip(2);
        let (Some(first), second) = (rest.next(), rest.next()) else {
            return self.refuse(at, "a macro's arguments are missing".into());
        };
        let (filter, transform) = match second {
            Some(second) => (Some(first), second),
            None => (None, first),
        };
        let parts = match fold {
            Fold::Map | Fold::Filter => self.gather_list(at, transform, filter),
            Fold::TransformMap => {
                let key = self.ident(at, names[0].clone());
                self.gather_map(at, vec![key, transform], filter)
            }
            Fold::TransformMapEntry => self.gather_map(at, vec![transform], filter),
            quantifier => self.quantify(at, quantifier, transform),
        };
        let second = names.pop();
        let first = names.pop().unwrap_or_default();
        self.comprehension(at, target, first, second, parts)
    }

    fn comprehension(
        &mut self,
        at: u32,
        range: Expr,
        iter_var: Arc<str>,
        iter_var2: Option<Arc<str>>,
        parts: Parts,
    ) -> Expr {
        let fold = Comprehension {
            range,
            iter_var,
            iter_var2,
            accu_var: ACCUMULATOR.into(),
            init: parts.init,
            condition: parts.condition,
            step: parts.step,
            result: parts.result,
        };
        self.new_expr(at, Kind::Comprehension(Box::new(fold)))
    }

    fn quantify(&mut self, at: u32, fold: Fold, predicate: Expr) -> Parts {
        let accu = self.accumulator(at);
        match fold {
            Fold::All => Parts {
                init: self.literal(at, Literal::Bool(true)),
                condition: self.call(at, "@not_strictly_false", vec![accu]),
                step: {
                    let accu = self.accumulator(at);
                    self.call(at, "_&&_", vec![accu, predicate])
                },
                result: self.accumulator(at),
            },
            Fold::Exists => Parts {
                init: self.literal(at, Literal::Bool(false)),
                condition: {
                    let not = self.call(at, "!_", vec![accu]);
                    self.call(at, "@not_strictly_false", vec![not])
                },
                step: {
                    let accu = self.accumulator(at);
                    self.call(at, "_||_", vec![accu, predicate])
                },
                result: self.accumulator(at),
            },
            _ => {
                let one = self.literal(at, Literal::Int(1));
                let more = self.call(at, "_+_", vec![accu, one]);
                let same = self.accumulator(at);
                let accu = self.accumulator(at);
                let one = self.literal(at, Literal::Int(1));
                Parts {
                    init: self.literal(at, Literal::Int(0)),
                    condition: self.literal(at, Literal::Bool(true)),
                    step: self.call(at, "_?_:_", vec![predicate, more, same]),
                    result: self.call(at, "_==_", vec![accu, one]),
                }
            }
        }
    }

    fn gather_list(&mut self, at: u32, item: Expr, filter: Option<Expr>) -> Parts {
        let accu = self.accumulator(at);
        let one = self.empty_list(at, vec![item]);
        let more = self.call(at, "_+_", vec![accu, one]);
        let init = self.empty_list(at, Vec::new());
        self.gather(at, init, more, filter)
    }

    fn gather_map(&mut self, at: u32, mut entry: Vec<Expr>, filter: Option<Expr>) -> Parts {
        let accu = self.accumulator(at);
        entry.insert(0, accu);
        let more = self.call(at, "cel.@mapInsert", entry);
        let init = self.new_expr(at, Kind::Map(Vec::new()));
        self.gather(at, init, more, filter)
    }

    fn gather(&mut self, at: u32, init: Expr, more: Expr, filter: Option<Expr>) -> Parts {
        let step = match filter {
            Some(filter) => {
                let same = self.accumulator(at);
                self.call(at, "_?_:_", vec![filter, more, same])
            }
            None => more,
        };
        Parts {
            init,
            condition: self.literal(at, Literal::Bool(true)),
            step,
            result: self.accumulator(at),
        }
    }
}
