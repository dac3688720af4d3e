//! Expressions as the parser makes them: trees whose nodes have numbers, by which positions, types and references are kept.

use std::sync::Arc;

/// The number of a node, from 1; unique within an expression.
pub type Id = u32;

/// A constant that stands in an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

/// A node of an expression.
#[derive(Debug, Clone)]
pub struct Expr {
    pub id: Id,
    pub kind: Kind,
}

/// A node's form.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Stands where an error was reported.
    Unspecified,
    Literal(Literal),
    Ident(Arc<str>),
    Select(Box<Select>),
    Call(Box<Call>),
    /// `optional` holds the places of the elements that are marked `?`.
    List {
        elements: Vec<Expr>,
        optional: Vec<usize>,
    },
    Map(Vec<Entry>),
    Struct {
        name: Arc<str>,
        fields: Vec<Field>,
    },
    Comprehension(Box<Comprehension>),
}

/// `operand.field`, or `has(operand.field)`.
#[derive(Debug, Clone)]
pub struct Select {
    pub operand: Expr,
    pub field: Arc<str>,
    pub test_only: bool,
}

/// A call; operators are calls of functions such as `_+_`.
#[derive(Debug, Clone)]
pub struct Call {
    pub function: Arc<str>,
    pub target: Option<Expr>,
    pub args: Vec<Expr>,
}

/// An entry of a map.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: Id,
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

/// A field of an object.
#[derive(Debug, Clone)]
pub struct Field {
    pub id: Id,
    pub name: Arc<str>,
    pub value: Expr,
    pub optional: bool,
}

/// What macros such as `all` and `map` become: a fold over a list or a map.
#[derive(Debug, Clone)]
pub struct Comprehension {
    pub range: Expr,
    pub iter_var: Arc<str>,
    /// The value in a fold that names keys and values.
    pub iter_var2: Option<Arc<str>>,
    pub accu_var: Arc<str>,
    pub init: Expr,
    pub condition: Expr,
    pub step: Expr,
    pub result: Expr,
}

impl Expr {
    pub(crate) fn unspecified(id: Id) -> Expr {
        Expr {
            id,
            kind: Kind::Unspecified,
        }
    }

    /// The text of a string literal.
    pub(crate) fn as_text(&self) -> Option<&Arc<str>> {
        match &self.kind {
            Kind::Literal(Literal::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Calls `visit` with the nodes directly below.
    pub(crate) fn children<'e>(&'e self, visit: &mut dyn FnMut(&'e Expr)) {
        match &self.kind {
            Kind::Unspecified | Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select(select) => visit(&select.operand),
            Kind::Call(call) => {
                call.target.iter().for_each(&mut *visit);
                call.args.iter().for_each(visit);
            }
            Kind::List { elements, .. } => elements.iter().for_each(visit),
            Kind::Map(entries) => {
                for entry in entries {
                    visit(&entry.key);
                    visit(&entry.value);
                }
            }
            Kind::Struct { fields, .. } => fields.iter().for_each(|f| visit(&f.value)),
            Kind::Comprehension(fold) => {
                visit(&fold.range);
                visit(&fold.init);
                visit(&fold.condition);
                visit(&fold.step);
                visit(&fold.result);
            }
        }
    }
}

/// A parsed expression and where its nodes stand in the text.
#[derive(Debug, Clone)]
pub struct Ast {
    pub expr: Expr,
    /// Code points from the beginning, by node number.
    pub(crate) offsets: Vec<u32>,
}

impl Ast {
    /// Where a node begins, in code points from the beginning of the text.
    pub fn offset(&self, id: Id) -> u32 {
        self.offsets.get(id as usize).copied().unwrap_or_default()
    }
}
