//! Lists as sets (`ext.Sets`): `sets.contains`, `sets.equivalent`, `sets.intersects`.

use super::operators::list_contains;
use crate::cost::{Actual, Estimate, Estimated, Range};
use crate::environment::Declarations;
use crate::value::{Fault, List, Outcome, Value, no_overload};

pub(super) fn declare(into: &mut Declarations) {
    let signature = "list(T), list(T) -> bool";
    into.global("sets.contains", "list_sets_contains_list", signature, |args| {
        let (list, part) = both(args)?;
        contains(list, part)
    });
    into.global("sets.equivalent", "list_sets_equivalent_list", signature, |args| {
        let (a, b) = both(args)?;
        match contains(a, b)? {
            Value::Bool(true) => contains(b, a),
            other => Ok(other),
        }
    });
    into.global("sets.intersects", "list_sets_intersects_list", signature, |args| {
        let (a, b) = both(args)?;
        for item in a.iter() {
            if let Ok(item) = item
                && matches!(list_contains(b, &item), Ok(Value::Bool(true)))
            {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    });
}

fn both<'v, 'a>(args: &'v [Value<'a>]) -> Result<(&'v List<'a>, &'v List<'a>), Fault> {
    match (&args[0], &args[1]) {
        (Value::List(a), Value::List(b)) => {
            // comparing each with each costs more than an evaluation may
            if (a.len() as u64).saturating_mul(b.len() as u64) > crate::limits::PER_CALL {
                return Err(Fault::CostLimit);
            }
            Ok((a, b))
        }
        _ => no_overload(),
    }
}

fn contains<'a>(list: &List<'a>, part: &List<'a>) -> Outcome<'a> {
    for item in part.iter() {
        match list_contains(list, &item?)? {
            Value::Bool(true) => {}
            other => return Ok(other),
        }
    }
    Ok(Value::Bool(true))
}

/// How often a function compares each with each.
fn factor(overload: &str) -> Option<f64> {
    match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" => Some(1.0),
        "list_sets_equivalent_list" => Some(2.0),
        _ => None,
    }
}

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    let factor = factor(call.overload)?;
    let pairs = call.own_size(0).wrapping_mul(call.own_size(1));
    Some(((pairs as f64 * factor) as u64).saturating_add(1))
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    let factor = factor(call.overload)?;
    let [a, b] = &call.args[..] else { return None };
    let pairs = call.size(a).multiply(call.size(b));
    Some(Estimate::cost(pairs.factor(factor).add(Range::fixed(1))))
}
