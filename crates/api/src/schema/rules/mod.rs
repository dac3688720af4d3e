//! Rules that upstream's types declare of their values, from `data/rules.txt`: what they say of an object, and of a change of it,
//! and the features that fields belong to.
//! <https://kubernetes.io/docs/reference/using-api/declarative-validation/>

mod check;
mod format;
mod off;
mod read;

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

pub use format::Format;
pub use off::FieldPath;
pub use read::TableError;
use serde_json::Value;

use crate::field::FieldErrors;
use crate::schema::{Schema, TypeId};

/// A rule of a value.
#[derive(Debug, Clone, PartialEq)]
enum Rule {
    Required,
    /// A value that is not there is asked nothing more.
    Optional,
    Forbidden,
    Immutable,
    /// This change of the value may not be made.
    Update(Change),
    MaxItems(usize),
    /// In characters.
    MaxLength(usize),
    MaxBytes(usize),
    Minimum(i64),
    Maximum(i64),
    Format(Format),
    Enum(Vec<Box<str>>),
    /// No two items alike in these keys; without keys, none alike.
    Unique(Vec<Box<str>>),
    /// Items of the stored list are found by these keys; nobody asks here that they are unique.
    Match(Vec<Box<str>>),
    EachValue(Box<Rule>),
    EachKey(Box<Rule>),
    Subfield(Box<str>, Box<Rule>),
    /// Where this feature is on, or off.
    Gated(Box<str>, bool, Box<Rule>),
    /// Of the items with this key and value, at most one.
    AtMostOneItem(Vec<(Box<str>, Box<str>)>),
}

/// A change that a field may not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Set,
    Unset,
    Modify,
}

/// A member of a struct that is there by the value of another.
#[derive(Debug, Clone, PartialEq)]
struct Mode {
    discriminator: Box<str>,
    value: Box<str>,
    member: Box<str>,
    rule: Rule,
}

/// The rules of one struct.
#[derive(Debug, Clone, Default, PartialEq)]
struct TypeRules {
    /// Exactly one of these fields is there.
    union: Vec<Box<str>>,
    /// A member that no line has for the discriminator's value is forbidden.
    modes: Vec<Mode>,
    fields: HashMap<Box<str>, Vec<Rule>>,
    /// The places of the struct's fields in the order in which they are asked: those with rules change places with each other, as the
    /// table has them, which is the order of upstream's source.
    order: Vec<usize>,
    /// The features that fields belong to.
    gates: HashMap<Box<str>, Vec<Box<str>>>,
}

/// The rules of all types.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    of: HashMap<TypeId, TypeRules>,
    /// Of each type, whether it or a type in it has rules.
    reaching: Vec<bool>,
}

impl Rules {
    /// Those of the built-in types. Parsed on first use.
    ///
    /// # Errors
    /// When the table has a line that this program does not know: without its rules everything would be let through.
    pub fn builtin() -> Result<&'static Rules, &'static TableError> {
        static RULES: OnceLock<Result<Rules, TableError>> = OnceLock::new();
        RULES.get_or_init(|| read::read(TABLE, Schema::builtin())).as_ref()
    }

    /// The names of the features that fields belong to.
    pub fn gates(&self) -> BTreeSet<&str> {
        let of = self.of.values().flat_map(|rules| rules.gates.values());
        of.flatten().map(|name| &**name).collect()
    }

    /// Everything in which an object breaks the rules of its type; `old` is what it replaces. What is as it was is not asked again.
    pub fn check(&self, schema: &Schema, root: TypeId, new: &Value, old: Option<&Value>) -> FieldErrors {
        check::check(self, schema, root, new, old)
    }
}

const TABLE: &str = include_str!("../../../data/rules.txt");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_is_read() {
        let rules = Rules::builtin().unwrap();
        assert!(rules.of.len() > 50);
    }

    #[test]
    fn a_line_that_is_not_known_is_told_and_not_passed_over() {
        let told = |table: &str| read::read(table, Schema::builtin()).unwrap_err().to_string();
        assert_eq!(told("type core.v1.Gone\n"), "no type core.v1.Gone");
        assert_eq!(told(" name required\n"), "a rule of no type");
        let table = "type core.v1.Pod\n spec newRule=1\n";
        assert_eq!(told(table), "cannot read \" spec newRule=1\"");
    }
}
