//! What folds with two variables need beside their macros: putting an entry into a map that they gather.

use std::sync::Arc;

use crate::environment::Declarations;
use crate::value::{Entries, Map, Outcome, Value, error, no_overload};

pub(super) fn declare(into: &mut Declarations) {
    into.global(
        "cel.@mapInsert",
        "@mapInsert_map_key_value",
        "map(K, V), K, V -> map(K, V)",
        insert,
    );
    into.global(
        "cel.@mapInsert",
        "@mapInsert_map_map",
        "map(K, V), map(K, V) -> map(K, V)",
        |args| {
            let Value::Map(update) = &args[1] else {
                return no_overload();
            };
            let mut gathered = args[0].clone();
            for key in update.keys() {
                let value = update.get(&key)?;
                gathered = insert(&[gathered, key, value])?;
            }
            Ok(gathered)
        },
    );
}

fn insert<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Map(map), key, value] = args else {
        return no_overload();
    };
    let mut entries = match map {
        Map::Values(entries) => Entries::clone(entries),
        other => {
            let keys = other.keys().into_iter();
            let entries: Result<Entries<'a>, _> = keys.map(|k| other.get(&k).map(|v| (k, v))).collect();
            entries?
        }
    };
    put(&mut entries, key.clone(), value.clone())?;
    Ok(Value::Map(Map::Values(Arc::new(entries))))
}

/// Puts an entry in whose key must not be there.
pub(crate) fn put<'a>(entries: &mut Entries<'a>, key: Value<'a>, value: Value<'a>) -> Result<(), crate::value::Fault> {
    if entries.get(&key).is_some() {
        return error(format!("insert failed: key {} already exists", key.plain()));
    }
    entries.put(key, value);
    Ok(())
}
