//! The plan: names become places, constants are computed, regular expressions compiled.

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    Attribute, Base, CallNode, Choice, Does, EntryNode, FieldNode, FoldNode, Gather, Key, Node, Qualifier, Step,
};
use crate::ast::{Call, Comprehension, Expr, Kind, Literal, Select};
use crate::checker::{Checked, Reference};
use crate::environment::{Environment, Function};
use crate::library;
use crate::types::Type;
use crate::value::{Entries, Fault, List, Map, Text, Value, error, refused};

/// How many patterns of an expression are compiled when it is planned.
const MAX_PATTERNS: usize = 64;

type Planned = Result<Node, Fault>;

/// Plans an expression; returns the names of its variables and how many variables of folds there are at once too.
pub(super) fn plan(checked: &Checked, environment: &Environment) -> Result<(Node, Vec<Arc<str>>, usize), Fault> {
    let mut planner = Planner {
        checked,
        environment,
        globals: Vec::new(),
        places: HashMap::new(),
        locals: Vec::new(),
        slots: 0,
        used: 0,
        patterns: 0,
    };
    let root = planner.plan(&checked.ast.expr)?;
    Ok((root, planner.globals, planner.slots))
}

struct Planner<'c> {
    checked: &'c Checked,
    environment: &'c Environment,
    globals: Vec<Arc<str>>,
    places: HashMap<Arc<str>, usize>,
    locals: Vec<(Arc<str>, usize)>,
    slots: usize,
    used: usize,
    patterns: usize,
}

impl<'c> Planner<'c> {
    fn plan(&mut self, expr: &'c Expr) -> Planned {
        match &expr.kind {
            Kind::Unspecified => error("unsupported expr"),
            Kind::Literal(literal) => Ok(Node::Constant(constant(literal))),
            Kind::Ident(name) => Ok(self.variable(expr, name)),
            Kind::Select(select) => self.select(expr, select),
            Kind::Call(call) => self.call(expr, call),
            Kind::List { elements, optional } => {
                let elements = elements.iter().map(|e| self.plan(e)).collect::<Result<Vec<_>, _>>()?;
                let marks = (0..elements.len()).map(|n| optional.contains(&n)).collect();
                Ok(list(elements, marks))
            }
            Kind::Map(entries) => {
                let mut nodes = Vec::with_capacity(entries.len());
                for entry in entries {
                    nodes.push(EntryNode {
                        key: self.plan(&entry.key)?,
                        value: self.plan(&entry.value)?,
                        optional: entry.optional,
                    });
                }
                Ok(map(nodes))
            }
            Kind::Struct { name, fields } => {
                let mut nodes = Vec::with_capacity(fields.len());
                for field in fields {
                    nodes.push(FieldNode {
                        name: field.name.clone(),
                        value: self.plan(&field.value)?,
                        optional: field.optional,
                    });
                }
                Ok(Node::Object {
                    name: name.clone(),
                    fields: nodes,
                })
            }
            Kind::Comprehension(fold) => self.fold(fold),
        }
    }

    fn variable(&mut self, expr: &Expr, name: &Arc<str>) -> Node {
        let base = match self.checked.references.get(&expr.id) {
            Some(Reference::Type(t)) => return Node::Constant(Value::Type(t.clone())),
            Some(Reference::Variable(name)) => Base::Global(self.global(name)),
            _ => {
                let local = self.locals.iter().rev().find(|(n, _)| n == name);
                match local {
                    Some((_, at)) => Base::Local(*at),
                    None => Base::Global(self.global(name)),
                }
            }
        };
        Node::Attribute(Box::new(Attribute {
            base,
            qualifiers: Vec::new(),
        }))
    }

    fn global(&mut self, name: &Arc<str>) -> usize {
        if let Some(at) = self.places.get(name) {
            return *at;
        }
        self.globals.push(name.clone());
        self.places.insert(name.clone(), self.globals.len() - 1);
        self.globals.len() - 1
    }

    fn select(&mut self, expr: &'c Expr, select: &'c Select) -> Planned {
        if let Some(Reference::Type(t)) = self.checked.references.get(&expr.id) {
            return Ok(Node::Constant(Value::Type(t.clone())));
        }
        let mut attribute = attribute(self.plan(&select.operand)?);
        let object = match self.checked.type_of(&select.operand) {
            Type::Struct(name) => &**name == "Object" || name.starts_with("Object."),
            _ => false,
        };
        attribute.qualify(&Arc::new(Qualifier {
            key: Key::Constant(Value::String(Text::Owned(select.field.clone()))),
            optional: false,
            test: select.test_only,
            of_object: object,
        }));
        Ok(if select.test_only {
            Node::Test(Box::new(attribute))
        } else {
            Node::Attribute(Box::new(attribute))
        })
    }

    fn call(&mut self, expr: &'c Expr, call: &'c Call) -> Planned {
        let mut args = Vec::with_capacity(call.args.len() + 1);
        for arg in call.target.iter().chain(&call.args) {
            args.push(self.plan(arg)?);
        }
        let overloads = self.checked.overloads(expr.id);
        let overload: Arc<str> = match overloads {
            [one] => one.clone(),
            _ => "".into(),
        };
        let two = |args: Vec<Node>| <[Node; 2]>::try_from(args).map(Box::new);
        let wrong = |_| Fault::Error("no such overload".into());
        match &*call.function {
            "_&&_" => return two(args).map(Node::And).map_err(wrong),
            "_||_" => return two(args).map(Node::Or).map_err(wrong),
            "_==_" | "_!=_" => {
                let negated = &*call.function == "_!=_";
                return two(args).map(|sides| Node::Equal { sides, negated }).map_err(wrong);
            }
            "_?_:_" => return choice(args),
            "_[_]" => return index(args, false),
            "_[?_]" | "_?._" => return index(args, true),
            "@not_strictly_false" => {
                let inner = args.pop().ok_or_else(|| wrong(args))?;
                return Ok(Node::NotStrictlyFalse(Box::new(inner)));
            }
            "or" if matches!(&*overload, "" | "optional_or_optional") => {
                return two(args)
                    .map(|sides| Node::OptionalOr { sides, value: false })
                    .map_err(wrong);
            }
            "orValue" if matches!(&*overload, "" | "optional_orValue_value") => {
                return two(args)
                    .map(|sides| Node::OptionalOr { sides, value: true })
                    .map_err(wrong);
            }
            "@in" if &*overload == "in_list" && matches!(args[1], Node::Constant(_)) => {
                let of = args.pop().ok_or_else(|| Fault::Error("no such overload".into()))?;
                let item = args.pop().ok_or_else(|| Fault::Error("no such overload".into()))?;
                match set(&of) {
                    Some(of) if of.is_empty() => return Ok(Node::Constant(Value::Bool(false))),
                    Some(of) => {
                        return Ok(Node::Member {
                            item: Box::new(item),
                            of: Box::new(of),
                        });
                    }
                    None => args = vec![item, of],
                }
            }
            _ => {}
        }
        let Some(function) = self.environment.function(&call.function) else {
            return error(format!("no such overload: {}", call.function));
        };
        self.plain_call(function, overload, args)
    }

    fn plain_call(&mut self, function: &Function, overload: Arc<str>, args: Vec<Node>) -> Planned {
        const CONVERSIONS: [&str; 10] = [
            "bool",
            "bytes",
            "double",
            "duration",
            "dyn",
            "int",
            "string",
            "timestamp",
            "type",
            "uint",
        ];
        let (does, choice) = does(function, &overload)?;
        if let ([Node::Constant(value)], true) = (&args[..], CONVERSIONS.contains(&&*function.name)) {
            let value = does.apply(&function.name, std::slice::from_ref(value))?;
            return Ok(Node::Constant(value));
        }
        let one = function.overloads.iter().find(|o| o.id == overload);
        let pattern = match (&*function.name, args.get(1)) {
            ("matches" | "find" | "findAll", Some(Node::Constant(Value::String(pattern)))) => self.pattern(pattern)?,
            _ => None,
        };
        Ok(Node::Call(Box::new(CallNode {
            function: function.name.clone(),
            overload,
            stops_at_error: args.len() > 2 || choice || pattern.is_some() || one.is_some_and(|o| o.stops_at_error),
            args,
            does,
            pattern,
        })))
    }

    /// Compiles a pattern that is written in the expression. Beyond some of them they are compiled when they are used.
    fn pattern(&mut self, pattern: &str) -> Result<Option<regex::Regex>, Fault> {
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return library::check_pattern(pattern).map(|()| None).or_else(refused);
        }
        library::compile(pattern).map(Some).or_else(refused)
    }

    fn slot(&mut self) -> usize {
        self.used += 1;
        self.slots = self.slots.max(self.used);
        self.used - 1
    }

    fn fold(&mut self, fold: &'c Comprehension) -> Planned {
        let init = self.plan(&fold.init)?;
        let range = self.plan(&fold.range)?;
        let (depth, used) = (self.locals.len(), self.used);
        let accumulator = self.slot();
        self.locals.push((fold.accu_var.clone(), accumulator));
        let variable = self.slot();
        self.locals.push((fold.iter_var.clone(), variable));
        let mut second = None;
        if let Some(name) = &fold.iter_var2 {
            let at = self.slot();
            self.locals.push((name.clone(), at));
            second = Some(at);
        }
        let condition = self.plan(&fold.condition)?;
        let step = self.step(fold)?;
        self.locals.truncate(depth + 1);
        let result = self.plan(&fold.result)?;
        self.locals.truncate(depth);
        self.used = used;
        Ok(Node::Fold(Box::new(FoldNode {
            range,
            init,
            accumulator,
            variable,
            second,
            condition,
            step,
            result,
        })))
    }

    fn step(&mut self, fold: &'c Comprehension) -> Result<Step, Fault> {
        let accu = |expr: &Expr| matches!(&expr.kind, Kind::Ident(name) if *name == fold.accu_var);
        let empty = match &fold.init.kind {
            Kind::List { elements, .. } => elements.is_empty(),
            Kind::Map(entries) => entries.is_empty(),
            _ => false,
        };
        let (filter, more) = match &fold.step.kind {
            Kind::Call(call) if &*call.function == "_?_:_" && accu(&call.args[2]) => {
                (Some(&call.args[0]), &call.args[1])
            }
            _ => (None, &fold.step),
        };
        let parts = match &more.kind {
            Kind::Call(call) if empty && call.args.first().is_some_and(accu) => {
                match (&*call.function, &call.args[1..]) {
                    (
                        "_+_",
                        [
                            Expr {
                                kind: Kind::List { elements, optional },
                                ..
                            },
                        ],
                    ) if elements.len() == 1 && optional.is_empty() => Some((vec![&elements[0]], Gather::List)),
                    ("cel.@mapInsert", [entries]) => Some((vec![entries], Gather::Entries)),
                    ("cel.@mapInsert", [key, value]) => Some((vec![key, value], Gather::Entry)),
                    _ => None,
                }
            }
            _ => None,
        };
        let Some((parts, kind)) = parts else {
            return Ok(Step::Value(self.plan(&fold.step)?));
        };
        let filter = filter.map(|f| self.plan(f)).transpose()?;
        let parts = parts.into_iter().map(|p| self.plan(p)).collect::<Result<_, _>>()?;
        Ok(Step::Gather { filter, parts, kind })
    }
}

impl Attribute {
    /// Selects something of the attribute; of a choice, of both sides.
    fn qualify(&mut self, qualifier: &Arc<Qualifier>) {
        match &mut self.base {
            Base::Choice(choice) => {
                choice.yes.qualify(qualifier);
                choice.no.qualify(qualifier);
            }
            _ => self.qualifiers.push(qualifier.clone()),
        }
    }
}

fn constant(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(n) => Value::Int(*n),
        Literal::Uint(n) => Value::Uint(*n),
        Literal::Double(n) => Value::Double(*n),
        Literal::String(text) => Value::String(Text::Owned(text.clone())),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}

/// A node as an attribute of which something may be selected.
fn attribute(node: Node) -> Attribute {
    match node {
        Node::Attribute(attribute) | Node::Test(attribute) => *attribute,
        other => Attribute {
            base: Base::Value(Box::new(other)),
            qualifiers: Vec::new(),
        },
    }
}

fn choice(args: Vec<Node>) -> Planned {
    let Ok([condition, yes, no]) = <[Node; 3]>::try_from(args) else {
        return error("no such overload");
    };
    Ok(Node::Attribute(Box::new(Attribute {
        base: Base::Choice(Box::new(Choice {
            condition,
            yes: attribute(yes),
            no: attribute(no),
        })),
        qualifiers: Vec::new(),
    })))
}

fn index(args: Vec<Node>, optional: bool) -> Planned {
    let Ok([operand, index]) = <[Node; 2]>::try_from(args) else {
        return error("no such overload");
    };
    let mut attribute = attribute(operand);
    let key = match index {
        Node::Constant(value) => match value {
            Value::String(_) | Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::Double(_) => {
                Key::Constant(value)
            }
            other => return error(format!("invalid qualifier type: {}", other.go_type())),
        },
        Node::Attribute(attribute) | Node::Test(attribute) => Key::Attribute(*attribute),
        other => Key::Value(other),
    };
    attribute.qualify(&Arc::new(Qualifier {
        key,
        optional,
        test: false,
        of_object: false,
    }));
    Ok(Node::Attribute(Box::new(attribute)))
}

fn list(elements: Vec<Node>, optional: Vec<bool>) -> Node {
    let constant = elements.iter().all(|e| matches!(e, Node::Constant(_)));
    if !constant || optional.contains(&true) {
        return Node::List { elements, optional };
    }
    let items = elements.into_iter().filter_map(|e| match e {
        Node::Constant(value) => Some(value),
        _ => None,
    });
    Node::Constant(Value::list(items.collect()))
}

fn map(entries: Vec<EntryNode>) -> Node {
    let constant = |e: &EntryNode| {
        matches!(
            (&e.key, &e.value, e.optional),
            (Node::Constant(_), Node::Constant(_), false)
        )
    };
    if !entries.iter().all(constant) {
        return Node::Map(entries);
    }
    let entries = entries.into_iter().filter_map(|e| match (e.key, e.value) {
        (Node::Constant(key), Node::Constant(value)) => Some((key, value)),
        _ => None,
    });
    let entries: Entries<'static> = entries.collect();
    Node::Constant(Value::Map(Map::Values(Arc::new(entries))))
}

/// The items of a constant list as a set, when all are scalars that can be looked up.
fn set(node: &Node) -> Option<Entries<'static>> {
    let Node::Constant(Value::List(List::Values(items))) = node else {
        return None;
    };
    let scalar = |v: &Value<'_>| {
        matches!(
            v,
            Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_)
        )
    };
    items
        .iter()
        .all(scalar)
        .then(|| items.iter().map(|v| (v.clone(), Value::Bool(true))).collect())
}

/// What a call does, and whether it is chosen by the types of its values.
fn does(function: &Function, overload: &str) -> Result<(Does, bool), Fault> {
    if let Some(singleton) = function.singleton {
        return Ok((Does::Plain(singleton), false));
    }
    let bound = function.overloads.iter().filter_map(|o| Some((o, o.implementation?)));
    let bound: Vec<_> = bound.collect();
    let one = bound.iter().find(|(o, _)| &*o.id == overload);
    let only = (bound.len() == 1).then(|| bound.first()).flatten();
    if let Some((o, implementation)) = one.or(only) {
        return Ok((Does::typed(*implementation, &o.args, function.unguarded), false));
    }
    if bound.is_empty() {
        return error(format!("no such overload: {}", function.name));
    }
    let all = bound
        .into_iter()
        .map(|(o, implementation)| (implementation, Arc::from(&o.args[..]), function.unguarded));
    Ok((Does::Choice(all.collect()), true))
}
