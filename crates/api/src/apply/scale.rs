//! Who manages the number of replicas, as a Scale shows it and as the object that is scaled keeps it.

use serde_json::Value;

use super::field_set::{FieldSet, Step};
use super::managed::{Entry, Managed};
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

fn same_writer(a: &Entry, b: &Entry) -> bool {
    let key = |e: &Entry| (e.manager.clone(), e.operation.clone(), e.subresource.clone());
    key(a) == key(b)
}

/// Gives a Scale the managed fields of the object that it scales, whose number of replicas is at `replicas`.
///
/// # Errors
/// What is wrong with an entry of the object.
pub fn to_scale(object: &Value, scale: &mut Value, api_version: &str, replicas: &str) -> Result<(), String> {
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
/// # Errors
/// What is wrong with an entry of either.
pub fn from_scale(object: &mut Value, scale: &Value, api_version: &str, replicas: &str) -> Result<(), String> {
    let there = path(replicas);
    let mut of_scale = Managed::of(scale)?.0;
    let mut kept = Vec::new();
    for mut entry in Managed::of(object)?.0 {
        if !is_known(&entry, api_version) {
            continue;
        }
        if entry.fields.has(&there) {
            let as_scale = Entry {
                api_version: SCALE.into(),
                ..entry.clone()
            };
            match of_scale.iter().position(|e| same_writer(e, &as_scale)) {
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
        // nobody took it: nothing changes
        let before = object.clone();
        from_scale(&mut object, &scale, "apps/v1", "spec.replicas").unwrap();
        assert_eq!(
            object["metadata"]["managedFields"][0]["fieldsV1"],
            before["metadata"]["managedFields"][0]["fieldsV1"]
        );
        let mut taken = entry("b", "scale", &number);
        taken["apiVersion"] = json!("autoscaling/v1");
        scale["metadata"]["managedFields"] = json!([taken]);
        from_scale(&mut object, &scale, "apps/v1", "spec.replicas").unwrap();
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        let fields: Vec<_> = entries
            .iter()
            .map(|e| (e["manager"].as_str().unwrap(), &e["fieldsV1"]))
            .collect();
        assert_eq!(
            fields,
            [("a", &json!({ "f:spec": { "f:paused": {} } })), ("b", &number)]
        );
        assert_eq!(
            (&entries[1]["apiVersion"], &entries[1]["subresource"]),
            (&json!("apps/v1"), &json!("scale"))
        );
    }
}
