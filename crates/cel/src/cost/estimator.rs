//! The estimate: a walk over a checked expression that finds the least and the most that an evaluation may cost, with sizes from
//! what is written in it and from the bounds of the data.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Estimated, Node, Range, STRING, bounds};
use crate::ast::{Call, Comprehension, Expr, Id, Kind, Literal, Select};
use crate::checker::Checked;
use crate::environment::Environment;
use crate::library;
use crate::parser::ACCUMULATOR;
use crate::types::Type;

const SELECT: Range = Range::fixed(1);
const LIST: Range = Range::fixed(10);
const MAP: Range = Range::fixed(30);
const OBJECT: Range = Range::fixed(40);

/// What evaluating an expression may cost.
pub(crate) fn estimate(checked: &Checked, environment: &Environment) -> Range {
    let mut walk = Walk {
        checked,
        environment,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    walk.cost(&checked.ast.expr)
}

type Path = Vec<Arc<str>>;

/// The sizes of what is in a list or a map.
#[derive(Debug, Clone, Copy)]
struct Entry {
    is_list: bool,
    key: Range,
    value: Range,
}

impl Entry {
    fn union(self, other: Entry) -> Entry {
        Entry {
            is_list: self.is_list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

/// A variable of a fold.
struct Local {
    name: Arc<str>,
    path: Path,
    size: Option<Range>,
    entry: Option<Entry>,
}

struct Walk<'c> {
    checked: &'c Checked,
    environment: &'c Environment,
    paths: HashMap<Id, Path>,
    sizes: HashMap<Id, Range>,
    entries: HashMap<Id, Entry>,
    locals: Vec<Local>,
}

impl<'c> Walk<'c> {
    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|l| &*l.name == name)
    }

    fn path(&self, expr: &Expr) -> Path {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    fn type_of(&self, expr: &Expr) -> &'c Type {
        self.checked.type_of(expr)
    }

    fn cost(&mut self, expr: &'c Expr) -> Range {
        match &expr.kind {
            Kind::Unspecified | Kind::Literal(_) => Range::default(),
            Kind::Ident(name) => {
                let path = match self.local(name) {
                    Some(local) => local.path.clone(),
                    None => vec![name.clone()],
                };
                self.paths.insert(expr.id, path);
                SELECT
            }
            Kind::Select(select) => self.select(expr, select),
            Kind::Call(call) => self.call(expr, call),
            Kind::List { elements, .. } => self.list(expr, elements),
            Kind::Map(entries) => {
                let mut sum = MAP;
                let (mut key, mut value) = (None, None);
                for entry in entries {
                    sum = sum.add(self.cost(&entry.key)).add(self.cost(&entry.value));
                    let of = self.size(&entry.key).unwrap_or(Range::UNKNOWN);
                    key = Some(key.map_or(of, |k: Range| k.union(of)));
                    let of = self.size(&entry.value).unwrap_or(Range::UNKNOWN);
                    value = Some(value.map_or(of, |v: Range| v.union(of)));
                }
                let entry = Entry {
                    is_list: false,
                    key: key.unwrap_or_default(),
                    value: value.unwrap_or_default(),
                };
                self.entries.insert(expr.id, entry);
                sum
            }
            Kind::Struct { fields, .. } => {
                let mut sum = OBJECT;
                for field in fields {
                    sum = sum.add(self.cost(&field.value));
                }
                sum
            }
            Kind::Comprehension(fold) if is_bound(fold) => self.bound(expr, fold),
            Kind::Comprehension(fold) => self.fold(expr, fold),
        }
    }

    fn select(&mut self, expr: &'c Expr, select: &'c Select) -> Range {
        let mut sum = self.cost(&select.operand);
        // looking whether a field is there costs nothing, for compatibility
        if select.test_only {
            return sum;
        }
        if matches!(
            self.type_of(&select.operand),
            Type::Map(_) | Type::Struct(_) | Type::Param(_) | Type::Variable(_)
        ) {
            sum = sum.add(SELECT);
        }
        let mut path = self.path(&select.operand);
        path.push(select.field.clone());
        self.paths.insert(expr.id, path);
        sum
    }

    fn list(&mut self, expr: &'c Expr, elements: &'c [Expr]) -> Range {
        let mut sum = LIST;
        let mut item: Option<Range> = None;
        for element in elements {
            sum = sum.add(self.cost(element));
            let size = self.size(element).unwrap_or(Range::UNKNOWN);
            item = Some(item.map_or(size, |i| i.union(size)));
        }
        let entry = Entry {
            is_list: true,
            key: Range::fixed(1),
            value: item.unwrap_or_default(),
        };
        self.entries.insert(expr.id, entry);
        sum
    }

    fn node(&mut self, expr: &'c Expr) -> Node<'c> {
        let path = Some(self.path(expr)).filter(|p| !p.is_empty() && &*p[0] != ACCUMULATOR);
        Node {
            path,
            of: self.type_of(expr).clone(),
            expr: Some(expr),
            size: self.size(expr),
        }
    }

    fn call(&mut self, expr: &'c Expr, call: &'c Call) -> Range {
        if &*call.function == "dyn" {
            let mut cost = Range::fixed(1);
            if let Some(arg) = call.args.first() {
                cost = cost.add(self.cost(arg));
                self.copy_sizes(expr, arg);
            }
            return cost;
        }
        let mut costs = Vec::with_capacity(call.args.len());
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            costs.push(self.cost(arg));
            args.push(self.node(arg));
        }
        let overloads = self.checked.overloads(expr.id);
        if overloads.is_empty() {
            return Range::default();
        }
        let mut sum = Range::default();
        let mut target = None;
        if let Some(on) = &call.target {
            sum = self.cost(on);
            target = Some(self.node(on));
        }
        let mut estimated = Estimated {
            function: &call.function,
            overload: "",
            target,
            args,
            environment: self.environment,
        };
        let (mut cost, mut size) = (None, None);
        for overload in overloads {
            estimated.overload = overload;
            let (of, result) = self.overload(expr, call, &estimated, &costs);
            cost = Some(cost.map_or(of, |c: Range| c.union(of)));
            if let Some(result) = result {
                size = Some(size.map_or(result, |s: Range| s.union(result)));
            }
            let step = match &**overload {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(step), Some(of)) = (step, call.args.first()) {
                size = self.entry(of).map(|e| e.value);
                let mut path = self.path(of);
                path.push(step.into());
                self.paths.insert(expr.id, path);
            }
            size = size.or_else(|| self.size(expr));
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        sum.add(cost.unwrap_or_default())
    }

    /// The cost of a call by one signature, with its arguments, and the size of its result.
    fn overload(
        &mut self,
        expr: &'c Expr,
        call: &'c Call,
        estimated: &Estimated<'_, 'c>,
        costs: &[Range],
    ) -> (Range, Option<Range>) {
        let all = costs.iter().fold(Range::default(), |sum, c| sum.add(*c));
        let size = |n: usize| estimated.args.get(n).and_then(|a| a.size).unwrap_or(Range::UNKNOWN);
        match (estimated.overload, costs) {
            ("logical_or" | "logical_and", [left, right]) => (Range::new(left.min, left.add(*right).max), None),
            ("conditional", [condition, yes, no]) => {
                let both = self.entry(&call.args[1]).zip(self.entry(&call.args[2]));
                if let Some((yes, no)) = both {
                    self.entries.insert(expr.id, yes.union(no));
                }
                (condition.add(yes.union(*no)), Some(size(1).union(size(2))))
            }
            ("add_string" | "add_bytes" | "add_list", [_, _]) => {
                let out = size(0).add(size(1));
                let both = self.entry(&call.args[0]).zip(self.entry(&call.args[1]));
                if let Some((first, second)) = both {
                    self.entries.insert(expr.id, first.union(second));
                }
                let cost = if estimated.overload == "add_list" {
                    Range::fixed(1)
                } else {
                    out.factor(STRING)
                };
                (cost.add(all), Some(out))
            }
            _ => match library::estimate(estimated) {
                Some(estimate) => (estimate.cost.add(all), estimate.size),
                None => (Range::fixed(1).add(all), None),
            },
        }
    }

    fn push(&mut self, name: &Arc<str>, path: Path, size: Option<Range>, entry: Option<Entry>) {
        self.locals.push(Local {
            name: name.clone(),
            path,
            size,
            entry,
        });
    }

    fn push_value(&mut self, name: &Arc<str>, value: &'c Expr) {
        let (path, entry, size) = (self.path(value), self.entry(value), self.size(value));
        self.push(name, path, size, entry);
    }

    fn fold(&mut self, expr: &'c Expr, fold: &'c Comprehension) -> Range {
        let mut sum = self.cost(&fold.range).add(self.cost(&fold.init));
        let depth = self.locals.len();
        self.push_value(&fold.accu_var, &fold.init);
        let entry = self.entry(&fold.range);
        let is_list = entry.map_or_else(|| matches!(self.type_of(&fold.range), Type::List(_)), |e| e.is_list);
        let below = |walk: &Walk<'_>, step: &str| {
            let mut path = walk.path(&fold.range);
            path.push(step.into());
            path
        };
        let (key, value) = if is_list {
            ("@indices", "@items")
        } else {
            ("@keys", "@values")
        };
        match &fold.iter_var2 {
            Some(second) => {
                let path = below(self, key);
                self.push(&fold.iter_var, path, entry.map(|e| e.key), None);
                let path = below(self, value);
                self.push(second, path, entry.map(|e| e.value), None);
            }
            None => {
                let path = below(self, if is_list { value } else { key });
                let size = entry.map(|e| if is_list { e.value } else { e.key });
                self.push(&fold.iter_var, path, size, None);
            }
        }
        let turn = self.cost(&fold.condition);
        let turn = self.cost(&fold.step).add(turn);
        self.locals.truncate(depth + 1);
        sum = sum.add(self.cost(&fold.result));
        self.locals.truncate(depth);
        let count = self.size(&fold.range).unwrap_or(Range::UNKNOWN);
        sum = sum.add(count.multiply(turn));
        match &fold.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.init) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.sizes.insert(expr.id, count);
                if let Some(entry) = self.entry(&fold.step) {
                    self.entries.insert(expr.id, entry);
                }
            }
            _ => {}
        }
        sum
    }

    fn bound(&mut self, expr: &'c Expr, fold: &'c Comprehension) -> Range {
        let mut sum = self.cost(&fold.range).add(self.cost(&fold.init));
        self.push_value(&fold.accu_var, &fold.init);
        sum = sum.add(self.cost(&fold.result));
        self.locals.pop();
        self.copy_sizes(expr, &fold.result);
        sum
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to.id, size);
        }
        if let Some(entry) = self.entry(from) {
            self.entries.insert(to.id, entry);
        }
    }

    fn entry(&self, expr: &Expr) -> Option<Entry> {
        if let Some(entry) = self.entries.get(&expr.id) {
            return Some(*entry);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.entry,
            _ => None,
        }
    }

    /// The size of a part, by what was computed, what is written, the bounds of the data, its type, or a variable.
    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        if let Some(size) = written(expr) {
            return Some(size);
        }
        let path = self.path(expr);
        if let Some(size) = bounds(self.environment, &path) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if self.type_of(expr).is_scalar() {
            return Some(Range::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }
}

/// The size of what is written out.
fn written(expr: &Expr) -> Option<Range> {
    Some(Range::fixed(match &expr.kind {
        Kind::Literal(Literal::String(text)) => text.chars().count() as u64,
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len() as u64,
        Kind::Literal(_) => 1,
        Kind::List { elements, .. } => elements.len() as u64,
        Kind::Map(entries) => entries.len() as u64,
        _ => return None,
    }))
}

/// Whether a fold only gives a value a name.
fn is_bound(fold: &Comprehension) -> bool {
    let nothing = matches!(&fold.range.kind, Kind::List { elements, .. } if elements.is_empty());
    nothing && matches!(fold.condition.kind, Kind::Literal(Literal::Bool(false)))
}
