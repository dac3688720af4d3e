//! The authorizer: `authorizer.group('').resource('pods').check('list').allowed()`. Who answers is behind a trait.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::cost::{Actual, Estimate, Estimated, Range};
use crate::environment::Declarations;
use crate::value::{Fault, Opaque, Outcome, Value, error, no_overload};

/// What is asked of an authorizer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Check {
    /// Namespace and name of the service account that is asked for; `None` for the user of the request.
    pub service_account: Option<(String, String)>,
    /// `get`, `list` and so on.
    pub verb: String,
    /// The path of a request that is for no resource.
    pub path: Option<String>,
    /// The group of the resource; empty for the core group.
    pub group: String,
    /// The plural of the resource.
    pub resource: String,
    /// `status` and the like, or empty.
    pub subresource: String,
    /// Empty for all, and for what has none.
    pub namespace: String,
    /// Empty for all.
    pub name: String,
    /// As written; what does not parse is for the authorizer to say.
    pub field_selector: String,
    /// As written, too.
    pub label_selector: String,
}

/// What an authorizer answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The reason, in the authorizer's words.
    pub reason: String,
    /// Why it could not decide.
    pub error: Option<String>,
}

/// Somebody who says whether the user of a request may do something.
pub trait Authorizer: Send + Sync {
    /// Decides.
    fn authorize(&self, check: &Check) -> Decision;
}

impl<'a> Value<'a> {
    /// The value of the variable `authorizer`.
    pub fn authorizer(authorizer: Arc<dyn Authorizer>) -> Value<'a> {
        Value::opaque(Asked::new(AUTHORIZER, authorizer, Check::default()))
    }

    /// The value of `authorizer.requestResource`: a check of the resource of the request.
    pub fn resource_check(authorizer: Arc<dyn Authorizer>, check: Check) -> Value<'a> {
        Value::opaque(Asked::new(RESOURCE, authorizer, check))
    }
}

const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
const PATH: &str = "kubernetes.authorization.PathCheck";
const GROUP: &str = "kubernetes.authorization.GroupCheck";
const RESOURCE: &str = "kubernetes.authorization.ResourceCheck";
const DECISION: &str = "kubernetes.authorization.Decision";

/// A question that is being put together.
#[derive(Clone)]
struct Asked {
    kind: &'static str,
    authorizer: Arc<dyn Authorizer>,
    check: Check,
}

impl Asked {
    fn new(kind: &'static str, authorizer: Arc<dyn Authorizer>, check: Check) -> Asked {
        Asked {
            kind,
            authorizer,
            check,
        }
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind, self.check)
    }
}

impl Opaque for Asked {
    fn type_name(&self) -> &str {
        self.kind
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn equals(&self, _: &dyn Opaque) -> Option<bool> {
        None
    }

    fn show(&self) -> String {
        self.kind.into()
    }
}

impl Opaque for Decision {
    fn type_name(&self) -> &str {
        DECISION
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn equals(&self, _: &dyn Opaque) -> Option<bool> {
        None
    }

    fn show(&self) -> String {
        DECISION.into()
    }
}

pub(super) fn declare(into: &mut Declarations) {
    let mut step = |name: &str, id: &str, from: &str, to: &str, does: crate::environment::Implementation| {
        into.member(name, id, &format!("{from}, string -> {to}"), does);
    };
    step("path", "authorizer_path", AUTHORIZER, PATH, |args| {
        not_blank(args, "path")?;
        ask(args, PATH, |check, path| check.path = Some(path))
    });
    step("group", "authorizer_group", AUTHORIZER, GROUP, |args| {
        ask(args, GROUP, |check, group| check.group = group)
    });
    step("resource", "groupcheck_resource", GROUP, RESOURCE, |args| {
        not_blank(args, "resource")?;
        ask(args, RESOURCE, |check, resource| check.resource = resource)
    });
    step("subresource", "resourcecheck_subresource", RESOURCE, RESOURCE, |args| {
        ask(args, RESOURCE, |check, subresource| check.subresource = subresource)
    });
    step("namespace", "resourcecheck_namespace", RESOURCE, RESOURCE, |args| {
        ask(args, RESOURCE, |check, namespace| check.namespace = namespace)
    });
    step("name", "resourcecheck_name", RESOURCE, RESOURCE, |args| {
        ask(args, RESOURCE, |check, name| check.name = name)
    });
    step("check", "pathcheck_check", PATH, DECISION, decide);
    step("check", "resourcecheck_check", RESOURCE, DECISION, decide);
    let account = format!("{AUTHORIZER}, string, string -> {AUTHORIZER}");
    into.member("serviceAccount", "authorizer_serviceaccount", &account, service_account);
    let mut read = |name: &str, to: &str, does: crate::environment::Implementation| {
        into.member(name, &format!("decision_{name}"), &format!("{DECISION} -> {to}"), does);
    };
    read("errored", "bool", |args| {
        Ok(Value::Bool(decision(args)?.error.is_some()))
    });
    read("error", "string", |args| {
        Ok(Value::text(decision(args)?.error.clone().unwrap_or_default()))
    });
    read("allowed", "bool", |args| Ok(Value::Bool(decision(args)?.allowed)));
    read("reason", "string", |args| {
        Ok(Value::text(decision(args)?.reason.as_str()))
    });
}

pub(super) fn declare_selectors(into: &mut Declarations) {
    let signature = format!("{RESOURCE}, string -> {RESOURCE}");
    into.member("fieldSelector", "authorizer_fieldselector", &signature, |args| {
        ask(args, RESOURCE, |check, selector| check.field_selector = selector)
    });
    into.member("labelSelector", "authorizer_labelselector", &signature, |args| {
        ask(args, RESOURCE, |check, selector| check.label_selector = selector)
    });
}

fn asked<'v>(args: &'v [Value<'_>]) -> Result<&'v Asked, Fault> {
    args[0].downcast::<Asked>().map_or_else(no_overload, Ok)
}

fn decision<'v>(args: &'v [Value<'_>]) -> Result<&'v Decision, Fault> {
    args[0].downcast::<Decision>().map_or_else(no_overload, Ok)
}

fn not_blank(args: &[Value<'_>], what: &str) -> Result<(), Fault> {
    match args[1].as_str() {
        Some(text) if text.trim().is_empty() => error(format!("{what} must not be empty")),
        _ => Ok(()),
    }
}

/// The question with one more thing said.
fn ask<'a>(args: &[Value<'a>], kind: &'static str, say: fn(&mut Check, String)) -> Outcome<'a> {
    let text = args[1].as_str().map_or_else(no_overload, Ok)?;
    let mut asked = asked(args)?.clone();
    asked.kind = kind;
    say(&mut asked.check, text.to_owned());
    Ok(Value::opaque(asked))
}

fn service_account<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (Some(namespace), Some(name)) = (args[1].as_str(), args[2].as_str()) else {
        return no_overload();
    };
    if !api::names::dns1123_subdomain_errors(name).is_empty() {
        return error("Invalid service account name");
    }
    if !api::names::dns1123_label_errors(namespace).is_empty() {
        return error("Invalid service account namespace");
    }
    let mut asked = asked(args)?.clone();
    asked.check.service_account = Some((namespace.to_owned(), name.to_owned()));
    Ok(Value::opaque(asked))
}

fn decide<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let verb = args[1].as_str().map_or_else(no_overload, Ok)?;
    let asked = asked(args)?;
    let check = Check {
        verb: verb.to_owned(),
        ..asked.check.clone()
    };
    Ok(Value::opaque(asked.authorizer.authorize(&check)))
}

/// A check may run twice in an expression, not more often.
const CHECK: u64 = 350_000;
const STEPS: [&str; 11] = [
    "serviceAccount",
    "path",
    "group",
    "resource",
    "subresource",
    "namespace",
    "name",
    "allowed",
    "reason",
    "error",
    "errored",
];

/// A selector is read once, and each two of its characters may be a requirement.
fn selector(size: Range) -> Range {
    let requirements = size.factor(0.5).factor(50.0);
    Range::fixed(10).add(size.factor(crate::cost::STRING)).add(requirements)
}

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    match call.function {
        "check" => Some(CHECK),
        "fieldSelector" | "labelSelector" if call.args.len() >= 2 => Some(selector(Range::fixed(call.own_size(1))).max),
        function => STEPS.contains(&function).then_some(1),
    }
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    match (call.function, &call.args[..]) {
        ("check", _) => Some(Estimate::cost(Range::fixed(CHECK))),
        ("fieldSelector" | "labelSelector", [text]) => Some(Estimate::cost(selector(call.size(text)))),
        (function, _) => STEPS.contains(&function).then(|| Estimate::cost(Range::fixed(1))),
    }
}
