//! YAML of any kind, and what is written as YAML.

use api::schema::{Document, Schema};

use super::object;
use crate::{Form, Target, trees};

pub const TARGET: Target = Target::new("yaml", Form::Bytes, check);

fn check(input: &[u8]) {
    let Ok(document) = Document::from_yaml(input) else {
        return;
    };
    document.yaml_problem();
    let text = api::yaml::to_string(&document.value);
    let again = Document::from_yaml(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(document.value, again.value, "reading what was written: {text}");
    if let Some(root) = trees::type_of(&document.value)
        && let Ok(decoded) = Schema::builtin().decode_yaml(root, input)
    {
        decoded.strict_errors();
        object::laws(root, &decoded.value);
    }
}
