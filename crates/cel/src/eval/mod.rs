//! Evaluation: a checked expression is planned once, and evaluated by a meter that counts what it costs and stops at a limit.

mod attribute;
mod call;
mod fold;
mod frame;
mod plan;
mod program;

use std::sync::Arc;

pub use self::frame::{Activation, Interrupt};
pub use self::program::{Evaluation, Limits, Program};
use crate::environment::Implementation;
use crate::types::Type;
use crate::value::{Entries, Value};

/// A part of a plan.
#[derive(Debug)]
pub(crate) enum Node {
    Constant(Value<'static>),
    /// A variable or a value, and what is selected of it.
    Attribute(Box<Attribute>),
    /// `has(...)`.
    Test(Box<Attribute>),
    Or(Box<[Node; 2]>),
    And(Box<[Node; 2]>),
    Equal {
        sides: Box<[Node; 2]>,
        negated: bool,
    },
    Call(Box<CallNode>),
    /// `@not_strictly_false(x)`, which takes errors.
    NotStrictlyFalse(Box<Node>),
    /// `x.or(y)` and `x.orValue(y)`.
    OptionalOr {
        sides: Box<[Node; 2]>,
        value: bool,
    },
    /// `x in [...]` over constants.
    Member {
        item: Box<Node>,
        of: Box<Entries<'static>>,
    },
    List {
        elements: Vec<Node>,
        optional: Vec<bool>,
    },
    Map(Vec<EntryNode>),
    Object {
        name: Arc<str>,
        fields: Vec<FieldNode>,
    },
    Fold(Box<FoldNode>),
}

/// An entry of a map.
#[derive(Debug)]
pub(crate) struct EntryNode {
    pub key: Node,
    pub value: Node,
    pub optional: bool,
}

/// A field of an object.
#[derive(Debug)]
pub(crate) struct FieldNode {
    pub name: Arc<str>,
    pub value: Node,
    pub optional: bool,
}

/// A call.
#[derive(Debug)]
pub(crate) struct CallNode {
    pub function: Arc<str>,
    /// The signature, or nothing when several are possible.
    pub overload: Arc<str>,
    pub args: Vec<Node>,
    pub does: Does,
    /// Arguments are evaluated up to the first error.
    pub stops_at_error: bool,
    /// A regular expression that is written in the call.
    pub pattern: Option<regex::Regex>,
}

/// An implementation, the types of its arguments, and whether those are not compared.
pub(crate) type Candidate = (Implementation, Arc<[Type]>, bool);

/// How a call finds what it does.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    /// One implementation for values of any type.
    Plain(Implementation),
    /// One implementation for values of these types.
    Typed(Implementation, Arc<[Type]>),
    /// The first whose types the values have.
    Choice(Arc<[Candidate]>),
}

/// Where an attribute begins.
#[derive(Debug)]
pub(crate) enum Base {
    /// A variable of the environment, by its place in the program's list.
    Global(usize),
    /// A variable of a fold, by its place.
    Local(usize),
    Value(Box<Node>),
    Choice(Box<Choice>),
}

/// `a ? b : c`.
#[derive(Debug)]
pub(crate) struct Choice {
    pub condition: Node,
    pub yes: Attribute,
    pub no: Attribute,
}

/// A variable or a value, and what is selected of it.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub base: Base,
    pub qualifiers: Vec<Arc<Qualifier>>,
}

/// One selection.
#[derive(Debug)]
pub(crate) struct Qualifier {
    pub key: Key,
    pub optional: bool,
    /// Only whether it is there.
    pub test: bool,
    /// The field of an object type that expressions build.
    pub of_object: bool,
}

/// What is selected by.
#[derive(Debug)]
pub(crate) enum Key {
    Constant(Value<'static>),
    /// An attribute, whose variable costs nothing here.
    Attribute(Attribute),
    Value(Node),
}

/// A fold.
#[derive(Debug)]
pub(crate) struct FoldNode {
    pub range: Node,
    /// What the accumulator begins with, evaluated when it is first read.
    pub init: Node,
    pub accumulator: usize,
    pub variable: usize,
    pub second: Option<usize>,
    pub condition: Node,
    pub step: Step,
    pub result: Node,
}

/// What a turn of a fold does.
#[derive(Debug)]
pub(crate) enum Step {
    Value(Node),
    /// Adds to the list or map that is gathered, in place, when the filter holds.
    Gather {
        filter: Option<Node>,
        /// The items of a list, or a key and a value, or a map of entries.
        parts: Vec<Node>,
        kind: Gather,
    },
}

/// What a fold gathers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gather {
    List,
    Entry,
    Entries,
}
