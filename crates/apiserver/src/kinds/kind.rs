//! `Kind`: all that is particular to one kind of object, as one constant in the kind's own file.

use api::apply::Reset;
use api::names;
use serde_json::Value;

use crate::http::user::User;
use crate::kinds::check::Check;
use crate::kinds::columns::{self, BuiltinColumn};
use crate::kinds::metadata::Asked;
use crate::kinds::part::{Part, STATUS};
use crate::kinds::rules::Errors;
use crate::tree::keep;

/// How `metadata.generation` is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    None,
    /// One, whatever changes.
    One,
    /// Counts changes of everything but metadata and status.
    Counted,
    /// Counts changes of everything but metadata and status, and of the annotations.
    WithAnnotations,
    /// Counts changes of everything but metadata and status, and of the labels.
    WithLabels,
    /// Counts changes of everything but metadata and status; there is none before the first.
    Changes,
}

/// A write in the eyes of a kind that prepares its new object.
#[derive(Debug)]
pub struct Writer<'a> {
    /// The present time as objects carry it.
    pub now: &'a str,
    pub user: &'a User,
}

/// A field of a kind: the keys that lead to it; `*` stands for every item of a list or map.
pub type Path = &'static [&'static str];

/// The version that objects are stored in, where a kind is served in several, and the function that moves them between the two.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    /// `v1` or `autoscaling/v2`.
    pub version: &'static str,
    /// `to` is the version wanted.
    pub convert: fn(tree: Value, to: &str) -> Value,
}

/// A kind that the server holds back from its end until something else is done.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    /// The finalizer that the server itself sets when the deletion begins.
    pub finalizer: Option<&'static str>,
    /// Returns whether this object is held back.
    pub holds: fn(object: &Value) -> bool,
    /// Marks the object as being on its way out.
    pub mark: fn(object: &mut Value, now: &str),
}

/// Finds the default among objects.
pub type DefaultOf = fn(&mut dyn Iterator<Item = Value>) -> Option<String>;

/// The part of the server that a write of this kind changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    Nothing,
    /// A definition serves or withdraws a custom resource.
    Definition,
    /// The `Available` condition of what this server serves itself is kept true.
    ApiService,
    /// A definition that is being deleted may have waited for this object.
    CustomObject,
}

/// All that is particular to a kind.
#[derive(Debug)]
pub struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    pub plural: &'static str,

    // its life
    /// `spec` and `status` are written by different paths.
    pub has_status: bool,
    pub generation: Generation,
    /// The generation counts what is sent, be it of a feature that is off.
    pub counts_sent: bool,
    /// PUT of a name that does not exist creates it.
    pub create_on_update: bool,
    /// An update may leave out the resourceVersion.
    pub unconditional_update: bool,
    /// Normalizes each object that is read of a client, before its fields are recorded.
    pub read: fn(&mut Value),
    /// Returns the part of a status that a creation may bring, which is nobody's field then.
    pub status_on_create: fn(Value) -> Option<Value>,
    /// Sets the fields that clients may not, before validation.
    pub prepare_create: fn(&mut Value, &Writer),
    /// Restores the fields that this path may not change.
    pub prepare_update: fn(new: &mut Value, old: &Value, now: &str),
    /// Keeps, besides the status, what an update of the object itself leaves out.
    pub keep: fn(new: &mut Value, old: &Value),
    /// The fields that a write of the object itself leaves as they are.
    pub reset: Reset,
    /// The subresources that are views of the whole object, of which each changes a part.
    pub parts: &'static [Part],
    /// The fields of features that are off.
    pub disabled: &'static [Path],
    /// The way to the specification of pods in it; empty where there is none.
    pub pod_spec: Path,
    /// Its writes take and give back addresses and ports.
    pub allocates: bool,

    // its rules
    /// Returns the faults of a name.
    pub name: fn(&str) -> Vec<String>,
    /// `metadata.generateName` has to be right besides the name that it gave.
    pub checks_generate_name: bool,
    /// The rules of metadata that are asked besides those of all objects.
    pub metadata: Asked,
    /// Returns everything in which an object breaks the rules of its kind.
    pub validate: fn(&Check) -> Errors,
    /// Returns the field that only namespaces marked for admin access may have.
    pub admin_access: fn(&Check) -> Option<String>,
    /// Returns the signer whose right to sign this write needs, once nothing else is wrong with it.
    pub signs: fn(&Check) -> Option<String>,
    /// Warns of a new object as its writer sent it.
    pub warn_before_creation: fn(&mut Vec<String>, new: &Value),
    /// Warns of a new object, or of a change of `old`.
    pub warn: fn(&mut Vec<String>, new: &Value, old: Option<&Value>),
    /// What each request for this kind is warned of.
    pub deprecation: Option<&'static str>,
    /// The group that errors name, where it is not its own.
    pub error_group: Option<&'static str>,

    // its storage
    /// The folder of its objects under `/registry/`, where it is not the plural.
    pub place: Option<&'static str>,
    pub stored: Option<Stored>,
    /// Its objects end an hour after they were last written.
    pub expires: bool,
    /// The value of a selectable field that is absent.
    pub absent: fn(path: &str) -> &'static str,
    /// The value of a selectable field that stands elsewhere in what is stored.
    pub selected: for<'a> fn(stored: &'a Value, path: &str) -> Option<&'a str>,

    // its end
    /// Seconds a deletion waits for the object to end by itself; `None` deletes at once.
    pub grace: fn(object: &Value, asked: Option<i64>) -> Option<i64>,
    /// Dependents survive the deletion unless the caller says otherwise.
    pub orphan_by_default: bool,
    /// Nothing depends on such objects, whatever the caller says of it.
    pub no_dependents: bool,
    /// What a client is warned of that deletes objects and does not say what becomes of their dependents.
    pub open_dependents: Option<&'static str>,
    pub hold: Option<Hold>,
    /// A deletion is answered with the object that is gone.
    pub returns_deleted: bool,
    pub follow: Follow,

    // its face
    /// Columns of its table; a kind without any of its own shows its name and when it was created, as upstream's default.
    pub columns: &'static [BuiltinColumn],
    /// The fields that the columns read, for kinds whose objects are many or large.
    pub reads: Option<&'static [&'static str]>,
    /// Returns the name of the one object among all of a list that its rows mark as the default.
    pub default_of: Option<DefaultOf>,
    /// Returns the reason and the message of a row whose object has come to an end.
    pub completed: fn(&Value) -> Option<(&'static str, &'static str)>,
}

impl Kind {
    /// A kind with a status, and the ways that most kinds have.
    pub const fn new(group: &'static str, plural: &'static str, validate: fn(&Check) -> Errors) -> Kind {
        Kind {
            group,
            plural,
            has_status: true,
            generation: Generation::None,
            counts_sent: false,
            create_on_update: false,
            unconditional_update: true,
            read: |_| {},
            status_on_create: |_| None,
            prepare_create: |_, _| {},
            prepare_update: |_, _, _| {},
            keep: |_, _| {},
            reset: Reset::Except(&[&["status"]]),
            parts: &[STATUS],
            disabled: &[],
            pod_spec: &[],
            allocates: false,
            name: names::dns1123_subdomain_errors,
            checks_generate_name: true,
            metadata: Asked::DEFAULT,
            validate,
            admin_access: |_| None,
            signs: |_| None,
            warn_before_creation: |_, _| {},
            warn: |_, _, _| {},
            deprecation: None,
            error_group: None,
            place: None,
            stored: None,
            expires: false,
            absent: |_| "",
            selected: |_, _| None,
            grace: |_, _| None,
            orphan_by_default: false,
            no_dependents: false,
            open_dependents: None,
            hold: None,
            returns_deleted: false,
            follow: Follow::Nothing,
            columns: columns::DEFAULT,
            reads: None,
            default_of: None,
            completed: |_| None,
        }
    }

    /// A kind without a status.
    pub const fn plain(group: &'static str, plural: &'static str, validate: fn(&Check) -> Errors) -> Kind {
        Kind {
            has_status: false,
            reset: Reset::NOTHING,
            parts: &[],
            ..Kind::new(group, plural, validate)
        }
    }

    /// A question or an order that is answered and never stored: nothing but its schema is asked of it here.
    pub const fn answered(group: &'static str, plural: &'static str) -> Kind {
        Kind::plain(group, plural, no_rules)
    }

    /// The part of the object that a subresource writes.
    pub fn part(&self, subresource: &str) -> Option<&'static Part> {
        self.parts.iter().find(|part| part.name == subresource)
    }

    /// The fields that writes by a path leave as they are, and that nobody comes to manage by it; `subresource` is empty for the
    /// object itself. Upstream's strategies return them from `GetResetFields`.
    pub fn reset_fields(&self, subresource: &str) -> Reset {
        match self.part(subresource) {
            Some(part) => part.reset,
            None if subresource.is_empty() => self.reset,
            None => Reset::NOTHING,
        }
    }

    /// Undoes in `new` what a write of this path may not change.
    pub fn confine(&self, subresource: &str, new: &mut Value, old: &Value) {
        match self.part(subresource) {
            Some(part) => (part.confine)(part, new, old),
            None if subresource.is_empty() => {
                if self.has_status {
                    keep(new, old, "status");
                }
                (self.keep)(new, old);
            }
            None => {}
        }
    }

    /// Upstream's key prefix of its objects.
    pub fn prefix(&self) -> String {
        format!("/registry/{}/", self.place.unwrap_or(self.plural))
    }
}

/// The rules of a kind of which upstream has none besides those of metadata.
pub fn no_rules(_: &Check) -> Errors {
    Errors::new()
}
