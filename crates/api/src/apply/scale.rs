//! Who manages the number of replicas, as a Scale shows it and as the object that is scaled keeps it.

use serde_json::Value;

use super::field_set::{FieldSet, Step};
use super::managed::{Entry, Managed, ManagedFieldsError};
use crate::gvk::split_api_version;

const SCALE: &str = "autoscaling/v1";

fn path(fields: &str) -> Vec<Step> {
    fields
        .split('.')
        .filter(|name| !name.is_empty())
        .map(Step::field)
        .collect()
}

fn only(path: &[Step]) -> FieldSet {
    let mut set = FieldSet::default();
    set.insert(path);
    set
}

/// Whose version an entry is of: those of another group are not known here.
fn is_known(entry: &Entry, api_version: &str) -> bool {
    split_api_version(&entry.api_version).0 == split_api_version(api_version).0
}

/// Gives a Scale the managed fields of the object that it scales, whose number of replicas is at `replicas`.
///
/// # Errors
/// What is wrong with an entry of the object.
pub fn to_scale(
    object: &Value,
    scale: &mut Value,
    api_version: &str,
    replicas: &str,
) -> Result<(), ManagedFieldsError> {
    let there = path(replicas);
    let entries = Managed::of(object)?.0.into_iter();
    let entries = entries.filter(|e| is_known(e, api_version) && e.fields.has(&there));
    let entries = entries.map(|entry| Entry {
        api_version: SCALE.into(),
        fields: only(&path("spec.replicas")),
        ..entry
    });
    Managed(entries.collect()).write(scale);
    Ok(())
}

/// Gives the object the managed fields that a written Scale has: who is no longer among those of the Scale has lost the number of
/// replicas, who is new among them has it.
///
/// Updates are told apart by their version too, and those of a Scale have its version: as with upstream who updates has the number in
/// an entry of its own from then on, which has no time.
///
/// # Errors
/// What is wrong with an entry of either.
pub fn from_scale(
    object: &mut Value,
    scale: &Value,
    api_version: &str,
    replicas: &str,
) -> Result<(), ManagedFieldsError> {
    let there = path(replicas);
    let mut of_scale = Managed::of(scale)?.0;
    let mut kept = Vec::new();
    for mut entry in Managed::of(object)?.0 {
        if !is_known(&entry, api_version) {
            continue;
        }
        if entry.fields.has(&there) {
            match of_scale.iter().position(|e| e.is_same(&entry)) {
                Some(at) => {
                    of_scale.swap_remove(at);
                }
                None => entry.fields.subtract(&only(&there)),
            }
        }
        kept.push(entry);
    }
    let here = path("spec.replicas");
    let new = of_scale.into_iter().filter(|e| e.fields.has(&here)).map(|entry| Entry {
        api_version: api_version.into(),
        fields: only(&there),
        time: String::new(),
        ..entry
    });
    kept.extend(new);
    Managed(kept).write(object);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(manager: &str, subresource: &str, fields: &Value) -> Value {
        json!({ "manager": manager, "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "time": "2020-01-01T00:00:00Z", "subresource": subresource, "fieldsV1": fields })
    }

    #[test]
    fn who_scales_takes_the_number_from_who_had_it() {
        let both = json!({ "f:spec": { "f:paused": {}, "f:replicas": {} } });
        let mut object = json!({ "metadata": { "managedFields": [entry("a", "", &both)] } });
        let mut scale = json!({ "metadata": {} });
        to_scale(&object, &mut scale, "apps/v1", "spec.replicas").unwrap();
        let number = json!({ "f:spec": { "f:replicas": {} } });
        let shown = &scale["metadata"]["managedFields"][0];
        assert_eq!(
            (&shown["apiVersion"], &shown["fieldsV1"]),
            (&json!("autoscaling/v1"), &number)
        );
        let fields = |object: &Value| -> Vec<_> {
            let entries = object["metadata"]["managedFields"].as_array().unwrap().clone();
            let of = |e: Value| (e["manager"].as_str().unwrap().to_owned(), e["fieldsV1"].clone());
            entries.into_iter().map(of).collect()
        };
        // nobody took it: who updates has it apart from then on, and again
        for _ in 0..2 {
            let mut again = object.clone();
            from_scale(&mut again, &scale, "apps/v1", "spec.replicas").unwrap();
            let paused = json!({ "f:spec": { "f:paused": {} } });
            assert_eq!(
                fields(&again),
                [("a".to_owned(), number.clone()), ("a".to_owned(), paused)]
            );
            assert_eq!(again["metadata"]["managedFields"][0].get("time"), None);
        }
        // who applied it keeps it as it was
        let mut applied = object.clone();
        let one = applied["metadata"]["managedFields"][0].as_object_mut().unwrap();
        one.insert("operation".into(), json!("Apply"));
        one.remove("subresource");
        let mut of_applied = json!({ "metadata": {} });
        to_scale(&applied, &mut of_applied, "apps/v1", "spec.replicas").unwrap();
        let before = applied.clone();
        from_scale(&mut applied, &of_applied, "apps/v1", "spec.replicas").unwrap();
        assert_eq!(applied, before);
        let mut taken = entry("b", "scale", &number);
        taken["apiVersion"] = json!("autoscaling/v1");
        scale["metadata"]["managedFields"] = json!([taken]);
        from_scale(&mut object, &scale, "apps/v1", "spec.replicas").unwrap();
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        let paused = json!({ "f:spec": { "f:paused": {} } });
        assert_eq!(fields(&object), [("b".to_owned(), number), ("a".to_owned(), paused)]);
        assert_eq!(
            (&entries[0]["apiVersion"], &entries[0]["subresource"]),
            (&json!("apps/v1"), &json!("scale"))
        );
    }
}
