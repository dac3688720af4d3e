//! What this node does with each field of a pod's specification, as `pod_fields.txt` says it: nothing is accepted
//! without a word and not done.

use std::collections::{BTreeMap, BTreeSet};

use api::schema::{Schema, Shape, TypeId};
use k8s_openapi::api::core::v1::Pod;

use crate::env::Sources;
use crate::volumes::Setup;

/// How a field is dealt with, by type and name.
fn table() -> BTreeMap<(String, String), String> {
    let mut table = BTreeMap::new();
    let lines = include_str!("pod_fields.txt").lines();
    for line in lines.filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let parts: Vec<&str> = line.splitn(3, ": ").collect();
        let [name, how, fields] = parts.as_slice() else {
            panic!("not a line of the table: {line}");
        };
        let word = how.split(',').next().unwrap();
        assert!(["effect", "elsewhere", "refused", "none"].contains(&word), "{line}");
        assert_eq!(
            word == "effect",
            !how.contains(','),
            "a reason is given for all else: {line}"
        );
        for field in fields.split(' ') {
            let before = table.insert(((*name).to_owned(), field.to_owned()), word.to_owned());
            assert_eq!(before, None, "{name} {field} is there twice");
        }
    }
    table
}

/// The struct behind lists and maps.
fn inside(schema: &Schema, id: TypeId) -> TypeId {
    match schema.shape(id) {
        Shape::List { item, .. } | Shape::WrappedList { item } => inside(schema, *item),
        Shape::Map { value } => inside(schema, *value),
        Shape::Scalar(_) | Shape::Struct(_) => id,
    }
}

#[test]
fn every_field_of_a_pod_is_in_effect_refused_or_listed_with_the_reason() {
    let (schema, table) = (Schema::builtin(), table());
    let mut unused: BTreeSet<&(String, String)> = table.keys().collect();
    let (mut seen, mut open) = (BTreeSet::new(), vec![schema.type_named("core.v1.PodSpec").unwrap()]);
    let mut missing = Vec::new();
    while let Some(id) = open.pop() {
        let Some(structure) = schema.structure(id) else {
            continue;
        };
        let name = schema.get(id).name.to_string();
        if !seen.insert(name.clone()) {
            continue;
        }
        for field in &structure.fields {
            let key = (name.clone(), field.name.to_string());
            unused.remove(&key);
            match table.get(&key).map(String::as_str) {
                // What is below a field that is somebody else's, or nobody's, is theirs.
                Some("effect") => open.push(inside(schema, field.ty)),
                Some(_) => {}
                None => missing.push(key),
            }
        }
    }
    assert!(missing.is_empty(), "say what becomes of {missing:?}");
    // Types below others that are not in effect may be listed as well, but must exist.
    for (name, field) in unused {
        let id = schema
            .type_named(name)
            .unwrap_or_else(|| panic!("there is no type {name}"));
        let fields = &schema.structure(id).unwrap().fields;
        assert!(fields.iter().any(|f| *f.name == **field), "{name} has no field {field}");
    }
}

#[test]
fn volumes_that_are_listed_as_refused_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = table()
        .into_iter()
        .filter(|((name, _), how)| name == "core.v1.VolumeSource" && how == "refused");
    for ((_, kind), _) in refused {
        let volumes = format!(r#""volumes":[{{"name":"v","{kind}":{{}}}}]"#);
        let with = |containers: &str| -> Pod {
            serde_json::from_str(&format!(r#"{{"spec":{{"containers":[{containers}],{volumes}}}}}"#)).unwrap()
        };
        let mounted = with(r#"{"name":"c","volumeMounts":[{"name":"v","mountPath":"/v"}]}"#);
        let setup = Setup {
            pod: &mounted,
            pod_dir: dir.path(),
            sources: &Sources::default(),
            tokens: &Default::default(),
            projected: &Default::default(),
            claims: &Default::default(),
            in_memory: true,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let errors = setup.run().errors;
        let want = format!("volumes of type {kind} are not supported by this node");
        assert!(errors[0].to_string().ends_with(&want), "{kind}: {errors:?}");
        // one that no container has keeps none from running
        let unused = with(r#"{"name":"c"}"#);
        assert!(Setup { pod: &unused, ..setup }.run().paths.unwrap().is_empty());
    }
}
