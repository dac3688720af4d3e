//! What an apply takes away: what its manager applied before and applies no more, unless somebody else has it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::apply::field_set::FieldSet;
use crate::apply::managed::{Entry, Managed};
use crate::apply::walk::{fields, remove};
use crate::apply::{ApplyError, Target, Version};

/// A merged object without what `last` had and nobody has any more. `managed` has the fields applied now.
///
/// # Errors
/// When the object cannot be had in the version of a manager.
pub fn prune(
    target: &Target<'_>,
    merged: Value,
    managed: &Managed,
    last: &Entry,
    wanted: &str,
) -> Result<Value, ApplyError> {
    if last.fields.is_empty() {
        return Ok(merged);
    }
    let mut by_version: BTreeMap<&str, FieldSet> = BTreeMap::new();
    for entry in &managed.0 {
        by_version.entry(&entry.api_version).or_default().union(&entry.fields);
    }
    let Some(at) = target.version(&last.api_version) else {
        return Ok(merged);
    };
    let last_set = at.place.with_parents(&last.fields);
    // whatever is still had by somebody stays
    if let (1, Some(all)) = (by_version.len(), by_version.get(last.api_version.as_str()))
        && last_set.is_within(&at.place.with_parents(all))
    {
        return Ok(merged);
    }
    let Some(merged) = target.convert(merged.clone(), wanted, &last.api_version)? else {
        return Ok(merged);
    };
    let mut pruned = merged.clone();
    remove(at.place, &mut pruned, &last_set);
    let mut version = last.api_version.as_str();
    let mut whole = merged.clone();
    // the version that was pruned comes first: what the others need to be converted must be back then
    let own = by_version.remove_entry(version);
    for (other, managed) in own.into_iter().chain(by_version) {
        let Some(place) = target.version(other) else { continue };
        let (Some(all), Some(left)) = (
            target.convert(whole.clone(), version, other)?,
            target.convert(pruned.clone(), version, other)?,
        ) else {
            continue;
        };
        (whole, pruned, version) = (all, left, other);
        pruned = add_back(&place, &whole, &pruned, |gone, place| {
            gone.subtract(&place.place.with_parents(&managed));
        });
    }
    let Some(pruned) = target.convert(pruned, version, &last.api_version)? else {
        return Ok(merged);
    };
    // what the manager never had is not its to take away
    let pruned = add_back(&at, &merged, &pruned, |gone, _| *gone = gone.intersection(&last_set));
    Ok(target.convert(pruned, &last.api_version, wanted)?.unwrap_or(merged))
}

/// A whole object without what is not in `left`, but for what `keep` takes out of that.
fn add_back<'s>(
    at: &Version<'s>,
    whole: &Value,
    left: &Value,
    keep: impl FnOnce(&mut FieldSet, &Version<'s>),
) -> Value {
    let mut gone = at.place.with_parents(&fields(at.place, whole));
    gone.subtract(&at.place.with_parents(&fields(at.place, left)));
    keep(&mut gone, at);
    let mut out = whole.clone();
    remove(at.place, &mut out, &gone);
    out
}
