//! `jsonpatch.escapeKey`, which mutating policies have.

use crate::cost::{Actual, Estimate, Estimated, STRING};
use crate::environment::Declarations;
use crate::value::{Value, no_overload};

/// The function's name; only environments of mutating policies know it.
pub(crate) const FUNCTION: &str = "jsonpatch.escapeKey";

pub(super) fn declare(into: &mut Declarations) {
    into.global(
        FUNCTION,
        "string_jsonpatch_escapeKey_string",
        "string -> string",
        |args| match args[0].as_str() {
            Some(key) => Ok(Value::text(key.replace('~', "~0").replace('/', "~1"))),
            None => no_overload(),
        },
    );
}

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    let ours = call.function == FUNCTION && !call.args.is_empty();
    ours.then(|| (call.own_size(0) as f64 * STRING).ceil() as u64)
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    let [key] = &call.args[..] else { return None };
    let size = call.size(key);
    (call.function == FUNCTION).then(|| Estimate::sized(size.factor(STRING), size))
}
