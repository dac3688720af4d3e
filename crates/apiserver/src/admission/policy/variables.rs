//! The variables of a policy as its expressions read them: each is evaluated once for a request, and costs when it is read
//! (`k8s.io/apiserver/pkg/admission/plugin/cel/composition.go`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cel::{Activation, Fault, Host, Limits, Map, Outcome, Value as Cel};

use super::compiled::Variable;

/// A variable that was evaluated, and those before it.
pub struct Known<'k> {
    before: Option<&'k Known<'k>>,
    name: &'k str,
    value: Outcome<'k>,
    /// Its own cost, and that of the variables that it read.
    cost: u64,
    read: AtomicBool,
}

/// The variables that an expression may read, and what reading them has cost.
pub struct Composed<'k> {
    known: Option<&'k Known<'k>>,
    cost: AtomicU64,
}

impl Host for Composed<'_> {
    fn member<'h>(&'h self, name: &str) -> Option<Outcome<'h>> {
        let mut at = self.known;
        while let Some(known) = at {
            if known.name == name {
                if !known.read.swap(true, Ordering::Relaxed) {
                    self.cost.fetch_add(known.cost, Ordering::Relaxed);
                }
                return Some(known.value.clone());
            }
            at = known.before;
        }
        None
    }

    fn names(&self) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        let mut at = self.known;
        while let Some(known) = at {
            names.push(known.name.into());
            at = known.before;
        }
        names
    }
}

impl<'k> Composed<'k> {
    /// The variables that were evaluated so far; none of them is read yet.
    pub fn new(known: Option<&'k Known<'k>>) -> Composed<'k> {
        Composed {
            known,
            cost: AtomicU64::new(0),
        }
    }

    /// What the variables have cost that were read since this was last asked.
    pub fn take_cost(&self) -> u64 {
        self.cost.swap(0, Ordering::Relaxed)
    }

    /// Forgets what was read: another group of expressions pays for itself.
    pub fn forget(&self) {
        let mut at = self.known;
        while let Some(known) = at {
            known.read.store(false, Ordering::Relaxed);
            at = known.before;
        }
        self.cost.store(0, Ordering::Relaxed);
    }
}

/// What an expression of a policy reads.
pub struct Reads<'r, 'a> {
    pub request: &'r dyn Activation<'a>,
    pub composed: &'r Composed<'r>,
    /// It may ask the authorizer.
    pub authorizer: bool,
}

impl<'r, 'a: 'r> Activation<'r> for Reads<'r, 'a> {
    fn resolve(&self, name: &str) -> Option<Outcome<'r>> {
        match name {
            "variables" => Some(Ok(Cel::Map(Map::Host(self.composed)))),
            name if name.starts_with("authorizer") && !self.authorizer => None,
            name => self.request.resolve(name),
        }
    }
}

/// Evaluates variables in their order, and then does something with them.
pub fn with<'k, 'a: 'k, R>(
    variables: &'k [Variable],
    request: &'k dyn Activation<'a>,
    known: Option<&'k Known<'k>>,
    then: &mut dyn for<'t> FnMut(Option<&'t Known<'t>>) -> R,
) -> R {
    let Some((first, rest)) = variables.split_first() else {
        return then(known);
    };
    if !first.used {
        return with(rest, request, known, then);
    }
    let composed = Composed::new(known);
    let (value, cost) = match &first.program {
        Err(why) => {
            let name = api::go::quote(&first.name);
            (failed(format!("composited variable {name} fails to compile: {why}")), 0)
        }
        Ok(program) => {
            let reads = Reads {
                request,
                composed: &composed,
                authorizer: true,
            };
            let done = program.evaluate(&reads, &Limits::default());
            let cost = done.cost.saturating_add(composed.take_cost());
            let value = done.outcome.or_else(|fault| {
                let name = api::go::quote(&first.name);
                failed(format!("composited variable {name} fails to evaluate: {fault}"))
            });
            (value, cost)
        }
    };
    composed.forget();
    let known = Known {
        before: known,
        name: &first.name,
        value,
        cost,
        read: AtomicBool::new(false),
    };
    with(rest, request, Some(&known), then)
}

fn failed<'k>(why: String) -> Outcome<'k> {
    Err(Fault::Error(why.into()))
}
