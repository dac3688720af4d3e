//! A definition's schema with an object of it: what is wrong with the schema, and what it makes of the object.

use api::schema::Schema;
use api::schema::structural::{self, Node, Nulls, Written};
use apiserver::kinds::custom::rules::{Known, Rules, definition};
use serde_json::Value;

use crate::{Form, Target};

pub const TARGET: Target = Target::new("custom", Form::Trees, check);

fn check(input: &[u8]) {
    let mut parts = input.split(|byte| *byte == 0);
    let mut next = || serde_json::from_slice::<Value>(parts.next()?).ok();
    let Some(openapi) = next().filter(Value::is_object) else {
        return;
    };
    let findings = structural::definition::errors(&openapi, "schema", true);
    let errors = definition::check(&openapi, "schema", findings, &Known::default(), false);
    for error in &errors {
        let _ = error.to_string();
    }
    structural::definition::unknown_formats(&openapi);
    if !errors.is_empty() {
        return;
    }
    let (schema, root) = Schema::from_crd(&openapi);
    let rules = Rules::compile(&openapi, true, &Default::default());
    let (Some(object), old) = (next().filter(Value::is_object), next().filter(Value::is_object)) else {
        return;
    };
    let Ok(decoded) = schema.decode_custom(object, Nulls::Dropped) else {
        return;
    };
    let again = schema.decode_custom(decoded.value.clone(), Nulls::Dropped);
    assert_eq!(
        Some(&decoded.value),
        again.as_ref().ok().map(|d| &d.value),
        "decoding what was decoded"
    );
    let mut tree = decoded.value;
    schema.set_defaults(root, &mut tree);
    let mut twice = tree.clone();
    schema.set_defaults(root, &mut twice);
    assert_eq!(tree, twice, "defaulting twice is once");
    for written in [Written::Whole, Written::Status] {
        schema.validate_structural(&tree, old.as_ref(), written);
    }
    if let Some(rules) = rules {
        rules.check(&Node::compile(&openapi), &tree, old.as_ref());
    }
}
